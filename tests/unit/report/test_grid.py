import re
from collections.abc import Sequence
from dataclasses import replace

import pytest

from prognet.errors import RunFolderError
from prognet.report.grid import align
from prognet.results import RunResult
from tests.helpers.results import make_results, make_run, run_with


def test_rows_are_the_catalogue_first_then_others_by_name() -> None:
    names = ["zeta", "independent", "alpha", "progressive", "multitask-cumulative", "finetune"]
    grid = align(make_results(names, seeds=1))
    assert grid.strategies == ("progressive", "finetune", "independent", "multitask-cumulative", "alpha", "zeta")


def test_the_sequence_of_the_runs_does_not_matter() -> None:
    runs = list(make_results(["finetune", "progressive"], seeds=3, orders=2))
    assert align(runs[::-1]).runs == align(runs).runs


def test_missing_names_every_hole_and_peers_leave_it_out() -> None:
    runs = [
        run for run in make_results(["progressive", "finetune"], seeds=2) if (run.strategy, run.seed) != ("finetune", 1)
    ]
    grid = align(runs)
    assert grid.missing == (("finetune", 0, 1),)
    assert list(grid.peers((0, 0))) == ["progressive", "finetune"]
    assert list(grid.peers((0, 1))) == ["progressive"]


def test_a_task_name_is_known_only_where_the_orders_agree() -> None:
    assert align(make_results(["progressive"], seeds=1, n_tasks=2)).task_names == ("0 1", "2 3")
    assert align(make_results(["progressive"], seeds=1, orders=2, n_tasks=2)).task_names == (None, None)


@pytest.mark.parametrize(
    ("runs", "message"),
    [
        ([], "results: required at least one finished run, found none; run `prognet run` first."),
        (
            [make_run(), make_run("finetune", stream="other")],
            "results: required one stream, found other and synthetic; report each comparison from a folder of its own.",
        ),
        (
            [make_run(n_tasks=2), make_run("finetune", n_tasks=3)],
            "results: required one number of tasks, found 2 and 3; report each comparison from a folder of its own.",
        ),
        (
            [make_run(), make_run()],
            "results: required one run per strategy, order and seed, found 2 runs of 'progressive' for 1 cells; report "
            "each comparison from a folder of its own.",
        ),
        (
            [make_run(n_tasks=2), replace(make_run("multitask", seed=1, n_tasks=2), strategy="progressive")],
            "results: required one schedule of 'progressive', found ((0, 1),) and ((0,), (1,)); report each comparison "
            "from a folder of its own.",
        ),
    ],
)
def test_runs_that_cannot_be_compared_are_refused(runs: Sequence[RunResult], message: str) -> None:
    with pytest.raises(RunFolderError, match=f"^{re.escape(message)}$"):
        align(runs)


def test_a_name_that_stands_for_two_sets_of_arguments_is_refused() -> None:
    first, second = run_with([[0.5]], "finetune", 0), run_with([[0.6]], "finetune", 1)
    first = replace(first, config={**first.config, "strategy": {"arguments": {"rank": 0}}})
    second = replace(second, config={**second.config, "strategy": {"arguments": {"rank": 4}}})
    with pytest.raises(RunFolderError, match="required one set of arguments of 'finetune', found .*0.* and .*4"):
        align([first, second])
