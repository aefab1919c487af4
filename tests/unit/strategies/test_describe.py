import json
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import Tensor

from prognet.engine import LinearAdapter, MLPAdapter
from prognet.errors import ConfigError
from prognet.strategies import (
    FineTune,
    HeadOnly,
    Independent,
    IndependentWide,
    MultiTask,
    Progressive,
    ProgressiveRandom,
    Strategy,
    describe_strategy,
    strategy_from,
)
from prognet.strategies.multitask import DWA, FAMO, CrossStitch, FiLM, FixedWeights, GradNorm, Hard, Soft
from prognet.strategies.named import multitask_cumulative, progressive_linear, progressive_paper
from prognet.streams.task import Task
from tests.helpers.runs import KINDS, PLAIN

STRATEGIES = (
    Progressive(PLAIN),
    Progressive(PLAIN, adapter=LinearAdapter(zero_init=False), sites=["3", "5"], name="mine"),
    ProgressiveRandom(PLAIN, adapter=MLPAdapter(hidden=0.5, alpha=0.3)),
    FineTune(PLAIN),
    HeadOnly(PLAIN, name="frozen"),
    MultiTask(PLAIN),
    MultiTask(PLAIN, schedule="cumulative", sampling=0.5, weighting=FixedWeights(weights=[1, 0.5])),
    MultiTask(PLAIN, architecture=Hard(shared=["1"]), weighting=FAMO(lr=0.1, match_scale=True), name="famo"),
    MultiTask(PLAIN, architecture=Soft(penalty={"1": 0.5, "*": 0.1}), weighting=DWA(temperature=1.0), name="dwa"),
    MultiTask(PLAIN, architecture=CrossStitch(own=0.5, reads="earlier", sites=["3"]), name="stitch"),
    MultiTask(PLAIN, architecture=FiLM(descriptor=3, sites="leaves"), weighting=GradNorm(alpha=1.0), name="film"),
    Independent(PLAIN),
    IndependentWide(PLAIN, adapter=MLPAdapter.paper(), sites=["*"]),
)


@pytest.mark.parametrize("strategy", STRATEGIES, ids=lambda strategy: strategy.name)
def test_a_strategy_is_rebuilt_from_its_description(strategy: Strategy) -> None:
    description = json.loads(json.dumps(describe_strategy(strategy)))
    rebuilt = strategy_from(description, PLAIN)
    assert type(rebuilt) is type(strategy)
    assert rebuilt.name == strategy.name
    assert rebuilt.schedule == strategy.schedule
    assert describe_strategy(rebuilt) == describe_strategy(strategy)


def test_a_description_by_hand() -> None:
    assert describe_strategy(Progressive(PLAIN, adapter=LinearAdapter(), sites=["3"], name="mine")) == {
        "kind": "Progressive",
        "name": "mine",
        "arguments": {
            "adapter": {"kind": "LinearAdapter", "arguments": {"zero_init": True, "kernel": "1x1"}},
            "sites": ["3"],
            "start": {"kind": "Start", "arguments": {"kind": "auto", "margin": 0.8}},
            "sources": {"kind": "AllSources", "arguments": {}},
            "width": None,
            "budget": None,
            "prune": None,
        },
    }
    assert describe_strategy(FineTune(PLAIN)) == {"kind": "FineTune", "name": "finetune", "arguments": {}}


def test_every_built_in_strategy_has_a_kind_of_its_own() -> None:
    kinds = {type(KINDS[name](PLAIN)): KINDS[name](PLAIN).kind for name in KINDS}
    assert sorted(kinds.values()) == sorted(cls.__name__ for cls in kinds)


class Own(Strategy):
    """A strategy that only its author can rebuild."""

    def learn(self, tasks: Sequence[Task]) -> None:
        """Nothing."""

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return torch.zeros(len(x), 2)


def test_a_strategy_of_ones_own_is_named_by_its_class() -> None:
    description = describe_strategy(Own(PLAIN, "own"))
    assert description == {"kind": f"{__name__}:Own", "name": "own", "arguments": {}}
    with pytest.raises(ConfigError, match="can be rebuilt by its author only"):
        strategy_from(description, PLAIN)


def test_a_subclass_does_not_pass_for_its_base() -> None:
    class Mine(FineTune):
        kind = "Mine"

    assert describe_strategy(Mine(PLAIN))["kind"].endswith("Mine")
    assert describe_strategy(Mine(PLAIN))["kind"] != "FineTune"


@pytest.mark.parametrize("arguments", [{"unknown": 1}, {"schedule": "joint", "unknown": 1}])
def test_arguments_that_do_not_fit_are_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match="strategy: required the arguments of MultiTask, found .*unknown"):
        strategy_from({"kind": "MultiTask", "name": "multitask", "arguments": arguments}, PLAIN)


def test_the_named_ones() -> None:
    linear, paper, cumulative = (make(PLAIN) for make in (progressive_linear, progressive_paper, multitask_cumulative))
    assert (linear.name, linear.adapter) == ("progressive-linear", LinearAdapter())
    assert (paper.name, paper.adapter) == ("progressive-paper", MLPAdapter.paper())
    assert (cumulative.name, cumulative.schedule) == ("multitask-cumulative", "cumulative")
