"""Whole runs by a recipe: killed, verified, described, and from a file."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from prognet import backbones
from prognet.backbones import describe_backbone, mlp, with_weights
from prognet.config import Execution
from prognet.errors import ConfigError, StackingWarning, UnknownNameError
from prognet.evaluation import grid
from prognet.evaluation.proof import verify
from prognet.results import RunResult
from prognet.strategies import FineTune, FineTuning, describe_strategy, strategy_from
from prognet.streams import from_arrays
from tests.helpers.runs import (
    MEASUREMENT,
    NORMED,
    PLAIN,
    TRAINING,
    assert_same_numbers,
    assert_same_tensors,
    quick_run,
    tensors,
)
from tests.helpers.streams import make_stream

STREAM = make_stream()
RECIPES = {
    "gradual": FineTuning(unfreeze_every=1, decay=0.5, reinit=1),
    "towards the start": FineTuning(l2_sp=0.1, head_l2=0.01, dropout=0.2, rate=0.5),
    "negatives": FineTuning(negatives=4, smoothing=0.1, towards="prediction"),
    "adapters": FineTuning(rank=2),
    "merged": FineTuning(rank=2, merge=True),
    "pretext": FineTuning(pretext="rotation", pretext_updates=3, trunk="frozen"),
}


class Killed(BaseException):
    """Stands in for the end of the process."""


@pytest.mark.parametrize("name", RECIPES)
def test_a_run_killed_after_its_second_step_ends_undisturbed(name: str, tmp_path: Path) -> None:
    calls = 0

    def advance(updates: int) -> None:
        nonlocal calls
        calls += 1
        if calls == 5:  # in the first pass of the third step
            raise Killed

    strategy = FineTune(NORMED, recipe=RECIPES[name])
    with pytest.raises(Killed):
        quick_run(strategy, STREAM, out=tmp_path, advance=advance)
    required = quick_run(strategy, STREAM)
    resumed = quick_run(strategy, STREAM, out=tmp_path)
    assert_same_numbers(resumed, required)
    assert_same_tensors(tensors(resumed.learner), tensors(required.learner))
    (verdict,) = verify(tmp_path)
    assert verdict.problem is None
    assert verdict.parts == {"adapters": 6, "pretext": 4}.get(name, 0)


def both(strategy: FineTune, out: Path) -> list[RunResult]:
    """The runs of two seeds one by one, and then together."""
    found: list[RunResult] = []
    for stack in (1, 2):
        execution, place = Execution(stack=stack), out / str(stack)
        arguments: dict[str, Any] = {"training": TRAINING, "measurement": MEASUREMENT, "device": "cpu"}
        outcome = grid([strategy], lambda _: STREAM, out=place, seeds=(0, 1), execution=execution, **arguments)
        assert outcome.failed == {}
        found += outcome.results
    return found


def test_seeds_that_are_to_be_trained_together_are_trained_alone_by_a_recipe(tmp_path: Path) -> None:
    with pytest.warns(StackingWarning, match="finetune: its seeds are trained one by one, since their updates are not"):
        alone, other, together, again = both(FineTune(PLAIN, recipe=FineTuning(l2_sp=0.5)), tmp_path)
    for one, two in ((alone, together), (other, again)):  # the first task is learned plainly, and so together
        ours, theirs = one.metrics["cross_entropy"][-1], two.metrics["cross_entropy"][-1]
        assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-4)


def test_the_plain_recipe_can_be_trained_together(tmp_path: Path) -> None:
    alone, other, together, again = both(FineTune(PLAIN, recipe=FineTuning()), tmp_path)
    for one, two in ((alone, together), (other, again)):
        ours, theirs = one.metrics["cross_entropy"][-1], two.metrics["cross_entropy"][-1]
        assert ours.tolist() == pytest.approx(theirs.tolist(), rel=1e-4)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_rebuilt_from_its_description(name: str) -> None:
    strategy = FineTune(PLAIN, recipe=RECIPES[name], name="mine")
    described = json.loads(json.dumps(describe_strategy(strategy)))
    again = strategy_from(described, PLAIN)
    assert isinstance(again, FineTune)
    assert again.recipe == RECIPES[name]
    assert describe_strategy(again) == describe_strategy(strategy)


def test_a_network_from_a_file_begins_as_it_was_saved(tmp_path: Path) -> None:
    path = str(tmp_path / "start.safetensors")
    saved = PLAIN((1, 4, 4), 2)
    save_file(saved.state_dict(), path)
    begun = with_weights(PLAIN, path)
    assert_same_tensors(tensors(begun((1, 4, 4), 2)), tensors(saved))
    other = tensors(begun((1, 4, 4), 5))
    assert torch.equal(other["1.weight"], tensors(saved)["1.weight"])
    assert other["5.weight"].shape == (5, 6)
    recipe = FineTuning(pretrained=True, trunk="frozen")
    result = quick_run(FineTune(begun, recipe=recipe), STREAM, out=tmp_path / "run")
    assert torch.equal(result.learner.shared.trunk[1].weight, tensors(saved)["1.weight"])
    (verdict,) = verify(tmp_path / "run")
    assert verdict.problem is None


def test_its_description_is_plain_and_gives_it_back() -> None:
    begun = with_weights(mlp(hidden=(8,)), "x.safetensors")
    described = json.loads(json.dumps(describe_backbone(begun)))
    assert described["arguments"]["backbone"]["name"] == "mlp"
    again = getattr(backbones, described["name"])(**described["arguments"])
    assert again == begun
    assert hash(again) == hash(begun)
    assert with_weights("cnn", "x") == with_weights(backbones.cnn(), "x")


@pytest.mark.parametrize(("backbone", "kind"), [("mlq", UnknownNameError), (lambda s, n: None, ConfigError)])
def test_backbones_that_cannot_begin_from_a_file_are_refused(backbone: Any, kind: type[Exception]) -> None:
    with pytest.raises(kind, match="backbone"):
        with_weights(backbone, "x")


@pytest.mark.parametrize(
    ("strategy", "message"),
    [
        (FineTune(PLAIN, recipe=FineTuning(smoothing=0.1)), "smoothing: required a classification, found Regr"),
        (FineTune(PLAIN, recipe=FineTuning(reinit=9)), "reinit: required at most 2, the stages of the trunk, found 9"),
    ],
    ids=["smoothing", "reinit"],
)
def test_a_recipe_that_does_not_fit_is_refused_before_any_work(strategy: FineTune, message: str) -> None:
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    stream = from_arrays([(x, y, x, y), (x, x[:, 0], x, x[:, 0])], kinds=["classification", "regression"])
    with pytest.raises(ConfigError, match=message):
        quick_run(strategy, stream)
    assert strategy.records == []
    assert strategy.shared.trunk is None
