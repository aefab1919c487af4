import errno
import os
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from prognet.config import Training
from prognet.errors import (
    ConfigError,
    DivergedError,
    PrognetError,
    RunFolderError,
    SiteError,
    StreamError,
    UnwritableError,
)
from prognet.evaluation import Outcome, grid
from prognet.evaluation.comparing import updates_of
from prognet.manifest import read_manifest
from prognet.results import load_results
from prognet.strategies import FineTune, FineTuning, Independent, MultiTask, Progressive, Strategy
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from tests.helpers.commands import Recorder, content
from tests.helpers.data import blobs
from tests.helpers.runs import MEASUREMENT, PLAIN, assert_same_numbers, quick_run
from tests.helpers.streams import make_stream

TRAINING = Training(epochs=2, batch_size=10, lr=0.01)
TWO = partial(blobs, (2, 3))
"""Two tasks of 16 and 24 samples: 2 and 3 batches of at most 10, and 4 for both together."""


def stream_of(order: int) -> Stream:
    return TWO(seed=order)


def compare(strategies: Sequence[Strategy], out: Path, **changes: Any) -> Outcome:
    arguments = {
        "make_stream": stream_of,
        "seeds": (0,),
        "training": TRAINING,
        "measurement": MEASUREMENT,
        "device": "cpu",
        **changes,
    }
    return grid(strategies, out=out, **arguments)


class Moody(Progressive):
    """A strategy that fails while `failing` holds something."""

    failing: list[int]

    def learn(self, tasks: Sequence[Task]) -> None:
        if self.current_session().training.epochs and self.failing:
            raise DivergedError("mood: required a good one, found none.")
        super().learn(tasks)


def moody(failing: list[int]) -> Strategy:
    strategy = Moody(PLAIN)
    Moody.failing = failing
    return strategy


def test_everybody_is_told_what_happens_in_order(tmp_path: Path) -> None:
    recorder = Recorder()
    compare([Progressive(PLAIN), MultiTask(PLAIN)], tmp_path, seeds=(1, 0), observer=recorder)
    one = 2 * (2 + 3)  # epochs times batches, one task after the other
    joint = 2 * 4  # and both together
    assert recorder.calls == [
        ("begin", 2 * (one + joint)),
        ("start", "progressive, order 0, seed 1", one),
        *[("advance", 2)] * 2,
        *[("advance", 3)] * 2,
        ("end", "progressive, order 0, seed 1", None),
        ("start", "multitask, order 0, seed 1", joint),
        *[("advance", 4)] * 2,
        ("end", "multitask, order 0, seed 1", None),
        ("start", "progressive, order 0, seed 0", one),
        *[("advance", 2)] * 2,
        *[("advance", 3)] * 2,
        ("end", "progressive, order 0, seed 0", None),
        ("start", "multitask, order 0, seed 0", joint),
        *[("advance", 4)] * 2,
        ("end", "multitask, order 0, seed 0", None),
    ]


@pytest.mark.parametrize(
    ("strategy", "updates"),
    [
        (Progressive(PLAIN), 2 * (2 + 3)),
        (MultiTask(PLAIN), 2 * 4),
        (MultiTask(PLAIN, schedule="cumulative"), 2 * (2 + 4)),
    ],
)
def test_updates_are_counted_by_the_schedule(strategy: Strategy, updates: int) -> None:
    assert updates_of(strategy, stream_of(0), TRAINING) == updates


def test_results_are_those_of_single_runs(tmp_path: Path) -> None:
    outcome = compare([Progressive(PLAIN), FineTune(PLAIN)], tmp_path, seeds=(0, 3))
    assert [(run.strategy, run.order, run.seed) for run in outcome.results] == [
        ("progressive", 0, 0),
        ("finetune", 0, 0),
        ("progressive", 0, 3),
        ("finetune", 0, 3),
    ]
    assert all(run.learner is None for run in outcome.results)
    assert outcome.failed == {}
    alone = quick_run(FineTune(PLAIN), stream_of(0), training=TRAINING, seed=3)
    assert_same_numbers(outcome.results[3], alone)
    assert_same_numbers(load_results(tmp_path)[1], alone)


