"""Tiny, deterministic streams in memory: what a run needs, learned in a fraction of a second."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prognet.config import Heads
from prognet.seeds import derive_seed
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from prognet.streams.task import Normalisation, Samples, Task

INPUT_SHAPE = (1, 4, 4)
CLASSES = (2, 5, 3)


def make_samples(task: int, split: str, n: int, n_classes: int, shape: Sequence[int] = INPUT_SHAPE) -> Samples:
    """`n` noisy copies of the task's class patterns, each class as often as any other, in a mixed order."""
    patterns = _noise(derive_seed(0, "pattern", task), n_classes, shape)
    y = torch.arange(n) % n_classes
    x = patterns[y] + 0.5 * _noise(derive_seed(0, split, task), n, shape)  # (n, *shape)
    return Samples(x, y)


def make_task(
    label: int,
    n_classes: int,
    n_train: int = 40,
    *,
    head: int | None = None,
    n_val: int = 10,
    shape: Sequence[int] = INPUT_SHAPE,
) -> Task:
    """A task of `n_classes` noisy patterns, with 30 test samples."""
    return Task(
        label=label,
        name=f"patterns {label}",
        classes=tuple(f"class {index}" for index in range(n_classes)),
        train=make_samples(label, "train", n_train, n_classes, shape),
        val=make_samples(label, "val", n_val, n_classes, shape),
        test=make_samples(label, "test", 30, n_classes, shape),
        objective=Classification(n_classes),
        head=label if head is None else head,
    )


def make_stream(
    classes: Sequence[int] = CLASSES,
    sizes: Sequence[int] | None = None,
    *,
    heads: Heads = "per-task",
    n_val: int = 10,
    shape: Sequence[int] = INPUT_SHAPE,
) -> Stream:
    """One task for each number of classes, by default three tasks of 2, 5 and 3 classes and 40 samples."""
    tasks = [
        make_task(label, n, size, head=0 if heads == "shared" else None, n_val=n_val, shape=shape)
        for label, (n, size) in enumerate(zip(classes, sizes or [40] * len(classes), strict=True))
    ]
    return Stream(tasks, name="patterns", heads=heads)


def make_byte_stream() -> Stream:
    """Two tasks of uint8 images of two channels, with a normalisation."""
    tasks = [_as_bytes(make_task(label, 2, shape=(2, 4, 4))) for label in range(2)]
    return Stream(tasks, name="bytes")


def _noise(seed: int, n: int, shape: Sequence[int]) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(seed))


def _as_bytes(task: Task) -> Task:
    splits = [
        Samples((split.x * 40 + 128).clamp(0, 255).to(torch.uint8), split.y)
        for split in (task.train, task.val, task.test)
    ]
    return Task(
        label=task.label,
        name=task.name,
        classes=task.classes,
        train=splits[0],
        val=splits[1],
        test=splits[2],
        objective=task.objective,
        head=task.head,
        normalisation=Normalisation((0.5, 0.4), (0.2, 0.3)),
    )
