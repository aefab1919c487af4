import pickle
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prognet.config import Measurement, Training
from prognet.engine import MLPAdapter
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.evaluation.harness import run
from prognet.evaluation.rebuilding import rebuild
from prognet.strategies import FineTune, Independent, MultiTask, Progressive, Strategy
from prognet.streams.task import Task
from tests.helpers.runs import (
    KINDS,
    MEASUREMENT,
    NORMED,
    PLAIN,
    TRAINING,
    assert_same_numbers,
    assert_same_tensors,
    make_session,
    modes,
    network_of,
    quick_run,
    tensors,
)
from tests.helpers.streams import make_byte_stream, make_stream


def seen_of(matrix: Any) -> list[list[bool]]:
    return [[value == value for value in row] for row in matrix]


@pytest.mark.parametrize("kind", KINDS)
def test_every_metric_is_known_for_the_tasks_learned_so_far(kind: str) -> None:
    result = quick_run(KINDS[kind](NORMED), make_stream())
    staircase = [[True, False, False], [True, True, False], [True, True, True]]
    assert list(result.metrics) == ["accuracy", "cross_entropy", "macro_f1", "auroc"]
    for matrix in result.metrics.values():
        assert seen_of(matrix) == ([[True] * 3] if kind == "multitask" else staircase)


def test_a_result_says_what_was_run() -> None:
    stream = make_stream()
    result = quick_run(Progressive(NORMED), stream, seed=3)
    assert (result.strategy, result.seed, result.order, result.stream) == ("progressive", 3, 0, "patterns")
    assert result.schedule == ((0,), (1,), (2,))
    assert result.tasks == tuple(task.summary for task in stream)
    assert len(result.costs) == len(result.digests) == 3
    assert [(curve.step, curve.task, curve.joint) for curve in result.curves] == [(k, k, False) for k in range(3)]
    assert result.config == {
        "strategy": {
            "kind": "Progressive",
            "name": "progressive",
            "arguments": {
                "adapter": MLPAdapter.transfer().describe(),
                "sites": None,
                "sources": {"kind": "AllSources", "arguments": {}},
                "width": None,
                "budget": None,
                "prune": None,
                "start": {"kind": "Start", "arguments": {"kind": "auto", "margin": 0.8}},
            },
        },
        "backbone": {"name": "mlp", "arguments": NORMED.arguments},
        "stream": {"name": "patterns", "heads": "per-task", "arguments": {}, "digest": stream.digest},
        "training": {
            "epochs": 2,
            "updates": None,
            "first_updates": None,
            "batch_size": 16,
            "first_batch_size": None,
            "optimiser": "adam",
            "lr": 0.01,
            "momentum": 0.0,
            "weight_decay": 0.0,
            "schedule": "constant",
            "label_smoothing": 0.0,
            "clip_norm": None,
            "augment": [],
            "patience": None,
        },
        "measurement": {
            "lca_updates": 2,
            "curve_points": 2,
            "curve_samples": 20,
            "evaluation_batch_size": 16,
            "gates": ["confidence", "entropy"],
            "gate_steps": "last",
        },
        "execution": {
            "precision": "float32",
            "channels_last": False,
            "compile": "none",
            "data_memory": 4096,
            "feature_memory": 1024,
            "feature_precision": "float32",
            "deterministic": False,
            "stack": 1,
        },
        "seed": 3,
        "order": 0,
        "draw": None,
    }


def test_the_defaults_are_those_of_training_and_measurement() -> None:
    result = run(FineTune(PLAIN), make_stream((2,)), device="cpu")
    assert result.config["training"]["epochs"] == Training().epochs
    assert result.config["measurement"]["curve_points"] == Measurement().curve_points
    assert result.seed == 0


