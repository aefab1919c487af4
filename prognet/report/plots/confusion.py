"""Which task a gate chose for the test samples of each task, as heatmaps with numbers."""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from prognet.report.comparison import Comparison
from prognet.report.gates import GateSummary, gate_summaries
from prognet.report.plots.panels import message, panels, plain, tasks_to_label

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOUR_MAP = "cividis"  # rises evenly in lightness: reads the same in grey and for every kind of colour vision
_LIGHT_FROM = 55.0
_WIDTH = 13.0
"""Inches that a row of panels has."""
_NUMBERED = 12
"""Up to so many tasks the cells hold numbers."""


def gates_measured(comparison: Comparison) -> tuple[str, ...]:
    """The gates of which there is a confusion matrix."""
    return tuple(dict.fromkeys(summary.gate for summary in gate_summaries(comparison.grid)))


def gate_confusion(comparison: Comparison, gate: str) -> "Figure":
    """One panel a strategy: in percent of each task's test samples (row) for which a task (column) was chosen.

    A gate that does not look at the networks chooses alike for all of them: then there is one panel.
    """
    shown = [summary for summary in gate_summaries(comparison.grid) if summary.gate == gate]
    if not shown:
        return message(f"no run measured the gate {plain(gate)}")
    if len(shown) > 1 and all(np.array_equal(shown[0].shares, other.shares) for other in shown):
        shown = [replace(shown[0], strategy="every strategy")]
    n_tasks = comparison.grid.n_tasks
    side = min(max(2.1, 0.34 * n_tasks), 5.5)
    across = min(len(shown), 4, int(_WIDTH / (side + 0.25)))
    figure, every = panels(len(shown), across, (side + 0.25, side + 0.25), margin=0.2)
    for place, (axes, summary) in enumerate(zip(every, shown, strict=True)):
        _panel(axes, summary, n_tasks, font=min(8.0, 18 * side / n_tasks))
        axes.set_ylabel("" if place % across else "true task")
        axes.set_xlabel("chosen task" if place + across >= len(shown) else "")
    figure.colorbar(every[0].collections[0], ax=every, label="samples of the true task (%)", fraction=0.05, aspect=30)
    return figure


def _panel(axes: "Axes", summary: GateSummary, n_tasks: int, font: float) -> None:
    percent = summary.shares * 100
    axes.pcolormesh(
        np.ma.masked_invalid(percent), cmap=_COLOUR_MAP, vmin=0, vmax=100, edgecolors="white", linewidth=0.5
    )
    axes.set(title=plain(summary.strategy), aspect="equal", ylim=(n_tasks, 0))
    axes.grid(visible=False)
    axes.tick_params(length=0)
    labelled = tasks_to_label(n_tasks, most=20)
    axes.set_xticks([task - 0.5 for task in labelled], [str(task) for task in labelled])
    axes.set_yticks([task - 0.5 for task in labelled], [str(task) for task in labelled])
    for spine in axes.spines.values():
        spine.set_visible(False)
    for (row, column), value in np.ndenumerate(percent) if n_tasks <= _NUMBERED else ():
        if not np.isnan(value):
            colour = "black" if value > _LIGHT_FROM else "white"
            axes.text(column + 0.5, row + 0.5, f"{value:.0f}", ha="center", va="center", fontsize=font, color=colour)
