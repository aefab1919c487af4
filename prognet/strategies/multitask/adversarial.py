"""Shared and private columns, kept apart: what is shared is not to tell the tasks, and not to repeat what is private.

Liu, Qiu & Huang 2017 (arXiv 1704.05742). Every task reads a shared column and one of its own; its output is the sum of
a head on each, which is one linear head on both. A discriminator tells the task from the shared features; it learns to,
while the gradient that reaches the shared column through it is reversed (Ganin & Lempitsky 2015, arXiv 1409.7495).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.engine.sites import same_device
from prognet.ranges import NOT_NEGATIVE, require_number
from prognet.strategies.base import example_of
from prognet.strategies.heads import SharedTrunk, TaskModel, split
from prognet.strategies.multitask.architecture import Architecture, Make, rows_of, shared_trunk
from prognet.streams.task import Task
from prognet.training import Penalised, evaluating


@dataclass(frozen=True, kw_only=True)
class Adversarial(Architecture):
    """A shared column, a private one for every task, a task discriminator, and a penalty on what both say.

    The loss is that of the tasks + `adversary` times the cross-entropy of the discriminator, with its gradient
    reversed, + `orthogonality` times the mean square of the cosines between shared and private features over a task's
    samples, |S' P|^2 / b^2 with rows of length 1.

    Raises:
        ConfigError: when a factor is no finite number of at least 0.
    """

    adversary: float = 0.05
    orthogonality: float = 0.01

    def __post_init__(self) -> None:
        for name in ("adversary", "orthogonality"):
            require_number(name, getattr(self, name), NOT_NEGATIVE)

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return SharedAndPrivate(tasks, make, self.adversary, self.orthogonality)


class SharedAndPrivate(TaskModel):
    """The columns, their heads, and the discriminator."""

    def __init__(self, tasks: Sequence[Task], make: Make, adversary: float, orthogonality: float) -> None:
        super().__init__()
        self.adversary, self.orthogonality = adversary, orthogonality
        self.labels = [task.label for task in tasks]
        self.shared: SharedTrunk = shared_trunk(tasks, make)
        self.trunks, self.heads = nn.ModuleDict(), nn.ModuleDict()
        for task in tasks:
            trunk, head = split(make(task, "private"), example_of(task))
            self.trunks[str(task.label)], self.heads[str(task.label)] = trunk, head
        with evaluating(self.shared):
            features = self.shared.features(_example(self.shared, tasks[0]))
        self.discriminator = nn.Linear(features[0].numel(), len(tasks))

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        self.shared.head_for(task_label)
        return self._output(self.shared.features(x), self._private(x, task_label), task_label)

    def predict_together(self, inputs: Mapping[int, Tensor]) -> Penalised:
        """One pass of the shared column, and one of each task's own."""
        x, rows = rows_of(inputs)
        features = self.shared.features(x)  # (B, *features)
        parts = dict(zip(inputs, torch.split(features, [count for _, count in rows]), strict=True))
        private = {label: self._private(part, label) for label, part in inputs.items()}
        outputs = {label: self._output(parts[label], private[label], label) for label in inputs}
        apart = torch.stack([overlap(parts[label], private[label]) for label in inputs]).mean()
        return Penalised(outputs, self.adversary * self.unmasked(features, rows) + self.orthogonality * apart)

    def unmasked(self, features: Tensor, rows: Sequence[tuple[int, int]]) -> Tensor:
        """The loss of the discriminator on shared features (B, *features), ()."""
        places = [self.labels.index(label) for label, count in rows for _ in range(count)]
        told: Tensor = self.discriminator(reversed_gradient(features.flatten(1)).float())  # (B, T)
        return functional.cross_entropy(told, torch.tensor(places, device=told.device))

    def _private(self, x: Tensor, label: int) -> Tensor:
        out: Tensor = self.trunks[str(label)](x)
        return out

    def _output(self, shared: Tensor, private: Tensor, label: int) -> Tensor:
        out: Tensor = self.shared.head_for(label)(shared) + self.heads[str(label)](private)
        return out


class _Reversal(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Tensor:
        return -gradients[0]


def reversed_gradient(x: Tensor) -> Tensor:
    """x itself; the gradient that comes back is the negative one."""
    out: Tensor = _Reversal.apply(x)
    return out


def overlap(shared: Tensor, private: Tensor) -> Tensor:
    """|S' P|^2 / b^2, () in [0, 1], for features (b, ...) of the same samples, each brought to length 1."""
    S, P = (functional.normalize(part.flatten(1), dim=1) for part in (shared, private))
    return (S.T @ P).square().sum() / len(S) ** 2


def _example(model: nn.Module, task: Task) -> Tensor:
    return same_device(model, example_of(task))
