"""Labels of any kind made local: the classes of a task, sorted, become 0 .. n_classes - 1."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from prognet.config import Heads
from prognet.errors import StreamError
from prognet.streams.task import Task


def as_labels(y: Any, where: str) -> NDArray[Any]:
    """Labels (N,) as an array of whole numbers or of text.

    Args:
        y: a tensor, an array or a sequence of integers, booleans or strings.
        where: the argument's name, for the message.

    Raises:
        StreamError: when they are something else, or not one for each sample.
    """
    array = as_array(y, where)
    if array.dtype == object and all(isinstance(label, str) for label in array.flat):
        array = array.astype(str)
    if array.ndim != 1:
        raise StreamError(f"{where}: required shape (N,), found {array.shape}; give one label for each sample.")
    if array.dtype.kind not in "iubU" and len(array):
        raise StreamError(
            f"{where}: required integer or text labels, found {array.dtype}; convert them, for instance to int64."
        )
    if array.dtype == np.uint64 and len(array) and array.max() > np.iinfo(np.int64).max:
        raise StreamError(f"{where}: required labels below 2**63, found {array.max()}; number the classes from 0.")
    return array.astype(np.int64) if array.dtype.kind in "iub" else array


def as_array(values: Any, where: str) -> NDArray[Any]:
    """A tensor, an array or nested sequences as an array.

    Raises:
        StreamError: when they are rows of several lengths, or a tensor that holds no plain numbers in memory.
    """
    if isinstance(values, Tensor):
        return plain_tensor(values, where).numpy()
    try:
        return np.asarray(values)
    except ValueError as error:
        raise StreamError(f"{where}: required samples of one shape, found ragged ones; pad or resize them.") from error


def plain_tensor(values: Tensor, where: str) -> Tensor:
    """A tensor on the CPU, without its gradients.

    Raises:
        StreamError: when it is sparse, quantised, or has no numbers.
    """
    if values.layout != torch.strided or values.is_meta or values.is_quantized:
        kind = "meta" if values.is_meta else values.layout
        raise StreamError(
            f"{where}: required a dense tensor of plain numbers, found {kind}; convert it with to_dense()."
        )
    return values.detach().cpu()


def as_single(array: NDArray[Any]) -> NDArray[np.float32]:
    """Numbers in single precision; those that are too large become infinite, which the checks of a stream refuse."""
    with np.errstate(over="ignore"):
        return np.array(array, dtype=np.float32, order="C")


def localise(train: NDArray[Any], others: Sequence[NDArray[Any]], where: str) -> tuple[tuple[str, ...], list[Tensor]]:
    """The class names, and the local labels of the training split and of each of `others`, int64 (N,).

    Args:
        train: labels of the training split; its classes are the task's classes.
        others: labels of further splits.
        where: what holds these labels, for the message.

    Raises:
        StreamError: when another split has a class that the training split has not.
    """
    classes = np.unique(train)
    for labels in others:
        unknown = sorted(set(labels.tolist()) - set(classes.tolist()), key=str)
        if unknown:
            raise StreamError(
                f"{where}: required classes that the training split has ({_list(classes.tolist())}), found "
                f"{_list(unknown)} in another split; add training samples of them, or remove them."
            )
    local = [torch.from_numpy(np.searchsorted(classes, labels).astype(np.int64)) for labels in (train, *others)]
    return tuple(str(label) for label in classes.tolist()), local


def check_same_classes(tasks: Sequence[Task], heads: Heads) -> None:
    """Refuses tasks that share a head but not their classes: one output would mean different things.

    Raises:
        StreamError: when `heads` is "shared" and the classes differ.
    """
    for task in tasks[1:]:
        if heads == "shared" and task.classes != tasks[0].classes:
            raise StreamError(
                f"heads: a shared head required the same classes in every task ({_list(tasks[0].classes)} in task 0), "
                f'found {_list(task.classes)} in task {task.label}; relabel the tasks alike, or use heads="per-task".'
            )


def _list(values: Sequence[Any], most: int = 10) -> str:
    return ", ".join(str(value) for value in values[:most]) + (", ..." if len(values) > most else "")
