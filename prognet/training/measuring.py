"""Looking at a learner without changing it: outputs over a split, learning curves, operations, parameters."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prognet.config import Measurement
from prognet.seeds import derive_seed
from prognet.streams.task import Samples, Task
from prognet.training.batches import on_device
from prognet.training.features import FeatureTable, Reading

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


@contextmanager
def keeping_buffers(module: nn.Module) -> Iterator[None]:
    """Within the block running statistics may move; afterwards all buffers are as they were."""
    before = [(buffer, buffer.clone()) for buffer in module.buffers()]
    try:
        yield
    finally:
        for buffer, numbers in before:
            buffer.copy_(numbers)


@dataclass(frozen=True, slots=True, eq=False)
class Split:
    """Samples of a task that are predicted."""

    task: Task
    samples: Samples
    features: FeatureTable | None = None
    """What frozen columns hand over on them, where it is kept."""


def outputs_of(predict: Predict, task: Task, samples: Samples, device: torch.device, batch_size: int) -> Tensor:
    """The outputs for a whole split, (N, n_outputs), on the device; call it within `evaluating`."""
    return outputs_on(Split(task, samples), predict, None, batch_size, device)


def outputs_on(
    split: Split, predict: Predict, reading: Reading | None, batch_size: int, device: torch.device | None = None
) -> Tensor:
    """The same, with what frozen columns hand over read from the split's table where it has one.

    Without a device the samples are predicted where they are.
    """
    device = split.samples.x.device if device is None else device
    outputs = []
    for start in range(0, len(split.samples), batch_size):
        chosen = slice(start, start + batch_size)
        x = split.samples.x[chosen].to(device, copy=True)  # a copy, since a network may write into it
        x = split.task.normalisation(x)
        if reading is None or split.features is None:
            outputs.append(predict(x, split.task.label))
        else:
            outputs.append(reading.predict(x, split.features.take(chosen)))
    return single(torch.cat(outputs))


def single(outputs: Tensor) -> Tensor:
    """Outputs of lower precision in single precision."""
    return outputs.float() if outputs.dtype in (torch.bfloat16, torch.float16) else outputs


def mean_loss(predict: Predict, splits: Sequence[Split], reading: Reading | None, batch_size: int) -> float:
    """The mean loss over the samples of all splits, NaN where there are none; call it within `evaluating`."""
    filled = [split for split in splits if len(split.samples)]
    return mean_loss_of([outputs_on(split, predict, reading, batch_size) for split in filled], filled)


def mean_loss_of(outputs: Sequence[Tensor], splits: Sequence[Split]) -> float:
    """The mean loss over the samples of splits that have some, from the outputs (N, n_outputs) for each."""
    total, count = 0.0, 0
    for out, split in zip(outputs, splits, strict=True):
        total += split.task.objective.loss(out, split.samples.y).item() * len(split.samples)
        count += len(split.samples)
    return total / count if count else float("nan")


class CurveRecorder:
    """The accuracy on some tasks at chosen updates, on a fixed part of their test splits."""

    def __init__(
        self, tasks: Sequence[Task], total: int, measurement: Measurement, seed: int, device: torch.device
    ) -> None:
        self._batch_size = measurement.evaluation_batch_size
        self.due = measuring_points(total, measurement)
        self.splits = [Split(task, on_device(_part(task, measurement.curve_samples, seed), device)) for task in tasks]
        self.updates: list[int] = []
        self._correct: list[list[Tensor]] = [[] for _ in tasks]

    def measure(self, predict: Predict, update: int, reading: Reading | None = None) -> None:
        """Measures after `update` updates."""
        self.note([outputs_on(split, predict, reading, self._batch_size) for split in self.splits], update)

    def note(self, outputs: Sequence[Tensor], update: int) -> None:
        """Notes what was said after `update` updates: for each split the outputs (N, n_outputs)."""
        self.updates.append(update)
        for out, split, correct in zip(outputs, self.splits, self._correct, strict=True):
            correct.append(split.task.objective.correct(out, split.samples.y).sum())

    def is_due(self, update: int) -> bool:
        """Whether the curve has a point at this update."""
        return update in self.due

    def values(self) -> list[tuple[float, ...]]:
        """The accuracy of each task at `updates`."""
        return [
            tuple((torch.stack(correct).cpu().double() / len(split.samples)).tolist())
            for split, correct in zip(self.splits, self._correct, strict=True)
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
