"""Results as one value that holds every number which the figures, the tables and the page show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from prognet import metrics
from prognet.report.curves import CurveBand, curve_bands
from prognet.report.differences import Difference, differences
from prognet.report.disparity import Disparity, disparities
from prognet.report.estimates import Band, band, interval
from prognet.report.frozen import FrozenPart, frozen_parts
from prognet.report.grid import REFERENCES, Grid, Key, align
from prognet.report.measures import ACCURACY, FURTHER, LEARNING, MEASURES
from prognet.results import Floats, RunResult, StepCost
from prognet.statistics import Interval

COSTS = (
    "parameters",
    "trainable",
    "added",
    "stored_bytes",
    "updates",
    "samples",
    "training_flops",
    "feature_flops",
    "seconds",
    "feature_seconds",
    "evaluation_seconds",
    "peak_memory",
    "gradient_norm",
)
"""The fields of `StepCost` that are one number."""
FORWARD = "forward_flops"
"""Operations to predict one sample, mean over the tasks learned so far."""


@dataclass(frozen=True, eq=False)
class Summary:
    """One strategy: means over seeds with their intervals. Accuracies lie in [0, 1]."""

    name: str
    schedule: tuple[tuple[int, ...], ...]
    seeds: int
    runs: int
    measures: Mapping[str, Interval]
    """By the key of each measure."""
    accuracy: Band
    """R: (steps, T)."""
    average: Band
    """(steps,): mean over the tasks seen, after each step."""
    learning: Band
    """(T,): accuracy right after the task was first learned."""
    forgetting: Band
    """(T,): best earlier accuracy minus the last."""
    transfer: Mapping[str, Band]
    """By reference, (T,): learning accuracy minus that of the reference with the same order and seed."""
    curves: Mapping[int, CurveBand]
    """By task label: accuracy over updates; without the tasks that shared their updates."""
    costs: Mapping[str, Band]
    """By name (`COSTS` and `FORWARD`), (steps,)."""
    frozen: tuple[FrozenPart, ...]

    @property
    def seen(self) -> tuple[int, ...]:
        """How many tasks have been learned after each step."""
        return tuple(len(set().union(*self.schedule[: step + 1])) for step in range(len(self.schedule)))


@dataclass(frozen=True, eq=False)
class Comparison:
    """All strategies of a set of results, side by side."""

    grid: Grid
    summaries: tuple[Summary, ...]
    """In the order of the report's rows."""
    accuracy_differences: tuple[Difference, ...]
    """Pairs of strategies, by average accuracy."""
    learning_differences: tuple[Difference, ...]
    """The same pairs, by learning accuracy: what is called transfer when the reference is independent."""
    disparities: tuple[Disparity, ...]

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the strategies, in the order of the rows."""
        return self.grid.strategies

    @property
    def one_seed(self) -> bool:
        """Whether there is a single seed, so that nothing has an interval."""
        return len(self.grid.seeds) == 1


def compare(results: Sequence[RunResult]) -> Comparison:
    """Aligns runs by order and seed and computes every number of the report.

    Raises:
        RunFolderError: when the runs cannot be compared: none at all, several streams, a cell that is there twice.
    """
    grid = align(results)
    values = {
        measure.key: {
            name: {key: measure.value(run, grid.peers(key)) for key, run in cells.items()}
            for name, cells in grid.runs.items()
        }
        for measure in (*MEASURES, *FURTHER)
    }
    intervals = {key: {name: interval(cells) for name, cells in rows.items()} for key, rows in values.items()}
    return Comparison(
        grid=grid,
        summaries=tuple(
            _summary(grid, name, {key: rows[name] for key, rows in intervals.items()}) for name in grid.strategies
        ),
        accuracy_differences=differences(values[ACCURACY.key]),
        learning_differences=differences(values[LEARNING.key]),
        disparities=disparities(grid),
    )


def _summary(grid: Grid, name: str, measures: Mapping[str, Interval]) -> Summary:
    cells = grid.runs[name]
    return Summary(
        name=name,
        schedule=grid.first(name).schedule,
        seeds=len({seed for _, seed in cells}),
        runs=len(cells),
        measures=measures,
        accuracy=band({key: run.accuracy for key, run in cells.items()}),
        average=band({key: metrics.average_accuracy_over_time(run.accuracy) for key, run in cells.items()}),
        learning=band({key: metrics.learning_accuracies(run.accuracy) for key, run in cells.items()}),
        forgetting=band({key: metrics.forgetting_per_task(run.accuracy) for key, run in cells.items()}),
        transfer={reference: _transfer(grid, name, reference) for reference in REFERENCES if reference != name},
        curves=curve_bands(cells),
        costs=_costs(cells),
        frozen=tuple(part for run in cells.values() for part in frozen_parts(run)),
    )


def _transfer(grid: Grid, name: str, reference: str) -> Band:
    """Learning accuracy minus the reference's, over the cells that both have."""
    own, other = grid.runs[name], grid.runs.get(reference, {})
    shared = {key: metrics.transfer(own[key].accuracy, other[key].accuracy) for key in own if key in other}
    return band(shared or dict.fromkeys(own, np.full(grid.n_tasks, np.nan)))


def _costs(cells: Mapping[Key, RunResult]) -> dict[str, Band]:
    found = {name: band({key: _cost(run.costs, name) for key, run in cells.items()}) for name in COSTS}
    return {**found, FORWARD: band({key: _forward(run.costs) for key, run in cells.items()})}


def _cost(costs: Sequence[StepCost], name: str) -> Floats:
    return np.array([getattr(cost, name) for cost in costs], dtype=np.float64)


def _forward(costs: Sequence[StepCost]) -> Floats:
    rows = [[flops for flops in cost.forward_flops if not np.isnan(flops)] for cost in costs]
    return np.array([np.mean(row) if row else np.nan for row in rows], dtype=np.float64)
