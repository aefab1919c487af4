"""Predictions without task labels: a gate chooses the task, the task's own output the class."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from prognet.errors import UnlearnedTaskError
from prognet.gates.base import Gate
from prognet.streams.task import Task
from prognet.training import Predict


@dataclass(frozen=True, slots=True, eq=False)
class Choice:
    """What was predicted for a batch."""

    tasks: Tensor
    """(B,), int64: the label of the chosen task."""
    classes: Tensor
    """(B,), int64: the class, local to the chosen task."""
    names: tuple[str, ...]
    """The name of each predicted class."""


class TaskAgnostic:
    """A learner and a gate: predicts classes for inputs of which nobody says to which task they belong."""

    def __init__(self, predict: Predict, gate: Gate, *, seed: int = 0, device: str | torch.device = "cpu") -> None:
        """
        Args:
            predict: the outputs of one task, e.g. `result.learner.eval().predict` or
                `lambda x, label: network(x, column=label)`; in evaluation mode.
            gate: a new one.
            seed: seed of what the gate learns.
            device: where inputs and networks are.
        """
        self.predict, self.gate, self.seed, self.device = predict, gate, seed, torch.device(device)
        self.classes: dict[int, tuple[str, ...]] = {}
        self.shapes: dict[int, tuple[int, ...]] = {}

    def add(self, tasks: Sequence[Task]) -> "TaskAgnostic":
        """Adds tasks that the learner has learned; the gate sees their training inputs. Returns itself.

        Raises:
            ConfigError: when the gate has learned one of them before, and has frozen what it learned.
        """
        for task in tasks:
            self.gate.learn(task, self.seed, self.device)
            self.classes[task.label], self.shapes[task.label] = task.classes, task.input_shape
        return self

    @torch.no_grad()
    def choose(self, x: Tensor) -> Choice:
        """The task and the class of each input: of those tasks whose inputs have the shape of x.

        Args:
            x: inputs as the networks see them, `task.normalisation(task.test.x)`: (B, *input_shape), float32.

        Raises:
            UnlearnedTaskError: when no task has been added, or none with inputs of this shape.
        """
        alike = [label for label, shape in self.shapes.items() if shape == tuple(x.shape[1:])]
        if self.shapes and not alike:
            raise UnlearnedTaskError(
                f"x: required inputs of a shape that an added task has, {self.shapes}, found {tuple(x.shape[1:])}; add "
                "a task with such inputs first."
            )
        outputs = {label: self.predict(x.clone(), label) for label in alike}
        chosen = self.gate.choose(x, outputs)  # (B,)
        best = torch.stack([outputs[label].argmax(dim=1) for label in alike], dim=1)  # (B, T)
        column = torch.stack([chosen == label for label in alike], dim=1)  # (B, T), one True in each row
        classes = best[column]  # (B,)
        pairs = zip(chosen.tolist(), classes.tolist(), strict=True)
        return Choice(chosen, classes, tuple(self.classes[label][index] for label, index in pairs))
