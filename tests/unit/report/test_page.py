import re
from base64 import b64decode
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser
from typing import Any

import pytest

from prognet.report.comparison import compare
from prognet.report.page import render_page
from prognet.report.plots import PLOTS
from prognet.report.rows import make_tables
from prognet.results import Results
from tests.helpers.results import EVERYONE, make_results, make_run

IMAGES = {plot.name: b"<svg>" + plot.name.encode() + b"</svg>" for plot in PLOTS}
MANIFEST = {
    "command": ["/somewhere/bin/prognet", "run", "split-digits", "--strategies", "progressive", "--out", "runs/demo"],
    "unavailable": {"independent-wide": "the backbone has no width"},
    "created": "2026-08-01T12:00:00Z",
}
EVIL = '<img src=x onerror="alert(1)">'
VOID = {"meta", "img", "br", "link"}


def page(results: Results, manifest: dict[str, Any] | None = None) -> str:
    comparison = compare(results)
    return render_page(comparison, make_tables(comparison), IMAGES, manifest or {})


class Reader(HTMLParser):
    """Collects text and addresses, and requires that every element is closed where it should be."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def read(html: str) -> Reader:
    reader = Reader()
    reader.feed(html)
    reader.close()
    assert reader.open == []
    return reader


def test_every_section_is_there_and_every_link_of_the_page_leads_somewhere() -> None:
    tags = read(page(make_results(EVERYONE, seeds=2, orders=2), MANIFEST)).tags
    ids = {attributes["id"] for _, attributes in tags if "id" in attributes}
    targets = {
        str(attributes["href"])[1:] for tag, attributes in tags if tag == "a" and str(attributes["href"])[0] == "#"
    }
    assert targets <= ids
    sections = (
        "summary",
        "differences",
        "figures",
        "tasks",
        "orders",
        "costs",
        "frozen",
        "run",
        "reproduce",
        "definitions",
    )
    assert ids >= {*sections, "short", "notes"}


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = page(make_results(seeds=2), MANIFEST)
    for tag, attributes in read(html).tags:
        assert tag not in ("link", "iframe", "object", "embed")
        assert "src" not in attributes or str(attributes["src"]).startswith("data:image/svg+xml;base64,")
        assert "href" not in attributes or re.match(r"#|figures/|tables/", str(attributes["href"]))
    assert "default-src 'none'" in html
    assert "http" not in html.replace("http-equiv", "")


def test_figures_are_inside() -> None:
    tags = read(page(make_results(seeds=2))).tags
    found = [b64decode(str(attributes["src"]).partition(",")[2]) for tag, attributes in tags if tag == "img"]
    assert found == list(IMAGES.values())


@pytest.mark.parametrize("where", ["strategy", "stream", "task", "part", "manifest", "environment"])
def test_names_are_escaped(where: str) -> None:
    run = make_run(EVIL if where == "strategy" else "progressive", n_tasks=2)
    every: dict[str, dict[str, Any]] = {
        "stream": {"stream": EVIL},
        "task": {"tasks": tuple(replace(task, name=EVIL) for task in run.tasks)},
        "part": {"digests": ({EVIL: EVIL}, {EVIL: EVIL})},
        "environment": {"environment": {EVIL: EVIL}},
    }
    changes = every.get(where, {})
    made = {"command": ["run", EVIL], "unavailable": {EVIL: EVIL}, "failed": {EVIL: EVIL}, "created": EVIL}
    manifest = made if where == "manifest" else {}
    html = page(Results([make_run(run.strategy, n_tasks=2, **changes)]), manifest)
    assert EVIL not in html
    assert EVIL in unescape(html)
    assert not any(attributes.get("src") == "x" for _, attributes in read(html).tags)


def test_undefined_values_are_dashes_and_come_last_when_sorted() -> None:
    html = page(make_results(["multitask"], seeds=2))
    assert '<td class="number" data-order="">–</td>' in html
    assert not re.search(r">\W*nan\b", html)


def test_one_seed_is_said_and_nothing_has_an_interval() -> None:
    html = page(make_results(["progressive", "independent"], seeds=1))
    assert "One seed only: no number on this page has an interval." in html
    assert 'class="half"' not in html


def test_several_seeds_have_intervals() -> None:
    html = page(make_results(["progressive", "independent"], seeds=3))
    assert "One seed only" not in html
    assert 'class="half">± ' in html


def test_rows_say_how_they_are_made_again() -> None:
    html = unescape(page(make_results(["progressive", "independent"], seeds=2), MANIFEST))
    assert "<pre>prognet run split-digits --strategies progressive --out runs/demo</pre>" in html
    assert "<code>prognet run split-digits --strategies independent --out runs/demo-independent</code>" in html
    assert "/somewhere" not in html


def test_results_of_library_use_are_named_as_such() -> None:
    html = page(make_results(["progressive"], seeds=2))
    assert "these results were made by library use" in html
    assert "No command was recorded." in html
    assert "made by library use" not in page(make_results(["progressive"], seeds=2), MANIFEST)


def test_unavailable_controls_come_with_their_reason() -> None:
    html = page(make_results(["progressive"], seeds=2), MANIFEST)
    assert "<strong>independent-wide</strong>: the backbone has no width" in html
    assert "Controls that are not available" not in page(make_results(["progressive"], seeds=2))


def test_runs_that_failed_are_said_with_their_reason() -> None:
    manifest = {"failed": {"finetune, order 0, seed 3": "DivergedError: loss <nan>"}}
    html = page(make_results(["progressive"], seeds=2), manifest)
    assert '<p class="alarm">Failed: finetune, order 0, seed 3: DivergedError: loss &lt;nan&gt;</p>' in html


def test_a_comparison_that_freezes_nothing_says_so() -> None:
    assert "No strategy of this comparison froze anything." in page(make_results(["finetune"], seeds=2))
