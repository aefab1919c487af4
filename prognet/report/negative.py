"""Where a strategy is worse than learning a task alone, and what it gains in all: negative transfer and Delta_m."""

from dataclasses import dataclass

import numpy as np

from prognet import metrics
from prognet.metrics import TaskTransfer
from prognet.report.comparison import Comparison
from prognet.report.estimates import interval, per_seed
from prognet.report.grid import INDEPENDENT, Key
from prognet.report.table import Column, Table, Value
from prognet.report.units import COUNT, POINTS, PROBABILITY, Unit
from prognet.results import Floats
from prognet.statistics import Interval

SHARE = Unit("%", 100.0, signed=True)


@dataclass(frozen=True, eq=False)
class AgainstAlone:
    """One strategy against independent networks, over the seeds and orders that both have."""

    strategy: str
    tasks: tuple[TaskTransfer, ...]
    """By position: the accuracy right after the task was learned, paired by seed."""
    relative: tuple[float, ...]
    """Of these means, the difference as a share of the reference."""
    learned: Interval
    """Delta_m of the tasks as they were learned."""
    final: Interval
    """Delta_m after the last step: with what was forgotten."""
    seeds: int


def against_alone(comparison: Comparison) -> tuple[AgainstAlone, ...]:
    """Every strategy but the reference; empty without independent networks."""
    reference = comparison.grid.runs.get(INDEPENDENT, {})
    found = []
    for name, runs in comparison.grid.runs.items():
        shared = [key for key in runs if key in reference]
        if name == INDEPENDENT or not shared:
            continue
        own = {key: metrics.learning_accuracies(runs[key].accuracy) for key in shared}
        alone = {key: metrics.learning_accuracies(reference[key].accuracy) for key in shared}
        last = {key: runs[key].accuracy[-1] for key in shared}
        M, S = per_seed(own), per_seed(alone)  # (seeds, T)
        found.append(
            AgainstAlone(
                name,
                metrics.negative_transfer(M, S),
                tuple(metrics.relative_gains(M.mean(axis=0), S.mean(axis=0)).tolist()),
                _delta(own, alone),
                _delta(last, alone),
                len(M),
            )
        )
    return tuple(found)


def negative_table(found: tuple[AgainstAlone, ...], names: tuple[str | None, ...]) -> Table:
    """One row per strategy and task."""
    rows: list[tuple[Value, ...]] = [
        (
            one.strategy,
            float(place + 1),
            names[place] or "varies with the order",
            task.difference.interval,
            one.relative[place],
            task.difference.p_value,
            task.adjusted,
            "negative" if task.negative else "positive" if task.positive else "undecided",
        )
        for one in found
        for place, task in enumerate(one.tasks)
    ]
    return Table(
        "Transfer of each task",
        "Accuracy right after learning, minus that of an independent network, paired by seed: mean ± half of the "
        "Student t 95 % interval. Negative: the interval lies below zero. It is for each task alone: of forty tasks "
        "without any transfer one is called negative. The last p is Holm's over the tasks of a strategy.",
        (
            Column("strategy", "strategy"),
            Column("task", "task", COUNT),
            Column("name", "name"),
            Column("difference", "transfer ↑", POINTS),
            Column("relative", "relative ↑", SHARE),
            Column("p", "p", PROBABILITY),
            Column("p_holm", "p, Holm", PROBABILITY),
            Column("verdict", "transfer is"),
        ),
        tuple(rows),
    )


def delta_table(found: tuple[AgainstAlone, ...]) -> Table:
    """One row per strategy."""
    rows: list[tuple[Value, ...]] = [
        (
            one.strategy,
            one.learned,
            one.final,
            float(sum(task.negative for task in one.tasks)),
            float(sum(task.positive for task in one.tasks)),
            float(len(one.tasks)),
            float(one.seeds),
        )
        for one in found
    ]
    return Table(
        "Delta_m",
        "Mean over tasks of (M - S) / S: M the accuracy of the strategy, S that of an independent network with the "
        "same seed; when each task was learned, and after the last step. Mean ± half of the Student t 95 % interval "
        "over seeds. Negative and positive: tasks whose interval lies on one side of zero.",
        (
            Column("strategy", "strategy"),
            Column("learned", "Δm, when learned ↑", SHARE),
            Column("final", "Δm, at the end ↑", SHARE),
            Column("negative", "negative ↓", COUNT),
            Column("positive", "positive ↑", COUNT),
            Column("tasks", "tasks", COUNT),
            Column("seeds", "seeds", COUNT),
        ),
        tuple(rows),
    )


def _delta(own: dict[Key, Floats], alone: dict[Key, Floats]) -> Interval:
    return interval({key: metrics.delta_m(np.asarray(own[key]), alone[key]) for key in own})
