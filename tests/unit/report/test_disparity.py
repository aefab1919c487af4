from dataclasses import replace

import pytest

from prognet.report.disparity import disparities, same_tasks
from prognet.report.grid import align
from prognet.results import RunResult
from tests.helpers.results import make_results, make_run, run_with


def named(run: RunResult, *names: str) -> RunResult:
    return replace(run, tasks=tuple(replace(task, name=name) for task, name in zip(run.tasks, names, strict=True)))


def test_a_task_is_followed_by_its_name_through_the_orders() -> None:
    runs = [
        named(run_with([[0.9, 0.0], [0.9, 0.6]], seed=0, order=0), "cats", "dogs"),
        named(run_with([[0.8, 0.0], [0.8, 0.5]], seed=0, order=1), "dogs", "cats"),
    ]
    # cats 0.9 and 0.5: 0.4; dogs 0.6 and 0.8: 0.2
    (found,) = disparities(align(runs))
    assert found.average.mean == pytest.approx(0.3)
    assert found.maximum.mean == pytest.approx(0.4)


def test_seeds_without_every_order_are_left_out() -> None:
    runs = [run for run in make_results(["progressive"], seeds=3, orders=2) if (run.seed, run.order) != (2, 1)]
    assert disparities(align(runs))[0].average.n == 2


def test_one_order_has_no_disparity() -> None:
    assert disparities(align(make_results(["progressive"], orders=1))) == ()


def test_orders_of_different_tasks_have_none_either() -> None:
    grid = align([named(make_run(n_tasks=2, order=0), "0 1", "2 3"), named(make_run(n_tasks=2, order=1), "0 3", "1 2")])
    assert not same_tasks(grid)
    assert disparities(grid) == ()


def test_tasks_of_one_name_cannot_be_followed() -> None:
    assert not same_tasks(align([named(make_run(n_tasks=2), "same", "same")]))
