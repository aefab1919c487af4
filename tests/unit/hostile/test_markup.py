"""Names that mean something to HTML, SVG, LaTeX, Markdown, a template or a file system: shown, and nothing else."""

import csv
import re
import xml.etree.ElementTree as ElementTree
from collections import defaultdict
from dataclasses import replace
from html.parser import HTMLParser
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prognet.config import Training
from prognet.errors import ConfigError
from prognet.manifest import write_manifest
from prognet.report import compare, tables, to_csv, to_latex, to_markdown, write_report
from prognet.report.page import render_page
from prognet.report.rows import make_tables
from prognet.results import RunResult
from prognet.strategies import FineTune
from tests.helpers.data import blobs
from tests.helpers.hostile import MARKUP, hostile
from tests.helpers.results import make_run
from tests.helpers.runs import PLAIN, quick_run
from tests.unit.test_manifest import MANIFEST

IMAGES: Any = defaultdict(lambda: b"<svg/>")
TAGS = {
    *("html", "head", "meta", "title", "style", "body", "h1", "h2", "h3", "p", "nav", "a", "ul", "li", "strong", "div"),
    *(
        "table",
        "thead",
        "tbody",
        "tr",
        "th",
        "td",
        "button",
        "span",
        "details",
        "summary",
        "figure",
        "figcaption",
        "img",
    ),
    *("code", "pre", "dl", "dt", "dd", "script"),
}


class Page(HTMLParser):
    """The elements of a page, its text, and every attribute that could do something."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.active: list[tuple[str, str | None]] = []
        self.texts: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.active += [
            (k, v) for k, v in attrs if k.startswith("on") or (v or "").strip().lower().startswith("javascript")
        ]

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def named(name: str) -> list[RunResult]:
    """Two runs whose strategy, stream, tasks, settings and parts have this name."""
    found = []
    for seed in range(2):
        run = make_run(name, seed=seed, n_tasks=2)
        config = {**run.config, "training": {name: name}, "strategy": {"name": name, "arguments": {name: [name]}}}
        found.append(
            replace(
                run,
                stream=name,
                tasks=tuple(replace(task, name=f"{name}{task.label}") for task in run.tasks),
                config=config,
                environment={**run.environment, "platform": name},
                digests=tuple({name: "ab" * 32} for _ in run.schedule),
            )
        )
    return found


def checked(page: str, name: str) -> Page:
    """The page, of which no part was made by a name."""
    parsed = Page()
    parsed.feed(page)
    assert set(parsed.tags) <= TAGS
    assert parsed.tags.count("script") == 1
    assert not parsed.active
    shown = " ".join("".join(parsed.texts).split())
    assert " ".join(name.split()) in shown
    return parsed


@pytest.mark.parametrize("name", MARKUP)
def test_a_page_shows_names_and_runs_none(name: str) -> None:
    comparison = compare(named(name))
    manifest = {
        "command": ["prognet", "run", name],
        "failed": {name: name},
        "unavailable": {name: name},
        "created": name,
    }
    page = render_page(comparison, make_tables(comparison), IMAGES, manifest, damaged={name: name})
    checked(page, name)
    assert "49" not in page or "{{ 7*7 }}" not in name or "{{ 7*7 }}" in page.replace("&#39;", "'")


@hostile(40)
@given(name=st.text(st.characters(codec="utf-8"), min_size=1, max_size=30))
def test_any_name_is_shown(name: str) -> None:
    comparison = compare(named(name))
    page = render_page(comparison, make_tables(comparison), IMAGES, {})
    assert checked(page.replace("\0", "\ufffd"), "").tags.count("script") == 1


@pytest.mark.parametrize("name", MARKUP)
def test_a_table_keeps_its_shape_under_any_name(name: str) -> None:
    for table in tables(named(name)).values():
        rows = list(csv.reader(StringIO(to_csv(table))))
        assert {len(row) for row in rows} == {len(rows[0])}
        assert len(rows) == 1 + len(table)
        lines = [line for line in to_markdown(table).split("\n") if line.startswith("| ")]
        assert len(lines) == 1 + len(table)
        assert len({len(re.findall(r"(?<!\\)\|", line)) for line in lines}) <= 1
        latex = [line for line in to_latex(table).split("\n") if line.endswith(r"\\")]
        assert len(latex) == 1 + len(table)
        assert len({len(re.findall(r"(?<!\\)&", line)) for line in latex}) <= 1
        assert r"\input" not in to_latex(table)


def test_no_cell_of_a_spreadsheet_is_a_formula() -> None:
    for mark in "=+-@\t":
        rows = list(csv.reader(StringIO(to_csv(tables(named(f"{mark}1+1"))["summary"]))))
        assert rows[1][0] == f"'{mark}1+1"


@pytest.mark.filterwarnings("ignore:Glyph .* missing from font")
def test_a_whole_report_of_odd_names(tmp_path: Path) -> None:
    """Its figures are whole XML without a script, whatever stands in their labels."""
    name = "".join(MARKUP[place] for place in (0, 2, 3, 4, 6))
    for run in named(name):
        run.save(tmp_path / "runs" / "x" / f"order-0-seed-{run.seed}")
    write_manifest(tmp_path, replace(MANIFEST, command=["prognet", "run", name]))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    checked(page, name)
    figures = list((tmp_path / "figures").glob("*.svg"))
    assert figures
    for figure in figures:
        for element in ElementTree.parse(figure).iter():
            assert not str(element.tag).lower().endswith(("script", "foreignobject"))
            assert not [key for key in element.attrib if key.lower().startswith("on")]
    inside = {str(path.relative_to(tmp_path)).split("/")[0] for path in tmp_path.rglob("*")}
    assert inside == {"runs", "figures", "tables", "report.html", "manifest.json"}


@pytest.mark.parametrize(
    "name",
    ["../out", "/tmp/x", "a/b", "a\\b", "..", ".", ".hidden", "", " ", "a\0b", "a\nb", "x" * 300, "\ud800", 3, None],
)
def test_a_strategy_whose_name_is_no_name_of_a_folder_is_refused(tmp_path: Path, name: Any) -> None:
    with pytest.raises(ConfigError, match="name: required "):
        quick_run(FineTune(PLAIN, name=name), blobs((2, 2)), out=tmp_path, training=Training(epochs=0))
    assert not list(tmp_path.iterdir())
