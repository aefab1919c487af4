"""What a stream must be, checked before any work starts."""

from collections.abc import Sequence
from typing import get_args

import torch
from torch import Tensor

from prognet.config import Heads
from prognet.errors import ConfigError, StreamError
from prognet.streams.objectives import Classification
from prognet.streams.task import Samples, Task

SPLITS = ("train", "val", "test")


def check_heads(heads: str) -> None:
    """Refuses anything but the two kinds of heads.

    Raises:
        ConfigError: when `heads` is not one of them.
    """
    if heads not in get_args(Heads):
        raise ConfigError(f"heads: required one of {get_args(Heads)}, found {heads!r}; choose one of the two.")


def check_tasks(tasks: Sequence[Task], heads: Heads) -> None:
    """Refuses tasks that cannot be one stream.

    Raises:
        ConfigError: when `heads` is not known.
        StreamError: when the tasks are none, are not labelled by their position, or hold data that cannot be learned
            from; when tasks with inputs of one shape differ in type or normalisation, or tasks with one head in shape.
    """
    check_heads(heads)
    if not tasks:
        raise StreamError("tasks: required at least one task, found none; give the data of one task or more.")
    for position, task in enumerate(tasks):
        _check_place(task, position, heads)
        for split in SPLITS:
            _check_samples(task, split, getattr(task, split))
        _check_classes(task)
        _check_normalisation(task)
    first_of = {task.input_shape: task for task in reversed(tasks)}
    for task in tasks[1:]:
        _check_agreement(first_of[task.input_shape], task)
    if heads == "shared":
        _check_shared_head(tasks)


def _check_place(task: Task, position: int, heads: Heads) -> None:
    if task.label != position:
        raise _error(task, "label", f"its position in the stream, {position}", task.label, "number the tasks from 0")
    head = 0 if heads == "shared" else position
    if task.head != head:
        raise _error(task, "head", f"{head} in a stream with heads={heads!r}", task.head, "give the task that head")


def _check_classes(task: Task) -> None:
    if len(set(task.classes)) < task.n_classes:
        raise _error(task, "classes", "a different name for each class", task.classes, "rename the classes")
    if not isinstance(task.objective, Classification):
        return
    if task.n_classes < 2:
        remedy = "give each task two classes or more; a task of one class has nothing to learn"
        raise _error(task, "classes", "at least two classes", f"{task.n_classes} ({task.classes})", remedy)
    if task.objective.n_classes != task.n_classes:
        remedy = "name as many classes as the objective has"
        raise _error(task, "classes", f"{task.objective.n_classes} names", task.n_classes, remedy)


def _check_normalisation(task: Task) -> None:
    channels, n_means = task.input_shape[0], len(task.normalisation.mean)
    if n_means not in (0, channels):
        required = f"one mean and deviation for each of {channels} channels, or none"
        raise _error(task, "normalisation", required, n_means, "channels are the first dimension of a sample")


def _check_samples(task: Task, split: str, samples: Samples) -> None:
    x, y = samples.x, samples.y
    if len(x) != len(y):
        remedy = "give one label for each sample"
        raise _error(task, f"{split}.y", f"as many labels as samples ({len(x)})", len(y), remedy)
    if split != "val" and not len(x):
        raise _error(task, f"{split}.x", "at least one sample", "none", f"give the task {split} samples")
    if x.ndim < 2:
        remedy = "reshape x to (samples, features) or (samples, channels, height, width)"
        raise _error(task, f"{split}.x", "shape (N, *input_shape)", tuple(x.shape), remedy)
    if x.dtype != torch.uint8 and not x.is_floating_point():
        raise _error(task, f"{split}.x", "uint8 or floating point", x.dtype, "convert x, for instance to float32")
    if tuple(x.shape[1:]) != task.input_shape or x.dtype != task.train.x.dtype:
        required = f"samples as in train, {task.input_shape} {task.train.x.dtype}"
        raise _error(task, f"{split}.x", required, f"{tuple(x.shape[1:])} {x.dtype}", "prepare all splits alike")
    _check_finite(task, split, x)
    fault = task.objective.fault(y, task.n_classes)
    if fault is not None:
        raise _error(task, f"{split}.y", *fault)


def _check_finite(task: Task, split: str, x: Tensor) -> None:
    if not x.is_floating_point():
        return
    finite = torch.isfinite(x)
    if not finite.all():
        sample = int((~finite).flatten(1).any(dim=1).nonzero()[0])
        remedy = "clean the data: drop or impute such samples"
        raise _error(task, f"{split}.x", "finite numbers", f"NaN or infinity in sample {sample} of the split", remedy)


def _check_agreement(first: Task, task: Task) -> None:
    """Inputs of one shape are also shown to the networks of other tasks, so they have to be made alike."""
    mine, theirs = (f"{t.input_shape} {t.train.x.dtype}" for t in (task, first))
    if mine != theirs:
        remedy = "convert so that all tasks with inputs of this shape have one type"
        raise _error(task, "train.x", f"samples as in task {first.label}, {theirs}", mine, remedy)
    if task.normalisation != first.normalisation:
        required = f"that of task {first.label}, {first.normalisation}"
        remedy = "use one normalisation for all tasks with inputs of this shape"
        raise _error(task, "normalisation", required, task.normalisation, remedy)


def _check_shared_head(tasks: Sequence[Task]) -> None:
    shapes = [task.input_shape for task in tasks]
    if len(set(shapes)) > 1:
        raise StreamError(
            f"heads: a shared head required inputs of one shape in every task, found {shapes}; "
            'use heads="per-task", or resize or pad so that all tasks have one input.'
        )
    counts = [task.n_classes for task in tasks]
    if len(set(counts)) > 1:
        raise StreamError(
            f"heads: a shared head required the same number of classes in every task, found {counts}; "
            'use heads="per-task", or tasks with equally many classes.'
        )
    kinds = [type(task.objective).__name__ for task in tasks]
    if len(set(kinds)) > 1:
        raise StreamError(
            f"heads: a shared head required tasks of one kind, found {kinds}; "
            'use heads="per-task", since one output cannot mean different things.'
        )


def _error(task: Task, argument: str, required: str, found: object, remedy: str) -> StreamError:
    return StreamError(f"task {task.label} ({task.name!r}): {argument}: required {required}, found {found}; {remedy}.")
