"""Streams whose tasks have inputs of several shapes, through runs, resumption, proof, grid, analysis and report."""

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prognet.analysed import Look, Pairs
from prognet.backbones import cnn, mlp
from prognet.config import Execution, Measurement, Training
from prognet.engine.evidence import read_evidence
from prognet.errors import ConfigError
from prognet.evaluation import analyse, grid, run, verify
from prognet.evaluation.store import RunStore
from prognet.gates import AutoEncoderGate
from prognet.related import read_relatedness
from prognet.report import write_report
from prognet.results import RunResult
from prognet.strategies import (
    CopyTune,
    FeatureAlignment,
    FineTune,
    FineTuning,
    HeadOnly,
    Independent,
    IndependentWide,
    LastSources,
    MultiTask,
    Progressive,
    ProgressiveRandom,
    Start,
    Strategy,
    TopSources,
    wrapped,
)
from prognet.strategies.base import Backbone
from prognet.strategies.multitask import Hard, Soft, Stems
from tests.helpers.runs import assert_same_numbers, assert_same_tensors, tensors
from tests.helpers.shapes import COLOUR, GREY, SHAPES, alike, mixed_stream

DEEP = mlp(hidden=(8, 6))
TRAINING = Training(epochs=8, batch_size=16, lr=0.02)
MEASUREMENT = Measurement(lca_updates=1, curve_points=1, gate_steps="every")
READ = {GREY: [(), (0,)], COLOUR: [(), (1,)]}
"""The sources of the columns of each shape, in their order."""
LEARNING: dict[str, Callable[[Backbone], Strategy]] = {
    "progressive": Progressive,
    "progressive-random": ProgressiveRandom,
    "copytune": CopyTune,
    "independent": Independent,
    "independent-wide": IndependentWide,
    "stems": lambda backbone: MultiTask(backbone, architecture=Stems(), name="stems"),
    "soft": lambda backbone: MultiTask(backbone, architecture=Soft(), name="soft"),
    "cumulative": lambda backbone: MultiTask(backbone, architecture=Stems(), schedule="cumulative", name="cumulative"),
}
PLACE = "runs/progressive/order-0-seed-0"
FROZEN = ("progressive", "progressive-random", "copytune", "independent", "independent-wide")


def carry_out(strategy: Strategy, out: Path | None = None, **changes: Any) -> RunResult:
    settings = {"training": TRAINING, "measurement": MEASUREMENT, "device": "cpu", "threads": 1, **changes}
    stream = settings.pop("stream", None) or mixed_stream()
    return run(strategy, stream, out=out, **settings)


@pytest.mark.parametrize("name", LEARNING)
def test_every_task_is_learned_in_its_shape(name: str) -> None:
    result = carry_out(LEARNING[name](DEEP))
    assert [task.input_shape for task in result.tasks] == [*SHAPES]
    for label, task in enumerate(result.tasks):
        assert result.accuracy[-1, label] > 1 / task.n_classes + 0.2
        if name in FROZEN:
            assert len(np.unique(result.accuracy[label:, label])) == 1
    assert np.isfinite(result.costs[-1].forward_flops).all()
    for record in result.gates.values():
        for step, counts in enumerate(record.confusion):
            assert counts is not None
            learned = [label for group in result.schedule[: step + 1] for label in group]
            assert counts.sum(axis=1).tolist() == [30 if label in learned else 0 for label in range(4)]
            assert not counts[0::2, 1::2].any() and not counts[1::2, 0::2].any()


@pytest.mark.parametrize("backbone", [DEEP, cnn(channels=(4, 5))], ids=["mlp", "cnn"])
def test_a_column_reads_columns_of_its_own_shape_and_the_choices_tell_the_others(backbone: Backbone) -> None:
    for strategy in (Progressive(backbone), Progressive(backbone, start=Start(kind="scratch"))):
        result = carry_out(strategy, training=Training(epochs=1))
        network = result.learner.columns.network
        assert [network.column(k).sources for k in range(4)] == [(), (), (0,), (1,)]
        assert [choice.get("other_inputs") for choice in result.choices] == [None, [0], [1], [0, 2]]
        assert [choice.get("sources") for choice in result.choices] == [None, [], [0], [1]]


@pytest.mark.parametrize("sources", [LastSources(1), TopSources(1), TopSources(1, by="afs", trial=2)], ids=repr)
def test_chosen_sources_are_of_the_right_shape(sources: Any) -> None:
    result = carry_out(Progressive(DEEP, sources=sources), training=Training(epochs=1))
    network = result.learner.columns.network
    assert [network.column(k).sources for k in range(4)] == [(), (), (0,), (1,)]
    assert [len(choice.get("evidence", ())) for choice in result.choices] == [0, 0, 1, 1]


def test_random_columns_and_copies_are_of_the_right_shape() -> None:
    network = carry_out(ProgressiveRandom(DEEP), training=Training(epochs=1)).learner.columns.network
    # columns in their order: tasks 0, 1, 2, 3, and before each but the first a random one of the task before
    assert [network.column(k).sources for k in range(7)] == [(), (), (), (), (1,), (), (3,)]
    copied = carry_out(CopyTune(DEEP, start=Start(kind="copy")), training=Training(epochs=1))
    assert [choice.get("copied") for choice in copied.choices] == [None, None, 0, 1]


