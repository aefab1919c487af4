from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prognet.report import figures, tables, to_csv, write_report
from prognet.report.comparison import compare
from prognet.report.gates import gate_notes, gate_summaries, gate_table, gate_task_table
from prognet.report.page import render_page
from prognet.report.plots import PLOTS, plots_for
from prognet.report.rows import make_tables
from prognet.results import Results
from prognet.statistics import Interval
from tests.helpers.gates import record, with_gates
from tests.helpers.results import make_results, make_run, run_with

GATES = ["gate-confidence", "gate-autoencoder"]


def page(results: Results) -> str:
    comparison = compare(results)
    images = {plot.name: b"<svg></svg>" for plot in plots_for(comparison)}
    return render_page(comparison, make_tables(comparison), images, {})


def two_runs() -> Results:
    """Two tasks, two seeds: with labels 0.9 and 0.7, then 0.8 and 0.8; without 0.5 and 0.3, then 0.4 and 0.2."""
    first = run_with([[0.9, np.nan], [0.9, 0.7]], "finetune", seed=0)
    second = run_with([[0.8, np.nan], [0.8, 0.8]], "finetune", seed=1)
    return Results(
        [
            replace(first, gates={"entropy": record([None, (0.5, 0.3)], [[6, 4], [8, 2]], 5)}),
            replace(second, gates={"entropy": record([None, (0.4, 0.2)], [[8, 2], [0, 20]], 5)}),
        ]
    )


def test_means_and_intervals_by_hand() -> None:
    (found,) = gate_summaries(compare(two_runs()).grid)
    assert (found.strategy, found.gate, found.seeds, found.parameters) == ("finetune", "entropy", 2, 5.0)
    assert found.aware.mean == pytest.approx(0.8)
    assert found.agnostic.mean == pytest.approx(0.35)  # 0.4 and 0.3
    half = 12.7062047 * 0.1 / 2  # t(0.975, 1) s / sqrt(2), with s = 0.1 / sqrt(2)
    assert found.agnostic.high - found.agnostic.mean == pytest.approx(half, rel=1e-6)
    assert found.difference.mean == pytest.approx(-0.45)  # -0.4 and -0.5
    assert found.difference.high - found.difference.mean == pytest.approx(half, rel=1e-6)
    assert found.chosen.mean == pytest.approx(0.65)  # (0.6 + 0.2) / 2 and (0.8 + 1) / 2
    np.testing.assert_allclose(found.shares, [[0.7, 0.3], [0.4, 0.6]])
    np.testing.assert_allclose(found.aware_per_task.mean, [0.85, 0.75])
    np.testing.assert_allclose(found.agnostic_per_task.mean, [0.45, 0.25])


def test_both_accuracies_stand_side_by_side() -> None:
    table = gate_table(compare(two_runs()))
    assert [column.title for column in table.columns] == [
        *("strategy", "gate", "ACC, label given ↑", "ACC, no label ↑", "difference", "right task ↑"),
        *("gate's parameters", "seeds"),
    ]
    (row,) = table.rows
    assert row[:2] == ("finetune", "lowest entropy")
    assert [value.mean for value in row[2:6] if isinstance(value, Interval)] == pytest.approx([0.8, 0.35, -0.45, 0.65])
    assert row[6:] == (5.0, 2.0)


def test_tasks_have_a_row_each_and_gates_a_column_each() -> None:
    results = with_gates(make_results(["progressive", "multitask"], seeds=2, n_tasks=3))
    table = gate_task_table(compare(results))
    assert [column.key for column in table.columns] == [
        *("strategy", "task", "name", "with_label", "confidence", "autoencoder"),
    ]
    assert [row[:3] for row in table.rows[:3]] == [
        *(("progressive", 1.0, "0 1"), ("progressive", 2.0, "2 3"), ("progressive", 3.0, "4 5")),
    ]
    assert len(table.rows) == 6
    for _, _, _, aware, confidence, autoencoder in table.rows:
        assert isinstance(aware, Interval)
        assert isinstance(confidence, Interval)
        assert autoencoder == aware
        assert confidence.mean == pytest.approx(aware.mean - 0.15)


