"""What a strategy costs: as tasks arrive, and against the accuracy that it buys."""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from prognet.report.comparison import FORWARD, Comparison, Summary
from prognet.report.kinds import measured
from prognet.report.plots.panels import legend, panels, whole_numbers
from prognet.report.plots.style import styles
from prognet.results import Floats
from prognet.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_GROWTH: tuple[tuple[str, Callable[[Summary], Floats]], ...] = (
    ("parameters held", lambda summary: summary.costs["parameters"].mean),
    ("training FLOPs so far", lambda summary: np.cumsum(summary.costs["training_flops"].mean)),
    ("FLOPs to predict one sample", lambda summary: summary.costs[FORWARD].mean),
)
_AGAINST = (
    ("parameters", "parameters held at the end"),
    ("training_flops", "training FLOPs"),
    ("seconds", "seconds of training"),
)


def growth(comparison: Comparison) -> "Figure":
    """Parameters, training FLOPs so far and FLOPs of a prediction as tasks arrive, means over seeds."""
    found = styles(comparison.names)
    figure, every = panels(len(_GROWTH), 3, (3.6, 3.0), share_y=False)
    for axes, (title, values) in zip(every, _GROWTH, strict=True):
        for summary in comparison.summaries:
            axes.plot(summary.seen, values(summary), **found[summary.name].line)
        axes.set(title=title, xlabel="tasks seen")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_formatter(_prefixes())
        whole_numbers(axes, comparison.grid.n_tasks)
    legend(figure, comparison.names)
    return figure


def cost_against_accuracy(comparison: Comparison) -> "Figure":
    """Average accuracy after the last step against three costs, with 95 % intervals in both directions."""
    found = styles(comparison.names)
    figure, every = panels(len(_AGAINST), 3, (3.6, 3.2))
    for axes, (key, title) in zip(every, _AGAINST, strict=True):
        for summary in comparison.summaries:
            cost, accuracy = summary.measures[key], summary.measures["average_accuracy"]
            style = found[summary.name]
            axes.errorbar(
                [cost.mean],
                [accuracy.mean * 100],
                xerr=[_half(cost)],
                yerr=[_half(accuracy) * 100],
                color=style.colour,
                marker=style.marker,
                markersize=6,
                linestyle="none",
            )
        axes.set_xlabel(title)
        axes.margins(x=0.12)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(_prefixes())
    every[0].set_ylabel(f"average {measured(comparison)} (%)")
    legend(figure, comparison.names)
    return figure


def _half(interval: Interval) -> float:
    return 0.0 if np.isnan(interval.half_width) else interval.half_width


def _prefixes() -> "EngFormatter":
    from matplotlib.ticker import EngFormatter

    return EngFormatter(sep=" ")


if TYPE_CHECKING:
    from matplotlib.ticker import EngFormatter
