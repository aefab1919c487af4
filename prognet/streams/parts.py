"""What every builder of streams uses: settings, data sets as tensors, stratified splits, and tasks made from them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor

from prognet.config import Heads
from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.streams.checks import check_heads
from prognet.streams.objectives import Classification, Objective
from prognet.streams.task import Normalisation, Samples, Task

Order = Literal["seeded", "natural"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """What all builders share.

    Raises:
        ConfigError: when a value is out of its range.
    """

    seed: int = 0
    """Seed of class order, task order and validation split; 0 is a seed like any other."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out, stratified by class; 0 holds out none."""
    heads: Heads = "per-task"

    def __post_init__(self) -> None:
        if type(self.seed) is not int:
            raise ConfigError(f"seed: required a whole number, found {self.seed!r}; give for instance 0.")
        check_fraction("validation", self.validation)
        check_heads(self.heads)


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """A whole data set: its fixed training and test split, and the names of its classes by label."""

    train: Samples
    test: Samples
    classes: tuple[str, ...]
    normalisation: Normalisation = field(default_factory=Normalisation)


def make_task(
    label: int,
    name: str,
    classes: Sequence[str],
    train: Samples,
    test: Samples,
    settings: Settings,
    normalisation: Normalisation,
    val: Samples | None = None,
    objective: Objective | None = None,
) -> Task:
    """A task whose validation split is `val` or, without one, a seeded and stratified part of `train`.

    Its objective is that of a classification unless another one is given, and then `val` as well.
    """
    if val is None:
        keep, held_out = stratified(train.y, settings.validation, generator(settings.seed, label, "validation"))
        train, val = select(train, keep), select(train, held_out)
    return Task(
        label=label,
        name=name,
        classes=tuple(classes),
        train=train,
        val=val,
        test=test,
        objective=objective or Classification(len(classes)),
        head=0 if settings.heads == "shared" else label,
        normalisation=normalisation,
    )


def stratified(y: Tensor, fraction: float, random: torch.Generator) -> tuple[Tensor, Tensor]:
    """Two disjoint sets of indices of `y` (N,), ascending: the rest, and `fraction` of every class.

    Of a class with two samples or more, each set gets at least one, so every class is in both; a class with one sample
    stays in the rest. With `fraction` 0 the second set is empty.
    """
    parts = [torch.empty(0, dtype=torch.int64)]
    for label in torch.unique(y):
        members = torch.nonzero(y == label).flatten()
        size = min(max(round(fraction * len(members)), 1), len(members) - 1) if fraction else 0
        parts.append(members[torch.randperm(len(members), generator=random)[:size]])
    part = torch.cat(parts).sort().values
    rest = torch.ones(len(y), dtype=torch.bool)
    rest[part] = False
    return torch.nonzero(rest).flatten(), part


def select(samples: Samples, index: Tensor) -> Samples:
    """The samples at `index`: positions (M,) or a mask (N,)."""
    return Samples(samples.x[index], samples.y[index])


def generator(seed: int, *keys: int | str) -> torch.Generator:
    """A random stream of its own for one purpose."""
    return torch.Generator().manual_seed(derive_seed(seed, *keys))


def ordered(n: int, order: str, argument: str, seed: int, purpose: str) -> list[int]:
    """The numbers 0 .. n-1, as they are ("natural") or in the order of a seeded permutation ("seeded").

    Raises:
        ConfigError: when `order` is neither; the message calls it `argument`.
    """
    if order == "natural":
        return list(range(n))
    if order == "seeded":
        return torch.randperm(n, generator=generator(seed, purpose)).tolist()
    raise ConfigError(f"{argument}: required 'seeded' or 'natural', found {order!r}; choose one of the two.")


def check_n_tasks(n_tasks: int, most: int | None = None) -> None:
    """Refuses a number of tasks that is not a whole number from 1 to `most`.

    Raises:
        ConfigError: when it is not.
    """
    required = "a whole number, at least 1" if most is None else f"1 to {most}, so that each task has two classes"
    if type(n_tasks) is not int or n_tasks < 1 or (most is not None and n_tasks > most):
        raise ConfigError(f"n_tasks: required {required}, found {n_tasks!r}; choose another number of tasks.")


def check_fraction(argument: str, value: float) -> None:
    """Refuses a fraction that is not in [0, 1).

    Raises:
        ConfigError: when it is not.
    """
    if not 0 <= value < 1:
        raise ConfigError(f"{argument}: required a fraction in [0, 1), found {value!r}; give for instance 0.1.")