@pytest.mark.parametrize("stream", [make_stream(), make_byte_stream()], ids=["numbers", "bytes"])
def test_metrics_are_those_of_the_learner_on_the_whole_test_split(stream: Any) -> None:
    result = quick_run(FineTune(NORMED), stream)
    for task in stream:
        with torch.no_grad():
            outputs = result.learner.predict(task.normalisation(task.test.x), task.label)
        accuracy = (outputs.argmax(dim=1) == task.test.y).double().mean().item()
        assert result.accuracy[-1, task.label] == accuracy
        found = result.metrics["cross_entropy"][-1, task.label]
        assert found == pytest.approx(cross_entropy(outputs.double(), task.test.y).item(), abs=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_curve_ends_where_the_matrix_begins(kind: str) -> None:
    measurement = Measurement(lca_updates=2, curve_points=2)  # on all 30 test samples
    result = quick_run(KINDS[kind](NORMED), make_stream(), measurement=measurement)
    for curve in result.curves:
        assert curve.accuracy[-1] == result.accuracy[curve.step, curve.task]
        assert curve.updates[:3] == (0, 1, 2)
        assert curve.updates[-1] == result.costs[curve.step].updates


def test_the_quick_runs_of_these_tests_learn_something() -> None:
    result = quick_run(Independent(PLAIN), make_stream(), training=Training(epochs=30, batch_size=16, lr=0.01))
    assert result.accuracy[-1].min() >= 0.9


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_gives_the_same_bits(kind: str) -> None:
    stream = make_stream()
    first = quick_run(KINDS[kind](NORMED), stream)
    torch.manual_seed(12345)
    second = quick_run(KINDS[kind](NORMED), stream)
    assert_same_numbers(first, second)
    assert_same_tensors(tensors(first.learner), tensors(second.learner))


@pytest.mark.parametrize("kind", KINDS)
def test_another_seed_gives_another_run(kind: str) -> None:
    stream = make_stream()
    first, second = (quick_run(KINDS[kind](NORMED), stream, seed=seed) for seed in (0, 1))
    assert not np.array_equal(first.metrics["cross_entropy"], second.metrics["cross_entropy"], equal_nan=True)


def test_a_shorter_stream_gives_the_first_rows() -> None:
    stream = make_stream()
    whole, first = (quick_run(Progressive(NORMED), part) for part in (stream, stream.first(2)))
    assert np.array_equal(whole.accuracy[:2, :2], first.accuracy, equal_nan=True)
    assert whole.curves[:2] == first.curves
    assert whole.digests[:2] == first.digests


@pytest.mark.parametrize("kind", KINDS)
def test_the_strategy_is_left_as_it_was(kind: str) -> None:
    strategy, stream = KINDS[kind](NORMED), make_stream()
    result = quick_run(strategy, stream)
    assert tensors(strategy) == {}
    assert (strategy.records, strategy.session) == ([], None)
    with pytest.raises(UnlearnedTaskError):
        strategy.predict(stream[0].test.x, 0)
    assert result.learner is not strategy
    assert result.learner.predict(stream[2].test.x, 2).shape == (30, 3)


def test_one_strategy_serves_for_many_runs() -> None:
    strategy, stream = Progressive(NORMED), make_stream()
    first = quick_run(strategy, stream)
    quick_run(strategy, stream, seed=1)
    assert_same_numbers(quick_run(strategy, stream), first)


def test_the_learner_is_free_of_the_run() -> None:
    def observer(updates: int) -> None:
        """A function that cannot be pickled."""

    learner = quick_run(Progressive(NORMED), make_stream(), advance=observer).learner
    copies = [deepcopy(learner), pickle.loads(pickle.dumps(learner))]
    for copy in copies:
        assert_same_tensors(tensors(copy), tensors(learner))
    assert learner.session is None


@pytest.mark.parametrize("kind", KINDS)
def test_a_strategy_that_has_learned_is_refused(kind: str) -> None:
    stream = make_stream()
    learner = quick_run(KINDS[kind](PLAIN), stream).learner
    with pytest.raises(ConfigError, match="strategy: required one that has learned nothing, found '.*' after ."):
        quick_run(learner, stream)


def test_a_strategy_of_ones_own_needs_two_methods() -> None:
    class Own(Strategy):
        """One network, trained on every task anew; all tasks have two classes."""

        def __init__(self) -> None:
            super().__init__(PLAIN, "own")
            self.network: nn.Module = nn.Identity()

        def learn(self, tasks: Sequence[Task]) -> None:
            self.network = self.build(tasks[0])
            self.fit(self.network, tasks)

        def predict(self, x: Tensor, task_label: int) -> Tensor:
            out: Tensor = self.network(x)
            return out

    stream = make_stream((2, 2))
    own, independent = quick_run(Own(), stream), quick_run(Independent(PLAIN), stream)
    assert own.accuracy.diagonal().tolist() == independent.accuracy.diagonal().tolist()
    assert own.digests == ({}, {})
    assert own.config["strategy"]["kind"].endswith("Own")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed: required a whole number, at least 0, found -1."),
        ({"seed": 0.5}, "seed: required a whole number, at least 0, found 0.5."),
        ({"seed": True}, "seed: required a whole number, at least 0, found True."),
        ({"strategy": "progressive"}, "strategy: required a Strategy, found a str."),
        ({"strategy": Progressive}, "strategy: required a Strategy, found a ABCMeta."),
    ],
)
def test_bad_arguments_are_refused_before_any_work(changes: dict[str, Any], message: str) -> None:
    arguments = {"strategy": FineTune(PLAIN), **changes}
    with pytest.raises(ConfigError) as caught:
        quick_run(arguments.pop("strategy"), make_stream((2,)), **arguments)
    assert str(caught.value) == message


