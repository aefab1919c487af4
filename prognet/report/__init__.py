"""From results to figures, tables and one page; no torch, no training.

`write_report` is what `prognet report` does; `figures` and `tables` give the same content to a notebook or a paper.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from prognet.report.comparison import Comparison, compare
from prognet.report.damage import damaged_files
from prognet.report.plots import draw
from prognet.report.rows import make_tables
from prognet.report.table import Column, Table, to_csv, to_latex, to_markdown
from prognet.report.write import write_report
from prognet.results import RunResult

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "Column",
    "Comparison",
    "Table",
    "compare",
    "damaged_files",
    "figures",
    "tables",
    "to_csv",
    "to_latex",
    "to_markdown",
    "write_report",
]


def figures(results: Sequence[RunResult]) -> "dict[str, Figure]":
    """Every figure of the report as a matplotlib `Figure`, by name; nothing is shown or saved.

    Raises:
        RunFolderError: when the runs cannot be compared.
    """
    return draw(compare(results))


def tables(results: Sequence[RunResult]) -> dict[str, Table]:
    """Every table of the report, by name; `to_csv`, `to_markdown` and `to_latex` make text of one.

    Raises:
        RunFolderError: when the runs cannot be compared.
    """
    return make_tables(compare(results))
