"""Streams from data of one's own: arrays in memory, or one file of NumPy."""

import re
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from torch import Tensor

from prognet.config import Heads
from prognet.errors import MissingDataError, StreamError
from prognet.streams.labels import as_array, as_labels, as_single, check_same_classes, localise, plain_tensor
from prognet.streams.parts import Order, Settings, make_task, ordered
from prognet.streams.stream import Stream
from prognet.streams.targets import Kind, as_targets, check_kinds, task_of_targets
from prognet.streams.task import Normalisation, Samples, Task

_NO_ARCHIVE = (
    *(ValueError, OSError, EOFError, BadZipFile, zlib.error, AttributeError, TypeError, MemoryError, KeyError),
    *(NotImplementedError, RuntimeError, SyntaxError, OverflowError, RecursionError),
)
"""What zip files and headers of arrays raise that were made, or damaged, to mean something else."""
PARTS = ("x_train", "y_train", "x_test", "y_test")


def from_arrays(
    arrays: Iterable[Sequence[Any]],
    *,
    names: Sequence[str] | None = None,
    kinds: Sequence[Kind] | None = None,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    task_order: Order = "natural",
) -> Stream:
    """A stream from arrays or tensors in memory, which are copied.

    Args:
        arrays: for each task `(x_train, y_train, x_test, y_test)`. `x` is (N, *input_shape): bytes stay bytes and are
            divided by 255 for the network, all other numbers become float32 as they are. `y` is (N,): integers or
            strings, whose sorted distinct values are the task's classes; of a regression (N,) or (N, k) numbers, of a
            multi-label task (N, n_labels), 0 or 1.
        names: names of the tasks.
        kinds: for each task "classification", "regression" or "multi-label"; None for classifications.
        seed: seed of the validation split and of a seeded task order.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.
        task_order: the order given, or a permutation of it seeded by `seed`.

    Raises:
        ConfigError: when an argument is out of its range.
        StreamError: when the data cannot be a stream; the message names the task and the array.
    """
    arguments = {
        "names": None if names is None else list(names),
        **({} if kinds is None else {"kinds": list(kinds)}),
        "validation": validation,
        "heads": heads,
        "task_order": task_order,
    }
    settings = Settings(seed=seed, validation=validation, heads=heads)
    return _stream("from-arrays", list(arrays), names, settings, task_order, arguments, kinds)


def from_npz(
    path: str | Path,
    *,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    task_order: Order = "natural",
) -> Stream:
    """A stream from one `.npz` file with arrays `x_train_0, y_train_0, x_test_0, y_test_0, x_train_1, ...`.

    The arrays are as in `from_arrays`. Nothing pickled is read.

    Args:
        path: the file.
        seed: seed of the validation split and of a seeded task order.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.
        task_order: the order of the numbers, or a permutation of it seeded by `seed`.

    Raises:
        MissingDataError: when there is no such file.
        ConfigError: when an argument is out of its range.
        StreamError: when the file is no such file, is damaged, or its arrays cannot be a stream.
    """
    arguments = {"path": Path(path).name, "validation": validation, "heads": heads, "task_order": task_order}
    settings = Settings(seed=seed, validation=validation, heads=heads)
    return _stream("from-npz", _read_npz(Path(path)), None, settings, task_order, arguments)


def _stream(
    name: str,
    arrays: Sequence[Sequence[Any]],
    names: Sequence[str] | None,
    settings: Settings,
    task_order: Order,
    arguments: Mapping[str, Any],
    kinds: Sequence[Kind] | None = None,
) -> Stream:
    if names is not None and len(names) != len(arrays):
        raise StreamError(f"names: required {len(arrays)} names, one a task, found {len(names)}; name every task.")
    asked = check_kinds(kinds, len(arrays))
    order = ordered(len(arrays), task_order, "task_order", settings.seed, "task order")
    tasks = [
        _task(label, f"task {given}" if names is None else names[given], arrays[given], given, settings, asked[given])
        for label, given in enumerate(order)
    ]
    check_same_classes(tasks, settings.heads)
    return Stream(tasks, name=name, heads=settings.heads, seed=settings.seed, arguments=arguments)


