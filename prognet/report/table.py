"""A table as a value, and its three forms as text: CSV for machines, Markdown and LaTeX for papers and notes."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from io import StringIO
from math import isnan

from prognet.report.units import MINUS, THIN, UNDEFINED, Unit
from prognet.statistics import Interval

Value = str | float | Interval
"""A cell: text, a number, or a mean with its interval, in fractions and other plain units; NaN where undefined."""

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""With these a spreadsheet begins a formula; a name that begins so is written behind an apostrophe."""
_LATEX = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "&": r"\&",
        "%": r"\%",
        "$": r"\$",
        "#": r"\#",
        "_": r"\_",
        "~": r"\textasciitilde{}",
        "^": r"\textasciicircum{}",
        "<": r"\textless{}",
        ">": r"\textgreater{}",
        "|": r"\textbar{}",
        "±": r"$\pm$",
        MINUS: "$-$",
        "–": "--",
        "↑": r"$\uparrow$",
        "↓": r"$\downarrow$",
        "ρ": r"$\rho$",
        "…": r"\ldots{}",
        THIN: r"\,",
        "\n": " ",
    }
)


@dataclass(frozen=True)
class Column:
    """One column: its key in CSV, its title for people, and how its numbers are written."""

    key: str
    title: str
    unit: Unit | None = None
    """None for a column of text."""

    @property
    def heading(self) -> str:
        """Title with unit."""
        return f"{self.title} ({self.unit.label})" if self.unit and self.unit.label else self.title


@dataclass(frozen=True)
class Table:
    """Rows of values under columns, with a title and a note that says how to read them."""

    title: str
    note: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[Value, ...], ...]

    def __len__(self) -> int:
        return len(self.rows)


def mean_of(value: Value) -> str | float:
    """The text, the number, or the mean of an interval."""
    return value.mean if isinstance(value, Interval) else value


def parts(column: Column, value: Value) -> tuple[str, str]:
    """How a cell is written: its text or mean, and the half-width of its interval or nothing."""
    if isinstance(value, str) or column.unit is None:
        return str(value), ""
    if isinstance(value, Interval):
        exactly_zero = value.mean == value.half_width == 0
        return column.unit.text(value.mean), "" if exactly_zero else column.unit.half(value.half_width)
    return column.unit.text(value), ""


def to_csv(table: Table) -> str:
    """Comma-separated values in plain units and full precision: three columns for an interval, empty if undefined."""
    spread = [any(isinstance(row[i], Interval) for row in table.rows) for i in range(len(table.columns))]
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        key
        for column, wide in zip(table.columns, spread, strict=True)
        for key in ((column.key, f"{column.key}_low", f"{column.key}_high") if wide else (column.key,))
    )
    for row in table.rows:
        writer.writerow(
            cell for value, wide in zip(row, spread, strict=True) for cell in _csv_cells(value, 3 if wide else 1)
        )
    return text.getvalue()


def to_markdown(table: Table) -> str:
    """A Markdown table under its title, with its note below."""
    lines = [_markdown_row([column.heading for column in table.columns])]
    lines.append("|" + "|".join("---" if column.unit is None else "--:" for column in table.columns) + "|")
    lines += [_markdown_row(row) for row in _texts(table)]
    return "\n".join([f"### {_markdown(table.title)}", "", *lines, "", _markdown(table.note), ""])


def to_latex(table: Table) -> str:
    """A `tabular` with the rules of the booktabs package; title and note are comments."""
    lines = [f"% {' '.join(text.split())}" for text in (table.title, table.note, r"requires \usepackage{booktabs}")]
    lines.append(rf"\begin{{tabular}}{{{''.join('l' if column.unit is None else 'r' for column in table.columns)}}}")
    lines += [r"\toprule", _latex_row([column.heading for column in table.columns]), r"\midrule"]
    lines += [_latex_row(row) for row in _texts(table)]
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def _texts(table: Table) -> list[list[str]]:
    pairs = [[parts(column, value) for column, value in zip(table.columns, row, strict=True)] for row in table.rows]
    return [[f"{mean} {half}".rstrip() for mean, half in row] for row in pairs]


def _csv_cells(value: Value, width: int) -> list[str | float]:
    numbers = (value.mean, value.low, value.high) if isinstance(value, Interval) else (value,)
    return [*(_csv_cell(number) for number in numbers), *[""] * (width - len(numbers))]


def _csv_cell(value: str | float) -> str | float:
    if isinstance(value, str):
        return f"'{value}" if value.startswith(_FORMULA) else value
    return "" if isnan(value) else int(value) if value.is_integer() else value


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_markdown(cell) or UNDEFINED for cell in cells) + " |"


def _markdown(text: str) -> str:
    plain = " ".join(text.splitlines())
    for mark in "\\`*_[]<>|":
        plain = plain.replace(mark, f"\\{mark}")
    return plain


def _latex_row(cells: Sequence[str]) -> str:
    return " & ".join(" ".join(cell.splitlines()).translate(_LATEX) for cell in cells) + r" \\"
