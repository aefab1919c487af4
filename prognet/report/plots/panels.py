"""What several figures share: a grid of panels, a legend below, bands, and names that fit."""

from collections.abc import Iterable, Sequence
from math import ceil
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from prognet.report.estimates import Band
from prognet.report.grid import Grid
from prognet.report.plots.style import Style, styles

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NAME_LENGTH = 28
_PERCENT = 100.0
_MARKERS = 10
"""About the most markers on a line; more would hide its dashes."""


def panels(
    count: int, columns: int, size: tuple[float, float], share_y: bool = True, margin: float = 0.7
) -> "tuple[Figure, list[Axes]]":
    """A figure with `count` panels in at most `columns` columns; unused places stay empty.

    Args:
        count: number of panels, at least 1.
        columns: most panels in a row.
        size: width and height of one panel in inches.
        share_y: whether all panels have one y axis.
        margin: further height for the legend, in inches.
    """
    from matplotlib.figure import Figure

    across = min(columns, count)
    down = ceil(count / across)
    figure = Figure(figsize=(max(5.0, across * size[0]), down * size[1] + margin), layout="constrained")
    grid = figure.subplots(down, across, sharey=share_y, squeeze=False)
    every: list[Axes] = list(grid.flat)
    for axes in every[count:]:
        axes.set_axis_off()
    return figure, every[:count]


def message(reason: str) -> "Figure":
    """A figure that says why there is nothing to draw."""
    figure, (axes,) = panels(1, 1, (6.0, 1.2), margin=0.0)
    axes.set_axis_off()
    axes.text(0.5, 0.5, reason, ha="center", va="center")
    return figure


def label_edges(every: "Sequence[Axes]", x: str, y: str) -> None:
    """Names the y axis at the left of each row, and the x axis of the lowest panel of each column."""
    across = sum(axes.get_position().y0 == every[0].get_position().y0 for axes in every)
    for axes in every[::across]:
        axes.set_ylabel(y)
    for axes in every[-across:]:
        axes.set_xlabel(x)


def legend(figure: "Figure", names: Sequence[str]) -> None:
    """One legend for the whole figure, below it, with every strategy that is drawn."""
    from matplotlib.lines import Line2D

    found = styles(names)
    handles = [Line2D([], [], **found[name].line, markersize=5, label=plain(name)) for name in names]
    width = figure.get_size_inches()[0]
    longest = max((len(plain(name)) for name in names), default=1)
    columns = max(1, min(len(names), int(width / (0.75 + 0.07 * longest))))
    figure.legend(handles=handles, loc="outside lower center", ncols=columns, handlelength=3.4)


def draw_band(axes: "Axes", x: ArrayLike, band: Band, style: Style) -> None:
    """A line of means in percent with its interval as a band, left out where there is none.

    Args:
        axes: where.
        x: same length as the band.
        band: fractions in [0, 1].
        style: of the strategy.
    """
    places = np.asarray(x, dtype=np.float64)
    axes.plot(places, band.mean * _PERCENT, **style.line, markevery=ceil(len(places) / _MARKERS))
    if len(places) == 1:
        draw_bars(axes, places, band, style)
    elif not np.isnan(band.low).all():
        axes.fill_between(
            places, band.low * _PERCENT, band.high * _PERCENT, color=style.colour, alpha=0.15, linewidth=0
        )


def draw_bars(axes: "Axes", x: ArrayLike, band: Band, style: Style, filled: bool = True) -> None:
    """Points of means in percent with their intervals as error bars, left out where there are none."""
    half = np.nan_to_num(band.high - band.mean) * _PERCENT
    axes.errorbar(
        np.asarray(x, dtype=np.float64),
        band.mean * _PERCENT,
        yerr=half,
        color=style.colour,
        marker=style.marker,
        markerfacecolor=style.colour if filled else "white",
        linestyle="none",
        elinewidth=1.1,
    )


def whole_numbers(axes: "Axes", most: int) -> None:
    """Ticks on whole numbers from 1 to `most`: every one while they fit, then fewer."""
    axes.set_xlim(0.6, most + 0.4)
    axes.set_xticks(tasks_to_label(most))


def tasks_to_label(count: int, most: int = _MARKERS) -> list[int]:
    """Which of the positions 1 .. count get a label, the first one always: at most about `most` of them."""
    return list(range(1, count + 1, max(1, ceil(count / most))))


def plain(name: str) -> str:
    """A name as a figure may show it: short and on one line."""
    text = " ".join(str(name).split())
    short = text if len(text) <= _NAME_LENGTH else f"{text[: _NAME_LENGTH - 1]}…"
    return short.lstrip("_") or "?"  # matplotlib leaves a label that begins with _ out of a legend


def title_tasks(every: "Sequence[Axes]", grid: Grid) -> None:
    """Titles for panels of one task each: its position, counted from 1, and its name where all orders agree on it."""
    for position, (axes, name) in enumerate(zip(every, grid.task_names, strict=True), start=1):
        axes.set_title(f"task {position}" if name is None else f"task {position}: {plain(name)}")


def limits(values: Iterable[ArrayLike]) -> tuple[float, float]:
    """The y limits in percent that hold every value and a little more, never beyond [0, 100] by more than 2."""
    numbers = np.concatenate([np.asarray(value, dtype=np.float64).ravel() for value in values]) * _PERCENT
    known = numbers[~np.isnan(numbers)]
    if not known.size:
        return 0.0, 102.0
    low, high = float(np.clip(known.min(), 0, 100)), float(np.clip(known.max(), 0, 100))
    room = max(0.05 * (high - low), 0.5)
    return max(low - room, -2.0), min(high + room, 102.0)
