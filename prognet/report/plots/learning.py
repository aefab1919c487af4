"""How fast each task is learned."""

from typing import TYPE_CHECKING

from prognet.report.comparison import Comparison
from prognet.report.kinds import measured
from prognet.report.plots.panels import draw_band, label_edges, legend, limits, message, panels, title_tasks
from prognet.report.plots.style import styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_LINEAR_UP_TO = 10
"""Updates up to which the x axis is linear; the steps of LCA are drawn apart, the rest is logarithmic."""


def learning_curves(comparison: Comparison) -> "Figure":
    """One panel a task: test accuracy over the updates of learning it, without strategies that learn tasks jointly."""
    grid, found = comparison.grid, styles(comparison.names)
    shown = [summary for summary in comparison.summaries if summary.curves]
    if not shown:
        return message("no strategy learned a task in updates of its own")
    figure, every = panels(grid.n_tasks, 5, (2.6, 2.1))
    curves = [curve for summary in shown for curve in summary.curves.values()]
    low, high = limits(bound for curve in curves for bound in (curve.accuracy.mean, curve.accuracy.low))
    for task, axes in enumerate(every):
        for summary in shown:
            if task in summary.curves:
                curve = summary.curves[task]
                draw_band(axes, curve.updates, curve.accuracy, found[summary.name])
        axes.set_ylim(low, high)
        _updates(axes, max(curve.updates[-1] for curve in curves))
    title_tasks(every, grid)
    label_edges(every, "updates (mini-batches)", f"{measured(comparison)} (%)")
    legend(figure, [summary.name for summary in shown])
    return figure


def _updates(axes: "Axes", last: int) -> None:
    from matplotlib.ticker import FixedLocator, NullLocator, ScalarFormatter

    axes.set_xscale("symlog", linthresh=_LINEAR_UP_TO, linscale=0.8)
    axes.set_xlim(-0.4, max(last, 1) * 1.08)
    decades = [10**power for power in range(1, 12) if 10**power <= last]
    axes.xaxis.set_major_locator(FixedLocator([0, *(decades or [last])]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(ScalarFormatter())
