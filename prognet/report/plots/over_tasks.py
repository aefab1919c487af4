"""What becomes of accuracy as tasks arrive: each task by itself, and on average."""

from typing import TYPE_CHECKING

from prognet.report.comparison import Comparison
from prognet.report.estimates import Band
from prognet.report.kinds import measured
from prognet.report.plots.panels import draw_band, label_edges, legend, limits, panels, title_tasks, whole_numbers
from prognet.report.plots.style import styles
from prognet.results import Floats

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def forgetting_curves(comparison: Comparison) -> "Figure":
    """One panel a task: its accuracy as tasks arrive, a line per strategy from the step in which it was learned."""
    grid, found = comparison.grid, styles(comparison.names)
    figure, every = panels(grid.n_tasks, 5, (2.6, 2.1))
    low, high = limits(bound for summary in comparison.summaries for bound in _bounds(summary.accuracy))
    for task, axes in enumerate(every):
        for summary in comparison.summaries:
            band = summary.accuracy
            column = Band(band.mean[:, task], band.low[:, task], band.high[:, task], band.n)
            draw_band(axes, summary.seen, column, found[summary.name])
        whole_numbers(axes, grid.n_tasks)
        axes.set_ylim(low, high)
    title_tasks(every, grid)
    label_edges(every, "tasks seen", f"{measured(comparison)} (%)")
    legend(figure, comparison.names)
    return figure


def average_accuracy(comparison: Comparison) -> "Figure":
    """The mean accuracy over the tasks seen so far, as tasks arrive, a line per strategy."""
    found = styles(comparison.names)
    figure, (axes,) = panels(1, 1, (7.0, 3.6))
    for summary in comparison.summaries:
        draw_band(axes, summary.seen, summary.average, found[summary.name])
    axes.set(xlabel="tasks seen", ylabel=f"average {measured(comparison)} (%)")
    whole_numbers(axes, comparison.grid.n_tasks)
    axes.set_ylim(*limits(bound for summary in comparison.summaries for bound in _bounds(summary.average)))
    legend(figure, comparison.names)
    return figure


def _bounds(band: Band) -> tuple[Floats, Floats, Floats]:
    return band.mean, band.low, band.high
