"""Figures about tasks: how they are related, what they gain on learning alone, and how their classes lie."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

import numpy as np

from prognet.related import PAIR_MEASURES
from prognet.report.geometry import Shapes, TaskShape
from prognet.report.negative import AgainstAlone
from prognet.report.plots.heatmaps import Map, draw_maps
from prognet.report.plots.panels import label_edges, panels, plain
from prognet.report.plots.reliance import ReliancePlot
from prognet.report.plots.style import styles
from prognet.report.ranking import LATEST
from prognet.report.relatedness import Relatedness
from prognet.results import Floats
from prognet.statistics import Interval

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_PERCENT = 100.0
_GREY = "#444444"
_TASK_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#7F7F7F", "#332288")
_MARKERS = "os^Dv<>P"
_SHOWN = 8
"""Tasks in one panel of the geometry."""


def relatedness_plots(found: Sequence[Relatedness]) -> tuple[ReliancePlot, ...]:
    """The figures of every strategy whose tasks were related."""
    plots = []
    for one in found:
        measured = " The first panel is what was measured." if one.ranking else ""
        plots.append(
            ReliancePlot(
                f"relatedness-{one.strategy}",
                f"{one.strategy}: how tasks are related",
                "Rows are the earlier task, whose column is the source; columns are the later one. Distances and MMD² "
                f"are smaller for related tasks, all others larger. Means over seeds.{measured}",
                partial(related_pairs, one),
            )
        )
        if one.ranking:
            plots.append(
                ReliancePlot(
                    f"ranking-{one.strategy}",
                    f"{one.strategy}: how well cheap measures rank the measured gain",
                    f"Left: Spearman's correlation over {one.ranking[0].pairs} pairs. Right: gain with the source that "
                    f"the measure names, minus the mean over sources, over {one.ranking[0].targets} tasks. Filled: the "
                    "measure; hollow: its control, labels permuted or inputs mixed. Bars are Student t 95 % intervals "
                    f"over {one.seeds} seeds.",
                    partial(ranked, one),
                )
            )
    return tuple(plots)


def related_pairs(one: Relatedness) -> "Figure":
    """One panel a measure: rows are the earlier task, columns the later one; the measured gain first."""
    n = len(one.samples)
    rows = [str(place) for place in range(1, n)]

    def panel(title: str, values: Floats, digits: int) -> Map:
        return _ended(Map(title, values[:-1, 1:], rows, "earlier task", "", digits, along="later task", first=2))

    maps = [panel("measured gain (points)", one.gain.mean * _PERCENT, 1)] if one.ranking else []
    for measure in PAIR_MEASURES:
        scale, unit = (_PERCENT, " (%)") if measure.key == "lookahead" else (1.0, "")
        maps.append(panel(f"{measure.title}{unit}", one.values[measure.key].mean * scale, 2))
    return draw_maps(maps, across=4)


def ranked(one: Relatedness) -> "Figure":
    """Spearman's correlation and the gain of the choice, by measure, with the controls."""
    figure, every = panels(2, 2, (3.6, 0.2 * len(one.ranking) + 0.7), share_y=True, margin=0.3)
    shown = list(one.ranking)
    for place, rank in enumerate(shown):
        _bar(every[0], place, rank.spearman, rank.spearman_shuffled, 1.0)
        _bar(every[1], place, rank.picked, rank.picked_shuffled, _PERCENT)
    for axes, label in zip(every, ("Spearman's correlation with the gain", "gain of the choice (points)"), strict=True):
        axes.axvline(0, color=_GREY, linewidth=0.9)
        axes.set_xlabel(label)
        axes.set_yticks(range(len(shown)), [rank.title for rank in shown])
        names = [rank.title for rank in shown]
        axes.axhline(names.index(LATEST) - 0.5, color="#aaaaaa", linewidth=0.6, linestyle=":")
    every[0].set_xlim(-1.05, 1.05)
    every[0].invert_yaxis()
    return figure


def negative_plots(found: Sequence[AgainstAlone]) -> tuple[ReliancePlot, ...]:
    """Delta_m of every strategy."""
    return (
        ReliancePlot(
            "delta-m",
            "Δm: what a strategy gains on learning every task alone",
            "Mean over tasks of the relative difference to an independent network. Filled: each task when it was "
            "learned; hollow: after the last step, so that the distance between the two is forgetting. Beside the "
            "name: tasks whose own interval lies below zero. Bars are Student t 95 % intervals over seeds.",
            partial(deltas, found),
        ),
    )


