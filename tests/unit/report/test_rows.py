from math import isnan

from prognet import report
from prognet.report.comparison import compare
from prognet.report.rows import difference_table, frozen_table, make_tables, summary_table
from prognet.statistics import Interval
from tests.helpers.results import EVERYONE, make_digests, make_results, make_run


def test_every_table_is_there_and_whole() -> None:
    found = report.tables(make_results(EVERYONE, seeds=2, orders=2, n_tasks=3))
    assert list(found) == [
        "summary",
        "further",
        "differences-accuracy",
        "differences-learning",
        "tasks",
        "costs",
        "frozen",
        "digests",
        "orders",
    ]
    for table in found.values():
        assert {len(row) for row in table.rows} == {len(table.columns)}
    # 8 sequential or cumulative strategies with 3 steps and the joint one with 1
    assert [len(found[name]) for name in ("summary", "tasks", "costs")] == [9, 27, 25]
    # 5 strategies freeze 3 columns each in 4 runs
    assert [len(found[name]) for name in ("frozen", "digests")] == [5, 60]


def test_one_order_has_no_table_of_orders() -> None:
    assert "orders" not in make_tables(compare(make_results(seeds=2)))


def test_the_summary_says_whether_there_are_intervals() -> None:
    several, one = (summary_table(compare(make_results(seeds=seeds))) for seeds in (2, 1))
    assert several.note.startswith("Mean ± half the width of the Student t 95 % interval over seeds.")
    assert one.note.startswith("One seed: there are no intervals, and no difference can be told from noise.")
    cell = one.rows[0][1]
    assert isinstance(cell, Interval)
    assert isnan(cell.half_width)


def test_the_number_of_comparisons_is_stated() -> None:
    found = compare(make_results(["progressive", "finetune", "independent"], seeds=3))
    table = difference_table(found.accuracy_differences, "title")
    assert len(table) == 3
    assert table.note.startswith("3 comparisons.")
    assert "Holm's over all 3 of this table" in table.note


def test_a_digest_that_moved_is_counted() -> None:
    good = make_digests("progressive", 0, 0, 3)
    bad = (*good[:2], {**good[2], "column 0": "f" * 64})
    table = frozen_table(compare([make_run(n_tasks=3, digests=bad)]))
    keys = [column.key for column in table.columns]
    assert dict(zip(keys, table.rows[0], strict=True)) == {
        "strategy": "progressive",
        "parts": 3,
        "checks": 3,
        "unchanged": 1,
        "changed": 1,
        "missing": 0,
        "not_compared": 1,
    }