def test_a_gate_that_one_strategy_lacks_is_undefined_there() -> None:
    first, second = with_gates(make_results(["progressive", "finetune"], seeds=1, n_tasks=2))
    less = replace(first, gates={"autoencoder": first.gates["autoencoder"]})
    comparison = compare([less, second])
    assert [(s.strategy, s.gate) for s in gate_summaries(comparison.grid)] == [
        *(("progressive", "confidence"), ("progressive", "autoencoder"), ("finetune", "autoencoder")),
    ]
    missing = [row[4] for row in gate_task_table(comparison).rows if row[0] == "finetune"]
    assert all(isinstance(value, Interval) and np.isnan(value.mean) for value in missing)
    assert to_csv(gate_task_table(comparison)).splitlines()[-1].startswith("finetune,2,2 3,")


def test_only_the_last_step_counts_and_other_runs_are_left_out() -> None:
    first, second = two_runs()
    early = replace(second, gates={"entropy": record([(0.5, np.nan), None], [[6, 4], [0, 0]])})
    (found,) = gate_summaries(compare([first, early]).grid)
    assert found.seeds == 1
    assert found.agnostic.mean == pytest.approx(0.4)
    assert found.aware.mean == pytest.approx(0.8)
    assert gate_summaries(compare([early]).grid) == ()


def test_orders_are_averaged_within_a_seed() -> None:
    first, second = two_runs()
    other = replace(second, seed=0, order=1)
    (found,) = gate_summaries(compare([first, other]).grid)
    assert found.seeds == 1
    assert found.agnostic.mean == pytest.approx(0.35)
    assert np.isnan(found.agnostic.low)


def test_a_gate_that_nobody_knows_is_not_shown() -> None:
    run = make_run(n_tasks=2)
    strange = replace(run, gates={"../../x": record([None, (0.5, 0.5)], [[1, 0], [0, 1]])})
    assert list(figures([strange])) == [plot.name for plot in PLOTS]
    assert "task-agnostic" not in tables([strange])


def test_tables_and_figures_are_there_only_with_gates() -> None:
    without = make_results(["progressive"], seeds=2, n_tasks=2)
    assert {"task-agnostic", "task-agnostic-tasks"} <= tables(with_gates(without)).keys()
    assert not {"task-agnostic", "task-agnostic-tasks"} & tables(without).keys()
    assert list(figures(with_gates(without))) == [*(plot.name for plot in PLOTS), *GATES]
    assert list(figures(without)) == [plot.name for plot in PLOTS]


def test_the_page_shows_a_section_only_with_gates() -> None:
    without = make_results(["progressive", "finetune"], seeds=2, n_tasks=2)
    html = page(with_gates(without))
    for part in (
        '<h2 id="agnostic">Without task labels</h2>',
        '<a href="#agnostic">Without labels</a>',
        "<dt>Accuracy without task labels</dt>",
        '<figure id="figure-gate-confidence">',
        '<figure id="figure-gate-autoencoder">',
        "maximum confidence",
    ):
        assert part in html
        assert part not in page(without)


def test_the_files_of_a_report_with_gates(tmp_path: Path) -> None:
    for run in with_gates(make_results(["progressive"], seeds=2, n_tasks=2)):
        run.save(tmp_path / "runs" / run.strategy / f"seed-{run.seed}")
    write_report(tmp_path)
    assert {path.name for path in (tmp_path / "figures").glob("gate-*.png")} == {f"{name}.png" for name in GATES}
    text = (tmp_path / "tables" / "task-agnostic.md").read_text()
    assert "| progressive | auto-encoders (Expert Gate) |" in text


def test_notes_say_what_is_known_at_test_time() -> None:
    results = make_results(["progressive"], seeds=1, n_tasks=2)
    assert gate_notes(compare(results)) == (
        "The label of a task is given at test time: these are task-incremental numbers.",
    )
    told = "\n".join(gate_notes(compare(with_gates(results))))
    assert "The label of a task is given at test time, but for what stands under “Without task labels”" in told
    assert "has the name of the true one" in told
    assert "share names" not in told
    assert "Tasks of this stream share names of classes" in "\n".join(gate_notes(compare(with_gates(results, True))))