def test_orders_are_seeds_of_the_stream_and_not_of_the_run(tmp_path: Path) -> None:
    made: list[int] = []

    def make(order: int) -> Stream:
        made.append(order)
        return stream_of(order)

    outcome = compare([Independent(PLAIN)], tmp_path, seeds=(0, 1), orders=(4, 2), make_stream=make)
    assert made == [4, 2]
    assert [(run.order, run.seed) for run in outcome.results] == [(4, 0), (4, 1), (2, 0), (2, 1)]
    for run in outcome.results:
        assert_same_numbers(run, quick_run(Independent(PLAIN), stream_of(run.order), training=TRAINING, seed=run.seed))
    assert len({run.config["stream"]["digest"] for run in outcome.results}) == 2
    assert read_manifest(tmp_path).orders == [4, 2]


def test_the_manifest_says_what_was_compared(tmp_path: Path) -> None:
    tuned = {"finetune": replace(TRAINING, lr=0.5)}
    compare(
        [Progressive(PLAIN), FineTune(PLAIN)],
        tmp_path,
        seeds=(3, 1),
        tuned=tuned,
        command=["prognet", "run"],
        unavailable={"independent-wide": "no width"},
        threads=1,
    )
    manifest = read_manifest(tmp_path)
    assert manifest.command == ["prognet", "run"]
    assert manifest.stream == {"name": "blobs", "heads": "per-task", "arguments": {"class_counts": [2, 3]}}
    assert manifest.data == {"0": stream_of(0).digest}
    assert manifest.backbone == {"name": "mlp", "arguments": PLAIN.arguments}
    assert (manifest.training["lr"], manifest.training["batch_size"]) == (0.01, 10)
    assert manifest.measurement["curve_samples"] == 20
    assert list(manifest.tuned) == ["finetune"]
    assert manifest.tuned["finetune"]["lr"] == 0.5
    assert (manifest.strategies, manifest.seeds, manifest.orders) == (["progressive", "finetune"], [3, 1], [0])
    assert manifest.unavailable == {"independent-wide": "no width"}
    assert manifest.failed == {}
    assert manifest.environment["threads"] == 1
    lrs = {run.strategy: run.config["training"]["lr"] for run in load_results(tmp_path)}
    assert lrs == {"progressive": 0.01, "finetune": 0.5}


def test_what_is_finished_is_not_run_again(tmp_path: Path) -> None:
    first = compare([Progressive(PLAIN), FineTune(PLAIN)], tmp_path)
    before, recorder = content(tmp_path / "runs"), Recorder()
    second = compare([Progressive(PLAIN), FineTune(PLAIN)], tmp_path, observer=recorder)
    assert content(tmp_path / "runs") == before
    assert recorder.updates == 0
    assert len(recorder.named("start")) == len(recorder.named("end")) == 2
    assert list(second.results) == list(first.results)


def test_a_comparison_grows_and_keeps_what_it_has(tmp_path: Path) -> None:
    compare([Progressive(PLAIN)], tmp_path, tuned={"progressive": replace(TRAINING, lr=0.5)})
    before = content(tmp_path / "runs")
    tuned = {"progressive": replace(TRAINING, lr=0.5), "finetune": replace(TRAINING, lr=0.25)}
    outcome = compare(both(), tmp_path, seeds=(0, 1), tuned=tuned)
    assert len(outcome.results) == 4
    assert before.items() <= content(tmp_path / "runs").items()
    manifest = read_manifest(tmp_path)
    assert (manifest.strategies, manifest.seeds) == (["progressive", "finetune"], [0, 1])
    assert {name: training["lr"] for name, training in manifest.tuned.items()} == {"progressive": 0.5, "finetune": 0.25}


def test_another_training_in_the_same_folder_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    compare([Progressive(PLAIN)], tmp_path)
    before, recorder = content(tmp_path), Recorder()
    with pytest.raises(PrognetError, match=r"required a comparison with training\.lr = 0\.02, found 0\.01; choose"):
        compare([FineTune(PLAIN)], tmp_path, training=replace(TRAINING, lr=0.02), observer=recorder)
    assert content(tmp_path) == before
    assert recorder.calls == []


