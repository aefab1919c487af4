"""A task and its samples: values that the whole of prognet passes around."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from prognet.errors import ConfigError, StreamError
from prognet.results import TaskSummary
from prognet.streams.objectives import Classification, Objective


@dataclass(frozen=True, slots=True, eq=False)
class Samples:
    """The samples of one split: `x` (N, *input_shape), uint8 or floating point, and the targets `y` (N, ...).

    For a classification `y` is (N,), int64, local classes; what it is for another task its objective says.
    """

    x: Tensor
    y: Tensor

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, slots=True)
class Normalisation:
    """How raw samples become the input of a network: bytes are divided by 255, then `(x - mean) / std` per channel.

    Raises:
        ConfigError: when there is not one finite mean and one positive deviation for each channel.
    """

    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if len(self.mean) != len(self.std) or not all(isfinite(number) for number in (*self.mean, *self.std)):
            raise ConfigError(
                f"std: required as many finite numbers as mean, found mean={self.mean}, std={self.std}; "
                "give one of each for every channel."
            )
        if any(number <= 0 for number in self.std):
            raise ConfigError(
                f"std: required numbers above 0, found {self.std}; leave constant channels out of the data."
            )

    def __call__(self, x: Tensor) -> Tensor:
        """`x` (B, *input_shape) of any dtype -> float32 of the same shape, on the same device."""
        x = x.to(torch.float32).div_(255) if x.dtype == torch.uint8 else x.to(torch.float32)
        if not self.mean:
            return x
        channels = (1, -1, *[1] * (x.ndim - 2))  # channels come first
        return (x - x.new_tensor(self.mean).view(channels)) / x.new_tensor(self.std).view(channels)


@dataclass(frozen=True, kw_only=True, eq=False)
class Task:
    """One task of a stream.

    Class labels are local: every split's `y` lies in [0, n_classes). `head` names the output layer that the task uses:
    its own label, or 0 for every task of a stream with one shared head.
    """

    label: int
    """Position in the stream, counted from 0; also the task label at test time."""
    name: str
    classes: tuple[str, ...]
    """Names of the classes, in the order of the local labels; of the numbers or labels, where there are no classes."""
    train: Samples
    val: Samples
    test: Samples
    objective: Objective
    head: int
    normalisation: Normalisation = Normalisation()
    make_experience: Callable[[], Any] | None = field(default=None, repr=False)
    """Makes the Avalanche experience; set by the stream that owns the task."""

    @property
    def n_classes(self) -> int:
        """How many outputs the head of this task has."""
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return tuple(self.train.x.shape[1:])

    @property
    def experience(self) -> Any:
        """The training experience of the stream's Avalanche benchmark that holds this task.

        Raises:
            StreamError: when the task belongs to no stream.
        """
        if self.make_experience is None:
            raise StreamError(f"task {self.label}: required a task of a stream, found one that stands alone.")
        return self.make_experience()

    @property
    def summary(self) -> TaskSummary:
        """The task without its data."""
        return TaskSummary(
            label=self.label,
            name=self.name,
            n_classes=self.n_classes,
            input_shape=self.input_shape,
            head=self.head,
            n_train=len(self.train),
            n_val=len(self.val),
            n_test=len(self.test),
            **self._kind(),
        )

    def _kind(self) -> dict[str, Any]:
        """What the summary says of the objective: of a classification nothing."""
        if isinstance(self.objective, Classification):
            return {}
        objective = self.objective
        chance = objective.chance(self.n_classes)
        return {"primary": objective.primary, "chance": chance, "objective": objective.record()}

    def outline(self) -> "Task":
        """The same task with no samples: all that is needed to build the networks for it."""
        empty = Samples(self.train.x[:0], self.train.y[:0])
        return replace(self, train=empty, val=empty, test=empty, make_experience=None)


def outline_of(summary: TaskSummary, objective: Objective) -> Task:
    """A task without samples, from its summary: all that is needed to build the networks for it."""
    empty = Samples(torch.empty(0, *summary.input_shape), torch.empty(0, dtype=torch.int64))
    return Task(
        label=summary.label,
        name=summary.name,
        classes=tuple(str(index) for index in range(summary.n_classes)),
        train=empty,
        val=empty,
        test=empty,
        objective=objective,
        head=summary.head,
    )


def labels_of(tasks: Sequence[Task]) -> tuple[int, ...]:
    """The labels of `tasks`, in order."""
    return tuple(task.label for task in tasks)
