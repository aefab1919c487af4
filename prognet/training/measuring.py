"""Looking at a learner without changing it: outputs over a split, learning curves, operations, parameters."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from prognet.config import Measurement
from prognet.seeds import derive_seed
from prognet.streams.task import Samples, Task
from prognet.training.batches import on_device

Predict = Callable[[Tensor, int], Tensor]
"""(inputs (B, *input_shape), task label) -> outputs (B, n_outputs)."""


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; every submodule is back in its own mode afterwards."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        for part, mode in modes.items():
            part.training = mode


def outputs_of(predict: Predict, task: Task, samples: Samples, device: torch.device, batch_size: int) -> Tensor:
    """The outputs for a whole split, (N, n_outputs), on the device; call it within `evaluating`."""
    data = on_device(samples, device)
    batches = [
        predict(task.normalisation(x.clone()), task.label)  # a copy, since a network may write into its input
        for x in torch.split(data.x, batch_size)
    ]
    return torch.cat(batches)


def mean_loss(predict: Predict, tasks: Sequence[Task], device: torch.device, batch_size: int) -> float:
    """The mean loss over the validation samples of all `tasks`; call it within `evaluating`."""
    total, count = 0.0, 0
    for task in tasks:
        if len(task.val):
            outputs = outputs_of(predict, task, task.val, device, batch_size)
            total += task.objective.loss(outputs, task.val.y.to(device)).item() * len(task.val)
            count += len(task.val)
    return total / count if count else float("nan")


class CurveRecorder:
    """The accuracy on some tasks at chosen updates, on a fixed part of their test splits."""

    def __init__(
        self, tasks: Sequence[Task], total: int, measurement: Measurement, seed: int, device: torch.device
    ) -> None:
        self._tasks, self._device, self._batch_size = tasks, device, measurement.evaluation_batch_size
        self._due = measuring_points(total, measurement)
        self._samples = [on_device(_part(task, measurement.curve_samples, seed), device) for task in tasks]
        self.updates: list[int] = []
        self._correct: list[list[Tensor]] = [[] for _ in tasks]

    def measure(self, predict: Predict, update: int) -> None:
        """Measures after `update` updates."""
        self.updates.append(update)
        for task, samples, correct in zip(self._tasks, self._samples, self._correct, strict=True):
            outputs = outputs_of(predict, task, samples, self._device, self._batch_size)
            correct.append(task.objective.correct(outputs, samples.y).sum())

    def is_due(self, update: int) -> bool:
        """Whether the curve has a point at this update."""
        return update in self._due

    def values(self) -> list[tuple[float, ...]]:
        """The accuracy of each task at `updates`."""
        return [
            tuple((torch.stack(correct).cpu().double() / len(samples)).tolist())
            for samples, correct in zip(self._samples, self._correct, strict=True)
        ]


def measuring_points(total: int, measurement: Measurement) -> frozenset[int]:
    """The updates at which a learning curve of `total` updates is measured: 0..beta, then evenly to the end."""
    first = range(min(measurement.lca_updates, total) + 1)
    rest = total - first[-1]
    later = (
        first[-1] + rest * (index + 1) // max(1, measurement.curve_points) for index in range(measurement.curve_points)
    )
    return frozenset([*first, *later, total])


def _part(task: Task, count: int, seed: int) -> Samples:
    """The test samples of a learning curve: all, or the first ones of a seeded permutation."""
    if len(task.test) <= count:
        return task.test
    generator = torch.Generator().manual_seed(derive_seed(seed, task.label, "curve"))
    chosen = torch.randperm(len(task.test), generator=generator)[:count]
    return Samples(task.test.x[chosen], task.test.y[chosen])


@contextmanager
def counting_flops() -> Iterator[FlopCounterMode]:
    """Counts the floating point operations within the block, those of fused attention included."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused path hides its operations from the counter
    try:
        with FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)
