"""Inputs of earlier tasks that are kept to be told apart from those of a new one."""

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.streams.task import Normalisation, Samples, Task


class KeptInputs(nn.Module):
    """A fixed number of inputs in which all tasks so far have equal shares; they are stored with the run.

    They are kept as a stream stores them, bytes divided by 255, and get the normalisation of the task they are added
    to.
    """

    x: Tensor

    def __init__(self, count: int, input_shape: Sequence[int]) -> None:
        super().__init__()
        self.register_buffer("x", torch.zeros(count, *input_shape))
        self.tasks = 0

    def keep(self, task: Task, seed: int) -> None:
        """Lets a task that has been learned take its share: each place with probability 1/k, for the k-th task."""
        self.tasks += 1
        if not len(task.train):  # in a run that is being rebuilt; the numbers are read afterwards
            return
        self._check_fit(task)
        random = torch.Generator().manual_seed(derive_seed(seed, task.label, "negatives"))
        places = (torch.rand(len(self.x), generator=random) * self.tasks < 1).nonzero().flatten()
        chosen = torch.randint(len(task.train), (len(places),), generator=random)
        self.x[places.to(self.x.device)] = Normalisation()(task.train.x[chosen.to(task.train.x.device)]).to(self.x)

    def added_to(self, task: Task) -> Task:
        """The task with the kept inputs among its training samples, as class C beside its own 0..C-1."""
        if not len(task.train):
            return task
        self._check_fit(task)
        x = Normalisation()(task.train.x)
        y = torch.cat([task.train.y, task.train.y.new_full((len(self.x),), task.n_classes)])
        return replace(task, train=Samples(torch.cat([x, self.x.to(x)]), y))

    def _check_fit(self, task: Task) -> None:
        if task.input_shape != tuple(self.x.shape[1:]):
            raise ConfigError(
                f"negatives: required inputs {tuple(self.x.shape[1:])} in every task, found {task.input_shape} in task "
                f"{task.label}."
            )
