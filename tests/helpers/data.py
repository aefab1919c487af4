"""Small streams whose tasks differ, made in no time, and the data sets that lie on this machine."""

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task

PROGNET_DATA = "PROGNET_DATA"


def blobs(class_counts: Sequence[int] = (2, 5, 3), n_features: int = 6, per_class: int = 8, seed: int = 0) -> Stream:
    """A stream with heads of these sizes: Gaussian clouds about one centre a class, float32 (N, n_features)."""
    random = torch.Generator().manual_seed(seed)
    tasks = [blob_task(label, count, n_features, per_class, random) for label, count in enumerate(class_counts)]
    return Stream(tasks, name="blobs", seed=seed, arguments={"class_counts": list(class_counts)})


def blob_task(label: int, n_classes: int, n_features: int, per_class: int, random: torch.Generator) -> Task:
    """One task of `blobs`, which stands alone."""
    centres = 3 * torch.randn(n_classes, n_features, generator=random)
    return Task(
        label=label,
        name=f"blobs {label}",
        classes=tuple(f"blob {index}" for index in range(n_classes)),
        train=_cloud(centres, per_class, random),
        val=_cloud(centres, 2, random),
        test=_cloud(centres, 4, random),
        objective=Classification(n_classes),
        head=label,
    )


def with_split(task: Task, split: str, x: Tensor | None = None, y: Tensor | None = None) -> Task:
    """The task with other samples or labels in one split."""
    samples: Samples = getattr(task, split)
    other = Samples(samples.x if x is None else x, samples.y if y is None else y)
    changed: dict[str, Any] = {split: other}
    return replace(task, **changed)


def multiset(x: Tensor, y: Tensor) -> Counter[tuple[bytes, int]]:
    """The samples with their labels, whatever their order, bit for bit."""
    return Counter((sample.contiguous().numpy().tobytes(), int(label)) for sample, label in zip(x, y, strict=True))


def same_samples(left: Samples, right: Samples) -> bool:
    """Whether two splits are equal bit for bit, types included."""
    same_types = (left.x.dtype, left.y.dtype) == (right.x.dtype, right.y.dtype)
    return same_types and torch.equal(left.x, right.x) and torch.equal(left.y, right.y)


def data_root() -> Path:
    """The folder of the data sets, as torchvision lays it out; the test is skipped where the machine has none."""
    root = os.environ.get(PROGNET_DATA)
    if root is None:
        pytest.skip(f"{PROGNET_DATA} does not name a folder with MNIST/raw in it")
    return Path(root)


def _cloud(centres: Tensor, per_class: int, random: torch.Generator) -> Samples:
    y = torch.arange(len(centres)).repeat(per_class)
    return Samples(centres[y] + torch.randn(len(y), centres.shape[1], generator=random), y)
