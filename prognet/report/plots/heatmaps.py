"""Heatmaps of columns: cells with numbers where they fit, a title, and a colour bar for one panel or for several."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any

import numpy as np

from prognet.report.plots.panels import plain, tasks_to_label
from prognet.results import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_COLOUR_MAP = "cividis"  # rises evenly in lightness, as in the accuracy matrices
_LIGHT_FROM = 0.55
_CELL, _NARROW, _WIDEST, _BAR = (0.38, 0.34), 0.3, 14.5, 3.5
"""Inches: a cell with a number, the width of one without, the greatest width of a figure, and of a colour bar."""
_AROUND = (0.9, 1.15)
"""Inches beside and above a panel, for labels, title and colour bar."""
_MOST_ROWS = 20


@dataclass(frozen=True, eq=False)
class Map:
    """One panel: a table of numbers with its labels."""

    title: str
    values: Floats
    """(rows, columns), as they are written; NaN for an empty cell."""
    rows: Sequence[str]
    down: str
    """What the rows are."""
    bar: str
    """What the colours say."""
    digits: int = 0
    limits: tuple[float, float] | None = None
    """Ends of the colours; by default zero, or the least value below it, and the largest value."""
    least: float = 0.0
    """What the upper end is at least, so that noise does not look like a finding."""

    along: str = "column"
    """What the columns are."""
    first: int = 1
    """The number of the first column."""

    @property
    def ends(self) -> tuple[float, float]:
        """Both ends of the colours, never equal."""
        if self.limits is not None:
            return self.limits
        known = self.values[~np.isnan(self.values)]
        low, high = min(0.0, float(known.min(initial=0.0))), float(known.max(initial=self.least))
        return low, high if high > low else low + 1.0


def draw_maps(maps: Sequence[Map], across: int, *, numbers: bool = True, one_bar: bool = False) -> "Figure":
    """A figure of panels, at least one, at most `across` in a row; each with its own colour bar, or one for all."""
    from matplotlib.figure import Figure

    n_rows, n_columns = (max(found.values.shape[axis] for found in maps) for axis in (0, 1))
    cell = _CELL[0] if numbers else _NARROW
    across = min(across, len(maps), max(1, int(_WIDEST / (n_columns * cell + _AROUND[0]))))
    down = ceil(len(maps) / across)
    width = min(_WIDEST, max(2.2, n_columns * cell) * across + _AROUND[0] * across)
    height = down * (min(n_rows, _MOST_ROWS) * _CELL[1] + _AROUND[1] - 0.35 * one_bar) + 0.5 * one_bar
    figure = Figure(figsize=(width, height), layout="constrained")
    every: list[Axes] = list(figure.subplots(down, across, squeeze=False).flat)
    for axes in every[len(maps) :]:
        axes.set_axis_off()
    meshes = [_draw(axes, found, numbers) for axes, found in zip(every, maps, strict=False)]
    for place, axes in enumerate(every[: len(maps)]):
        axes.set_ylabel(maps[place].down if place % across == 0 else "")
    if one_bar:
        figure.colorbar(meshes[0], ax=every, location="bottom", shrink=0.4, aspect=40, label=maps[0].bar)
        return figure
    shrink = min(1.0, _BAR / max(2.2, n_columns * cell))
    for axes, mesh, found in zip(every, meshes, maps, strict=False):
        figure.colorbar(mesh, ax=axes, location="bottom", shrink=shrink, aspect=24, label=found.bar)
    return figure


def _draw(axes: "Axes", found: Map, numbers: bool) -> Any:
    low, high = found.ends
    mesh = axes.pcolormesh(
        np.ma.masked_invalid(found.values), cmap=_COLOUR_MAP, vmin=low, vmax=high, edgecolors="white", linewidth=0.5
    )
    n_rows, n_columns = found.values.shape
    axes.set(title=found.title, xlabel=found.along)
    axes.invert_yaxis()
    axes.grid(visible=False)
    axes.tick_params(length=0)
    labelled, shown = tasks_to_label(n_columns, most=20), tasks_to_label(n_rows, most=_MOST_ROWS)
    axes.set_xticks([place - 0.5 for place in labelled], [str(place + found.first - 1) for place in labelled])
    axes.set_yticks([place - 0.5 for place in shown], [plain(found.rows[place - 1]) for place in shown])
    for spine in axes.spines.values():
        spine.set_visible(False)
    if numbers and n_columns <= _MOST_ROWS and n_rows <= _MOST_ROWS:
        _write(axes, found, low, high)
    return mesh


def _write(axes: "Axes", found: Map, low: float, high: float) -> None:
    for (row, column), value in np.ndenumerate(found.values):
        if not np.isnan(value):
            light = (value - low) / (high - low) > _LIGHT_FROM
            text = f"{value:.{found.digits}f}"
            axes.text(
                column + 0.5,
                row + 0.5,
                text.lstrip("-") if not text.strip("-0.") else text,  # no minus before a zero
                ha="center",
                va="center",
                fontsize=7,
                color="black" if light else "white",
            )
