"""Quick runs, and what is equal between two of them."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from prognet.backbones import mlp
from prognet.config import Measurement, Training
from prognet.engine.adapters import Adapter, MLPAdapter
from prognet.engine.digest import tensors_of
from prognet.engine.sites import Site
from prognet.evaluation.checks import schedule_of
from prognet.evaluation.harness import run
from prognet.results import RunResult, result_to_json
from prognet.strategies import (
    FineTune,
    HeadOnly,
    Independent,
    IndependentWide,
    MultiTask,
    Progressive,
    ProgressiveRandom,
    Start,
    Strategy,
)
from prognet.strategies.base import Backbone
from prognet.strategies.heads import SharedTrunk
from prognet.streams.stream import Stream
from prognet.training import Session

TRAINING = Training(epochs=2, batch_size=16, lr=0.01)
MEASUREMENT = Measurement(lca_updates=2, curve_points=2, curve_samples=20, evaluation_batch_size=16)
PLAIN = mlp(hidden=(8, 6))
NORMED = mlp(hidden=(8, 6), batch_norm=True, dropout=0.2)
"""With BatchNorm and dropout: buffers, and random numbers while training."""

KINDS: Mapping[str, Callable[[Backbone], Strategy]] = {
    "progressive": lambda backbone: Progressive(backbone),
    "progressive-random": lambda backbone: ProgressiveRandom(backbone),
    "finetune": lambda backbone: FineTune(backbone),
    "finetune-head": lambda backbone: HeadOnly(backbone),
    "multitask": lambda backbone: MultiTask(backbone),
    "multitask-cumulative": lambda backbone: MultiTask(backbone, schedule="cumulative"),
    "independent": lambda backbone: Independent(backbone),
    "independent-wide": lambda backbone: IndependentWide(backbone),
}
"""Every built-in strategy, MultiTask in both of its schedules."""

SEQUENTIAL = tuple(name for name in KINDS if not name.startswith("multitask"))
FROZEN = ("progressive", "progressive-random", "independent", "independent-wide")
"""The strategies that never change a column again."""


def quick_run(strategy: Strategy, stream: Stream, **changes: Any) -> RunResult:
    """A run of two short epochs on the CPU; `changes` are further arguments of `prognet.run`."""
    arguments = {"training": TRAINING, "measurement": MEASUREMENT, "device": "cpu", **changes}
    return run(strategy, stream, **arguments)


def from_scratch(backbone: Backbone, **arguments: Any) -> Progressive:
    """A progressive network that is learned altogether: columns as initialised, nothing solved, nothing decided."""
    return Progressive(backbone, **{"adapter": MLPAdapter(), "start": Start(kind="scratch"), **arguments})


def make_session(training: Training = TRAINING, measurement: Measurement = MEASUREMENT, seed: int = 0) -> Session:
    """The session of a first step on the CPU."""
    return Session(training=training, measurement=measurement, seed=seed, device=torch.device("cpu"))


def with_session(strategy: Strategy, training: Training = TRAINING, seed: int = 0) -> Strategy:
    """The strategy, ready to learn outside a run."""
    strategy.session = make_session(training, seed=seed)
    return strategy


def tensors(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer, by name."""
    return {name: tensor.detach().clone() for name, tensor in tensors_of(module)}


def modes(module: nn.Module) -> dict[str, bool]:
    """The training mode of every submodule, by name."""
    return {name: part.training for name, part in module.named_modules()}


def assert_same_tensors(found: Mapping[str, Tensor], required: Mapping[str, Tensor]) -> None:
    """The same names and, bit for bit, the same numbers."""
    assert found.keys() == required.keys()
    different = [name for name in required if not torch.equal(found[name], required[name])]
    assert not different


def assert_same_numbers(found: RunResult, required: RunResult) -> None:
    """Equal in everything but times, memory, and whether it was stored."""
    assert result_to_json(_untimed(found)) == result_to_json(_untimed(required))


@contextmanager
def recorded_inputs(module: nn.Module) -> Iterator[list[Tensor]]:
    """Within the block, notes a copy of every batch that the module is trained on."""
    seen: list[Tensor] = []

    def note(part: nn.Module, args: tuple[Tensor, ...]) -> None:
        if part.training:
            seen.append(args[0].detach().clone())

    handle = module.register_forward_pre_hook(note)
    try:
        yield seen
    finally:
        handle.remove()


class Zeros(nn.Module):
    """A lateral that adds exactly nothing, and learns nothing."""

    def __init__(self, out_shape: tuple[int, ...]) -> None:
        super().__init__()
        self.out_shape = out_shape

    def forward(self, sources: list[Tensor]) -> Tensor:
        return sources[0].new_zeros(len(sources[0]), *self.out_shape)


@dataclass(frozen=True)
class ZeroAdapter(Adapter):
    """Laterals with U = 0 for ever: the column has to be the independent network."""

    def build(self, senders: Any, site: Site) -> nn.Module:
        return Zeros(site.out_shape)


def _untimed(result: RunResult) -> RunResult:
    costs = tuple(
        replace(cost, seconds=0.0, feature_seconds=0.0, evaluation_seconds=0.0, peak_memory=0) for cost in result.costs
    )
    return replace(result, costs=costs, files={})


def learn_all(strategy: Strategy, stream: Stream, training: Training = TRAINING) -> Strategy:
    """The strategy after it has learned a stream, without evaluation: the same strategy."""
    with_session(strategy, training)
    for group in schedule_of(strategy, stream):
        strategy.learn([stream[label] for label in group])
    return strategy


def network_of(strategy: Strategy, label: int) -> list[nn.Module]:
    """The modules of a task's plain network: the backbone of its column, or trunk and head."""
    if isinstance(strategy, FineTune | HeadOnly | MultiTask):
        assert isinstance(strategy.shared, SharedTrunk)
        return list(strategy.shared.parts_of(label))
    assert isinstance(strategy, Progressive | ProgressiveRandom | Independent | IndependentWide)
    network = strategy.columns.network
    return [network.column(column_of(strategy, label)).backbone]


def column_of(strategy: Strategy, label: int) -> int:
    """The index of a task's column; random columns stand between those of ProgressiveRandom."""
    return 2 * label if isinstance(strategy, ProgressiveRandom) else label
