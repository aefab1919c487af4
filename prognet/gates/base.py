"""What a gate is: one method, and one more for a gate that learns."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from math import inf

import torch
from torch import Tensor, nn

from prognet.errors import UnlearnedTaskError
from prognet.streams.task import Task


class Gate(nn.Module, ABC):
    """Says to which of the learned tasks an input belongs.

    A gate of one's own implements `evidence`; where it has to learn something of a task, `learn` as well, whose tensors
    are stored with a run. It sees inputs and outputs, never a label of a sample.
    """

    def learn(self, task: Task, seed: int, device: torch.device) -> None:
        """Sees the training inputs of a task that has just been learned; called once for each task, in their order.

        What is kept of the task must not change later. A task without samples comes from a run that is being rebuilt:
        the gate then makes the tensors, whose numbers are read afterwards. By default nothing is learned.

        Args:
            task: the task.
            seed: seed of the run; derive random streams from it, the task and a purpose.
            device: where the gate's tensors belong.
        """

    @abstractmethod
    def evidence(self, x: Tensor, outputs: Tensor, task_label: int) -> Tensor:
        """How much speaks for one task; compared between tasks, the largest wins.

        Args:
            x: inputs as the networks see them, (B, *input_shape), float32.
            outputs: what the learner predicts for these inputs as samples of the task: logits (B, n_classes of it).
            task_label: the task.

        Returns:
            (B,), floating point; NaN where nothing can be said, which never wins against a number.
        """

    @torch.no_grad()
    def choose(self, x: Tensor, outputs: Mapping[int, Tensor]) -> Tensor:
        """The task of each input; the lowest label where several have the same evidence.

        Args:
            x: inputs as the networks see them, (B, *input_shape), float32.
            outputs: by label of each learned task, its logits (B, n_classes of the task).

        Returns:
            Task labels (B,), int64.

        Raises:
            UnlearnedTaskError: when there is no task to choose from.
        """
        if not outputs:
            raise UnlearnedTaskError(
                "outputs: required those of one learned task or more, found none; learn one first."
            )
        labels = sorted(outputs)
        found = [self.evidence(x, outputs[label], label).double() for label in labels]
        table = torch.stack(found, dim=1)  # (B, T)
        best = table.masked_fill(table.isnan(), -inf).argmax(dim=1)  # (B,), the first of equal ones
        return torch.tensor(labels, device=best.device)[best]
