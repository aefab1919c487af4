"""How long tasks are trained: in passes over their samples, or in a given number of updates."""

from collections.abc import Sequence
from dataclasses import dataclass

from prognet.config import Training
from prognet.streams.task import Task
from prognet.training.batches import Sampling, quotas


@dataclass(frozen=True, slots=True)
class Budget:
    """What one training consists of. Its batches come in rounds, of which the last one may be cut short."""

    quotas: Sequence[int]
    """Samples of each task in a round."""
    round: int
    """Updates in a round."""
    epoch: int
    """Updates in a pass over as many samples as there are; validation follows each."""
    updates: int
    """Updates in all."""


def budget_of(training: Training, tasks: Sequence[Task], sampling: Sampling = 0.0) -> Budget:
    """The budget of tasks that are learned together.

    Several tasks see as many samples as each of them would alone, taken together, in batches of at most `batch_size`,
    shared out by the number of their training samples.
    With epochs a round is one epoch of all; with a number of updates it is the whole training, since the tasks may then
    differ in how often they pass.

    Args:
        training: how every task is learned.
        tasks: the tasks; the first one of the stream has label 0.
        sampling: how joint training is shared between the tasks.
    """
    if len(tasks) == 1:
        return _alone(training, tasks[0])
    sizes = [len(task.train) for task in tasks]
    epoch = _batches(sum(sizes), training.batch_size)
    if all(_updates(training, task) is None for task in tasks):
        return Budget(quotas(sizes, sampling), epoch, epoch, training.epochs * epoch)
    seen = sum(_samples(training, task) for task in tasks)
    updates = _batches(seen, training.batch_size)
    return Budget(quotas(sizes, sampling, seen), updates, epoch, updates)


def _alone(training: Training, task: Task) -> Budget:
    first = training.first_batch_size if task.label == 0 else None
    epoch = _batches(len(task.train), first or training.batch_size)
    given = _updates(training, task)
    return Budget([len(task.train)], epoch, epoch, training.epochs * epoch if given is None else given)


def _updates(training: Training, task: Task) -> int | None:
    first = training.first_updates if task.label == 0 else None
    return first or training.updates


def _samples(training: Training, task: Task) -> int:
    """The samples that a task sees alone, with repetitions."""
    budget, size = _alone(training, task), len(task.train)
    passes, rest = divmod(budget.updates, budget.epoch)
    return passes * size + rest * size // budget.epoch


def _batches(samples: int, batch_size: int) -> int:
    return -(-samples // batch_size)
