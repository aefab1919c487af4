"""Class-incremental tasks out of one data set: every task has some of its classes."""

import torch

from prognet.streams.parts import Dataset, Order, Settings, check_n_tasks, make_task, ordered
from prognet.streams.task import Samples, Task

_NAMED = 4  # a task with more classes than this is named by its first one and a count


def split_by_class(data: Dataset, n_tasks: int, settings: Settings, class_order: Order = "seeded") -> tuple[Task, ...]:
    """Tasks with disjoint classes that together have all classes of `data`.

    The classes are put in order and cut into consecutive parts, as equal as possible, the larger ones first: ten
    classes in three tasks are 4, 3 and 3. Local labels count in that order. Samples keep the order of the data set.

    Args:
        data: the data set.
        n_tasks: number of tasks; at most half the number of classes.
        settings: seed, validation and heads.
        class_order: a permutation seeded by `settings.seed`, or the order of the labels.

    Raises:
        ConfigError: when `n_tasks` or `class_order` cannot be carried out.
    """
    n_classes = len(data.classes)
    check_n_tasks(n_tasks, most=n_classes // 2)
    order = ordered(n_classes, class_order, "class_order", settings.seed, "class order")
    groups = [group.tolist() for group in torch.tensor(order).tensor_split(n_tasks)]
    return tuple(_task(data, label, group, settings) for label, group in enumerate(groups))


def _task(data: Dataset, label: int, group: list[int], settings: Settings) -> Task:
    classes = [data.classes[index] for index in group]
    train, test = (_members(samples, group, len(data.classes)) for samples in (data.train, data.test))
    return make_task(label, task_name(classes), classes, train, test, settings, data.normalisation)


def task_name(classes: list[str]) -> str:
    """A short name for a task with these classes."""
    return " ".join(classes) if len(classes) <= _NAMED else f"{classes[0]} +{len(classes) - 1}"


def _members(samples: Samples, group: list[int], n_classes: int) -> Samples:
    local = torch.full((n_classes,), -1)
    local[group] = torch.arange(len(group))
    y = local[samples.y]  # (N,), -1 for the classes of other tasks
    return Samples(samples.x[y >= 0], y[y >= 0])