@pytest.mark.parametrize("make", [Independent, IndependentWide, CopyTune])
def test_a_task_is_learned_as_in_a_stream_of_its_shape_alone(make: Callable[[Backbone], Strategy]) -> None:
    mixed = carry_out(make(DEEP))
    for shape in (GREY, COLOUR):
        alone = carry_out(Independent(DEEP) if make is CopyTune else make(DEEP), stream=alike(shape))
        for label in (label for label in range(4) if SHAPES[label] == shape):
            if label > {IndependentWide: 0, CopyTune: 1}.get(make, 3):  # type: ignore[call-overload]
                continue  # they depend on the tasks before, of which other ones are there
            assert mixed.accuracy[-1, label] == alone.accuracy[-1, label]
            assert mixed.digests[-1][f"column {label}"] == alone.digests[-1][f"column {label}"]
            own, theirs = (result.learner.columns.network.column(label) for result in (mixed, alone))
            assert_same_tensors(tensors(own), tensors(theirs))


class _Killed(BaseException):
    pass


@pytest.mark.parametrize(
    ("name", "step"), [("progressive", 1), ("progressive", 3), ("independent", 2), ("cumulative", 2)]
)
def test_a_killed_run_ends_undisturbed_and_is_proved(
    name: str, step: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("prognet.evaluation.agnostic.GATES", {"autoencoder": lambda: AutoEncoderGate(updates=5)})
    measurement = Measurement(lca_updates=1, curve_points=0, gates=("autoencoder",))
    quick = {"training": Training(epochs=2, batch_size=16, lr=0.02), "measurement": measurement}
    whole = carry_out(LEARNING[name](DEEP), tmp_path / "whole", **quick)
    killed = LEARNING[name](DEEP)
    learn = type(killed).learn

    def dies(self: Strategy, tasks: Sequence[Any]) -> None:
        if self.current_session().training.epochs and self.current_session().step == step:
            raise _Killed
        learn(self, tasks)

    with monkeypatch.context() as patch, pytest.raises(_Killed):
        patch.setattr(type(killed), "learn", dies)
        carry_out(killed, tmp_path / "killed", **quick)
    again = carry_out(killed, tmp_path / "killed", **quick)
    assert_same_numbers(again, whole)
    verdicts = list(verify(tmp_path))
    assert [(verdict.problem, verdict.same_bits) for verdict in verdicts] == [
        (None, 0 if name == "cumulative" else 4)
    ] * 2


def test_columns_are_recorded_with_probe_inputs_of_their_own_shape(tmp_path: Path) -> None:
    result = carry_out(Progressive(DEEP), tmp_path, training=Training(epochs=1))
    store = RunStore.of(tmp_path, result.strategy, result.order, result.seed)
    evidence = read_evidence(store.proof_of(result))
    assert {name: tuple(x.shape) for name, x in evidence.inputs.items()} == {
        "1x4x4": (64, 1, 4, 4),
        "2x6x6": (64, 2, 6, 6),
    }
    for label, shape in enumerate(SHAPES):
        x = evidence.inputs["x".join(map(str, shape))]
        with torch.no_grad():
            y = result.learner.eval().predict(x, label)
        assert torch.allclose(y, evidence.outputs[f"columns.network.columns.{label}"], atol=1e-5)


@pytest.mark.filterwarnings("ignore::prognet.errors.StackingWarning")
@pytest.mark.parametrize("name", ["independent", "progressive", "stems"])
def test_seeds_that_are_trained_together_have_the_numbers_that_they_have_alone(name: str, tmp_path: Path) -> None:
    training = Training(epochs=2, batch_size=16, lr=0.05, optimiser="sgd")
    found = grid(
        [LEARNING[name](DEEP)],
        lambda order: mixed_stream(),
        out=tmp_path,
        seeds=(0, 1),
        training=training,
        measurement=MEASUREMENT,
        execution=Execution(stack=2),
        device="cpu",
        threads=1,
    )
    assert not found.failed
    for result in found.results:
        alone = carry_out(LEARNING[name](DEEP), seed=result.seed, training=training)
        assert np.allclose(result.accuracy, alone.accuracy, atol=0.07, equal_nan=True)


REFUSED: dict[str, Callable[[Backbone], Strategy]] = {
    "finetune": FineTune,
    "lora": lambda backbone: FineTune(backbone, recipe=FineTuning(rank=2), name="lora"),
    "finetune-head": HeadOnly,
    "ewc": lambda backbone: wrapped("EWC", backbone),
    "aligned": FeatureAlignment,
    "joint": lambda backbone: FeatureAlignment(backbone, source="joint", name="joint"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_has_one_layer_for_all_inputs_is_refused_before_any_work(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    strategy = REFUSED[name](DEEP)
    message = (
        f"tasks: required inputs of one shape for {name!r}, found {GREY} in task 0 ('patterns 0') and {COLOUR} in "
        "task 1 ('patterns 1'); bring them to one shape, or take a strategy in which such tasks have layers of "
        "their own: independent, progressive, copytune, multitask-stems, multitask-soft."
    )
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"), monkeypatch.context() as patch:
        patch.setattr(Strategy, "build", lambda *args: pytest.fail("something was built"))
        carry_out(strategy, tmp_path)
    with pytest.raises(ConfigError, match=f"^{re.escape(message)}$"):
        grid([Independent(DEEP), strategy], lambda order: mixed_stream(), out=tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())
    REFUSED[name](DEEP).prepare([task.outline() for task in alike(GREY)])


def test_an_alignment_of_no_weight_is_independent_also_there() -> None:
    aligned = carry_out(FeatureAlignment(DEEP, weight=0.0), training=Training(epochs=1))
    alone = carry_out(Independent(DEEP), training=Training(epochs=1))
    assert np.array_equal(aligned.accuracy, alone.accuracy, equal_nan=True)


def test_a_joint_architecture_that_does_not_fit_is_refused_in_a_comparison(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="architecture: Hard cannot join these tasks: shared: required in '1'"):
        grid(
            [MultiTask(DEEP, architecture=Hard(shared=["1"]))],
            lambda order: mixed_stream(),
            out=tmp_path,
            device="cpu",
        )
    assert not list(tmp_path.iterdir())


def test_a_comparison_tries_the_backbone_with_every_shape(tmp_path: Path) -> None:
    def for_grey(input_shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.ReLU(), nn.Linear(4, n_classes))

    stream = mixed_stream((GREY, GREY, GREY, COLOUR))
    message = r"backbone: required a function .* found RuntimeError: .*of shape \(1, 4, 4\) or \(2, 6, 6\)\."
    with pytest.raises(ConfigError, match=message):
        grid([Independent(for_grey)], lambda order: stream, out=tmp_path, device="cpu")
    assert not list(tmp_path.iterdir())


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A comparison that has been analysed."""
    folder = tmp_path_factory.mktemp("runs")
    strategies = [LEARNING[name](DEEP) for name in ("progressive", "stems")]
    settings: dict[str, Any] = {"training": Training(epochs=1, batch_size=16), "measurement": MEASUREMENT}
    found = grid(strategies, lambda order: mixed_stream(), out=folder, seeds=(0,), device="cpu", threads=1, **settings)
    assert not found.failed and len(found.results) == 2
    look = Look(samples=12, repeats=1, batch_size=8, pairs=Pairs(pair_samples=12, tag_steps=2, gains=True))
    done = {item.run: item for item in analyse(folder, lambda result: mixed_stream(), look=look, device="cpu")}
    assert not any(item.failed for item in done.values()) and done[PLACE].columns == 4
    return folder


@pytest.mark.slow
def test_the_report_says_which_columns_were_not_read(compared: Path) -> None:
    text = re.sub(r"\s+", " ", write_report(compared).read_text(encoding="utf-8"))
    assert "Inputs have several shapes (1 × 4 × 4: patterns 0, patterns 2; 2 × 6 × 6: patterns 1, patterns 3)." in text
    assert "in the first run of progressive: 1 by column 2, 2 by column 3, 1 and 3 by column 4." in text
    assert "<td>1 × 4 × 4</td>" in text and "<td>2 × 6 × 6</td>" in text
    assert all(verdict.problem is None for verdict in verify(compared))


def test_pairs_of_tasks_with_inputs_of_one_shape_are_related_and_no_others(compared: Path) -> None:
    pairs = read_relatedness(compared / PLACE)
    known = {(0, 2), (1, 3)}
    for matrix in (*(pairs.values[key] for key in ("knn", "leep", "mean_distance", "cka")), pairs.gain):
        assert {tuple(place) for place in np.argwhere(~np.isnan(matrix)).tolist()} == known
    assert np.isnan(pairs.alone).tolist() == [True, False, False, False]


def test_a_sample_of_a_column_never_meets_one_of_another_shape() -> None:
    """Were a column of another shape run on it, the network would fail: here every backbone notes what it sees."""
    seen: dict[tuple[int, ...], set[tuple[int, ...]]] = {}

    class Noting(nn.Module):
        def __init__(self, shape: tuple[int, ...]) -> None:
            super().__init__()
            self.shape = shape

        def forward(self, x: Tensor) -> Tensor:
            seen.setdefault(self.shape, set()).add(tuple(x.shape[1:]))
            return x.flatten(1)[:, :16]

    def agnostic(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        layers = (Noting(tuple(input_shape)), nn.Linear(16, 8), nn.ReLU(), nn.Linear(8, 6), nn.ReLU())
        return nn.Sequential(*layers, nn.Linear(6, n_classes))

    for strategy in (Progressive(agnostic, sources=TopSources(1)), CopyTune(agnostic), ProgressiveRandom(agnostic)):
        carry_out(strategy, training=Training(epochs=1), measurement=MEASUREMENT)
    assert seen == {GREY: {GREY}, COLOUR: {COLOUR}}
