from dataclasses import replace
from io import BytesIO

import numpy as np
from matplotlib.axes import Axes

from prognet.report.comparison import compare
from prognet.report.plots import look
from prognet.report.plots.confusion import gate_confusion, gates_measured
from tests.helpers.gates import record, with_gates
from tests.helpers.results import make_results, make_run, run_with


def shown(axes: Axes) -> np.ndarray:
    """The numbers of a panel by their place."""
    side = int(np.sqrt(len(axes.texts)))
    found = np.full((side, side), -1)
    for text in axes.texts:
        column, row = text.get_position()
        found[int(row), int(column)] = int(text.get_text())
    return found


def test_rows_are_true_tasks_and_columns_chosen_ones() -> None:
    run = run_with([[0.9, np.nan], [0.9, 0.7]], "finetune")
    other = run_with([[0.9, np.nan], [0.9, 0.7]], "independent")
    runs = [
        replace(run, gates={"entropy": record([None, (0.5, 0.3)], [[6, 4], [16, 4]])}),
        replace(other, gates={"entropy": record([None, (0.5, 0.3)], [[1, 0], [0, 1]])}),
    ]
    comparison = compare(runs)
    assert gates_measured(comparison) == ("entropy",)
    first, second, *_ = gate_confusion(comparison, "entropy").axes
    assert shown(first).tolist() == [[60, 40], [80, 20]]
    assert shown(second).tolist() == [[100, 0], [0, 100]]
    assert np.asarray(first.collections[0].get_array()).tolist() == [[60.0, 40.0], [80.0, 20.0]]
    assert [axes.get_title() for axes in (first, second)] == ["finetune", "independent"]
    assert first.get_ylim() == (2.0, 0.0)  # the first true task stands at the top
    assert (first.get_ylabel(), second.get_ylabel()) == ("true task", "")
    assert (first.get_xlabel(), second.get_xlabel()) == ("chosen task", "chosen task")


def test_a_gate_that_chooses_alike_for_all_has_one_panel() -> None:
    comparison = compare(with_gates(make_results(["progressive", "finetune"], seeds=2, n_tasks=2)))
    panels = gate_confusion(comparison, "autoencoder").axes
    assert [axes.get_title() for axes in panels] == ["every strategy", ""]  # and the bar of colours
    assert [axes.get_title() for axes in gate_confusion(comparison, "confidence").axes[:2]] == [
        "progressive",
        "finetune",
    ]


def test_many_tasks_and_strategies_are_drawn() -> None:
    names = ["progressive", "finetune", "multitask", "independent", "finetune-head"]
    for n_tasks in (1, 12, 13):
        comparison = compare(with_gates(make_results(names, seeds=1, n_tasks=n_tasks)))
        figure = gate_confusion(comparison, "confidence")
        with look():
            figure.savefig(BytesIO(), format="png", dpi=20)
        assert len(figure.axes[0].texts) == (n_tasks**2 if n_tasks <= 12 else 0)


def test_a_gate_without_records_says_so() -> None:
    (axes,) = gate_confusion(compare([make_run(n_tasks=2)]), "entropy").axes
    assert [text.get_text() for text in axes.texts] == ["no run measured the gate entropy"]
