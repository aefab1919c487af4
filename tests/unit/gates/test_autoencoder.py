from dataclasses import replace
from math import log
from typing import Any

import pytest
import torch

from prognet.engine.digest import tensors_of
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.gates import AutoEncoderGate
from prognet.streams.task import Normalisation, Samples, Task
from prognet.training import count_parameters
from tests.helpers.gates import apart
from tests.helpers.runs import assert_same_tensors, tensors
from tests.helpers.streams import make_byte_stream, make_task

CPU = torch.device("cpu")
NOTHING = torch.empty(0)


def learned(*tasks: Task, seed: int = 0, **arguments: Any) -> AutoEncoderGate:
    gate = AutoEncoderGate(**{"updates": 20, **arguments})
    for task in tasks:
        gate.learn(task, seed, CPU)
    return gate


def with_inputs(task: Task, x: torch.Tensor) -> Task:
    return replace(task, train=Samples(x, torch.zeros(len(x), dtype=torch.int64)))


def test_the_error_is_the_cross_entropy_of_the_squashed_input() -> None:
    task = with_inputs(apart(n_tasks=1)[0], torch.tensor([[-1.0, 3.0, -1.0, 3.0]]))
    gate = learned(task, units=2)  # mean 1 and deviation 2
    with torch.no_grad():
        for name, tensor in gate.coders.named_parameters():
            tensor.zero_()
            if name == "0.2.bias":
                tensor[0] = log(3)  # the first value is always reconstructed as 3/4
    x = torch.tensor([[1 + 2 * log(4), 0.0, 0.0, 0.0]])  # the first is standardised to log 4 and squashed to 4/5
    first = -(0.8 * log(0.75) + 0.2 * log(0.25))
    required = -(first + 3 * log(2)) / 4
    found = gate.evidence(x, NOTHING, 0)
    assert found.shape == (1,)
    assert float(found) == pytest.approx(required, abs=1e-6)


def test_all_tasks_share_the_standardisation_of_the_first() -> None:
    first = with_inputs(make_task(0, 2, shape=(2, 1, 2)), torch.tensor([[[[1.0, 3.0]], [[5.0, 7.0]]]]))
    gate = learned(first)
    assert float(gate.mean) == 4.0
    assert float(gate.std) == pytest.approx(5**0.5)  # of -3, -1, 1, 3
    before = (gate.mean.clone(), gate.std.clone())
    gate.learn(with_inputs(make_task(1, 2, shape=(2, 1, 2)), torch.full((3, 2, 1, 2), 70.0)), 0, CPU)
    assert (gate.mean, gate.std) == before


def test_a_constant_input_keeps_its_scale() -> None:
    gate = learned(with_inputs(make_task(0, 2, shape=(2, 1, 2)), torch.full((3, 2, 1, 2), 0.5)))
    assert (float(gate.mean), float(gate.std)) == (0.5, 1.0)


def test_many_samples_are_standardised_as_few() -> None:
    x = torch.arange(3000.0).view(1500, 2)
    gate = learned(with_inputs(make_task(0, 2, shape=(2,)), x), updates=1)
    assert float(gate.mean) == pytest.approx(1499.5, abs=1e-3)
    assert float(gate.std) == pytest.approx(float(x.double().std(correction=0)), rel=1e-6)


def test_inputs_are_normalised_before_they_are_learned() -> None:
    task = make_byte_stream()[0]
    assert task.normalisation != Normalisation()
    x = task.normalisation(task.train.x).double()
    gate = learned(task, updates=1)
    assert float(gate.mean) == pytest.approx(float(x.mean()), abs=1e-6)
    assert float(gate.std) == pytest.approx(float(x.std(correction=0)), abs=1e-6)


def test_what_was_learned_of_a_task_never_changes() -> None:
    stream = apart()
    gate = learned(stream[0])
    before = tensors(gate)
    for task in stream[1:]:
        gate.learn(task, 0, CPU)
    after = tensors(gate)
    assert_same_tensors({name: after[name] for name in before}, before)
    assert not any(tensor.requires_grad for _, tensor in tensors_of(gate))
    assert not any(part.training for part in gate.coders.values())
    with pytest.raises(ConfigError) as caught:
        gate.learn(stream[1], 0, CPU)
    assert str(caught.value) == "task: required a new one, found task 1, whose auto-encoder is frozen."


