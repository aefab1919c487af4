"""The report of a run folder, written beside its runs."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from prognet.files import write_atomically
from prognet.report.comparison import compare
from prognet.report.damage import read_contents
from prognet.report.page import render_page
from prognet.report.plots import draw, look
from prognet.report.plots.reliance import draw_reliances, reliance_plots
from prognet.report.reliance import read_reliances, reliance_table
from prognet.report.rows import make_tables
from prognet.report.sections import make_sections
from prognet.report.table import Table, to_csv, to_latex, to_markdown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PAGE_FILE = "report.html"
_RESOLUTION = 150
_FORMS: tuple[tuple[str, Callable[[Table], str]], ...] = (("csv", to_csv), ("md", to_markdown), ("tex", to_latex))


def write_report(folder: str | Path) -> Path:
    """Writes `report.html`, `figures/*.png` and `*.svg`, and `tables/*.csv`, `*.md` and `*.tex` into a run folder.

    Every file is written atomically, the page last; the same runs give the same files. Without a `manifest.json`, as
    after library use, the page says that no command was recorded. A run or a record that is damaged, or of another
    schema version, is left out, and the page begins with its name and what to do.

    Returns:
        The path of the page.

    Raises:
        RunFolderError: when there is no finished run that can be read, the runs cannot be compared, or the folder
            cannot be written.
    """
    folder = Path(folder)
    contents = read_contents(folder)
    comparison, manifest = compare(contents.results), contents.manifest
    tables = make_tables(comparison)
    reliances = read_reliances(folder, comparison, contents.unread)
    if reliances:
        tables["reliance"] = reliance_table(reliances)
    plots, sections = reliance_plots(reliances), make_sections(folder, comparison, contents.unread)
    tables |= {name: table for section in sections for name, table in section.tables.items()}
    drawn = draw(comparison) | draw_reliances([*plots, *(plot for section in sections for plot in section.plots)])
    images = {name: _image(figure, "svg") for name, figure in drawn.items()}
    for name, figure in drawn.items():
        write_atomically(folder / "figures" / f"{name}.svg", images[name])
        write_atomically(folder / "figures" / f"{name}.png", _image(figure, "png"))
    for name, table in tables.items():
        for ending, form in _FORMS:
            write_atomically(folder / "tables" / f"{name}.{ending}", form(table).encode())
    page = folder / PAGE_FILE
    text = render_page(comparison, tables, images, manifest, plots, sections, contents.damaged)
    write_atomically(page, text.encode())
    return page


def _image(figure: "Figure", kind: str) -> bytes:
    content = BytesIO()
    # neither the date nor the version of matplotlib: the same figure is the same file
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    with look():
        figure.savefig(content, format=kind, dpi=_RESOLUTION, metadata=metadata)
    return content.getvalue()
