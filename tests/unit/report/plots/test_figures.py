from io import BytesIO

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from prognet import report
from prognet.report.plots import PLOTS, look
from prognet.results import Results
from tests.helpers.results import EVERYONE, make_results, make_run

NAMES = [plot.name for plot in PLOTS]


@pytest.fixture(scope="module")
def found() -> dict[str, Figure]:
    return report.figures(make_results(["progressive", "finetune", "multitask", "independent"], seeds=3, n_tasks=3))


def line(axes: Axes, colour: str) -> np.ndarray:
    """(points, 2): the line of one colour."""
    (only,) = [np.asarray(line.get_xydata()) for line in axes.get_lines() if line.get_color() == colour]
    return only


BLUE, ORANGE, GREEN = "#0072B2", "#D55E00", "#009E73"


def drawn(figure: Figure) -> None:
    with look():
        figure.savefig(BytesIO(), format="png", dpi=30)


@pytest.mark.parametrize(
    "results",
    [
        make_results(["progressive"], seeds=1, n_tasks=1),
        make_results(["multitask"], seeds=2, n_tasks=2),
        make_results(EVERYONE, seeds=2, orders=2, n_tasks=7),
        Results([make_run("_$\\frac{$ <b> " + 20 * "long ", n_tasks=2, curves=())]),
    ],
    ids=["one run", "joint only", "everything", "strange name and no curves"],
)
def test_every_figure_is_drawn_from_any_results(results: Results) -> None:
    figures = report.figures(results)
    assert list(figures) == NAMES
    for figure in figures.values():
        drawn(figure)


def test_every_figure_is_a_value_that_nothing_else_holds(found: dict[str, Figure]) -> None:
    assert all(isinstance(figure, Figure) for figure in found.values())


def test_forgetting_curves_have_a_panel_a_task_and_begin_where_it_was_learned(found: dict[str, Figure]) -> None:
    panels = found["forgetting-curves"].axes
    assert [axes.get_title() for axes in panels] == ["task 1: 0 1", "task 2: 2 3", "task 3: 4 5"]
    second = line(panels[1], ORANGE)
    assert second[:, 0].tolist() == [1, 2, 3]
    assert np.isnan(second[0, 1])
    assert second[1, 1] > second[2, 1] + 5  # finetune forgets, in percent
    assert line(panels[1], BLUE)[1, 1] == line(panels[1], BLUE)[2, 1]  # progressive does not


def test_average_accuracy_has_one_point_for_a_joint_schedule(found: dict[str, Figure]) -> None:
    (axes,) = found["average-accuracy"].axes
    joint = [np.asarray(line.get_xdata()) for line in axes.get_lines() if line.get_color() == GREEN]
    assert all(x.tolist() == [3] for x in joint)
    assert line(axes, BLUE)[:, 0].tolist() == [1, 2, 3]


def test_bands_are_drawn_with_several_seeds_only(found: dict[str, Figure]) -> None:
    single = report.figures(make_results(["progressive", "finetune"], seeds=1, n_tasks=3))
    assert len(single["average-accuracy"].axes[0].collections) == 0
    # three sequential strategies have bands, the joint one an error bar
    assert len(found["average-accuracy"].axes[0].collections) == 4


def test_matrices_carry_their_numbers(found: dict[str, Figure]) -> None:
    panels = {axes.get_title(): axes for axes in found["accuracy-matrices"].axes if axes.get_title()}
    assert list(panels) == ["progressive", "finetune", "multitask", "independent"]
    numbers = {name: [float(text.get_text()) for text in axes.texts] for name, axes in panels.items()}
    assert {name: len(values) for name, values in numbers.items()} == {
        "progressive": 6,
        "finetune": 6,
        "multitask": 3,
        "independent": 6,
    }
    assert min(numbers["finetune"]) < 90 < min(numbers["progressive"])


def test_learning_curves_leave_joint_learning_out(found: dict[str, Figure]) -> None:
    figure = found["learning-curves"]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ["progressive", "finetune", "independent"]
    assert all(GREEN not in {line.get_color() for line in axes.get_lines()} for axes in figure.axes)


def test_transfer_has_a_panel_for_everyone_but_independent(found: dict[str, Figure]) -> None:
    assert [axes.get_title() for axes in found["transfer"].axes] == ["progressive", "finetune", "multitask"]
    assert [text.get_text() for text in found["transfer"].legends[0].get_texts()] == ["minus independent"]


def test_transfer_without_a_reference_says_why() -> None:
    (axes,) = report.figures(make_results(["progressive"], seeds=2))["transfer"].axes
    assert [text.get_text() for text in axes.texts] == ["no run of independent or independent-wide to compare with"]


def test_growth_adds_training_up(found: dict[str, Figure]) -> None:
    parameters, flops, forward = (line(axes, BLUE)[:, 1].tolist() for axes in found["growth"].axes)
    assert parameters == [5_000, 10_300, 16_200]
    assert flops == pytest.approx([3e4 * 7_680 * k for k in (1, 3, 6)])
    assert forward == [1e4, 2e4, 3e4]


def test_cost_against_accuracy_has_bars_in_both_directions(found: dict[str, Figure]) -> None:
    axes = found["cost-accuracy"].axes[2]
    assert axes.get_xlabel() == "seconds of training"
    assert len(axes.collections) == 8  # two bars for each of four strategies
