"""On which columns the columns of a run rely: what `prognet analyse` found, put together over orders and seeds."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from prognet.analysed import ANALYSIS_FILE, ColumnAnalysis, RunAnalysis, read_analysis
from prognet.errors import RunFolderError
from prognet.report.comparison import Comparison
from prognet.report.estimates import Band, band, interval
from prognet.report.grid import Key
from prognet.report.table import Column, Table, Value
from prognet.report.units import COUNT, LOSS, PERCENT, RATIO
from prognet.results import Floats
from prognet.statistics import Interval


@dataclass(frozen=True, eq=False)
class TaskReliance:
    """The column of one task: means over seeds with their intervals, NaN for columns that take no part."""

    task: int
    """Position of the task, counted from 1."""
    own: int
    """Position of its column, counted from 1."""
    accuracy: Interval
    fisher: Band
    """AFS, (sites, columns)."""
    perturbation: Band
    """APS, (sites, columns)."""
    loss: Band
    """Accuracy lost without one lateral, (sites, columns); NaN for the column itself."""
    similarity: Band
    """CKA with the column itself, (sites, columns)."""
    fisher_mean: Band
    """AFS, mean over sites, (columns,)."""
    perturbation_mean: Band
    """APS, mean over sites, (columns,)."""
    source_loss: Band
    """Accuracy lost without all laterals from one column, (columns,)."""
    similarity_mean: Band
    """CKA with the column itself, mean over sites, (columns,)."""
    total_loss: Interval
    """Accuracy lost without any lateral."""


@dataclass(frozen=True, eq=False)
class Reliance:
    """One strategy."""

    strategy: str
    sites: tuple[str, ...]
    columns: int
    """The number of columns, those that no task owns included."""
    tasks: tuple[TaskReliance, ...]
    seeds: int
    replacement: str
    """What stood in for a source: "mean" or "zero"."""


def read_reliances(folder: Path, comparison: Comparison, unread: frozenset[Path] = frozenset()) -> tuple[Reliance, ...]:
    """What was analysed below a run folder, one for each strategy, in the order of the report's rows.

    Args:
        folder: of the runs.
        comparison: of their results.
        unread: files to pass over.

    Raises:
        RunFolderError: when an analysis is damaged, belongs to another run than the one beside it, or when the analyses
            of one strategy were made with different settings.
    """
    found: dict[str, dict[Key, RunAnalysis]] = {}
    for path in sorted({*folder.rglob(ANALYSIS_FILE)} - unread):
        analysis = read_analysis(path.parent)
        run = comparison.grid.runs.get(analysis.strategy, {}).get((analysis.order, analysis.seed))
        if run is None or dict(run.digests[-1]) != dict(analysis.digests):
            raise RunFolderError(
                f"{path}: required the analysis of the run beside it, found one of other frozen parts; run `prognet "
                "analyse` again."
            )
        found.setdefault(analysis.strategy, {})[analysis.order, analysis.seed] = analysis
    made = (make_reliance(name, found[name]) for name in comparison.names if name in found)
    return tuple(reliance for reliance in made if reliance.tasks)


def make_reliance(strategy: str, analyses: Mapping[Key, RunAnalysis]) -> Reliance:
    """The analyses of one strategy, put together: of the positions at which every run has a column that classifies.

    Raises:
        RunFolderError: when they were made with different settings, or of different networks.
    """
    common = set.intersection(*({column.task for column in analysis.columns} for analysis in analyses.values()))
    analyses = {
        key: replace(analysis, columns=tuple(column for column in analysis.columns if column.task in common))
        for key, analysis in analyses.items()
    }
    first = next(iter(analyses.values()))
    for analysis in analyses.values():
        if _kind(analysis) != _kind(first):
            raise RunFolderError(
                f"{strategy}: required analyses with one kind of settings and columns, found {_kind(analysis)} and "
                f"{_kind(first)}; run `prognet analyse` again on all of them."
            )
    parts = [index for analysis in analyses.values() for column in analysis.columns for index in column.columns]
    columns = max(parts, default=-1) + 1
    tasks = [
        _task({key: analysis.columns[place] for key, analysis in analyses.items()}, columns)
        for place in range(len(first.columns))
    ]
    seeds = len({seed for _, seed in analyses})
    sites = first.last.sites if common else ()
    return Reliance(strategy, sites, columns, tuple(tasks), seeds, str(first.settings["replacement"]))


def reliance_table(reliances: Sequence[Reliance]) -> Table:
    """One row per strategy, task, and column that takes part in its output."""
    rows: list[tuple[Value, ...]] = []
    for reliance in reliances:
        for task in reliance.tasks:
            rows += [
                (
                    reliance.strategy,
                    float(task.task),
                    f"{column + 1}{' (own)' if column + 1 == task.own else ''}",
                    task.fisher_mean.at(column),
                    task.perturbation_mean.at(column),
                    task.source_loss.at(column),
                    task.similarity_mean.at(column),
                )
                for column in range(task.own)
                if not np.isnan(task.fisher_mean.mean[column])
            ]
    return Table(
        "On which columns the columns rely",
        "AFS, APS: share of a column in the output, mean over sites, own column included. Accuracy lost: without all "
        "laterals from this column, nothing trained again; – for the column itself. CKA: likeness with the task's own "
        "column, mean over sites, debiased. Mean ± half the width of the Student t 95 % interval over seeds.",
        (
            Column("strategy", "strategy"),
            Column("task", "task", COUNT),
            Column("column", "column"),
            Column("fisher", "AFS", PERCENT),
            Column("perturbation", "APS", PERCENT),
            Column("loss", "accuracy lost", LOSS),
            Column("similarity", "CKA", RATIO),
        ),
        tuple(rows),
    )


def _kind(analysis: RunAnalysis) -> tuple[object, ...]:
    """What analyses must share, so that a mean over them says something."""
    return dict(analysis.settings), [(column.task, column.sites, column.columns[-1]) for column in analysis.columns]


def _task(columns: Mapping[Key, ColumnAnalysis], width: int) -> TaskReliance:
    first = next(iter(columns.values()))
    own = first.columns[-1]
    part = sorted({index for column in columns.values() for index in column.columns})
    absent = [index for index in range(width) if index not in part]

    def bands(value: Callable[[ColumnAnalysis], Floats], hidden: Sequence[int] = ()) -> Band:
        return _hide(band({key: value(column) for key, column in columns.items()}), [*absent, *hidden])

    def shares(name: str) -> Callable[[ColumnAnalysis], Floats]:
        return lambda column: _placed(getattr(column, name), column, width, 0.0)

    def losses(name: str) -> Callable[[ColumnAnalysis], Floats]:
        return lambda column: _placed(np.nan_to_num(getattr(column, name)), column, width, 0.0)

    def likeness(column: ColumnAnalysis) -> Floats:
        return _placed(column.similarity, column, width, np.nan)

    return TaskReliance(
        task=first.task + 1,
        own=own + 1,
        accuracy=interval({key: column.accuracy for key, column in columns.items()}),
        fisher=bands(shares("fisher")),
        perturbation=bands(shares("perturbation")),
        loss=bands(losses("loss"), [own]),
        similarity=bands(likeness),
        fisher_mean=bands(lambda column: shares("fisher")(column).mean(axis=0)),
        perturbation_mean=bands(lambda column: shares("perturbation")(column).mean(axis=0)),
        source_loss=bands(losses("source_loss"), [own]),
        similarity_mean=bands(lambda column: likeness(column).mean(axis=0)),
        total_loss=interval({key: column.total_loss for key, column in columns.items()}),
    )


def _placed(values: Floats, column: ColumnAnalysis, width: int, other: float) -> Floats:
    """Values for the columns that take part, at their places among all columns; `other` for the rest."""
    placed = np.full((*values.shape[:-1], width), other)
    placed[..., list(column.columns)] = values
    return placed


def _hide(found: Band, columns: Sequence[int]) -> Band:
    """The band with NaN at these columns."""
    for values in (found.mean, found.low, found.high):
        values[..., list(columns)] = np.nan
    return found