def _task(label: int, name: str, arrays: Sequence[Any], given: int, settings: Settings, kind: Kind) -> Task:
    if not isinstance(arrays, tuple | list) or len(arrays) != len(PARTS):
        raise StreamError(
            f"arrays[{given}]: required {PARTS}, found {_described(arrays)}; give a tuple of four for each task."
        )
    x_train, y_train, x_test, y_test = arrays
    where = f"arrays[{given}]"
    if kind != "classification":
        train = _samples(x_train, as_targets(y_train, kind, f"{where}.y_train"), f"{where}.x_train")
        test = _samples(x_test, as_targets(y_test, kind, f"{where}.y_test"), f"{where}.x_test")
        return task_of_targets(label, name, train, test, kind, settings)
    train_labels, test_labels = as_labels(y_train, f"{where}.y_train"), as_labels(y_test, f"{where}.y_test")
    classes, (local_train, local_test) = localise(train_labels, [test_labels], f"{where}.y_test")
    train = _samples(x_train, local_train, f"{where}.x_train")
    test = _samples(x_test, local_test, f"{where}.x_test")
    return make_task(label, name, classes, train, test, settings, Normalisation())


def _described(arrays: Any) -> str:
    return f"{len(arrays)} items" if isinstance(arrays, tuple | list) else type(arrays).__name__


def _samples(x: Any, y: Tensor, where: str) -> Samples:
    values = _values(x, where)
    if values.ndim < 2:
        raise StreamError(
            f"{where}: required shape (N, *input_shape), found {tuple(values.shape)}; reshape it to (N, n)."
        )
    if len(values) != len(y):
        raise StreamError(f"{where}: required one sample for each of {len(y)} labels, found {len(values)}; match them.")
    return Samples(values, y)


def _values(x: Any, where: str) -> Tensor:
    if isinstance(x, Tensor):
        if x.is_complex():
            raise StreamError(
                f"{where}: required real numbers, found {x.dtype}; convert them, for instance to float32."
            )
        wanted = torch.uint8 if x.dtype == torch.uint8 else torch.float32
        return plain_tensor(x, where).to(wanted, copy=True).contiguous()
    array = as_array(x, where)
    if array.dtype.kind not in "fiub":
        raise StreamError(f"{where}: required numbers, found {array.dtype}; convert them, for instance to float32.")
    return torch.from_numpy(np.array(array, order="C") if array.dtype == np.uint8 else as_single(array))


def _read_npz(path: Path) -> list[tuple[Any, ...]]:
    if not is_file(path):
        raise MissingDataError(f"path: required a .npz file, found none at {path}; pass the path of your file.")
    arrays = _load_npz(path)
    numbers = _numbers(path, arrays)
    missing = [f"{part}_{k}" for k in range(len(numbers)) for part in PARTS if f"{part}_{k}" not in arrays]
    if missing or not numbers:
        raise StreamError(
            f"{path}: required arrays {', '.join(f'{part}_k' for part in PARTS)} for k = 0, 1, ..., "
            f"found no {', '.join(missing) or 'such array'}; add what is missing."
        )
    return [tuple(arrays[f"{part}_{k}"] for part in PARTS) for k in range(len(numbers))]


def is_file(path: Path) -> bool:
    """Whether there is such a file; a name that no file can have is none."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def _load_npz(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as content, np.load(content, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except _NO_ARCHIVE as error:
        raise StreamError(
            f"{path}: required a .npz file of plain arrays, found something else ({error}); "
            "write numbers or text with numpy.savez, no Python objects: nothing pickled is read."
        ) from error


def _numbers(path: Path, arrays: Mapping[str, Any]) -> set[int]:
    numbers = set()
    for name in arrays:
        match = re.fullmatch(f"(?:{'|'.join(PARTS)})_([0-9]+)", name)
        if match is None:
            raise StreamError(
                f"{path}: required arrays named {', '.join(f'{part}_k' for part in PARTS)}, found {name!r}; rename it."
            )
        numbers.add(int(match[1]))
    return numbers
