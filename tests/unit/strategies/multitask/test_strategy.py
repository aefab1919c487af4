from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from prognet.config import Training
from prognet.errors import ConfigError
from prognet.strategies import FineTune, MultiTask
from prognet.strategies.multitask import FixedWeights, Soft
from tests.helpers.plain import assert_equal_numbers, assert_other_numbers, plain_network
from tests.helpers.runs import (
    NORMED,
    PLAIN,
    assert_same_tensors,
    learn_all,
    network_of,
    quick_run,
    tensors,
    with_session,
)
from tests.helpers.streams import make_stream

SGD = Training(epochs=2, batch_size=16, lr=0.125, optimiser="sgd")


def test_every_parameter_of_the_joint_model_is_trained() -> None:
    stream = make_stream()
    strategy = with_session(MultiTask(NORMED), Training(epochs=0))
    strategy.learn(list(stream))
    before = tensors(strategy)
    trained = learn_all(MultiTask(NORMED), stream)
    assert all(parameter.requires_grad for parameter in trained.parameters())
    assert trained.records[0].trainable == sum(parameter.numel() for parameter in trained.parameters())
    after = tensors(trained)
    assert [name for name in before if torch.equal(before[name], after[name])] == []


def test_trunk_and_heads_begin_as_those_of_the_single_tasks() -> None:
    stream = make_stream()
    strategy = with_session(MultiTask(NORMED), Training(epochs=0))
    strategy.learn(list(stream))
    for task in stream:
        plain = plain_network(NORMED, task)
        assert_equal_numbers([network_of(strategy, task.label)[1]], [plain[-1]])  # type: ignore[index]
    assert_equal_numbers(network_of(strategy, 0), [plain_network(NORMED, stream[0])])


def test_a_cumulative_step_is_the_joint_model_of_the_tasks_so_far_from_scratch() -> None:
    stream = make_stream()
    strategy = with_session(MultiTask(NORMED, schedule="cumulative"))
    for step in range(3):
        strategy.learn(stream[: step + 1])
        joint = learn_all(MultiTask(NORMED), stream.first(step + 1))
        for label in range(step + 1):
            assert_equal_numbers(network_of(strategy, label), network_of(joint, label))


def test_the_last_row_of_the_cumulative_run_is_the_joint_run() -> None:
    stream = make_stream()
    cumulative = quick_run(MultiTask(NORMED, schedule="cumulative"), stream)
    joint = quick_run(MultiTask(NORMED), stream)
    assert cumulative.schedule == ((0,), (0, 1), (0, 1, 2))
    assert joint.schedule == ((0, 1, 2),)
    assert np.array_equal(cumulative.accuracy[2], joint.accuracy[0])
    assert joint.curves == tuple(_at_step(curve, 0) for curve in cumulative.curves if curve.step == 2)


def _at_step(curve: Any, step: int) -> Any:
    return replace(curve, step=step)


def test_curves_of_several_tasks_say_that_they_are_joint() -> None:
    curves = quick_run(MultiTask(PLAIN, schedule="cumulative"), make_stream()).curves
    assert [(curve.step, curve.task, curve.joint) for curve in curves] == [
        (0, 0, False),
        (1, 0, True),
        (1, 1, True),
        (2, 0, True),
        (2, 1, True),
        (2, 2, True),
    ]


def test_one_task_is_fine_tuning() -> None:
    stream = make_stream((5,))
    joint, single = learn_all(MultiTask(NORMED), stream), learn_all(FineTune(NORMED), stream)
    assert_equal_numbers(network_of(joint, 0), network_of(single, 0))


def test_a_weight_is_a_factor_of_the_loss() -> None:
    stream = make_stream((5,))
    half_rate = Training(epochs=2, batch_size=16, lr=0.0625, optimiser="sgd")
    weighted = learn_all(MultiTask(PLAIN, weighting=FixedWeights(weights=[0.5])), stream, SGD)
    plain = learn_all(MultiTask(PLAIN), stream, half_rate)
    assert_equal_numbers(network_of(weighted, 0), network_of(plain, 0))  # powers of two are exact


