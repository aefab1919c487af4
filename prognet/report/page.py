"""The page: one HTML file with everything in it, from a comparison."""

from base64 import b64encode
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from math import isnan

from prognet.report.comparison import Comparison
from prognet.report.facts import Manifest, arguments, differing_settings, facts
from prognet.report.measures import FURTHER, MEASURES
from prognet.report.notes import alarms, findings, notes
from prognet.report.plots import plots_for
from prognet.report.plots.reliance import ReliancePlot
from prognet.report.reproduce import row_command, whole_command
from prognet.report.sections import Section
from prognet.report.table import Column, Table, Value, mean_of, parts

_PACKAGE = "prognet.report"
_TEMPLATE, _STYLE, _SCRIPT = "report.html.jinja", "report.css", "report.js"


@dataclass(frozen=True)
class Cell:
    """One cell of an HTML table."""

    text: str
    half: str
    """Half-width of the interval, with its sign, or nothing."""
    order: str
    """What the column is sorted by; empty for the undefined, which come last."""
    number: bool


@dataclass(frozen=True)
class Row:
    """How one row of the summary is made again."""

    strategy: str
    arguments: str
    command: str


def render_page(
    comparison: Comparison,
    tables: Mapping[str, Table],
    images: Mapping[str, bytes],
    manifest: Manifest,
    reliance: Sequence[ReliancePlot] = (),
    sections: Sequence[Section] = (),
    damaged: Mapping[str, str] | None = None,
) -> str:
    """The page as HTML; everything that comes from the runs is escaped.

    Args:
        comparison: the numbers.
        tables: by name.
        images: every figure as SVG, by name.
        manifest: of the folder, empty when the results were made by library use.
        reliance: the figures of `prognet analyse`, if it was run.
        sections: further ones, with their figures and the names of their tables.
        damaged: what was left out since it cannot be read, with the reason.
    """
    from jinja2 import Environment, StrictUndefined

    package = files(_PACKAGE)
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    grid = comparison.grid
    return environment.from_string(package.joinpath(_TEMPLATE).read_text(encoding="utf-8")).render(
        style=package.joinpath(_STYLE).read_text(encoding="utf-8"),
        script=package.joinpath(_SCRIPT).read_text(encoding="utf-8"),
        comparison=comparison,
        tables=tables,
        cells=cells,
        figures=[(plot, b64encode(images[plot.name]).decode()) for plot in plots_for(comparison)],
        reliance=[(plot, b64encode(images[plot.name]).decode()) for plot in reliance],
        sections=[(s, [(plot, b64encode(images[plot.name]).decode()) for plot in s.plots]) for s in sections],
        facts=facts(grid, manifest),
        differing=differing_settings(grid),
        tasks=grid.first(grid.strategies[0]).tasks,
        unavailable=manifest.get("unavailable") or {},
        failed=manifest.get("failed") or {},
        damaged=damaged or {},
        alarms=alarms(comparison),
        findings=findings(comparison),
        notes=notes(comparison),
        measures=(*MEASURES, *FURTHER),
        from_manifest=bool(manifest),
        command=whole_command(manifest),
        rows=[Row(name, arguments(grid.first(name)), row_command(manifest, name)) for name in grid.strategies],
    )


def cells(table: Table) -> list[list[Cell]]:
    """The rows of a table as HTML shows and sorts them."""
    return [[_cell(column, value) for column, value in zip(table.columns, row, strict=True)] for row in table.rows]


def _cell(column: Column, value: Value) -> Cell:
    text, half = parts(column, value)
    key = mean_of(value)
    order = key if isinstance(key, str) else "" if isnan(key) else repr(key)
    return Cell(text, half, order, column.unit is not None)
