"""Figures about tasks: every number is at its place, and the page has the sections where there is something."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prognet.related import PAIR_MEASURES, write_geometry, write_relatedness
from prognet.report import compare, write_report
from prognet.report.geometry import make_shapes
from prognet.report.negative import against_alone
from prognet.report.plots import look
from prognet.report.plots.reliance import draw_reliances
from prognet.report.plots.tasks import geometry_plots, negative_plots, relatedness_plots
from prognet.report.relatedness import make_relatedness as put_together
from prognet.report.sections import make_sections
from prognet.results import load_results
from tests.helpers.relations import make_geometry, make_relatedness
from tests.helpers.results import make_results


def figures(n_tasks: int = 4, seeds: int = 3, gains: bool = True) -> dict[str, Figure]:
    results = make_results(["progressive", "independent"], seeds=seeds, n_tasks=n_tasks)
    runs = [run for run in results if run.strategy == "progressive"]
    related = put_together("progressive", {(0, run.seed): make_relatedness(run, gains=gains) for run in runs})
    shapes = make_shapes({"progressive": {(0, run.seed): make_geometry(run) for run in runs}})
    plots = [*relatedness_plots([related]), *geometry_plots(shapes), *negative_plots(against_alone(compare(results)))]
    return draw_reliances(plots)


@pytest.fixture(scope="module")
def found() -> dict[str, Figure]:
    return figures()


def cells(axes: Axes) -> dict[tuple[int, int], str]:
    places = {text: text.get_position() for text in axes.texts}
    return {(int(y), int(x)): text.get_text() for text, (x, y) in places.items()}


def test_pairs_have_a_panel_a_measure_and_the_gain_first(found: dict[str, Figure]) -> None:
    titled = [axes for axes in found["relatedness-progressive"].axes if axes.get_title()]
    assert titled[0].get_title() == "measured gain (points)"
    assert [axes.get_title().removesuffix(" (%)") for axes in titled[1:]] == [one.title for one in PAIR_MEASURES]
    assert cells(titled[0]) == {
        (0, 0): "11.0",
        (0, 1): "6.0",
        (0, 2): "4.3",
        (1, 1): "11.0",
        (1, 2): "6.0",
        (2, 2): "11.0",
    }
    assert cells(titled[1])[0, 2] == "-0.33"  # a distance
    assert cells(titled[-1])[0, 2] == "33.33"  # TAG, in percent
    assert [label.get_text() for label in titled[0].get_xticklabels()] == ["2", "3", "4"]
    assert [label.get_text() for label in titled[0].get_yticklabels()] == ["1", "2", "3"]


def test_ranks_stand_beside_their_controls(found: dict[str, Figure]) -> None:
    left, right = found["ranking-progressive"].axes
    names = [label.get_text() for label in left.get_yticklabels()]
    assert names == [*(measure.title for measure in PAIR_MEASURES), "the latest task", "the best of all"]
    circles = [line for line in left.lines if line.get_marker() == "o"]
    places = [float(np.asarray(line.get_xdata())[0]) for line in circles]
    assert places[:2] == pytest.approx([1, -1])
    assert [line.get_markerfacecolor() for line in circles[:2]] == ["#0072B2", "white"]
    assert left.yaxis_inverted()
    assert right.get_xlabel() == "gain of the choice (points)"


def test_without_gains_there_is_no_ranking() -> None:
    drawn = figures(gains=False)
    assert "ranking-progressive" not in drawn
    assert drawn["relatedness-progressive"].axes[0].get_title() == PAIR_MEASURES[0].title


def test_classes_have_a_line_a_task_and_their_control(found: dict[str, Figure]) -> None:
    (axes,) = found["geometry"].axes
    lines = [np.asarray(line.get_ydata()) for line in axes.lines if line.get_marker() not in ("_", "|", None, "None")]
    heights = [line.tolist() for line in lines if len(line) == 2]
    assert len(heights) == 4
    assert heights[0] == pytest.approx([2.1, 1.1])
    assert axes.get_yscale() == "log"
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4"]


def test_delta_m_has_a_row_a_strategy(found: dict[str, Figure]) -> None:
    (axes,) = found["delta-m"].axes
    (name,) = [label.get_text() for label in axes.get_yticklabels()]
    assert name.startswith("progressive (")
    assert name.endswith("of 4 negative)")


@pytest.mark.parametrize(("n_tasks", "seeds"), [(2, 1), (9, 2)])
def test_figures_of_any_size_are_drawn(n_tasks: int, seeds: int) -> None:
    for figure in figures(n_tasks, seeds).values():
        with look():
            figure.savefig(BytesIO(), format="png", dpi=30)


def test_no_tick_shows_mathematics(found: dict[str, Figure]) -> None:
    with look():
        found["geometry"].savefig(BytesIO(), format="png", dpi=30)
    (axes,) = found["geometry"].axes
    assert not [label.get_text() for label in axes.get_yticklabels() if "$" in label.get_text()]


def test_the_page_shows_the_sections_where_there_is_something(tmp_path: Path) -> None:
    for run in make_results(["progressive", "finetune"], seeds=2, n_tasks=3):
        place = tmp_path / "runs" / run.strategy / str(run.seed)
        run.save(place)
        if run.strategy == "progressive":
            write_relatedness(place, make_relatedness(run))
            write_geometry(place, make_geometry(run))
    page = write_report(tmp_path).read_text()
    for anchor in ("relatedness", "geometry"):
        assert page.count(f'<h2 id="{anchor}">') == page.count(f'<a href="#{anchor}">') == 1
    assert '<h2 id="alone">' not in page  # no independent networks
    assert '<figure id="figure-ranking-progressive">' in page
    for name in ("ranking", "relatedness", "geometry"):
        assert (tmp_path / "tables" / f"{name}.csv").exists()
    for path in [*tmp_path.rglob("relatedness.json"), *tmp_path.rglob("geometry.json")]:
        path.unlink()
    assert [one.anchor for one in make_sections(tmp_path, compare(load_results(tmp_path)))] == ["ranking"]
