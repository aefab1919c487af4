"""Descriptions of tasks, one-hot or learned, and what is linear in them.

With a one-hot z_t, W z_t is a column of W, which belongs to task t alone. The columns are parameters apart, so that a
weighting of gradients sees whose they are, and so that a task that is missing in a batch moves none of its own.
"""

import torch
from torch import Tensor, nn


class Descriptions(nn.Module):
    """The descriptions z_t of all tasks: learned ones (n,), standard normal at the start, or one-hot ones."""

    def __init__(self, n_tasks: int, features: int | None) -> None:
        """
        Args:
            n_tasks: T.
            features: n; None for one-hot ones.
        """
        super().__init__()
        self.z = nn.ParameterList([] if features is None else [torch.randn(features) for _ in range(n_tasks)])

    def of(self, task: int) -> Tensor | None:
        """z_t, (n,), of the task at a place; None where it is one-hot."""
        return self.z[task] if len(self.z) else None

    def own(self, task: int) -> list[nn.Parameter]:
        """The parameters that belong to one task."""
        return [self.z[task]] if len(self.z) else []


class Term(nn.Module):
    """W z_t, (width,), with W = 0 at the start."""

    def __init__(self, width: int, n_tasks: int, features: int | None) -> None:
        """
        Args:
            width: rows of W.
            n_tasks: T.
            features: columns of W; None for a column a task.
        """
        super().__init__()
        self.is_one_hot = features is None
        shapes = [(width,)] * n_tasks if features is None else [(width, features)]
        self.W = nn.ParameterList([torch.zeros(shape) for shape in shapes])

    def of(self, task: int, z: Tensor | None) -> Tensor:
        """W z_t: a method, since parts of parameters are no good arguments of modules while operations are counted."""
        if self.is_one_hot:
            column: Tensor = self.W[task]
            return column
        assert z is not None
        out: Tensor = self.W[0] @ z
        return out

    def own(self, task: int) -> list[nn.Parameter]:
        """The parameters that belong to one task: its column, where it has one."""
        return [self.W[task]] if self.is_one_hot else []
