"""Episodes: small tasks, each with samples to learn from and samples to be judged by, of equal numbers."""

from collections.abc import Sequence
from dataclasses import dataclass, fields
from math import pi

import torch
from torch import Tensor

from prognet.backbones.checks import require_whole
from prognet.errors import StreamError
from prognet.streams.objectives import Classification
from prognet.streams.task import Task


@dataclass(frozen=True, slots=True, eq=False)
class Episodes:
    """A number E of episodes in four tensors."""

    x: Tensor
    """Inputs to learn from, (E, n, *input_shape)."""
    y: Tensor
    """Their targets, (E, n, ...)."""
    query_x: Tensor
    """Inputs to be judged by, (E, m, *input_shape)."""
    query_y: Tensor
    """Their targets, (E, m, ...)."""

    def __len__(self) -> int:
        return len(self.x)

    def to(self, device: torch.device) -> "Episodes":
        """The same on a device."""
        return Episodes(*(getattr(self, field.name).to(device) for field in fields(self)))

    def together(self) -> tuple[Tensor, Tensor]:
        """All samples of each episode, (E, n + m, ...), for methods that do not tell the two kinds apart."""
        return torch.cat([self.x, self.query_x], 1), torch.cat([self.y, self.query_y], 1)


@dataclass(frozen=True, kw_only=True)
class FewShot:
    """Draws classifications of a few classes with a few samples each from the training splits of tasks.

    An episode takes one of the tasks, and of that `ways` classes in any order, which become 0, 1, ...

    Raises:
        ConfigError: when a number is out of its range.
        StreamError: when there is no task, or one that is no classification; when a task has too few classes, a class
            too few samples, or the inputs differ in shape.
    """

    tasks: Sequence[Task]
    """Where from; validation and test splits are not looked at."""
    ways: int = 5
    """Classes of an episode."""
    shots: int = 5
    """Samples a class to learn from."""
    queries: int = 10
    """Samples a class to be judged by; 0 for Reptile alone, which does not tell them from the others."""

    def __post_init__(self) -> None:
        for name, least in (("ways", 2), ("shots", 1), ("queries", 0)):
            require_whole(name, getattr(self, name), least)
        if not self.tasks:
            raise StreamError("tasks: required at least one task to draw episodes from, found none.")
        for task in self.tasks:
            if not isinstance(task.objective, Classification):
                raise StreamError(
                    f"tasks: required classifications, found {type(task.objective).__name__} in task {task.label}; "
                    "leave it out, or give meta_learn a function of your own that draws episodes."
                )
            counts = torch.bincount(task.train.y, minlength=task.n_classes)
            if task.n_classes < self.ways or counts.min() < self.shots + self.queries:
                raise StreamError(
                    f"tasks: required {self.ways} classes of {self.shots + self.queries} training samples in every "
                    f"task, found {counts.tolist()} in task {task.label}; ask for fewer ways, shots or queries."
                )
        if len({task.input_shape for task in self.tasks}) != 1:
            raise StreamError(
                f"tasks: required inputs of one shape, found {sorted({task.input_shape for task in self.tasks})}."
            )

    def draw(self, count: int, generator: torch.Generator) -> Episodes:
        """`count` episodes; the same ones from a generator in the same state."""
        parts = [self._one(generator) for _ in range(count)]
        return Episodes(*(torch.stack(tensors) for tensors in zip(*parts, strict=True)))

    def _one(self, generator: torch.Generator) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        task = self.tasks[int(torch.randint(len(self.tasks), (), generator=generator))]
        classes = torch.randperm(task.n_classes, generator=generator)[: self.ways].tolist()
        places = []
        for index in classes:
            of_class = (task.train.y == index).nonzero().flatten()
            chosen = torch.randperm(len(of_class), generator=generator)[: self.shots + self.queries]
            places.append(of_class[chosen.to(of_class.device)])
        rows = torch.stack(places, dim=1)  # (shots + queries, ways): every class in turn
        x = task.normalisation(task.train.x[rows.flatten()])
        y = torch.arange(self.ways, device=x.device).repeat(len(rows))
        n = self.shots * self.ways
        return x[:n], y[:n], x[n:], y[n:]


def sine_episodes(count: int, generator: torch.Generator, *, shots: int = 10, queries: int = 20) -> Episodes:
    """Regressions of y = A sin(x + b), A in [0.1, 5], b in [0, pi], x in [-5, 5] (Finn et al. 2017, section 5.1).

    Args:
        count: how many, E.
        generator: what they are drawn with.
        shots: samples to learn from.
        queries: samples to be judged by.

    Returns:
        Inputs and targets of one number each: (E, shots, 1) and (E, queries, 1).

    Raises:
        ConfigError: when a number of samples is out of its range.
    """
    require_whole("shots", shots)
    require_whole("queries", queries, 0)
    amplitude = 0.1 + 4.9 * torch.rand(count, 1, 1, generator=generator)
    phase = pi * torch.rand(count, 1, 1, generator=generator)
    x = 10 * torch.rand(count, shots + queries, 1, generator=generator) - 5
    y = amplitude * torch.sin(x + phase)
    return Episodes(x[:, :shots], y[:, :shots], x[:, shots:], y[:, shots:])
