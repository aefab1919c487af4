"""The heatmaps: every number is in its cell, in the figures and on the page."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prognet.analysed import write_analysis
from prognet.report import write_report
from prognet.report.plots import look
from prognet.report.plots.heatmaps import Map, draw_maps
from prognet.report.plots.reliance import draw_reliances, reliance_plots
from prognet.report.reliance import Reliance, make_reliance
from tests.helpers.analyses import make_analysis
from tests.helpers.results import make_results


def reliance(n_tasks: int = 3, seeds: int = 2, **settings: object) -> Reliance:
    runs = make_results(["progressive"], seeds=seeds, n_tasks=n_tasks)
    return make_reliance("progressive", {(run.order, run.seed): make_analysis(run, **settings) for run in runs})


@pytest.fixture(scope="module")
def found() -> dict[str, Figure]:
    return draw_reliances(reliance_plots([reliance()]))


def panels(figure: Figure) -> dict[str, Axes]:
    return {axes.get_title(): axes for axes in figure.axes if axes.get_title()}


def cells(axes: Axes) -> dict[tuple[int, int], str]:
    """(row, column) -> the number that is written there."""
    places = {text: text.get_position() for text in axes.texts}
    return {(int(y), int(x)): text.get_text() for text, (x, y) in places.items()}


def test_the_last_column_has_four_panels_of_sites_and_columns(found: dict[str, Figure]) -> None:
    every = panels(found["reliance-last-progressive"])
    assert list(every) == ["AFS", "APS", "without one lateral: its mean instead", "similarity"]
    for axes in every.values():
        assert [label.get_text() for label in axes.get_yticklabels()] == ["2", "4"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["1", "2", "3"]
        assert axes.yaxis_inverted()
    afs, aps, loss, likeness = (cells(axes) for axes in every.values())
    assert afs == {(r, c): text for r in (0, 1) for c, text in enumerate(("25", "25", "50"))}
    assert aps[0, 0] == "50"
    assert loss == {(0, 0): "4.2", (0, 1): "8.2", (1, 0): "10.5", (1, 1): "20.5"}
    assert likeness[1, 2] == "0.75"


def test_who_reads_whom_is_a_triangle(found: dict[str, Figure]) -> None:
    afs, aps, loss = (cells(axes) for axes in panels(found["reliance-progressive"]).values())
    assert afs.keys() == aps.keys() == {(r, c) for r in range(3) for c in range(r + 1)}
    assert loss == {(1, 0): "10.5", (2, 0): "10.5", (2, 1): "20.5"}
    assert afs[2, 2] == "50"


def test_every_task_has_a_panel_with_one_scale(found: dict[str, Figure]) -> None:
    figure = found["reliance-fisher-progressive"]
    every = panels(figure)
    assert list(every) == ["task 1", "task 2", "task 3"]
    meshes = [axes.collections[0] for axes in every.values()]
    assert {mesh.get_clim() for mesh in meshes} == {(0.0, 100.0)}
    assert np.ma.count(np.ma.asarray(meshes[1].get_array())) == 4  # two sites, two columns


def test_one_task_has_one_figure_and_the_replacement_is_named() -> None:
    figures = draw_reliances(reliance_plots([reliance(n_tasks=1, replacement="zero")]))
    assert list(figures) == ["reliance-last-progressive"]
    assert "without one lateral: zero instead" in panels(figures["reliance-last-progressive"])


@pytest.mark.parametrize("n_tasks", [1, 12, 25])
def test_figures_of_any_size_are_drawn(n_tasks: int) -> None:
    for figure in draw_reliances(reliance_plots([reliance(n_tasks=n_tasks, seeds=1)])).values():
        with look():
            figure.savefig(BytesIO(), format="png", dpi=30)


def test_colours_begin_at_zero_or_below() -> None:
    values = np.array([[2.0, np.nan], [-1.0, 4.0]])
    assert Map("a", values, ("x", "y"), "site", "bar").ends == (-1.0, 4.0)
    assert Map("a", np.abs(values), ("x", "y"), "site", "bar").ends == (0.0, 4.0)
    assert Map("a", np.full((1, 1), np.nan), ("x",), "site", "bar").ends == (0.0, 1.0)
    assert Map("a", values, ("x", "y"), "site", "bar", least=5.0).ends == (-1.0, 5.0)
    assert Map("a", 2 * values, ("x", "y"), "site", "bar", least=5.0).ends == (-2.0, 8.0)


def test_a_zero_has_no_minus() -> None:
    (axes, _) = draw_maps([Map("a", np.array([[-0.01, -0.3]]), ("x",), "site", "bar", digits=1)], across=1).axes
    assert [text.get_text() for text in axes.texts] == ["0.0", "-0.3"]


def test_the_page_shows_figures_and_numbers_where_an_analysis_is(tmp_path: Path) -> None:
    for run in make_results(["progressive", "finetune"], seeds=2, n_tasks=2):
        place = tmp_path / "runs" / run.strategy / str(run.seed)
        run.save(place)
        if run.strategy == "progressive":
            write_analysis(place, make_analysis(run))
    page = write_report(tmp_path).read_text()
    assert '<h2 id="reliance">' in page
    assert page.count('<figure id="figure-reliance') == 3
    assert (tmp_path / "figures" / "reliance-last-progressive.png").exists()
    assert (tmp_path / "tables" / "reliance.csv").exists()
    for path in tmp_path.rglob("analysis.json"):
        path.unlink()
    assert "reliance" not in write_report(tmp_path).read_text()
