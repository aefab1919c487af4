"""Schedules: which tasks are learned together, step by step, as tuples of task labels."""

from prognet.errors import ConfigError

Schedule = tuple[tuple[int, ...], ...]


def sequential(n_tasks: int) -> Schedule:
    """One task a step: `((0,), (1,), (2,))`.

    Raises:
        ConfigError: when there is no task.
    """
    return tuple((label,) for label in _labels(n_tasks))


def joint(n_tasks: int) -> Schedule:
    """All tasks in one step, the multi-task reference: `((0, 1, 2),)`.

    Raises:
        ConfigError: when there is no task.
    """
    return (tuple(_labels(n_tasks)),)


def cumulative(n_tasks: int) -> Schedule:
    """At every step all tasks so far, the reference of intransigence: `((0,), (0, 1), (0, 1, 2))`.

    Raises:
        ConfigError: when there is no task.
    """
    return tuple(tuple(range(label + 1)) for label in _labels(n_tasks))


def _labels(n_tasks: int) -> range:
    if n_tasks < 1:
        raise ConfigError(f"n_tasks: required at least 1, found {n_tasks!r}; give the number of tasks of the stream.")
    return range(n_tasks)
