"""Which earlier columns a new one reads: all, the last ones, or those with the best evidence.

Two numbers belong to a choice: how many columns are read, which decides the parameters of the new column, and how many
have to be run for it. Sources read sources of their own, and are run with them as they were trained; together they are
the closure. `closure` bounds that: in the order of preference, a column is passed over where it would make the closure
too large.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from prognet.analysis.estimates import LEAST, OF_OUTPUTS, Estimate, estimates
from prognet.analysis.sensitivity import average_fisher_sensitivity
from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.strategies.base import example_of
from prognet.strategies.columns import reading_of
from prognet.strategies.specification import Specification, require_whole
from prognet.streams.objectives import Classification
from prognet.streams.task import Samples, Task
from prognet.training import FitRecord, Session, booking, evaluating, fit, seeded
from prognet.training.batches import on_device

Evidence = Estimate | Literal["afs"]
EVIDENCE: tuple[str, ...] = (*get_args(Estimate), "afs")


@dataclass(frozen=True, kw_only=True)
class Situation:
    """A network in front of a new task: what sources are chosen from."""

    network: ProgressiveNetwork
    task: Task
    session: Session
    sites: Sequence[str] | str | None
    build: Callable[[], nn.Module]
    """A fresh backbone for the task, for a trial."""
    note: Callable[[FitRecord], None]
    """Told what a trial or an estimate cost."""

    classifying: frozenset[int]
    """The columns whose outputs are logits of classes."""

    @property
    def columns(self) -> tuple[int, ...]:
        """The columns that can be read: those that see inputs of the task's shape."""
        return self.network.alike(self.task.input_shape)


class Sources(Specification, ABC):
    """A frozen specification of the columns that a new one reads."""

    count: int | None = None
    """Columns that are read at most; None for no bound."""
    closure: int | None = None
    """Columns that are run for a prediction at most, beside the new one; None for no bound."""
    from_data: bool = False
    """Whether the evidence comes from the samples of the task."""

    @abstractmethod
    def evidence(self, situation: Situation) -> Sequence[float | None]:
        """How much speaks for each of `situation.columns`, in their order; more is better, None is the least."""


@dataclass(frozen=True)
class AllSources(Sources):
    """Every earlier column, as in the paper: parameters grow with the square of the number of columns."""

    def evidence(self, situation: Situation) -> list[float]:
        """The latest first; it matters where a budget leaves some out."""
        return [float(index) for index in situation.columns]


@dataclass(frozen=True)
class LastSources(Sources):
    """The latest columns.

    Raises:
        ConfigError: when a number is below 1.
    """

    count: int = 1
    """Columns that are read at most."""
    closure: int | None = None
    """Columns that are run for a prediction at most, beside the new one; None for no bound: the chain of all."""

    def __post_init__(self) -> None:
        _check_bounds(self)

    def evidence(self, situation: Situation) -> list[float]:
        """The latest first."""
        return [float(index) for index in situation.columns]


@dataclass(frozen=True)
class TopSources(Sources):
    """The columns whose features predict the new task's labels best, judged on its training samples.

    Raises:
        ConfigError: when a number is below 1, or `by` is not known.
    """

    count: int = 1
    """Columns that are read at most."""
    by: Evidence = "knn"
    """An estimate of what the column knows, `"knn"`, `"ridge"`, `"leep"`, `"nce"`, `"logme"`, `"hscore"` or `"cka"`, as
    in `prognet.analysis.estimates`, of which `"leep"` and `"nce"` ask columns that classify only; or `"afs"`: the
    column's share of the Average Fisher Sensitivity, summed over sites, in a trial column that reads all and is thrown
    away."""
    closure: int | None = None
    """Columns that are run for a prediction at most, beside the new one; None for no bound."""
    samples: int = 1000
    """Training samples that are looked at, the first ones of a seeded permutation."""
    trial: int = 100
    """Updates of the trial column; they count among the updates of the step."""
    from_data = True

    def __post_init__(self) -> None:
        _check_bounds(self)
        require_whole("samples", self.samples, 4)
        require_whole("trial", self.trial, 1)
        if self.by not in EVIDENCE:
            raise ConfigError(f"by: required one of {EVIDENCE}, found {self.by!r}.")

    def evidence(self, situation: Situation) -> Sequence[float | None]:
        """By `by`; the latest first where the task has too few samples, as in a rebuilt run, or no classes."""
        network, task, session = situation.network, situation.task, situation.session
        every = situation.columns
        judged = self.by == "afs" or isinstance(task.objective, Classification)
        if not every or not judged or len(task.train) < (LEAST if self.by == "cka" else 2):
            return [float(index) for index in every]
        x, y = training_part(task, session, self.samples)
        if self.by == "afs":
            return _afs(situation, x, self.trial)
        asked = [index for index in every if index in situation.classifying or self.by not in OF_OUTPUTS]
        size = session.measurement.evaluation_batch_size
        with booking(situation.note, session.device):
            found = estimates(network, asked, x, y, task.n_classes, [self.by], batch_size=size)[self.by]
        known = dict(zip(asked, found, strict=True))
        return [known.get(index) for index in every]


