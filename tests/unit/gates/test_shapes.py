"""Gates where inputs have several shapes: an input is of a task with inputs of its shape."""

import pytest
import torch
from torch import Tensor

from prognet.errors import UnlearnedTaskError
from prognet.gates import AutoEncoderGate, ConfidenceGate, TaskAgnostic
from tests.helpers.shapes import COLOUR, GREY, mixed_stream

CPU = torch.device("cpu")


def sure_of_the_last(x: Tensor, task_label: int) -> Tensor:
    """Logits that are the surer, the larger the label."""
    return torch.tensor([[0.0, float(task_label)]]).repeat(len(x), 1)


def test_only_tasks_with_inputs_of_the_shape_are_chosen_from() -> None:
    stream = mixed_stream()
    agnostic = TaskAgnostic(sure_of_the_last, ConfidenceGate()).add(stream)
    for shape, chosen in ((GREY, 2), (COLOUR, 3)):
        choice = agnostic.choose(torch.zeros(5, *shape))
        assert choice.tasks.tolist() == [chosen] * 5
        assert choice.names == (stream[chosen].classes[1],) * 5


def test_inputs_of_no_task_are_refused() -> None:
    agnostic = TaskAgnostic(sure_of_the_last, ConfidenceGate()).add(mixed_stream()[:2])
    message = r"x: required inputs of a shape that an added task has, \{0: \(1, 4, 4\), 1: \(2, 6, 6\)\}, found \(3,\)"
    with pytest.raises(UnlearnedTaskError, match=message):
        agnostic.choose(torch.zeros(2, 3))


def test_every_shape_has_a_standardisation_of_its_own_that_stays() -> None:
    stream, gate = mixed_stream(), AutoEncoderGate(updates=1)
    gate.learn(stream[0], 0, CPU)
    before = float(gate.mean), float(gate.std)
    for task in stream[1:]:
        gate.learn(task, 0, CPU)
    assert (float(gate.mean), float(gate.std)) == before
    x = stream[1].normalisation(stream[1].train.x)
    assert float(gate.get_buffer("mean_2x6x6")) == pytest.approx(float(x.mean()), abs=1e-5)
    assert float(gate.get_buffer("std_2x6x6")) == pytest.approx(float(x.std(correction=0)), abs=1e-5)
    assert sorted(name for name, _ in gate.named_buffers()) == ["mean", "mean_2x6x6", "std", "std_2x6x6"]


def test_auto_encoders_of_one_shape_are_those_without_the_other() -> None:
    stream = mixed_stream()
    both, alone = AutoEncoderGate(updates=5), AutoEncoderGate(updates=5)
    for task in stream:
        both.learn(task, 0, CPU)
    for task in (stream[1], stream[3]):
        alone.learn(task, 0, CPU)
    x = stream[3].normalisation(stream[3].test.x)
    for label in (1, 3):
        assert torch.equal(both.evidence(x, x, label), alone.evidence(x, x, label))
