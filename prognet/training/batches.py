"""Mini-batches: which samples an update sees. The same for every strategy with the same seed and schedule.

Batches come in rounds, for one task its epochs. A round of N samples is divided evenly over its batches, so that none
is tiny. Where several tasks are learned together, samples of each are spread evenly over the batches, as many as its
quota; a task's samples stand together. How long a round is, and how many there are, the budget says.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from prognet.config import Augmentation
from prognet.engine.prepared import Prepared
from prognet.seeds import derive_seed
from prognet.streams.task import Samples, Task
from prognet.training.augmentation import augmented
from prognet.training.features import FeatureTable

Sampling = Literal["balanced", "proportional"]
"""How joint training is shared: as many samples of each task, or each as often as alone. Both see equally many."""


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """The samples of one task in a mini-batch."""

    x: Tensor
    """Inputs, (b, *input_shape), float32."""
    y: Tensor
    """Targets, (b,)."""
    past: Prepared | None = None
    """What frozen columns hand over on these inputs, where it is kept."""


Batch = Mapping[int, Part]
"""Task label -> its part; the parts together have at most `batch_size` samples."""


def on_device(samples: Samples, device: torch.device) -> Samples:
    """The samples on the device, in the type in which they are stored."""
    return Samples(samples.x.to(device), samples.y.to(device))


def quotas(sizes: Sequence[int], sampling: Sampling) -> list[int]:
    """Samples that each task contributes to a round, of the samples that it would bring alone; the sum is the same."""
    if sampling == "proportional":
        return list(sizes)
    share, rest = divmod(sum(sizes), len(sizes))
    return [share + (index < rest) for index in range(len(sizes))]


def shares(quotas: Sequence[int], n_batches: int) -> list[list[int]]:
    """How many samples of each task every batch of a round holds: (n_batches, n_tasks).

    The samples of all tasks are lined up, those of each task at equal distances, and cut into batches of equal size, or
    sizes that differ by one.
    """
    places = torch.cat([(torch.arange(quota, dtype=torch.float64) + 0.5) / quota for quota in quotas])  # (N,)
    owners = torch.cat([torch.full((quota,), index) for index, quota in enumerate(quotas)])[places.argsort(stable=True)]
    cuts = [len(owners) * index // n_batches for index in range(n_batches + 1)]
    return [torch.bincount(owners[start:stop], minlength=len(quotas)).tolist() for start, stop in pairwise(cuts)]


class BatchSource:
    """The training data of some tasks on the device, and the order in which a round takes it.

    Args:
        tasks: the tasks that are learned together.
        quotas: samples of each task in a round.
        n_batches: batches in a round.
        seed: seed of the orders.
        device: where the samples lie.
        features: of some tasks, by label, what frozen columns hand over on the training samples.
        augment: what happens to the images of a batch.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        quotas: Sequence[int],
        n_batches: int,
        seed: int,
        device: torch.device,
        features: Mapping[int, FeatureTable] | None = None,
        augment: Sequence[Augmentation] = (),
    ) -> None:
        self._tasks, self._quotas, self._features, self._augment = tasks, quotas, features or {}, augment
        self._shares = shares(quotas, n_batches)
        self._data = [on_device(task.train, device) for task in tasks]
        self._orders = [
            EndlessOrder(len(task.train), torch.Generator().manual_seed(derive_seed(seed, task.label, "order")))
            for task in tasks
        ]

    def rounds(self) -> Iterator[Batch]:
        """The batches of one round after another, without end."""
        while True:
            yield from self._round()

    def _round(self) -> Iterator[Batch]:
        device = self._data[0].x.device
        orders = [order.take(quota).to(device) for order, quota in zip(self._orders, self._quotas, strict=True)]
        taken = [0] * len(self._tasks)
        for counts in self._shares:
            batch: dict[int, Part] = {}
            for index, (task, samples) in enumerate(zip(self._tasks, self._data, strict=True)):
                chosen = orders[index][taken[index] : taken[index] + counts[index]]  # (b,)
                taken[index] += counts[index]
                if len(chosen):
                    batch[task.label] = self._part(task, samples, chosen)
            yield batch

    def _part(self, task: Task, samples: Samples, chosen: Tensor) -> Part:
        table = self._features.get(task.label)
        past = None if table is None else table.take(chosen)
        x = augmented(samples.x.index_select(0, chosen), self._augment)  # several times as fast as samples.x[chosen]
        return Part(task.normalisation(x), samples.y.index_select(0, chosen), past)


class EndlessOrder:
    """One random permutation of 0..n-1 after another."""

    def __init__(self, n: int, generator: torch.Generator) -> None:
        self._n, self._generator = n, generator
        self._rest = torch.empty(0, dtype=torch.int64)

    def take(self, count: int) -> Tensor:
        """The next `count` indices."""
        while len(self._rest) < count:
            self._rest = torch.cat([self._rest, torch.randperm(self._n, generator=self._generator)])
        taken, self._rest = self._rest[:count], self._rest[count:]
        return taken
