import pytest
import torch
from torch import Tensor

import prognet
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.gates import GATES, AutoEncoderGate, ConfidenceGate, Gate, TaskAgnostic
from tests.helpers.gates import apart, part_of, read_logits, written_stream
from tests.helpers.runs import tensors


class Marked(Gate):
    """The task whose part of the input is the farthest from zero."""

    def evidence(self, x: Tensor, outputs: Tensor, task_label: int) -> Tensor:
        return part_of(x, task_label).abs()


def sign(x: Tensor, task_label: int) -> Tensor:
    """Right wherever the task is."""
    mean = part_of(x, task_label)
    return torch.stack([-mean, mean], dim=1)


def test_task_class_and_name_are_chosen() -> None:
    stream = written_stream(
        [[((5.0, 0, 0, 0, 1), 0), ((0, 1.0, 0, 9.0, 0), 1)], [((1.0, 0, 0, 0, 7.0), 2), ((0, 8.0, 0, 1.0, 0), 1)]]
    )
    agnostic = TaskAgnostic(read_logits, ConfidenceGate()).add(stream)
    x = torch.cat([task.test.x for task in stream])
    choice = agnostic.choose(x)
    assert choice.tasks.tolist() == [0, 1, 1, 0]
    assert choice.classes.tolist() == [0, 1, 2, 1]
    assert choice.names == ("a", "d", "e", "b")


@pytest.mark.parametrize("gate", [Marked(), AutoEncoderGate(updates=400, lr=0.01), ConfidenceGate()])
def test_every_gate_is_right_where_tasks_are_apart(gate: Gate) -> None:
    stream = apart()
    agnostic = TaskAgnostic(sign, gate).add(stream)
    for task in stream:
        choice = agnostic.choose(task.test.x)
        assert choice.tasks.tolist() == [task.label] * 30
        assert torch.equal(choice.classes, task.test.y)


def test_tasks_can_be_added_later_and_in_any_order() -> None:
    stream = apart()
    agnostic = TaskAgnostic(sign, Marked()).add([stream[2]])
    assert agnostic.choose(stream[0].test.x).tasks.tolist() == [2] * 30
    assert agnostic.add([stream[0]]).choose(stream[0].test.x).tasks.tolist() == [0] * 30
    choice = agnostic.choose(stream[2].test.x)
    assert torch.equal(choice.classes, stream[2].test.y)
    assert set(choice.names) == {"2 low", "2 high"}


def test_the_gate_gets_the_seed() -> None:
    stream = apart()
    gates = [AutoEncoderGate(updates=2) for _ in range(2)]
    for seed, gate in enumerate(gates):
        TaskAgnostic(sign, gate, seed=seed).add(stream)
    assert not torch.equal(*(tensors(gate)["coders.0.0.weight"] for gate in gates))


def test_inputs_stay_as_they_are_though_a_network_writes_into_them() -> None:
    def careless(x: Tensor, task_label: int) -> Tensor:
        logits = sign(x, task_label)
        x.zero_()
        return logits

    stream = apart()
    x = stream[1].test.x.clone()
    choice = TaskAgnostic(careless, Marked()).add(stream).choose(x)
    assert torch.equal(x, stream[1].test.x)
    assert choice.tasks.tolist() == [1] * 30


def test_without_a_task_there_is_nothing_to_choose() -> None:
    with pytest.raises(UnlearnedTaskError, match="outputs: required those of one learned task or more, found none"):
        TaskAgnostic(sign, Marked()).choose(torch.zeros(1, 12))


def test_what_is_frozen_is_not_learned_again() -> None:
    agnostic = TaskAgnostic(sign, AutoEncoderGate(updates=1)).add(apart())
    with pytest.raises(ConfigError, match="task: required a new one, found task 0"):
        agnostic.add(apart())


def test_it_serves_a_network_without_a_strategy() -> None:
    net = prognet.ProgressiveNetwork()
    for _ in range(2):
        net.add_column(prognet.backbones.mlp(hidden=(4,))((12,), 2), example=torch.zeros(2, 12))
    agnostic = TaskAgnostic(lambda x, label: net(x, column=label), ConfidenceGate()).add(apart()[:2])
    choice = agnostic.choose(apart()[0].test.x)
    assert choice.tasks.shape == (30,)
    assert not choice.classes.requires_grad


def test_the_harness_knows_every_gate_by_the_names_of_the_configuration() -> None:
    from typing import get_args

    from prognet.config import GateName
    from prognet.report.gates import TITLES

    assert list(GATES) == list(get_args(GateName)) == list(TITLES)
    assert all(issubclass(gate, Gate) for gate in GATES.values())