def selected(
    sources: Sources, evidence: Sequence[float | None], network: ProgressiveNetwork, columns: Sequence[int]
) -> list[int]:
    """The columns that are read, the best first, within the bounds; of two that are equal, the later one.

    Args:
        sources: the bounds.
        evidence: for each of `columns`, in their order; those without any come last.
        network: holds the columns.
        columns: those to choose from.
    """
    found: list[int] = []
    ranked = ((-inf if value is None else value, index) for value, index in zip(evidence, columns, strict=True))
    for _, index in sorted(ranked, reverse=True):
        if len(found) == sources.count:
            break
        if sources.closure is None or len(network.closure([*found, index])) <= sources.closure:
            found.append(index)
    return found


def training_part(task: Task, session: Session, count: int) -> tuple[Tensor, Tensor]:
    """Training inputs (n, *input_shape) as a network sees them, and their classes (n,), on the session's device."""
    return seeded_part(task, task.train, session, count, "evidence")


def seeded_part(task: Task, split: Samples, session: Session, count: int, purpose: str) -> tuple[Tensor, Tensor]:
    """At most `count` samples of a split, which may be sorted by class, drawn by (seed, task, purpose) alone.

    Returns:
        Inputs (n, *input_shape) as a network sees them, and targets (n, ...), on the session's device.
    """
    samples = on_device(split, session.device)
    generator = torch.Generator().manual_seed(derive_seed(session.seed, task.label, purpose))
    chosen = torch.randperm(len(samples), generator=generator)[:count].to(session.device)
    return task.normalisation(samples.x[chosen]), samples.y[chosen]


def _afs(situation: Situation, x: Tensor, updates: int) -> list[float]:
    """The share of each column, summed over sites, after a short training of a column that reads all of them."""
    network, task, session = situation.network, situation.task, situation.session
    trial = ProgressiveNetwork(network.adapter)
    trial.columns.extend(network.columns)
    training = replace(session.training, updates=updates, first_updates=None, patience=None)
    quiet = replace(session.measurement, lca_updates=0, curve_points=0, curve_samples=1)
    with seeded(derive_seed(session.seed, task.label, "trial"), session.device):
        k = trial.add_column(situation.build(), example_of(task), situation.sites, sources=situation.columns)

        def predict(x: Tensor, label: int) -> Tensor:
            out: Tensor = trial(x, column=k)
            return out

        record = fit(
            trial.column(k),
            lambda inputs: {label: predict(part, label) for label, part in inputs.items()},
            predict,
            [task],
            replace(session, training=training, measurement=quiet),
            reading=reading_of(trial, k),
        )
    situation.note(replace(record, curves=(), trainable=0))
    with evaluating(trial), booking(situation.note, session.device):
        found = average_fisher_sensitivity(trial, k, x)
    shares = dict(zip(found.columns, found.shares.sum(axis=0).tolist(), strict=True))
    return [shares[index] if shares[index] == shares[index] else 0.0 for index in situation.columns]


def _check_bounds(sources: Sources) -> None:
    require_whole("count", sources.count, 1)
    if sources.closure is not None:
        require_whole("closure", sources.closure, 1)
