"""Streams from the image data sets of torchvision, read from a folder or downloaded into it.

Images stay bytes, uint8 (C, H, W): ten tasks of Permuted MNIST take 0.55 GB. Networks see them divided by 255 and, for
CIFAR, standardised by each channel's mean and deviation over the training split. Training and test splits are those of
the data sets.

All builders take `root`, the folder that torchvision calls so (MNIST lies in `root/MNIST/raw`), and `download`, which
lets torchvision fetch what is missing there. All raise `MissingDataError` where the data are not, `ConfigError` for an
argument out of its range, and `StreamError` for damaged files or for a shared head over unequal tasks.
"""

from pathlib import Path

from prognet.config import Heads
from prognet.streams.parts import Order, Settings
from prognet.streams.pixels import permuted, rotated
from prognet.streams.split import split_by_class
from prognet.streams.stream import Stream
from prognet.streams.torchvision_data import Kind, read_dataset

Root = str | Path | None


def split_mnist(
    n_tasks: int = 5,
    *,
    root: Root = None,
    download: bool = False,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    class_order: Order = "seeded",
) -> Stream:
    """MNIST, (1, 28, 28), split into 1 to 5 tasks with disjoint digits; the errors are those of the module.

    Args:
        n_tasks: classes are shared out as equally as possible, the larger tasks first.
        root: the folder that holds `MNIST/raw`.
        download: whether torchvision may fetch missing files into `root`.
        seed: seed of the class order and of the validation split.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.
        class_order: a permutation of the classes seeded by `seed`, or the order of their labels.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    return _split("MNIST", "split-mnist", n_tasks, settings, class_order, root, download)


def split_fashion_mnist(
    n_tasks: int = 5,
    *,
    root: Root = None,
    download: bool = False,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    class_order: Order = "seeded",
) -> Stream:
    """Fashion-MNIST, (1, 28, 28), split into 1 to 5 tasks; arguments and errors as for `split_mnist`."""
    settings = Settings(seed=seed, validation=validation, heads=heads)
    return _split("FashionMNIST", "split-fashion-mnist", n_tasks, settings, class_order, root, download)


def split_cifar10(
    n_tasks: int = 5,
    *,
    root: Root = None,
    download: bool = False,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    class_order: Order = "seeded",
) -> Stream:
    """CIFAR-10, (3, 32, 32), split into 1 to 5 tasks; arguments and errors as for `split_mnist`."""
    settings = Settings(seed=seed, validation=validation, heads=heads)
    return _split("CIFAR10", "split-cifar10", n_tasks, settings, class_order, root, download)


def split_cifar100(
    n_tasks: int = 10,
    *,
    root: Root = None,
    download: bool = False,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    class_order: Order = "seeded",
) -> Stream:
    """CIFAR-100, (3, 32, 32), fine labels, split into 1 to 50 tasks; arguments and errors as for `split_mnist`."""
    settings = Settings(seed=seed, validation=validation, heads=heads)
    return _split("CIFAR100", "split-cifar100", n_tasks, settings, class_order, root, download)


def permuted_mnist(
    n_tasks: int = 10,
    *,
    root: Root = None,
    download: bool = False,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
) -> Stream:
    """All ten digits in every task, the pixels in a seeded order of its own; task 0 sees them as they are.

    Args:
        n_tasks: at least 1.
        root: the folder that holds `MNIST/raw`.
        download: whether torchvision may fetch missing files into `root`.
        seed: seed of the permutations and of the validation split.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share, as in most published figures.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    tasks = permuted(read_dataset("MNIST", root, download), n_tasks, settings)
    arguments = {"n_tasks": n_tasks, "validation": validation, "heads": heads}
    return Stream(tasks, name="permuted-mnist", heads=heads, seed=seed, arguments=arguments)


def rotated_mnist(
    n_tasks: int = 10,
    *,
    root: Root = None,
    download: bool = False,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    task_order: Order = "seeded",
) -> Stream:
    """All ten digits in every task, turned by `180 * k / n_tasks` degrees.

    Args:
        n_tasks: at least 1.
        root: the folder that holds `MNIST/raw`.
        download: whether torchvision may fetch missing files into `root`.
        seed: seed of the task order and of the validation split.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share, as in most published figures.
        task_order: the angles in an order seeded by `seed`, or ascending.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    tasks = rotated(read_dataset("MNIST", root, download), n_tasks, settings, task_order)
    arguments = {
        "n_tasks": n_tasks,
        "validation": validation,
        "heads": heads,
        "task_order": task_order,
    }
    return Stream(tasks, name="rotated-mnist", heads=heads, seed=seed, arguments=arguments)


def _split(
    kind: Kind, name: str, n_tasks: int, settings: Settings, class_order: Order, root: Root, download: bool
) -> Stream:
    tasks = split_by_class(read_dataset(kind, root, download), n_tasks, settings, class_order)
    arguments = {
        "n_tasks": n_tasks,
        "validation": settings.validation,
        "heads": settings.heads,
        "class_order": class_order,
    }
    return Stream(tasks, name=name, heads=settings.heads, seed=settings.seed, arguments=arguments)