def deltas(found: Sequence[AgainstAlone]) -> "Figure":
    """One row a strategy: Delta_m when tasks were learned, and at the end."""
    figure, (axes,) = panels(1, 1, (6.0, 0.34 * len(found) + 0.6), margin=0.2)
    looks = styles([one.strategy for one in found])
    for place, one in enumerate(found):
        _bar(axes, place, one.learned, one.final, _PERCENT, looks[one.strategy].colour)
    axes.axvline(0, color=_GREY, linewidth=0.9)
    axes.set_xlabel("Δm (%)")
    harmed = [sum(task.negative for task in one.tasks) for one in found]
    names = [
        f"{plain(one.strategy)} ({count} of {len(one.tasks)} negative)"
        for one, count in zip(found, harmed, strict=True)
    ]
    axes.set_yticks(range(len(found)), names)
    axes.set_ylim(len(found) - 0.5, -0.5)
    return figure


def geometry_plots(found: Sequence[Shapes]) -> tuple[ReliancePlot, ...]:
    """The figure of all strategies, one panel each."""
    more = any(len(shape.tasks) > _SHOWN for shape in found)
    some = f" The first {_SHOWN} tasks are drawn." if more else ""
    return (
        ReliancePlot(
            "geometry",
            "How classes lie in what the sites receive",
            "Variance within classes over variance between them, of test samples in the task's own column: lower is "
            "better separated. Sites from the input to the output layer, logarithmic scale. Grey: the same with "
            f"permuted labels, the range over tasks. Bars are Student t 95 % intervals over seeds.{some}",
            partial(shapes_of_classes, found),
        ),
    )


def shapes_of_classes(found: Sequence[Shapes]) -> "Figure":
    """One panel a strategy: within / between over the sites, a line a task."""
    figure, every = panels(len(found), 3, (3.4, 2.6), share_y=True)
    for axes, shape in zip(every, found, strict=True):
        for place, task in enumerate(shape.tasks[:_SHOWN]):
            _curve(axes, task, place, min(len(shape.tasks), _SHOWN))
        _control(axes, shape)
        longest = max(shape.tasks, key=lambda task: len(task.sites))
        axes.set_xticks(range(len(longest.sites)), [plain(site) for site in longest.sites])
        axes.set_yscale("log")
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_formatter("")
        axes.set_title(plain(shape.strategy))
    label_edges(every, "site", "within / between")
    handles, labels = every[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=min(len(labels), 5))
    return figure


def _curve(axes: "Axes", task: TaskShape, place: int, count: int) -> None:
    x = np.arange(len(task.sites)) + (place - (count - 1) / 2) * 0.04  # side by side, lest the bars hide each other
    half = np.nan_to_num(task.ratio.high - task.ratio.mean)
    low = np.minimum(half, 0.95 * task.ratio.mean)  # a logarithm has no place for zero
    axes.errorbar(
        x,
        task.ratio.mean,
        yerr=np.stack([low, half]),
        color=_TASK_COLOURS[place % len(_TASK_COLOURS)],
        marker=_MARKERS[place % len(_MARKERS)],
        linewidth=1.2,
        elinewidth=0.9,
        label=f"task {task.task}",
    )


def _control(axes: "Axes", shape: Shapes) -> None:
    longest = max(len(task.sites) for task in shape.tasks)
    whole = [task.shuffled.mean for task in shape.tasks if len(task.sites) == longest]
    low, high = np.nanmin(whole, axis=0), np.nanmax(whole, axis=0)
    axes.fill_between(
        np.arange(longest), low, high, color="#bbbbbb", alpha=0.6, linewidth=0.8, edgecolor="#888888", label="permuted"
    )


def _bar(axes: "Axes", place: int, own: Interval, other: Interval, scale: float, colour: str = "#0072B2") -> None:
    """Two points on one row, the second one hollow."""
    for found, shift, face in ((own, -0.14, colour), (other, 0.14, "white")):
        if not np.isnan(found.mean):
            half = 0.0 if np.isnan(found.half_width) else found.half_width * scale
            axes.errorbar(
                found.mean * scale,
                place + shift,
                xerr=half,
                color=colour,
                marker="o",
                markerfacecolor=face,
                linestyle="none",
                elinewidth=1.1,
            )


def _ended(found: Map) -> Map:
    """Colours from the least to the largest value of the panel, whatever its unit."""
    known = found.values[np.isfinite(found.values)]
    if not known.size:
        return found
    low, high = float(known.min()), float(known.max())
    ends = (low, high if high > low else low + 1.0)
    return replace(found, limits=ends)
