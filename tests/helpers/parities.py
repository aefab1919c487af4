"""A stream on which it is known which column helps: parities of hidden bits, seen through one of two pixel orders."""

from collections.abc import Sequence

import torch
from torch import Tensor

from prognet.seeds import derive_seed
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task

SHAPE = (1, 3, 4)
PERMUTED = [9, 4, 11, 2, 7, 0, 5, 10, 1, 8, 3, 6]
"""The order of the pixels in the other half of the tasks."""
SIZES = (600, 600, 48, 48, 48)
COPIED = (None, None, 0, 1, None)
"""By task, the column from whose trunk it is learned best."""


def parities(label: int, split: str, n: int) -> tuple[Tensor, Tensor]:
    """Pixels (n, 12) that show twelve bits, with noise, and the two parities of the first four, as a number below 4."""
    random = torch.Generator().manual_seed(derive_seed(0, "parity", label, split))
    bits = torch.randint(0, 2, (n, 12), generator=random)
    y = 2 * (bits[:, 0] ^ bits[:, 1]) + (bits[:, 2] ^ bits[:, 3])
    return 2.0 * bits - 1 + 0.2 * torch.randn(n, 12, generator=random), y


def samples(label: int, split: str, n: int) -> Samples:
    """Tasks 0 and 2 show the same parities, 1 and 3 those behind a permutation, 4 has labels that mean nothing."""
    x, y = parities(label, split, n)
    if label in (1, 3):
        x = x[:, PERMUTED]
    if label in (2, 3):
        y = 3 - y
    if label == 4:
        random = torch.Generator().manual_seed(derive_seed(0, "noise", split))
        y = torch.randint(0, 4, (n,), generator=random)
    return Samples(x.view(n, *SHAPE), y)


def parity_task(label: int, n_train: int) -> Task:
    """One task of four classes."""
    return Task(
        label=label,
        name=f"parities {label}",
        classes=("00", "01", "10", "11"),
        train=samples(label, "train", n_train),
        val=samples(label, "val", 12),
        test=samples(label, "test", 200),
        objective=Classification(4),
        head=label,
    )


def parity_stream(sizes: Sequence[int] = SIZES) -> Stream:
    """Two tasks with many samples, and three with few."""
    return Stream([parity_task(label, n) for label, n in enumerate(sizes)], name="parities")