def test_a_strategy_that_diverges_fails_alone(tmp_path: Path) -> None:
    recorder = Recorder()
    tuned = {"finetune": Training(epochs=2, batch_size=10, optimiser="sgd", lr=1e6)}
    strategies = [FineTune(PLAIN), Progressive(PLAIN), Independent(PLAIN)]
    outcome = compare(strategies, tmp_path, tuned=tuned, observer=recorder)
    assert [run.strategy for run in outcome.results] == ["progressive", "independent"]
    assert list(outcome.failed) == ["finetune, order 0, seed 0"]
    reason = outcome.failed["finetune, order 0, seed 0"]
    assert reason.startswith("DivergedError: training of tasks [")
    assert "use a smaller lr than 1000000.0" in reason
    assert read_manifest(tmp_path).failed == outcome.failed
    assert [(what, error is None) for what, error in recorder.named("end")] == [
        ("finetune, order 0, seed 0", False),
        ("progressive, order 0, seed 0", True),
        ("independent, order 0, seed 0", True),
    ]
    later = compare([Progressive(PLAIN)], tmp_path, seeds=(1,))
    assert later.failed == {}
    assert read_manifest(tmp_path).failed == outcome.failed  # that failure has not been made good


def test_a_failure_that_is_made_good_is_forgotten(tmp_path: Path) -> None:
    outcome = compare([moody([1])], tmp_path)
    assert list(outcome.failed) == ["progressive, order 0, seed 0"]
    assert outcome.failed["progressive, order 0, seed 0"].startswith("DivergedError: mood: required a good one")
    assert read_manifest(tmp_path).failed == outcome.failed
    assert len(outcome.results) == 0
    outcome = compare([moody([])], tmp_path)
    assert (len(outcome.results), outcome.failed, read_manifest(tmp_path).failed) == (1, {}, {})


def both() -> list[Strategy]:
    return [Progressive(PLAIN), FineTune(PLAIN)]


class Full:
    """A disk that is full after a number of files."""

    def __init__(self, files: int) -> None:
        self.files = files

    def __call__(self, descriptor: int) -> None:
        self.files -= 1
        if self.files < 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_full_disk_stops_the_comparison_and_loses_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recorder = Recorder()
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", Full(6))  # the manifest, proof, tensors and progress of a step, proof and tensors
        full = r"progress\.next\.json: could not be written \(No space left on device\)"
        with pytest.raises(UnwritableError, match=full):
            compare(both(), tmp_path / "full", observer=recorder)
    assert recorder.named("start") == [("progressive, order 0, seed 0", 10)]
    place = tmp_path / "full" / "runs" / "progressive" / "order-0-seed-0"
    assert {path.name for path in place.iterdir()} == {
        "progress.json",
        "proof-1.safetensors",
        "proof-2.safetensors",
        "state-1.safetensors",
        "state-2.safetensors",
    }
    found = compare(both(), tmp_path / "full")
    required = compare(both(), tmp_path / "undisturbed")
    for ours, theirs in zip(found.results, required.results, strict=True):
        assert_same_numbers(ours, theirs)


def test_a_folder_that_cannot_be_written_is_found_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recorder = Recorder()
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError, match=r"could not be written \(File exists\)"):
        compare([Progressive(PLAIN)], tmp_path / "file", observer=recorder)
    monkeypatch.setattr(os, "fsync", Full(0))
    with pytest.raises(UnwritableError, match=r"manifest\.json: could not be written \(No space left on device\)"):
        compare([Progressive(PLAIN)], tmp_path / "full", observer=recorder)
    assert recorder.calls == []
    assert list((tmp_path / "full").iterdir()) == []


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_comparison_that_is_stopped_goes_on_as_if_it_had_not_been(tmp_path: Path, kind: type[BaseException]) -> None:
    def stop() -> None:
        raise kind

    with pytest.raises(kind):
        compare(both(), tmp_path / "stopped", observer=Recorder(at=3, do=stop))  # within the second task
    recorder = Recorder()
    found = compare(both(), tmp_path / "stopped", observer=recorder)
    assert recorder.updates == 20  # the four updates of the first task are told again, not done again
    for ours, theirs in zip(found.results, compare(both(), tmp_path / "whole").results, strict=True):
        assert_same_numbers(ours, theirs)


def raising(input_shape: Any, n_classes: int) -> nn.Module:
    raise RuntimeError("no such network")


def too_narrow(input_shape: Any, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, n_classes))


def without_arguments() -> nn.Module:
    return nn.Linear(1, 1)


def three_outputs(input_shape: Any, n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 3))


def nan_stream(order: int) -> Stream:
    task = stream_of(order)[0]
    task.train.x[3, 2] = float("nan")
    return Stream([task], name="nan", seed=order)


def without_validation(order: int) -> Stream:
    tasks = [replace(task, val=task.outline().val) for task in stream_of(order)]
    return Stream(tasks, name="no validation", seed=order)


