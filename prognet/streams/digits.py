"""Streams from scikit-learn's digits: 1797 images of 8x8 pixels that come with the package, so nothing is downloaded.

The images are float32 in [0, 1], shape (1, 8, 8). A quarter of every class is the test split; it is drawn by a
constant, so it is the same for every seed. (Alpaydin and Kaynak 1998, UCI optical recognition of handwritten digits.)
"""

import torch

from prognet.config import Heads
from prognet.streams.parts import Dataset, Order, Settings, generator, select, stratified
from prognet.streams.pixels import permuted, rotated
from prognet.streams.split import split_by_class
from prognet.streams.stream import Stream
from prognet.streams.task import Samples

_TEST = 0.25
_TEST_SEED = 1797


def split_digits(
    n_tasks: int = 5,
    *,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    class_order: Order = "seeded",
) -> Stream:
    """The ten digits, split into tasks with disjoint classes.

    Args:
        n_tasks: 1 to 5; classes are shared out as equally as possible, the larger tasks first.
        seed: seed of the class order and of the validation split.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.
        class_order: a permutation of the digits seeded by `seed`, or 0 to 9.

    Raises:
        ConfigError: when an argument is out of its range.
        StreamError: when a shared head meets tasks with different numbers of classes.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    tasks = split_by_class(read_digits(), n_tasks, settings, class_order)
    arguments = {"n_tasks": n_tasks, "validation": validation, "heads": heads, "class_order": class_order}
    return Stream(tasks, name="split-digits", heads=heads, seed=seed, arguments=arguments)


def permuted_digits(n_tasks: int = 5, *, seed: int = 0, validation: float = 0.1, heads: Heads = "per-task") -> Stream:
    """All ten digits in every task, the pixels in a seeded order of its own; task 0 sees them as they are.

    Args:
        n_tasks: at least 1.
        seed: seed of the permutations and of the validation split.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.

    Raises:
        ConfigError: when an argument is out of its range.
    """
    tasks = permuted(read_digits(), n_tasks, Settings(seed=seed, validation=validation, heads=heads))
    arguments = {"n_tasks": n_tasks, "validation": validation, "heads": heads}
    return Stream(tasks, name="permuted-digits", heads=heads, seed=seed, arguments=arguments)


def rotated_digits(
    n_tasks: int = 5,
    *,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    task_order: Order = "seeded",
) -> Stream:
    """All ten digits in every task, turned by `180 * k / n_tasks` degrees.

    Args:
        n_tasks: at least 1.
        seed: seed of the task order and of the validation split.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.
        task_order: the angles in an order seeded by `seed`, or ascending.

    Raises:
        ConfigError: when an argument is out of its range.
    """
    tasks = rotated(read_digits(), n_tasks, Settings(seed=seed, validation=validation, heads=heads), task_order)
    arguments = {"n_tasks": n_tasks, "validation": validation, "heads": heads, "task_order": task_order}
    return Stream(tasks, name="rotated-digits", heads=heads, seed=seed, arguments=arguments)


def read_digits() -> Dataset:
    """All images, (N, 1, 8, 8) float32 in [0, 1], with the test split of all streams."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)  # (1797, 64) whole numbers 0 .. 16, (1797,)
    x = torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16
    everything = Samples(x, torch.tensor(labels, dtype=torch.int64))
    train, test = stratified(everything.y, _TEST, generator(_TEST_SEED, "test"))
    return Dataset(select(everything, train), select(everything, test), tuple(str(digit) for digit in range(10)))
