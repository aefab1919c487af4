"""The strategy that trains a progressive module."""

import pickle
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam

from prognet.avalanche import ProgressiveModule, ProgressiveStrategy
from prognet.errors import ConfigError, FrozenColumnError
from tests.helpers.avalanche import evaluator
from tests.helpers.runs import NORMED, PLAIN, assert_same_tensors, tensors
from tests.helpers.streams import make_stream

STREAM = make_stream()


def experiences() -> list[Any]:
    return list(STREAM.benchmark.train_stream)


def make(module: nn.Module | None = None, optimiser: Any = None, **more: Any) -> ProgressiveStrategy:
    module = ProgressiveModule(NORMED, seed=0) if module is None else module
    optimiser = Adam(module.parameters(), lr=0.01) if optimiser is None else optimiser
    settings = {"train_mb_size": 16, "train_epochs": 2, "evaluator": evaluator(), **more}
    return ProgressiveStrategy(model=module, optimizer=optimiser, **settings)


def optimised(strategy: ProgressiveStrategy) -> list[int]:
    return [id(parameter) for group in strategy.optimizer.param_groups for parameter in group["params"]]


def test_the_optimiser_holds_the_newest_column_and_forgets_the_one_before() -> None:
    strategy = make()
    for label, experience in enumerate(experiences()):
        strategy.train(experience)
        newest = strategy.progressive.network.column(label)
        assert optimised(strategy) == [id(parameter) for parameter in newest.parameters()]
        assert {id(parameter) for parameter in strategy.optimizer.state} == set(optimised(strategy))
        steps = {int(state["step"]) for state in strategy.optimizer.state.values()}
        assert steps == {6}  # two epochs of three batches, and none of an earlier task


def test_weight_decay_and_momentum_move_nothing_that_is_frozen() -> None:
    module = ProgressiveModule(NORMED, seed=0)
    strategy = make(module, SGD(module.parameters(), lr=0.05, momentum=0.9, weight_decay=0.1))
    first, second, _ = experiences()
    strategy.train(first)
    digest, before = module.network.digest(0), tensors(module.network.column(0))
    strategy.train(second)
    assert module.network.digest(0) == digest
    assert_same_tensors(tensors(module.network.column(0)), before)


def test_training_goes_on_with_the_same_task_and_the_same_state() -> None:
    strategy = make()
    strategy.train(experiences()[0])
    with pytest.warns(UserWarning, match="goes on training column 0"):
        strategy.train(experiences()[0])
    assert {int(state["step"]) for state in strategy.optimizer.state.values()} == {12}


def test_a_frozen_column_that_was_opened_is_found() -> None:
    strategy = make()
    first, second, _ = experiences()
    strategy.train(first)

    class Opens:
        def before_training_epoch(self, agent: Any, **_: Any) -> None:
            parameter = next(agent.progressive.network.column(0).parameters())
            parameter.requires_grad = True

    strategy.plugins.append(Opens())
    with pytest.raises(FrozenColumnError):
        strategy.train(second)


class Around(nn.Module):
    """A module around a progressive one, as a compiled one is."""

    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.inner = inner

    def forward(self, x: Any, task_labels: Any) -> Any:
        return self.inner(x, task_labels)


def test_a_module_around_the_progressive_one_learns_the_same() -> None:
    plain, inner = ProgressiveModule(NORMED, seed=0), ProgressiveModule(NORMED, seed=0)
    for module in (plain, Around(inner)):
        torch.manual_seed(4)
        strategy = make(module)
        for experience in experiences()[:2]:
            strategy.train(experience)
    assert_same_tensors(tensors(inner), tensors(plain))


def test_mixed_batches_of_replay_train_the_newest_column_only() -> None:
    from avalanche.training.plugins import ReplayPlugin

    class Labels:
        def __init__(self) -> None:
            self.seen: list[set[int]] = []

        def after_forward(self, strategy: Any, **_: Any) -> None:
            self.seen.append(set(strategy.mb_task_id.tolist()))

    labels = Labels()
    strategy = make(ProgressiveModule(PLAIN, seed=0), plugins=[ReplayPlugin(mem_size=20), labels])
    strategy.plugins[0].storage_policy.update = lambda agent, **_: agent.plugins[0].storage_policy.post_adapt(
        agent, agent.experience
    )  # the original warns of its own age
    first, second, _ = experiences()
    strategy.train(first)
    digest = strategy.progressive.network.digest(0)
    strategy.train(second)
    assert labels.seen[-1] == {0, 1}
    assert strategy.progressive.network.digest(0) == digest


def test_a_pickled_strategy_goes_on_alike() -> None:
    strategy = make()
    strategy.evaluator.loggers = []
    strategy.train(experiences()[0])
    other = pickle.loads(pickle.dumps(strategy))
    assert other.progressive is other.model
    assert optimised(other) == [id(p) for p in other.model.network.parameters()]
    for one in (strategy, other):
        torch.manual_seed(2)
        one.train(experiences()[1])
    assert_same_tensors(tensors(other.model), tensors(strategy.model))


def test_an_optimiser_of_ones_own_is_pickled_as_it_is() -> None:
    module = ProgressiveModule(PLAIN, seed=0)
    strategy = make(module, Own(module.parameters(), lr=0.1))
    strategy.evaluator.loggers = []
    strategy.train(experiences()[0])
    assert type(pickle.loads(pickle.dumps(strategy)).optimizer) is Own


class Own(SGD):
    """An optimiser that torch does not have."""


def test_another_module_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="model: required a ProgressiveModule, or a module around one, found a Linear"
    ):
        make(nn.Linear(2, 2))


def test_several_parameter_groups_are_refused() -> None:
    module = ProgressiveModule(PLAIN)
    groups = [{"params": [parameter]} for parameter in (module.placeholder, nn.Parameter(torch.zeros(1)))]
    with pytest.raises(ConfigError, match="optimizer: required one parameter group, found 2; the parameters of a new"):
        make(module, SGD(groups, lr=0.1))
