"""Transfer against learning alone: by hand, from runs, with what was forgotten and without."""

import numpy as np
import pytest

from prognet.report import compare, to_markdown
from prognet.report.negative import against_alone, delta_table, negative_table
from prognet.report.units import MINUS
from prognet.results import Results, RunResult
from tests.helpers.results import make_results, run_with

nan = np.nan


def runs() -> list[RunResult]:
    """Two tasks; the second is harmed by a tenth, and the first is forgotten in the end."""
    found = []
    for seed, shift in enumerate((0.0, 0.01, -0.01)):
        alone = [[0.8, nan], [0.8, 0.5]]
        own = [[0.8, nan], [0.4, 0.4 + shift]]
        found += [run_with(alone, "independent", seed), run_with(own, "finetune", seed)]
    return found


def test_a_strategy_by_hand() -> None:
    (found,) = against_alone(compare(Results(runs())))
    assert (found.strategy, found.seeds) == ("finetune", 3)
    first, second = found.tasks
    assert first.difference.interval.mean == 0
    assert second.difference.interval.mean == pytest.approx(-0.1)
    assert (first.negative, second.negative, second.positive) == (False, True, False)
    assert found.relative == pytest.approx((0.0, -0.2))
    assert found.learned.mean == pytest.approx(-0.1)  # (0 - 0.2) / 2
    assert found.final.mean == pytest.approx((-0.5 - 0.2) / 2)
    assert found.learned.half_width == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-5)  # 0.01 / 0.5 / 2


def test_the_tables_say_it() -> None:
    found = against_alone(compare(Results(runs())))
    text = to_markdown(negative_table(found, ("a", None)))
    assert f"| finetune | 2 | varies with the order | {MINUS}10.00 ± 2.48 | {MINUS}20.00 |" in text
    assert text.count("| negative |") == 1
    assert "| finetune | 1 | a | 0 | 0 |" in text
    assert f"| finetune | {MINUS}10.00 ± 2.48 | {MINUS}35.00 ± 2.48 | 1 | 0 | 2 | 3 |" in to_markdown(
        delta_table(found)
    )


def test_only_seeds_that_both_have_are_compared() -> None:
    (found,) = against_alone(compare(Results(runs()[:-1])))
    assert found.seeds == 2
    assert against_alone(compare(Results([run for run in runs() if run.strategy == "finetune"]))) == ()


def test_every_strategy_but_the_reference_has_a_row() -> None:
    results = make_results(["progressive", "finetune", "independent", "multitask"], seeds=3)
    found = against_alone(compare(results))
    assert [one.strategy for one in found] == ["progressive", "finetune", "multitask"]
    progressive, finetune, _ = found
    assert progressive.learned == progressive.final  # nothing is forgotten
    assert finetune.final.mean < finetune.learned.mean