def test_it_depends_on_seed_and_task_and_disturbs_no_random_stream() -> None:
    stream = apart()
    torch.manual_seed(5)
    state = torch.get_rng_state()
    one = tensors(learned(*stream))
    assert torch.equal(torch.get_rng_state(), state)
    torch.rand(3)
    assert_same_tensors(tensors(learned(*stream)), one)
    other = tensors(learned(*stream, seed=1))
    weights = [name for name in one if name.endswith("weight")]
    assert len(weights) == 6
    assert not any(torch.equal(one[name], other[name]) for name in weights)
    assert not torch.equal(one["coders.0.0.weight"], one["coders.1.0.weight"])
    alone = tensors(learned(stream[0], with_inputs(stream[1], stream[0].train.x)))
    assert not torch.equal(alone["coders.0.0.weight"], alone["coders.1.0.weight"])  # the task's own random stream


def test_labels_are_not_looked_at() -> None:
    task = apart()[0]
    other = replace(task, train=Samples(task.train.x, 1 - task.train.y), test=Samples(task.test.x[:1], task.test.y[:1]))
    assert_same_tensors(tensors(learned(other)), tensors(learned(task)))


def test_an_outline_makes_the_same_tensors_without_their_numbers() -> None:
    stream = apart()
    gate = learned(*(task.outline() for task in stream))
    assert {name: tensor.shape for name, tensor in tensors(gate).items()} == {
        name: tensor.shape for name, tensor in tensors(learned(*stream)).items()
    }


@pytest.mark.parametrize(("shape", "units"), [((1, 8, 8), 32), ((3, 32, 32), 100), ((5,), 2), ((1,), 1)])
def test_the_code_is_half_the_input_and_100_at_most(shape: tuple[int, ...], units: int) -> None:
    gate = learned(make_task(0, 2, 4, shape=shape).outline())
    n = torch.Size(shape).numel()
    assert tensors(gate)["coders.0.0.weight"].shape == (units, n)
    assert count_parameters(gate) == 2 * n * units + units + n


def test_the_budget_is_the_number_of_updates() -> None:
    task = apart()[0]
    start, one, two = (tensors(learned(task, updates=number))["coders.0.2.bias"] for number in (1, 2, 3))
    assert not torch.equal(start, one)
    assert not torch.equal(one, two)
    start_bias = tensors(learned(task.outline()))["coders.0.2.bias"]
    first_steps = [tensors(learned(task, updates=1, lr=lr))["coders.0.2.bias"] - start_bias for lr in (0.001, 0.01)]
    # the first step of Adam is as long as its learning rate
    assert [float(step.abs().max()) for step in first_steps] == pytest.approx([0.001, 0.01], rel=1e-3)


def test_training_lowers_the_error_on_the_tasks_own_inputs() -> None:
    stream = apart()
    few, many = learned(*stream, updates=1), learned(*stream, updates=400, lr=0.01)
    for task in stream:
        assert (
            many.evidence(task.test.x, NOTHING, task.label).mean()
            > few.evidence(task.test.x, NOTHING, task.label).mean()
        )
        others = [many.evidence(task.test.x, NOTHING, other.label) for other in stream if other is not task]
        assert all((many.evidence(task.test.x, NOTHING, task.label) > other).all() for other in others)


@pytest.mark.parametrize(
    ("name", "value", "required"),
    [
        ("units", 0, "a whole number, at least 1"),
        ("units", 2.0, "a whole number, at least 1"),
        ("updates", 0, "a whole number, at least 1"),
        ("batch_size", True, "a whole number, at least 1"),
        ("lr", 0.0, "a number between 0 and 1"),
        ("lr", 1.0, "a number between 0 and 1"),
        ("lr", "x", "a number between 0 and 1"),
    ],
)
def test_arguments_out_of_range_are_refused(name: str, value: Any, required: str) -> None:
    with pytest.raises(ConfigError) as caught:
        AutoEncoderGate(**{name: value})
    assert str(caught.value) == f"{name}: required {required}, found {value!r}."


def test_a_code_as_wide_as_the_input_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        learned(apart()[0], units=12)
    assert str(caught.value) == "units: required fewer than the 12 values of an input, found 12."
    assert tensors(learned(apart()[0], units=11))["coders.0.0.weight"].shape == (11, 12)


def test_a_task_without_an_auto_encoder_is_refused() -> None:
    gate = learned(*apart()[:2])
    with pytest.raises(UnlearnedTaskError) as caught:
        gate.evidence(torch.zeros(1, 12), NOTHING, 2)
    assert str(caught.value) == (
        "task_label: required one of the tasks [0, 1], which have an auto-encoder, found 2; call `learn` with it first."
    )