REFUSED: list[tuple[list[Any], dict[str, Any], type[PrognetError], str]] = [
    ([], {}, ConfigError, r"strategies: required at least one, and none of them twice, found \[\]"),
    ([FineTune(PLAIN), FineTune(PLAIN)], {}, ConfigError, r"none of them twice, found \['finetune', 'finetune'\]"),
    (["progressive"], {}, ConfigError, "strategy: required a Strategy, found a str"),
    ([FineTune(PLAIN), Independent(too_narrow)], {}, ConfigError, "strategies: required one backbone, found"),
    (
        [FineTune(PLAIN)],
        {"seeds": ()},
        ConfigError,
        r"seeds: required at least one, and none of them twice, found \[\]",
    ),
    ([FineTune(PLAIN)], {"seeds": (1, 0, 1)}, ConfigError, r"seeds: required .* found \[1, 0, 1\]"),
    ([FineTune(PLAIN)], {"seeds": (0, -1)}, ConfigError, "seed: required a whole number, at least 0, found -1"),
    ([FineTune(PLAIN)], {"orders": ()}, ConfigError, r"orders: required at least one"),
    ([FineTune(PLAIN)], {"orders": (0, 0)}, ConfigError, r"orders: required .* found \[0, 0\]"),
    (
        [FineTune(PLAIN)],
        {"orders": (1,), "make_stream": lambda order: stream_of(0)},
        ConfigError,
        "make_stream: required a stream with seed 1 for order 1, found seed 0",
    ),
    ([FineTune(PLAIN)], {"device": "abacus"}, ConfigError, "device: required 'auto' or a device of this machine"),
    ([FineTune(PLAIN)], {"threads": 0}, ConfigError, "threads: required a whole number"),
    (
        [FineTune(PLAIN)],
        {"make_stream": without_validation, "training": replace(TRAINING, patience=1)},
        ConfigError,
        "patience: required a validation split in every task, found none in task 0",
    ),
    (
        [FineTune(PLAIN)],
        {"make_stream": without_validation, "tuned": {"finetune": replace(TRAINING, patience=1)}},
        ConfigError,
        "patience: required a validation split in every task, found none in task 0",
    ),
    ([FineTune(PLAIN)], {"make_stream": nan_stream}, StreamError, "found NaN"),
    ([Independent(PLAIN), Progressive(PLAIN, sites=["nowhere"])], {}, SiteError, "nowhere"),
    (
        [Independent(raising)],
        {},
        ConfigError,
        r"backbone: required .* that works for the first tasks in 'independent', found RuntimeError: no such network",
    ),
    ([Independent(too_narrow)], {}, ConfigError, r"'independent', found RuntimeError: .* \(6,\)"),
    ([Independent(without_arguments)], {}, ConfigError, "'independent', found TypeError: "),
    (
        [Independent(three_outputs)],
        {},
        ConfigError,
        r"backbone: required an output of shape \(B, 2\) for task 0, found \(2, 3\) with B = 2",
    ),
]


@pytest.mark.parametrize(("strategies", "changes", "error", "message"), REFUSED)
def test_what_cannot_work_is_refused_before_any_training_and_before_anything_is_written(
    tmp_path: Path, strategies: list[Any], changes: dict[str, Any], error: type[PrognetError], message: str
) -> None:
    recorder = Recorder()
    with pytest.raises(error, match=message):
        compare(strategies, tmp_path / "out", observer=recorder, **changes)
    assert list(tmp_path.iterdir()) == []
    assert recorder.calls == []


def test_the_strategies_are_left_as_they_were(tmp_path: Path) -> None:
    strategy = Progressive(PLAIN)
    compare([strategy], tmp_path)
    assert list(strategy.parameters()) == []
    assert strategy.records == []
    assert strategy.session is None


def test_a_name_that_stands_for_other_arguments_is_refused_before_any_work(tmp_path: Path) -> None:
    shared: dict[str, Any] = {"out": tmp_path, "training": TRAINING, "measurement": MEASUREMENT, "device": "cpu"}
    grid([FineTune(PLAIN)], lambda order: make_stream(), seeds=(0,), **shared)
    before = content(tmp_path)
    with pytest.raises(RunFolderError, match="required a run with strategy = .*rank': 2.*found one with"):
        grid([FineTune(PLAIN, recipe=FineTuning(rank=2))], lambda order: make_stream(), seeds=(1,), **shared)
    assert content(tmp_path) == before
