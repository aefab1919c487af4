from dataclasses import replace

import numpy as np

from prognet.report.comparison import compare
from prognet.report.kinds import kind_notes, kind_tables, measured, primary_metrics
from prognet.report.measures import chance
from prognet.report.notes import notes
from prognet.report.plots import look
from prognet.report.plots.over_tasks import average_accuracy
from prognet.report.rows import make_tables
from prognet.results import RunResult
from prognet.statistics import Interval
from tests.helpers.results import make_run

R = np.array([[0.9, np.nan], [0.8, 0.5]])
RMSE = np.array([[np.nan, np.nan], [np.nan, 3.0]])


def run_of(seed: int) -> RunResult:
    """Two tasks, a classification and a regression."""
    run = make_run("finetune", seed, n_tasks=2)
    tasks = (run.tasks[0], replace(run.tasks[1], primary="skill", chance=0.4, name="how much"))
    accuracy, skill = R.copy(), R.copy()
    accuracy[:, 1], skill[:, 0] = np.nan, np.nan
    return replace(run, tasks=tasks, metrics={"accuracy": accuracy, "skill": skill, "rmse": RMSE + seed})


def test_r_is_put_together_from_the_primary_metrics() -> None:
    assert np.array_equal(run_of(0).accuracy, R, equal_nan=True)
    first = replace(run_of(0), metrics={"accuracy": R[:1]}, schedule=((0,),))
    assert np.array_equal(first.accuracy, [[0.9, np.nan]], equal_nan=True)


def test_chance_is_that_of_the_kind() -> None:
    assert chance(run_of(0)).tolist() == [0.5, 0.4]


def test_classifications_have_neither_note_nor_table() -> None:
    comparison = compare([make_run("finetune", seed, n_tasks=2) for seed in range(2)])
    assert kind_notes(comparison) == [] and kind_tables(comparison) == {}
    assert "task-metrics" not in make_tables(comparison)


def test_the_axes_say_what_is_measured() -> None:
    assert measured(compare([make_run("finetune", seed, n_tasks=2) for seed in range(2)])) == "accuracy"
    assert measured(compare([run_of(seed) for seed in range(2)])) == "primary metric"
    with look():
        label = average_accuracy(compare([run_of(seed) for seed in range(2)])).axes[0].get_ylabel()
    assert label == "average primary metric (%)"


def test_another_kind_is_named() -> None:
    comparison = compare([run_of(seed) for seed in range(2)])
    assert primary_metrics(comparison) == {"accuracy": ["0 1"], "skill": ["how much"]}
    (note,) = kind_notes(comparison)
    assert "each task's primary metric is meant, which lies in [0, 1] (accuracy: 0 1; skill: how much)" in note
    assert note in notes(comparison)


def test_the_table_has_every_metric_that_a_task_has() -> None:
    table = make_tables(compare([run_of(seed) for seed in range(2)]))["task-metrics"]
    assert [row[:3] for row in table.rows] == [
        ("finetune", 1.0, "accuracy"),
        ("finetune", 2.0, "skill"),
        ("finetune", 2.0, "rmse"),
    ]
    value = table.rows[2][3]
    assert isinstance(value, Interval) and value.mean == 3.5 and value.n == 2
