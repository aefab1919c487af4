"""Mini-batches: which samples an update sees. The same for every strategy with the same seed and schedule.

Batches come in rounds, for one task its epochs. A round of N samples is divided evenly over its batches, so that none
is tiny. Where several tasks are learned together, samples of each are spread evenly over the batches, as many as its
quota; a task's samples stand together. How long a round is, and how many there are, the budget says.
"""

import warnings
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from prognet.config import Augmentation
from prognet.engine.prepared import Prepared
from prognet.errors import HostMemoryWarning
from prognet.seeds import derive_seed
from prognet.streams.task import Samples, Task
from prognet.training.augmentation import augmented
from prognet.training.features import FeatureTable
from prognet.training.prefetch import ahead

Sampling = float
"""The exponent alpha in [0, 1] by which joint training is shared: a task with n samples gets a share ~ n ** alpha of
them all. 0 is as many samples of each task, 1 of each as many as alone; the number of samples is the same."""


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


@dataclass(frozen=True, slots=True, eq=False)
class _Rows:
    """The samples of one task in a mini-batch as they are stored, and their places in the split; on the device."""

    samples: Samples
    chosen: Tensor


def fits(samples: Samples, device: torch.device, room: int) -> bool:
    """Whether the samples of a split may lie on the device: in host memory always, elsewhere within `room` bytes."""
    return device.type == "cpu" or samples.x.numel() * samples.x.element_size() <= room


def on_device(samples: Samples, device: torch.device) -> Samples:
    """The samples on the device, in the type in which they are stored."""
    return Samples(samples.x.to(device), samples.y.to(device))


def quotas(sizes: Sequence[int], sampling: Sampling, total: int | None = None) -> list[int]:
    """How many samples each task contributes to a round of `total`, by default as many as there are.

    A task with n samples gets the share n ** sampling; what is left by rounding down goes to the largest fractions, and
    of equal ones to the first.
    """
    count = sum(sizes) if total is None else total
    parts = [size**sampling for size in sizes]
    wanted = [count * part / (sum(parts) or 1) for part in parts]
    found = [int(number) for number in wanted]
    by_fraction = sorted(range(len(sizes)), key=lambda index: found[index] - wanted[index])
    for index in by_fraction[: count - sum(found)]:
        found[index] += 1
    return found


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
        device: where batches are needed, and where the samples lie if they fit.
        room: bytes of one split that may lie there; a larger one stays in host memory, and its batches are gathered in
            a thread ahead of time.
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
        room: int,
        features: Mapping[int, FeatureTable] | None = None,
        augment: Sequence[Augmentation] = (),
    ) -> None:
        self.tasks, self.features, self.augment = tasks, features or {}, augment
        self._quotas = quotas
        self._device, self.shares = device, shares(quotas, n_batches)
        larger = {task.label for task in tasks if not fits(task.train, device, room)}
        self.is_ahead = bool(larger)
        self.data = [task.train if task.label in larger else on_device(task.train, device) for task in tasks]
        for task in tasks:
            if task.label in larger:
                warn_of_place(task, room)
        self._orders = [
            EndlessOrder(len(task.train), torch.Generator().manual_seed(derive_seed(seed, task.label, "order")))
            for task in tasks
        ]

    def rounds(self) -> Generator[Batch]:
        """The batches of one round after another, without end; close it when no more are needed."""
        gathered = ahead(self._gathered()) if self.is_ahead else self._gathered()
        with closing(gathered):
            for rows in gathered:
                yield {task.label: self._part(task, rows[task.label]) for task in self.tasks if task.label in rows}

    def _gathered(self) -> Generator[Mapping[int, _Rows]]:
        by_label = dict(zip((task.label for task in self.tasks), self.data, strict=True))
        for batch in self.choices():
            yield {label: self._rows(by_label[label], chosen) for label, chosen in batch.items()}

    def choices(self) -> Generator[Mapping[int, Tensor]]:
        """The places, in their splits, of the samples of each batch by label; one round after another, without end."""
        while True:
            yield from self._round()

    def _round(self) -> Iterator[Mapping[int, Tensor]]:
        orders = [
            order.take(quota).to(samples.x.device)
            for order, quota, samples in zip(self._orders, self._quotas, self.data, strict=True)
        ]
        taken = [0] * len(self.tasks)
        for counts in self.shares:
            batch: dict[int, Tensor] = {}
            for index, task in enumerate(self.tasks):
                chosen = orders[index][taken[index] : taken[index] + counts[index]]  # (b,)
                taken[index] += counts[index]
                if len(chosen):
                    batch[task.label] = chosen
            yield batch

    def _rows(self, samples: Samples, chosen: Tensor) -> _Rows:
        # index_select is several times as fast as x[chosen] on the CPU
        x, y = samples.x.index_select(0, chosen), samples.y.index_select(0, chosen)
        if x.device.type != self._device.type:
            pinned = [tensor.pin_memory() if self._device.type == "cuda" else tensor for tensor in (x, y, chosen)]
            x, y, chosen = (tensor.to(self._device, non_blocking=True) for tensor in pinned)
        return _Rows(Samples(x, y), chosen)

    def _part(self, task: Task, rows: _Rows) -> Part:
        """Everything that draws random numbers or knows the task happens here, not in a thread."""
        table = self.features.get(task.label)
        past = None if table is None else table.take(rows.chosen)
        return Part(task.normalisation(augmented(rows.samples.x, self.augment)), rows.samples.y, past)


def warn_of_place(task: Task, room: int) -> None:
    """Says that a split is larger than what may lie on the device."""
    size = task.train.x.numel() * task.train.x.element_size()
    warnings.warn(
        f"task {task.label} ({task.name!r}): its {size / 2**20:.0f} MiB of training samples stay in host memory, since "
        f"data_memory allows {room / 2**20:.0f}; batches are gathered there, ahead of time.",
        HostMemoryWarning,
        stacklevel=2,
    )


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
