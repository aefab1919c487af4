"""Targets that are no classes, from arrays: numbers to predict, and labels of which several hold at once."""

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from prognet.errors import ConfigError, StreamError
from prognet.streams.labels import as_array, as_single
from prognet.streams.numeric import MultiLabel, Regression
from prognet.streams.objectives import Objective
from prognet.streams.parts import Settings, generator, make_task, select, stratified
from prognet.streams.task import Normalisation, Samples, Task

Kind = Literal["classification", "regression", "multi-label"]


def check_kinds(kinds: Sequence[Kind] | None, n_tasks: int) -> Sequence[Kind]:
    """The kind of every task; all are classifications where none is named.

    Raises:
        ConfigError: when there is not one for each task, or one is not known.
    """
    if kinds is None:
        return ["classification"] * n_tasks
    if len(kinds) != n_tasks or any(kind not in get_args(Kind) for kind in kinds):
        raise ConfigError(
            f"kinds: required one of {get_args(Kind)} for each of {n_tasks} tasks, found {list(kinds)}; name them all."
        )
    return kinds


def as_targets(y: Any, kind: Kind, where: str) -> Tensor:
    """Targets as float32: (N,) or (N, k) of a regression, (N, n_labels) of a multi-label task.

    Args:
        y: a tensor, an array or a sequence of numbers.
        kind: of the task.
        where: the argument's name, for the message.

    Raises:
        StreamError: when they have another shape, or are no numbers.
    """
    array = as_array(y, where)
    wanted, shape = ((1, 2), "(N,) or (N, k)") if kind == "regression" else ((2,), "(N, n_labels)")
    if array.dtype.kind not in "fiub" or array.ndim not in wanted or (array.ndim == 2 and array.shape[1] < 1):
        found = f"shape {array.shape} {array.dtype}"
        raise StreamError(f"{where}: required numbers of shape {shape} for a {kind} task, found {found}; convert them.")
    return torch.from_numpy(as_single(array))


def task_of_targets(label: int, name: str, train: Samples, test: Samples, kind: Kind, settings: Settings) -> Task:
    """A task of numbers or labels; a seeded part of its training samples is held out.

    A regression is standardised by the training samples that are left.

    Raises:
        StreamError: when no objective can be made from the targets.
    """
    together = torch.zeros(len(train), dtype=torch.int64)  # one class: nothing to stratify by
    keep, held_out = stratified(together, settings.validation, generator(settings.seed, label, "validation"))
    kept = select(train, keep)
    objective: Objective
    if kind == "multi-label":
        objective, n_outputs = MultiLabel(train.y.shape[1]), train.y.shape[1]
    else:
        objective, n_outputs = _regression(kept.y, f"task {label} ({name!r})"), train.y[0].numel() if len(train) else 1
    names = [f"{'number' if kind == 'regression' else 'label'} {index}" for index in range(n_outputs)]
    return make_task(
        label, name, names, kept, test, settings, Normalisation(), val=select(train, held_out), objective=objective
    )


def _regression(y: Tensor, where: str) -> Regression:
    try:
        return Regression.of(y)
    except ConfigError as error:
        raise StreamError(f"{where}: {error}") from error
