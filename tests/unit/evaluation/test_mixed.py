"""Streams whose tasks are of different kinds, through runs, resumption, proof, grid and report."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from prognet.backbones import detection_resnet18, mlp
from prognet.backbones.detection import BoxGrid
from prognet.config import Execution, Measurement, Training
from prognet.errors import ConfigError, StackingWarning
from prognet.evaluation import run, verify
from prognet.evaluation.comparing import grid
from prognet.report import write_report
from prognet.results import RunResult, load_results
from prognet.strategies import (
    FineTune,
    Independent,
    IndependentWide,
    MultiTask,
    Progressive,
    PruneLaterals,
    Strategy,
    TopSources,
)
from prognet.streams.detection import Scene, digit_canvases
from prognet.streams.own_data import from_arrays
from prognet.streams.stream import Stream

TRAINING = Training(epochs=12, batch_size=16, lr=0.01)
MEASUREMENT = Measurement(lca_updates=1, curve_points=1)
DENSE = detection_resnet18(channels=2)
KINDS = (Progressive, FineTune, MultiTask, Independent)


def mixed(order: int = 0) -> Stream:
    """One linear map, asked three things: which output is the largest, how large the first is, which are positive."""
    random = np.random.default_rng(0)
    W = random.normal(size=(6, 3))

    def part(n: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
        x = random.normal(size=(n, 6))
        y = x @ W
        return x, {"classification": y.argmax(axis=1), "regression": 100 + 10 * y[:, 0], "multi-label": y > 0}[kind]

    kinds = ("classification", "regression", "multi-label")
    return from_arrays(
        [(*part(120, kind), *part(60, kind)) for kind in kinds],
        kinds=kinds,  # type: ignore[arg-type]
        names=["largest", "how much", "positive"],
        task_order="seeded" if order else "natural",
        seed=order,
    )


def canvases() -> Stream:
    scenes = (
        Scene(name="which", asks="class", classes=(0, 1), sides=(12, 16)),
        Scene(name="where", classes=(0, 1, 2), sides=(12, 16)),
    )
    return digit_canvases(scenes, n_train=12, n_test=6, canvas=24)


def carry_out(strategy: Strategy, stream: Stream, out: Path | None = None, epochs: int = 12) -> RunResult:
    training = Training(epochs=epochs, batch_size=16, lr=0.01)
    return run(strategy, stream, training=training, measurement=MEASUREMENT, device="cpu", threads=1, out=out)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_kind_of_task_is_learned_and_r_holds_its_primary_metric(kind: Callable[..., Strategy]) -> None:
    result = carry_out(kind(mlp(hidden=(16,))), mixed())
    steps = len(result.schedule)
    for label, metric in enumerate(("accuracy", "skill", "label_accuracy")):
        assert np.array_equal(result.accuracy[:, label], result.metrics[metric][:, label], equal_nan=True)
        assert np.isnan(np.delete(result.metrics[metric], label, axis=1)).all()
        learned = next(step for step, group in enumerate(result.schedule) if label in group)
        assert np.isnan(result.accuracy[:learned, label]).all()
        assert result.accuracy[learned, label] > result.tasks[label].guessed + 0.25
    assert all(matrix.shape == (steps, 3) for matrix in result.metrics.values())
    assert [curve.accuracy[-1] for curve in result.curves if curve.step == steps - 1] == pytest.approx(
        [float(result.accuracy[-1, curve.task]) for curve in result.curves if curve.step == steps - 1], abs=1e-6
    )


def test_errors_of_a_regression_are_in_its_own_unit() -> None:
    result = carry_out(Independent(mlp(hidden=(16,))), mixed())
    rmse, r2 = result.metrics["rmse"][1, 1], result.metrics["r2"][1, 1]
    spread = float(mixed()[1].test.y.std())
    assert rmse == pytest.approx(spread * np.sqrt(1 - r2), rel=0.1)
    assert spread > 10


def test_columns_of_earlier_tasks_forget_nothing_whatever_their_kind() -> None:
    strategy = Progressive(mlp(hidden=(8,)), sources=TopSources(), prune=PruneLaterals())
    result = carry_out(strategy, mixed(), epochs=2)
    assert [choice["pruned"] for choice in result.choices[1:]] == [[], []]  # pruning is judged by accuracy
    for label in range(3):
        assert len(np.unique(result.accuracy[label:, label])) == 1


def test_a_run_is_stored_resumed_and_proved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = carry_out(Progressive(mlp(hidden=(8,))), mixed(), tmp_path / "whole", epochs=2)
    killed = Progressive(mlp(hidden=(8,)))
    learn, count = Progressive.learn, []

    def dies(self: Progressive, tasks: Sequence[object]) -> None:
        count.append(tasks)
        if len(count) == 3:
            raise KeyboardInterrupt
        learn(self, tasks)  # type: ignore[arg-type]

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Progressive, "learn", dies)
        carry_out(killed, mixed(), tmp_path / "killed", epochs=2)
    again = carry_out(killed, mixed(), tmp_path / "killed", epochs=2)
    assert np.array_equal(again.accuracy, whole.accuracy, equal_nan=True)
    assert again.digests == whole.digests
    (read,) = load_results(tmp_path / "killed")
    assert read == again
    for verdict in verify(tmp_path):
        assert verdict.problem is None and verdict.parts == 3


def test_a_comparison_has_a_report_that_names_the_metrics(tmp_path: Path) -> None:
    grid(
        [Progressive(mlp(hidden=(8,))), Independent(mlp(hidden=(8,)))],
        lambda order: mixed(),
        seeds=(0, 1),
        training=Training(epochs=2, batch_size=16, lr=0.01),
        measurement=MEASUREMENT,
        out=tmp_path,
        device="cpu",
        threads=1,
    )
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert "accuracy: largest; skill: how much; label_accuracy: positive" in page
    lines = (tmp_path / "tables" / "task-metrics.csv").read_text(encoding="utf-8").splitlines()
    metrics = [line.split(",")[2] for line in lines if line.startswith("independent,2")]
    assert metrics == ["skill", "r2", "rmse", "mae"]


@pytest.mark.parametrize("kind", [*KINDS, pytest.param(IndependentWide, marks=pytest.mark.slow)])
def test_a_detection_and_a_classification_share_a_run(kind: Callable[..., Strategy], tmp_path: Path) -> None:
    result = carry_out(kind(DENSE), canvases(), tmp_path, epochs=1)
    assert [task.primary for task in result.tasks] == ["accuracy", "map50"]
    assert np.isfinite(result.accuracy[-1]).all()
    assert result.curves[-1].accuracy[-1] == pytest.approx(result.accuracy[-1, 1])
    (verdict,) = verify(tmp_path)
    assert verdict.problem is None
    x = torch.zeros(2, 1, 24, 24)
    assert result.learner.predict(x, 1).shape == (2, 3 * 3 * 6, 3 + 4)


@pytest.mark.parametrize("kind", ["mixed", "canvases"])
def test_a_grid_tries_and_trains_every_kind_and_stacks_none(kind: str, tmp_path: Path) -> None:
    backbone, stream = (DENSE, canvases()) if kind == "canvases" else (mlp(hidden=(4,)), mixed())
    with pytest.warns(StackingWarning, match="trained one by one, since their targets are no classes"):
        outcome = grid(
            [MultiTask(backbone)],
            lambda order: stream,
            seeds=(0, 1),
            training=Training(epochs=1, batch_size=16),
            measurement=MEASUREMENT,
            execution=Execution(stack=2),
            out=tmp_path,
            device="cpu",
            threads=1,
        )
    assert len(outcome.results) == 2 and not outcome.failed


def test_a_network_of_another_output_is_refused_before_any_training(tmp_path: Path) -> None:
    def without_codes(input_shape: Sequence[int], n_classes: int, grid: BoxGrid | None = None) -> nn.Module:
        return mlp(hidden=(4,))(input_shape, n_classes)

    with pytest.raises(ConfigError, match=r"output of shape \(B, 54, 7\) for task 1, found \(2, 3\)"):
        grid([Independent(without_codes)], lambda order: canvases(), out=tmp_path, seeds=(0,), device="cpu")


def test_a_detection_is_learned() -> None:
    scene = Scene(name="where", classes=(0, 1), sides=(16, 20), objects=(1, 1))
    stream = digit_canvases([scene], n_train=60, n_test=20, canvas=24, validation=0)
    training = Training(epochs=15, batch_size=6, lr=0.01)
    result = run(
        Independent(detection_resnet18(channels=4)),
        stream,
        training=training,
        measurement=MEASUREMENT,
        device="cpu",
        threads=1,
    )
    assert result.curves[0].accuracy[0] < 0.1 < 0.5 < result.accuracy[0, 0]


def test_a_backbone_that_cannot_detect_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"backbone: required one that can detect for task 1 \('where'\), found none"):
        carry_out(Independent(mlp(hidden=(8,))), canvases(), epochs=0)
