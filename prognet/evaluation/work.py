"""The work of a comparison: its runs, as values that can be handed to another process or machine."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from prognet.config import Execution, Measurement, Training
from prognet.errors import PrognetError
from prognet.evaluation.replication import run_together
from prognet.results import RunResult
from prognet.strategies import Strategy
from prognet.streams.stream import Stream
from prognet.training import Session
from prognet.training.session import ignore_files, ignore_progress


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a comparison."""

    strategy: str
    order: int
    seed: int

    def __str__(self) -> str:
        return f"{self.strategy}, order {self.order}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Unit:
    """Runs that differ in nothing but the seed and are trained together: the smallest piece of work."""

    strategy: str
    order: int
    seeds: tuple[int, ...]
    updates: int
    """Of each of its runs, without early stopping."""

    @property
    def cells(self) -> tuple[Cell, ...]:
        """Its runs."""
        return tuple(Cell(self.strategy, self.order, seed) for seed in self.seeds)


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What all runs of a comparison have in common."""

    strategies: Mapping[str, Strategy]
    """By name."""
    training: Training
    tuned: Mapping[str, Training] = field(default_factory=dict)
    """By name of the strategy, the training that replaces the common one."""
    measurement: Measurement
    execution: Execution
    device: torch.device
    threads: int
    out: Path

    def training_of(self, strategy: str) -> Training:
        """How a strategy is trained."""
        return self.tuned.get(strategy, self.training)

    def at(self, device: torch.device, out: Path | None = None) -> "Plan":
        """The same plan for another device and, if one is given, another folder."""
        return replace(self, device=device, out=out or self.out)


@dataclass(frozen=True, slots=True)
class Report:
    """What became of a unit."""

    unit: Unit
    outcomes: Sequence[RunResult | PrognetError]
    """For each of its runs the result, without the learner, or the error that ended it."""
    warnings: tuple[tuple[str, type[Warning]], ...] = ()
    """What was warned of, where that was in another process."""

    def repeat_warnings(self) -> None:
        """Warns here of what was warned of elsewhere."""
        for text, kind in self.warnings:
            warnings.warn(text, kind, stacklevel=2)


def carry_out_unit(
    plan: Plan,
    unit: Unit,
    streams: Sequence[Stream],
    advance: Callable[[int], None] = ignore_progress,
    kept: Callable[[Path], None] = ignore_files,
) -> Report:
    """Carries out the runs of a unit, in this process.

    Args:
        plan: what they have in common with all others.
        unit: which runs.
        streams: the stream of each of them.
        advance: told the number of finished updates now and then.
        kept: told the folder of a run whenever its files have changed and are whole.

    Raises:
        UnwritableError: when a disk is full; that ends the whole comparison.
    """
    settings = Session(
        training=plan.training_of(unit.strategy),
        measurement=plan.measurement,
        execution=plan.execution,
        seed=unit.seeds[0],
        device=plan.device,
        advance=advance,
        kept=kept,
    )
    strategy = plan.strategies[unit.strategy]
    outcomes = run_together(strategy, streams, settings, unit.seeds, plan.threads, plan.out)
    plain = [replace(one, learner=None) if isinstance(one, RunResult) else one for one in outcomes]
    return Report(unit, plain)  # the tensors are in the folder
