"""The accuracy matrices as heatmaps with numbers."""

from math import floor
from typing import TYPE_CHECKING

import numpy as np

from prognet.report.comparison import Comparison, Summary
from prognet.report.kinds import measured
from prognet.report.plots.panels import plain, tasks_to_label
from prognet.results import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOUR_MAP = "cividis"  # rises evenly in lightness: reads the same in grey and for every kind of colour vision
_LIGHT_FROM = 0.55
_CELL, _LEAST, _MOST, _WIDTH = 0.3, 2.0, 5.6, 13.0
_LEFT, _ABOVE, _BELOW, _BAR = 0.65, 0.35, 0.5, 0.9
"""Inches around each panel for its labels, and at the right of all for the colour bar."""


def accuracy_matrices(comparison: Comparison) -> "Figure":
    """One panel a strategy: mean R over seeds in percent, rows are steps, columns are tasks, empty where unseen."""
    from matplotlib.figure import Figure

    n_tasks, count = comparison.grid.n_tasks, len(comparison.summaries)
    side = min(max(_LEAST, n_tasks * _CELL), _MOST)
    across = max(1, min(count, int(_WIDTH / (side + _LEFT))))
    rows = [comparison.summaries[start : start + across] for start in range(0, count, across)]
    tall = [max(len(summary.schedule) for summary in row) * side / n_tasks + _ABOVE + _BELOW for row in rows]
    width, height = across * (side + _LEFT) + _BAR, sum(tall)
    # equal cells in every panel, also of a joint schedule with its one row, are beyond the layout engines
    figure = Figure(figsize=(width, height))
    low = _floor([summary.accuracy.mean for summary in comparison.summaries])
    for number, row in enumerate(rows):
        top = height - sum(tall[:number]) - _ABOVE
        for place, summary in enumerate(row):
            tallness = len(summary.schedule) * side / n_tasks
            left = place * (side + _LEFT) + _LEFT
            box = (left / width, (top - tallness) / height, side / width, tallness / height)
            _heatmap(figure.add_axes(box), summary, low, side)
    long = min(3.0, height - _ABOVE - _BELOW)
    bar = figure.add_axes((1 - 0.7 / width, 1 - (_ABOVE + long) / height, 0.12 / width, long / height))
    figure.colorbar(figure.axes[0].collections[0], cax=bar, label=f"{measured(comparison)} (%)")
    return figure


def _heatmap(axes: "Axes", summary: Summary, low: float, side: float) -> None:
    matrix = summary.accuracy.mean * 100
    steps, n_tasks = matrix.shape
    axes.pcolormesh(
        np.ma.masked_invalid(matrix), cmap=_COLOUR_MAP, vmin=low, vmax=100, edgecolors="white", linewidth=0.5
    )
    axes.set(title=plain(summary.name), xlabel="task", ylabel="tasks seen" if steps > 1 else "")
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    labelled = tasks_to_label(n_tasks, most=20)
    axes.set_xticks([task - 0.5 for task in labelled], [str(task) for task in labelled])
    shown = tasks_to_label(steps, most=20)
    axes.set_yticks([step - 0.5 for step in shown], [str(summary.seen[step - 1]) for step in shown])
    for spine in axes.spines.values():
        spine.set_visible(False)
    _numbers(axes, matrix, low, font=min(8.0, side / n_tasks * 20))


def _numbers(axes: "Axes", matrix: Floats, low: float, font: float) -> None:
    digits = 1 if matrix.shape[1] <= 6 else 0
    for (step, task), value in np.ndenumerate(matrix):
        if not np.isnan(value):
            light = (value - low) / (100 - low) > _LIGHT_FROM
            axes.text(
                task + 0.5,
                step + 0.5,
                f"{value:.{digits}f}",
                ha="center",
                va="center",
                fontsize=font,
                color="black" if light else "white",
            )


def _floor(matrices: list[Floats]) -> float:
    """The lower end of the colours in percent: the lowest accuracy, down to a multiple of ten, below 100."""
    known = np.concatenate([matrix[~np.isnan(matrix)] for matrix in matrices])
    lowest = float(known.min()) * 100 if known.size else 0.0
    return min(90.0, 10.0 * floor(lowest / 10))
