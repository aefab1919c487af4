"""Runs whose columns are decided from data: stored, verified, and continued to the same bits."""

import json
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prognet.analysis.pruning import Pruning, prune_laterals
from prognet.config import Training
from prognet.engine import LinearAdapter
from prognet.errors import ConfigError
from prognet.evaluation import grid, verify
from prognet.evaluation.store import RunStore
from prognet.results import RunResult, load_results
from prognet.strategies import (
    ConstantWidth,
    FittedWidth,
    Independent,
    LastSources,
    Progressive,
    PruneLaterals,
    RootWidth,
    TopSources,
    describe_strategy,
    strategy_from,
)
from prognet.streams import from_arrays
from tests.helpers.runs import MEASUREMENT, NORMED, PLAIN, assert_same_numbers, assert_same_tensors, quick_run, tensors
from tests.helpers.sealing import reseal, unsealed
from tests.helpers.streams import make_stream

TRAINING = Training(epochs=2, batch_size=16, lr=0.02)
STREAM = make_stream((2, 5, 3, 2))

SETTINGS: Mapping[str, Callable[[], Progressive]] = {
    "knn": lambda: Progressive(NORMED, sources=TopSources(1)),
    "ridge": lambda: Progressive(NORMED, sources=TopSources(2, by="ridge", closure=2)),
    "afs": lambda: Progressive(NORMED, sources=TopSources(1, by="afs", trial=3)),
    "pruned": lambda: Progressive(NORMED, prune=PruneLaterals(drop=0.1)),
    "linear-pruned": lambda: Progressive(NORMED, adapter=LinearAdapter(), prune=PruneLaterals(drop=0.2)),
    "everything": lambda: Progressive(
        NORMED, sources=TopSources(2), width=RootWidth(), budget=1200, prune=PruneLaterals(drop=0.2, samples=30)
    ),
    "fitted": lambda: Progressive(NORMED, sources=LastSources(1), width=FittedWidth(350)),
}


class Killed(BaseException):
    """Stands in for the end of the process: nothing catches it."""


@cache
def undisturbed(name: str) -> tuple[RunResult, Mapping[str, Tensor]]:
    result = quick_run(SETTINGS[name](), STREAM, training=TRAINING)
    return result, tensors(result.learner)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_killed_after_its_second_step_ends_undisturbed(name: str, tmp_path: Path) -> None:
    required, numbers = undisturbed(name)
    seen = 0
    due = sum(cost.updates for cost in required.costs[:2])

    def advance(updates: int) -> None:
        nonlocal seen
        seen += updates
        if seen > due:
            raise Killed

    with pytest.raises(Killed):
        quick_run(SETTINGS[name](), STREAM, training=TRAINING, out=tmp_path, advance=advance)
    progress = RunStore.of(tmp_path, "progressive", 0, 0).progress()
    assert progress is not None
    assert len(progress.schedule) == 2
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.parts) == (None, 2)
    resumed = quick_run(SETTINGS[name](), STREAM, training=TRAINING, out=tmp_path)
    assert_same_numbers(resumed, required)
    assert_same_tensors(tensors(resumed.learner), numbers)
    assert load_results(tmp_path)[0].choices == required.choices
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.parts) == (None, 4)


@pytest.mark.parametrize("name", SETTINGS)
def test_what_was_decided_is_what_was_done(name: str) -> None:
    result, _ = undisturbed(name)
    network = result.learner.columns.network
    for k, choice in enumerate(result.choices):
        reads = network.column(k).reads
        assert not [(site, source) for site, source in choice.get("pruned", ()) if source in reads[site]]
        if "sources" in choice and "pruned" not in choice:
            assert set(network.column(k).sources) == set(choice["sources"])
    if "pruned" in name:
        assert any(choice.get("pruned") for choice in result.choices)


def test_other_choices_are_another_network(tmp_path: Path) -> None:
    quick_run(SETTINGS["pruned"](), STREAM, training=TRAINING, out=tmp_path)
    path = RunStore.of(tmp_path, "progressive", 0, 0).folder / "result.json"
    document = unsealed(path)
    step = next(step for step, choice in enumerate(document["choices"]) if choice.get("pruned"))
    document["choices"][step]["pruned"].pop()
    reseal(path, document)
    (verdict,) = verify(tmp_path)
    assert "state-4.safetensors: required" in str(verdict.problem)


@pytest.mark.parametrize(
    "strategy",
    [
        *(make() for make in SETTINGS.values()),
        Progressive(NORMED, width=ConstantWidth(0.25), sources=LastSources(3, closure=5)),
    ],
)
def test_a_description_is_the_strategy(strategy: Progressive) -> None:
    description = json.loads(json.dumps(describe_strategy(strategy)))
    again = strategy_from(description, NORMED)
    assert isinstance(again, Progressive)
    assert again.growth == strategy.growth
    assert describe_strategy(again) == description


@pytest.mark.parametrize("n_val", [0, 30])
def test_pruning_answers_to_the_validation_split_too(n_val: int) -> None:
    stream = make_stream((2, 5, 3, 2), n_val=n_val)
    free = quick_run(SETTINGS["pruned"](), stream, training=TRAINING)
    for k, choice in enumerate(free.choices[1:], start=1):
        assert len(choice["accuracy_without"]) == (2 if n_val else 1)
        splits = (stream[k].train, stream[k].val)[: 2 if n_val else 1]
        found = [float((free.learner.predict(s.x, k).argmax(1) == s.y).double().mean()) for s in splits]
        assert found == pytest.approx(choice["accuracy_without"])


def test_a_comparison_refuses_a_budget_before_any_other_strategy_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="budget: required at least"):
        grid(
            [Independent(NORMED), Progressive(NORMED, budget=60)],  # enough for two tasks, and not for four
            lambda order: make_stream((2, 5, 3, 2)),
            out=tmp_path,
            seeds=(0,),
            training=TRAINING,
            measurement=MEASUREMENT,
            device="cpu",
        )
    assert not list(tmp_path.rglob("*.safetensors"))


def test_a_comparison_tries_the_strategy_without_data(tmp_path: Path) -> None:
    outcome = grid(
        [SETTINGS["everything"]()],
        lambda order: make_stream((2, 5, 3, 2)),
        out=tmp_path,
        seeds=(0,),
        training=TRAINING,
        measurement=MEASUREMENT,
        device="cpu",
    )
    assert outcome.failed == {}
    assert_same_numbers(outcome.results[0], undisturbed("everything")[0])


def test_pruning_is_judged_by_every_class_of_a_sorted_validation_split(monkeypatch: pytest.MonkeyPatch) -> None:
    y = torch.arange(5).repeat_interleave(30)
    x = torch.randn(150, 6, generator=torch.Generator().manual_seed(0)) + y[:, None]
    stream = from_arrays([(x, y, x, y)] * 2, validation=0.4)
    assert stream[1].val.y.diff().min() >= 0  # sorted
    judged: list[list[int]] = []

    def note(*args: Any, held_out: tuple[Tensor, Tensor], **others: Any) -> Pruning:
        judged.append(torch.bincount(held_out[1], minlength=5).tolist())
        return prune_laterals(*args, held_out=held_out, **others)

    monkeypatch.setattr("prognet.strategies.growth.prune_laterals", note)
    quick_run(Progressive(PLAIN, prune=PruneLaterals(samples=25)), stream)
    ((*counts,),) = judged
    assert sum(counts) == 25
    assert min(counts) > 0
