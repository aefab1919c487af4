"""Colour images made of scikit-learn's digits: tinted, about the middle of a coloured ground, two digits a task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Bytes: TypeAlias = NDArray[np.uint8]
Arrays: TypeAlias = tuple[Bytes, NDArray[np.int64], Bytes, NDArray[np.int64]]
"""x_train (N, 3, side, side), y_train (N,), x_test and y_test of one task."""

N_TASKS = 5


def rgb_digits(side: int, enlarged: int, n_train: int, n_test: int) -> list[Arrays]:
    """Five tasks of two digits each, which differ in the colours of ground and ink besides.

    Args:
        side: height and width of the images, at least 8 * `enlarged`.
        enlarged: how many times a digit is enlarged.
        n_train: training images of a class.
        n_test: test images of a class.
    """
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    random = np.random.default_rng(5)
    return [
        _task(images.reshape(-1, 8, 8) / 16, labels, k, (side, enlarged), (n_train, n_test), random) for k in range(5)
    ]


def save_rgb_digits(path: Path, tasks: Sequence[Arrays]) -> Path:
    """The tasks as an .npz file for `from-npz`."""
    parts = ("x_train", "y_train", "x_test", "y_test")
    arrays: dict[str, Any] = {f"{part}_{k}": task[i] for k, task in enumerate(tasks) for i, part in enumerate(parts)}
    np.savez(path, **arrays)
    return path


def _task(
    images: NDArray[np.float64],
    labels: NDArray[np.int64],
    task: int,
    sizes: tuple[int, int],
    counts: tuple[int, int],
    random: np.random.Generator,
) -> Arrays:
    drawn = [random.permutation(np.flatnonzero(labels == 2 * task + one))[: sum(counts)] for one in (0, 1)]
    splits = [
        np.concatenate([chosen[: counts[0]] for chosen in drawn]),
        np.concatenate([c[counts[0] :] for c in drawn]),
    ]
    ground, ink = random.uniform(0, 90, (3, 1, 1)), random.uniform(150, 255, (3, 1, 1))
    train, test = (np.stack([_placed(images[i], ground, ink, sizes, random) for i in split]) for split in splits)
    return train, labels[splits[0]], test, labels[splits[1]]


def _placed(
    digit: NDArray[np.float64],
    ground: NDArray[np.float64],
    ink: NDArray[np.float64],
    sizes: tuple[int, int],
    random: np.random.Generator,
) -> Bytes:
    side, enlarged = sizes
    mask = np.zeros((1, side, side))
    large = digit.repeat(enlarged, 0).repeat(enlarged, 1)
    middle = (side - len(large)) // 2
    row, column = middle + random.integers(-1, 2, 2) * min(enlarged, middle)
    mask[:, row : row + len(large), column : column + len(large)] = large
    noise = random.normal(0, 8, (3, side, side))
    return (ground * (1 - mask) + ink * mask + noise).clip(0, 255).astype(np.uint8)
