"""What each task gained or lost against learning it alone."""

from typing import TYPE_CHECKING

import numpy as np

from prognet.report.comparison import Comparison, Summary
from prognet.report.grid import INDEPENDENT, WIDE
from prognet.report.plots.panels import draw_bars, label_edges, message, panels, plain, tasks_to_label
from prognet.report.plots.style import Style, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_DODGE = 0.16


def transfer(comparison: Comparison) -> "Figure":
    """One panel a strategy: per task, learning accuracy minus that of independent and of independent-wide, in points.

    The axes of the panels differ, so that small differences stay visible beside large ones.
    """
    from matplotlib.lines import Line2D

    found = styles(comparison.names)
    shown = [summary for summary in comparison.summaries if summary.name != INDEPENDENT and _known(summary)]
    if not shown:
        return message("no run of independent or independent-wide to compare with")
    figure, every = panels(len(shown), 4, (3.0, 2.2), share_y=False)
    for axes, summary in zip(every, shown, strict=True):
        _panel(axes, summary, found[summary.name], comparison.grid.n_tasks)
    label_edges(every, "task", "difference (points)")
    faces = {INDEPENDENT: "#444444", WIDE: "white"}
    handles = [
        Line2D([], [], color="#444444", marker="o", linestyle="none", markerfacecolor=face, label=f"minus {reference}")
        for reference, face in faces.items()
        if reference in comparison.names
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles))
    return figure


def _panel(axes: "Axes", summary: Summary, style: Style, n_tasks: int) -> None:
    axes.axhline(0, color="#444444", linewidth=0.9)
    places = np.arange(1, n_tasks + 1)
    for reference, shift in ((INDEPENDENT, -_DODGE), (WIDE, _DODGE)):
        if reference in summary.transfer:
            draw_bars(axes, places + shift, summary.transfer[reference], style, filled=reference == INDEPENDENT)
    axes.set_title(plain(summary.name))
    axes.set_xlim(0.5, n_tasks + 0.5)
    axes.set_xticks(tasks_to_label(n_tasks))
    low, high = axes.get_ylim()
    axes.set_ylim(min(low, -1.0), max(high, 1.0))  # noise below one point is not blown up


def _known(summary: Summary) -> bool:
    return any(not np.isnan(band.mean).all() for band in summary.transfer.values())
