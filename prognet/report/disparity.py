"""How much the order of the tasks matters: the same task at different positions of the stream."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prognet.metrics import average_order_disparity, maximum_order_disparity
from prognet.report.estimates import interval
from prognet.report.grid import Grid, Key
from prognet.results import Floats, RunResult
from prognet.statistics import Interval


@dataclass(frozen=True)
class Disparity:
    """Order disparity of one strategy, computed in each seed that has every order, then averaged over seeds."""

    strategy: str
    average: Interval
    """AOPD: mean over tasks of the largest difference between orders, as accuracy in [0, 1]."""
    maximum: Interval
    """MOPD: the largest of these differences."""


def same_tasks(grid: Grid) -> bool:
    """Whether all orders hold the same tasks, by name; otherwise a disparity per task has no meaning."""
    names = {tuple(sorted(task.name for task in run.tasks)) for cells in grid.runs.values() for run in cells.values()}
    return len(names) == 1 and len(set(next(iter(names)))) == grid.n_tasks


def disparities(grid: Grid) -> tuple[Disparity, ...]:
    """One entry per strategy; empty with fewer than two orders or when the orders hold different tasks."""
    if len(grid.orders) < 2 or not same_tasks(grid):
        return ()
    found = {name: _by_seed(grid, cells) for name, cells in grid.runs.items()}
    return tuple(
        Disparity(
            name,
            interval({key: average_order_disparity(matrix) for key, matrix in seeds.items()}),
            interval({key: maximum_order_disparity(matrix) for key, matrix in seeds.items()}),
        )
        for name, seeds in found.items()
        if seeds
    )


def _by_seed(grid: Grid, cells: Mapping[Key, RunResult]) -> dict[Key, Floats]:
    """(orders, T) final accuracies per seed, tasks sorted by name, for seeds that have every order."""
    whole = [seed for seed in grid.seeds if all((order, seed) in cells for order in grid.orders)]
    return {(0, seed): np.stack([_final(cells[order, seed]) for order in grid.orders]) for seed in whole}


def _final(run: RunResult) -> Floats:
    by_name = sorted(range(run.n_tasks), key=lambda label: run.tasks[label].name)
    return run.accuracy[-1, by_name]