def test_an_unknown_schedule_is_refused() -> None:
    strategy = FineTune(PLAIN)
    strategy.schedule = "backwards"  # type: ignore[assignment]
    with pytest.raises(ConfigError, match="strategy.schedule: required one of .*'sequential'.*, found 'backwards'."):
        quick_run(strategy, make_stream((2,)))


def test_early_stopping_needs_validation_samples() -> None:
    with pytest.raises(ConfigError) as caught:
        quick_run(FineTune(PLAIN), make_stream(n_val=0), training=Training(epochs=2, patience=1))
    assert str(caught.value) == (
        "patience: required a validation split in every task, found none in task 0 ('patterns 0'); make the stream "
        "with one, or leave patience out to train for all epochs."
    )
    assert quick_run(FineTune(PLAIN), make_stream(n_val=0)).accuracy.shape == (3, 3)


@pytest.mark.parametrize("kind", KINDS)
def test_a_rebuilt_strategy_has_the_tensors_of_the_trained_one(kind: str) -> None:
    stream = make_stream()
    trained = quick_run(KINDS[kind](NORMED), stream)
    outlines = [task.outline() for task in stream]
    rebuilt = rebuild(KINDS[kind](NORMED), outlines, trained.schedule, make_session(TRAINING, MEASUREMENT))
    shapes = {name: tensor.shape for name, tensor in tensors(trained.learner).items()}
    assert {name: tensor.shape for name, tensor in tensors(rebuilt).items()} == shapes
    assert list(rebuilt.frozen_digests()) == list(trained.digests[-1])
    assert rebuilt.records == []
    for label in range(3):
        ours, theirs = network_of(rebuilt, label), network_of(trained.learner, label)
        assert [p.requires_grad for m in ours for p in m.parameters()] == [
            p.requires_grad for m in theirs for p in m.parameters()
        ]
        assert [modes(module) for module in ours] == [modes(module) for module in theirs]


def test_no_epochs_give_the_untrained_network() -> None:
    result = quick_run(MultiTask(PLAIN), make_stream(), training=Training(epochs=0))
    assert result.curves == ()
    assert (result.costs[0].updates, result.costs[0].samples, result.costs[0].training_flops) == (0, 0, 0)
    assert not np.isnan(result.accuracy).any()


def test_forward_operations_of_tasks_to_come_are_unknown() -> None:
    costs = quick_run(Progressive(PLAIN), make_stream()).costs
    assert [[flops == flops for flops in cost.forward_flops] for cost in costs] == [
        [True, False, False],
        [True, True, False],
        [True, True, True],
    ]


def test_a_run_has_its_number_of_threads_and_gives_them_back() -> None:
    before = torch.get_num_threads()
    seen: list[int] = []
    result = run(
        FineTune(PLAIN),
        make_stream((2,)),
        training=Training(epochs=1),
        device="cpu",
        threads=before + 1,
        advance=lambda updates: seen.append(torch.get_num_threads()),
    )
    assert seen == [before + 1]
    assert torch.get_num_threads() == before
    assert result.environment["threads"] == before + 1
