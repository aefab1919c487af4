from math import isnan, nan

import numpy as np
import pytest

from prognet.report.comparison import FORWARD, Summary, compare
from prognet.results import LearningCurve
from tests.helpers.results import EVERYONE, make_results, make_run, run_with


def summaries(*args: str, seeds: int = 3, orders: int = 1) -> dict[str, Summary]:
    return {found.name: found for found in compare(make_results(args, seeds=seeds, orders=orders)).summaries}


def test_frozen_strategies_forget_exactly_nothing_and_finetune_does() -> None:
    found = summaries(*EVERYONE)
    assert found["progressive"].measures["forgetting"].mean == 0.0
    assert found["progressive"].measures["forgetting"].half_width == 0.0
    assert found["finetune"].measures["forgetting"].low > 0.1


def test_tasks_seen_follow_the_schedule() -> None:
    found = summaries("progressive", "multitask", "multitask-cumulative")
    assert found["progressive"].seen == found["multitask-cumulative"].seen == (1, 2, 3, 4, 5)
    assert found["multitask"].seen == (5,)


def test_transfer_is_paired_with_the_reference_of_the_same_cell() -> None:
    runs = [
        run_with([[0.9, nan], [0.9, 0.8]], "progressive", 0),
        run_with([[0.7, nan], [0.7, 0.6]], "progressive", 1),
        run_with([[0.9, nan], [0.9, 0.7]], "independent", 0),
        run_with([[0.7, nan], [0.7, 0.5]], "independent", 1),
    ]
    progressive, independent = compare(runs).summaries
    # the levels of the seeds differ by 0.2, the differences do not: paired, the interval has no width
    assert progressive.transfer["independent"].mean.tolist() == pytest.approx([0.0, 0.1])
    assert progressive.transfer["independent"].at(1).half_width == pytest.approx(0.0, abs=1e-12)
    assert list(independent.transfer) == ["independent-wide"]
    assert np.isnan(independent.transfer["independent-wide"].mean).all()


def test_seeds_and_runs_are_counted_apart() -> None:
    found = summaries("progressive", seeds=3, orders=2)["progressive"]
    assert (found.seeds, found.runs, found.accuracy.n) == (3, 6, 3)


def test_costs_are_per_step_and_predictions_a_mean_over_the_tasks_seen() -> None:
    found = summaries("progressive")["progressive"]
    assert found.costs["parameters"].mean.tolist() == [5_000, 10_300, 16_200, 22_700, 29_800]
    assert found.costs[FORWARD].mean.tolist() == [1e4, 2e4, 3e4, 4e4, 5e4]


def test_joint_learning_has_no_curves_and_cumulative_learning_only_the_first() -> None:
    found = summaries("multitask", "multitask-cumulative", "finetune")
    assert list(found["multitask"].curves) == []
    assert list(found["multitask-cumulative"].curves) == [0]
    assert list(found["finetune"].curves) == [0, 1, 2, 3, 4]


def test_curves_of_different_length_are_compared_where_both_were_measured() -> None:
    short, long = (
        LearningCurve(step=0, task=0, updates=u, accuracy=tuple(0.1 * x for x in u)) for u in ((0, 1, 4), (0, 1, 2))
    )
    runs = [make_run(seed=seed, n_tasks=1, curves=(curve,)) for seed, curve in enumerate((short, long))]
    curve = compare(runs).summaries[0].curves[0]
    assert curve.updates == (0, 1)
    assert curve.accuracy.mean.tolist() == pytest.approx([0.0, 0.1])


def test_one_seed_has_no_intervals() -> None:
    found = compare(make_results(["progressive", "independent"], seeds=1, orders=2))
    assert found.one_seed
    assert isnan(found.summaries[0].measures["average_accuracy"].half_width)


def test_compare_leaves_the_results_as_they_were() -> None:
    results = make_results(["progressive", "independent"], seeds=2)
    compare(results)
    assert list(results) == list(make_results(["progressive", "independent"], seeds=2))
