"""All strategies in one list: by hand, with ties, and with one strategy alone."""

from dataclasses import replace
from math import isnan
from pathlib import Path

import numpy as np
import pytest

from prognet.report import compare, to_markdown, write_report
from prognet.report.leaderboard import leaderboard, places
from prognet.results import Results, RunResult
from tests.helpers.results import make_results, run_with

nan = np.nan


def runs() -> list[RunResult]:
    """Average accuracies of 0.8, 0.7 and 0.7 over three seeds; the second list varies, the third follows the first."""
    found = []
    for seed, shift in enumerate((0.0, 0.01, -0.01)):
        found += [
            run_with([[0.9, nan], [0.9, 0.7 + 2 * shift]], "independent", seed),
            run_with([[0.9, nan], [0.7, 0.7 - 2 * shift]], "finetune", seed),
            run_with([[0.9, nan], [0.7, 0.7 + 2 * shift]], "progressive", seed),
        ]
    return found


def test_the_order_and_the_differences_by_hand() -> None:
    first, second, third = places(compare(Results(runs())))
    assert (first.summary.name, first.rank) == ("independent", 1)
    assert (first.behind.interval.mean, first.behind.interval.half_width) == (0, 0)
    assert isnan(first.adjusted)
    assert {second.summary.name, third.summary.name} == {"finetune", "progressive"}
    assert (second.rank, third.rank) == (2, 2)
    behind = {one.summary.name: one.behind.interval for one in (second, third)}
    assert behind["finetune"].mean == pytest.approx(-0.1)
    # the differences are -0.1, -0.12 and -0.08: standard deviation 0.02, t = 4.302653 with 2 degrees of freedom
    assert behind["finetune"].half_width == pytest.approx(4.302653 * 0.02 / np.sqrt(3), rel=1e-5)
    assert behind["progressive"].mean == pytest.approx(-0.1)
    assert behind["progressive"].half_width == pytest.approx(0, abs=1e-12)


def test_p_values_are_corrected_for_the_length_of_the_list() -> None:
    found = {one.summary.name: one for one in places(compare(Results(runs())))}
    assert found["finetune"].adjusted == pytest.approx(found["finetune"].behind.p_value, rel=1e-9)  # the larger of two
    assert found["progressive"].adjusted <= found["finetune"].adjusted


def test_the_table_has_what_each_costs() -> None:
    comparison = compare(make_results())
    table = leaderboard(places(comparison))
    keys = [column.key for column in table.columns]
    assert keys[:5] == ["rank", "strategy", "average_accuracy", "behind", "p_holm"]
    assert {"parameters", "training_flops", "seconds", "seeds"} <= set(keys)
    accuracy = [row[2].mean for row in table.rows]  # type: ignore[union-attr]
    assert accuracy == sorted(accuracy, reverse=True)
    by_name = {summary.name: summary for summary in comparison.summaries}
    for row in table.rows:
        assert row[keys.index("parameters")] == by_name[str(row[1])].measures["parameters"]
    assert len(table) == len(comparison.summaries)
    assert to_markdown(table).startswith("### All strategies, by average accuracy")


def test_one_strategy_alone_has_no_list(tmp_path: Path) -> None:
    results = make_results(["finetune"], seeds=2)
    assert places(compare(results)) == ()
    for result in results:
        result.save(tmp_path / "runs" / result.strategy / f"order-0-seed-{result.seed}")
    write_report(tmp_path)
    assert not (tmp_path / "tables" / "leaderboard.md").exists()


def test_the_list_is_on_the_page(tmp_path: Path) -> None:
    for result in make_results(["finetune", "independent"], seeds=2):
        result.save(tmp_path / "runs" / result.strategy / f"order-0-seed-{result.seed}")
    page = write_report(tmp_path).read_text()
    assert '<h2 id="ranking">Ranking</h2>' in page
    assert "All strategies, by average accuracy" in page
    assert (tmp_path / "tables" / "leaderboard.csv").read_text().startswith("rank,strategy,average_accuracy")


def test_a_strategy_without_an_average_is_last_and_has_no_rank() -> None:
    broken = [
        replace(run, metrics={**run.metrics, "accuracy": np.array([[0.9, nan], [nan, 0.9]])})
        if run.strategy == "finetune"
        else run
        for run in runs()
    ]
    first, second, third = places(compare(Results(broken)))
    assert [(one.summary.name, one.rank) for one in (first, second)] == [("independent", 1), ("progressive", 2)]
    assert third.summary.name == "finetune"
    assert isnan(third.rank)
    assert second.adjusted == pytest.approx(second.behind.p_value)  # what has no value is no comparison