def test_a_task_of_weight_0_teaches_nothing() -> None:
    stream = make_stream((2, 5))
    weights = [1.0, 0.0]
    strategy = learn_all(MultiTask(PLAIN, weighting=FixedWeights(weights=weights)), stream, SGD)
    assert_equal_numbers(network_of(strategy, 1)[1:], [plain_network(PLAIN, stream[1])[-1]])  # type: ignore[index]
    assert_other_numbers(network_of(strategy, 0)[1], plain_network(PLAIN, stream[0])[-1])  # type: ignore[index]


def test_the_two_samplings_differ_where_the_tasks_differ_in_size() -> None:
    uneven, even = make_stream((2, 5), [10, 40]), make_stream((2, 5))
    found = {
        (sizes, sampling): tensors(learn_all(MultiTask(PLAIN, sampling=sampling), stream))
        for sizes, stream in (("uneven", uneven), ("even", even))
        for sampling in (0.0, 1.0)
    }
    assert_same_tensors(found["even", 0.0], found["even", 1.0])
    name = "shared.heads.0.weight"
    assert not torch.equal(found["uneven", 0.0][name], found["uneven", 1.0][name])


def test_a_joint_model_of_a_shared_head_has_one() -> None:
    stream = make_stream((3, 3, 3), heads="shared")
    result = quick_run(MultiTask(PLAIN), stream)
    assert list(result.learner.shared.heads) == ["0"]
    assert result.costs[0].parameters == 16 * 8 + 8 + 8 * 6 + 6 + 6 * 3 + 3
    x = stream[1].test.x
    with torch.no_grad():
        assert torch.equal(result.learner.predict(x, 0), result.learner.predict(x, 2))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"schedule": "sequential"}, "schedule: required 'joint' or 'cumulative', found 'sequential'."),
        (
            {"sampling": "balanced"},
            "sampling: required an exponent from 0, each task alike, to 1, each sample alike, found 'balanced'.",
        ),
        (
            {"sampling": 1.5},
            "sampling: required an exponent from 0, each task alike, to 1, each sample alike, found 1.5.",
        ),
        (
            {"weighting": "pcgrad"},
            "weighting: required one of ['AlignedMTL', 'CAGrad', 'DWA', 'FAMO', 'FixedWeights', 'GradNorm', 'IMTLG', "
            "'MGDA', 'NashMTL', 'PCGrad', 'RandomWeights', 'UPGrad', 'Uncertainty'], found 'pcgrad'; e.g. "
            "weighting=AlignedMTL().",
        ),
        (
            {"architecture": Soft},
            "architecture: required one of ['Added', 'Adversarial', 'Attention', 'Concatenated', 'CrossStitch', "
            f"'FiLM', 'Hard', 'Soft', 'Stems'], found {Soft}; e.g. architecture=Added().",
        ),
    ],
)
def test_bad_arguments_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MultiTask(PLAIN, **arguments)
    assert str(caught.value) == message


def test_every_task_needs_a_weight() -> None:
    with pytest.raises(ConfigError) as caught:
        quick_run(MultiTask(PLAIN, weighting=FixedWeights(weights=[1, 2])), make_stream())
    assert str(caught.value) == "weights: required one for each of the tasks [0, 1, 2], found 2 of them."


@pytest.mark.parametrize("numbers", [[1, -1], [float("nan")], [float("inf"), 1], [0, 0.0], [], ["a"], 3, "12"])
def test_a_weight_is_a_number_of_at_least_0(numbers: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        FixedWeights(weights=numbers)
    assert str(caught.value) == (
        f"weights: required finite numbers, at least 0 and not all of them 0, found {numbers!r}; give one for each "
        "task, e.g. weights=(1, 0.5)."
    )
