"""The heatmaps of sensitivity, ablation and similarity, as in the figures of Rusu et al. 2016."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from prognet.report.plots.heatmaps import Map, draw_maps
from prognet.report.plots.style import look
from prognet.report.reliance import Reliance, TaskReliance
from prognet.results import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PERCENT = 100.0
_LEAST_LOSS = 5.0
"""Points at which the colours of a loss end at least."""
_SHARE, _LOST, _LIKE = "share of the output (%)", "accuracy lost (points)", "CKA with the own column"
_ENTRIES = "Means over seeds; empty cells take no part, and there is no lateral from a column to itself."


@dataclass(frozen=True)
class ReliancePlot:
    """One figure of one strategy."""

    name: str
    """Also the name of its files."""
    title: str
    caption: str
    draw: "Callable[[], Figure]"


def reliance_plots(reliances: Sequence[Reliance]) -> tuple[ReliancePlot, ...]:
    """The figures of every strategy that was analysed."""
    return tuple(plot for reliance in reliances for plot in _plots(reliance))


def draw_reliances(plots: Sequence[ReliancePlot]) -> "dict[str, Figure]":
    """The figures, by name."""
    with look():
        return {plot.name: plot.draw() for plot in plots}


def last_column(reliance: Reliance) -> "Figure":
    """AFS, APS, loss without each lateral and CKA of the last task's column: rows are sites, columns are columns."""
    task = reliance.tasks[-1]
    own = task.own
    parts: list[tuple[str, Floats, str, int, tuple[float, float] | None]] = [
        ("AFS", task.fisher.mean * _PERCENT, _SHARE, 0, None),
        ("APS", task.perturbation.mean * _PERCENT, _SHARE, 0, None),
        (f"without one lateral{_instead(reliance)}", task.loss.mean * _PERCENT, _LOST, 1, None),
        ("similarity", task.similarity.mean, _LIKE, 2, (0.0, 1.0)),
    ]
    return draw_maps(
        [
            Map(title, values[:, :own], reliance.sites, "site", bar, digits, limits, _LEAST_LOSS if bar == _LOST else 0)
            for title, values, bar, digits, limits in parts
        ],
        across=2,
    )


def who_reads_whom(reliance: Reliance) -> "Figure":
    """AFS and APS averaged over sites, and the loss without a source: rows are tasks, columns are columns."""
    rows = [str(task.task) for task in reliance.tasks]

    def table(value: Callable[[TaskReliance], Floats]) -> Floats:
        return np.stack([value(task) for task in reliance.tasks]) * _PERCENT

    return draw_maps(
        [
            Map("AFS, mean over sites", table(lambda task: task.fisher_mean.mean), rows, "task", _SHARE),
            Map("APS, mean over sites", table(lambda task: task.perturbation_mean.mean), rows, "task", _SHARE),
            Map(
                f"without one column{_instead(reliance)}",
                table(lambda task: task.source_loss.mean),
                rows,
                "task",
                _LOST,
                digits=1,
                least=_LEAST_LOSS,
            ),
        ],
        across=3,
    )


def fisher_per_task(reliance: Reliance) -> "Figure":
    """AFS, one panel a task: rows are sites, columns are columns."""
    tables = [task.fisher.mean * _PERCENT for task in reliance.tasks]
    return draw_maps(
        [
            Map(f"task {task.task}", values, reliance.sites, "site", f"AFS: {_SHARE}", limits=(0.0, _PERCENT))
            for task, values in zip(reliance.tasks, tables, strict=True)
        ],
        across=4,
        numbers=reliance.columns <= 5,
        one_bar=True,
    )


def _instead(reliance: Reliance) -> str:
    return ": its mean instead" if reliance.replacement == "mean" else ": zero instead"


def _plots(reliance: Reliance) -> list[ReliancePlot]:
    name, last = reliance.strategy, reliance.tasks[-1].task
    found = [
        ReliancePlot(
            f"reliance-last-{name}",
            f"{name}: what the column of task {last} relies on, site by site",
            "AFS and APS are shares of each column in the output: first-order information, and the noise it takes to "
            "halve the performance. Below: accuracy lost without one lateral, nothing trained again, and debiased "
            f"linear CKA. {_ENTRIES}",
            partial(last_column, reliance),
        )
    ]
    if len(reliance.tasks) > 1:
        found += [
            ReliancePlot(
                f"reliance-{name}",
                f"{name}: which columns every task relies on",
                "Rows are tasks, columns are columns; the last entry of a row is the task's own column. A share says "
                f"on what the output depends, the loss what that is worth. {_ENTRIES}",
                partial(who_reads_whom, reliance),
            ),
            ReliancePlot(
                f"reliance-fisher-{name}",
                f"{name}: AFS of every task, site by site",
                f"One panel a task. {_ENTRIES}",
                partial(fisher_per_task, reliance),
            ),
        ]
    return found
