"""Analyses of several seeds put together, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prognet.analysed import ANALYSIS_FILE, RunAnalysis, read_analysis, write_analysis
from prognet.errors import RunFolderError
from prognet.report import compare, to_csv, to_markdown
from prognet.report.reliance import make_reliance, read_reliances, reliance_table
from prognet.results import Results
from tests.helpers.analyses import make_analysis, make_column
from tests.helpers.results import make_results, make_run


@pytest.fixture
def analyses() -> dict[tuple[int, int], RunAnalysis]:
    runs = make_results(["progressive"], seeds=3, n_tasks=3)
    return {(run.order, run.seed): make_analysis(run) for run in runs}


def test_seeds_are_averaged_and_have_intervals(analyses: dict[tuple[int, int], RunAnalysis]) -> None:
    found = make_reliance("progressive", analyses)
    assert (found.sites, found.columns, found.seeds, found.replacement) == (("2", "4"), 3, 3, "mean")
    last = found.tasks[-1]
    assert (last.task, last.own) == (3, 3)
    assert last.fisher.mean.tolist() == [[0.25, 0.25, 0.5]] * 2
    assert last.perturbation_mean.mean.tolist() == [0.5, 0.25, 0.25]
    assert last.source_loss.mean[:2] == pytest.approx([0.11, 0.21])  # seeds 0, 1, 2 add 0, 0.01, 0.02
    assert last.source_loss.at(0).half_width == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-5)
    assert last.loss.mean[:, 1] == pytest.approx([0.084, 0.21])
    assert np.isnan(last.loss.mean[:, 2]).all()
    assert np.isnan(last.source_loss.mean[2])
    assert last.similarity_mean.mean.tolist() == [0.5, 0.5, 0.5]
    assert last.accuracy.mean == pytest.approx(0.91)
    assert last.total_loss.mean == pytest.approx(0.41)


def test_columns_that_take_no_part_are_empty(analyses: dict[tuple[int, int], RunAnalysis]) -> None:
    first = make_reliance("progressive", analyses).tasks[0]
    assert first.fisher_mean.mean[0] == 1
    for band in (first.fisher_mean, first.perturbation_mean, first.source_loss, first.similarity_mean):
        assert np.isnan([band.mean[1:], band.low[1:], band.high[1:]]).all()


def test_a_source_that_some_seeds_chose_counts_as_nothing_in_the_others() -> None:
    run = make_run("progressive", n_tasks=3)
    chosen = [(0, 1, 2), (1, 2)]
    analyses = {
        (0, seed): replace(
            make_analysis(run), seed=seed, columns=(make_column(0, (0,)), make_column(1, (0, 1)), make_column(2, part))
        )
        for seed, part in enumerate(chosen)
    }
    last = make_reliance("progressive", analyses).tasks[-1]
    assert last.fisher_mean.mean == pytest.approx([0.125, 0.375, 0.5])
    assert last.source_loss.mean[:2] == pytest.approx([0.05, 0.15])
    assert np.isnan(last.similarity_mean.mean[0])  # its likeness was not measured in every seed


def test_the_table_has_a_row_for_every_column_that_takes_part(analyses: dict[tuple[int, int], RunAnalysis]) -> None:
    table = reliance_table([make_reliance("progressive", analyses)])
    assert [row[1:3] for row in table.rows] == [
        (1.0, "1 (own)"),
        (2.0, "1"),
        (2.0, "2 (own)"),
        (3.0, "1"),
        (3.0, "2"),
        (3.0, "3 (own)"),
    ]
    assert "| progressive | 3 | 1 | 25.00 ± 0 | 50.00 ± 0 | 11.00 ± 2.48 | 0.500 ± 0 |" in to_markdown(table)
    assert to_csv(table).splitlines()[0].startswith("strategy,task,column,fisher,fisher_low,fisher_high,perturbation")


def save(folder: Path, results: Results) -> None:
    for run in results:
        place = folder / run.strategy / str(run.seed)
        run.save(place)
        if run.strategy != "independent":
            write_analysis(place, make_analysis(run))


def test_a_folder_is_read_in_the_order_of_the_report(tmp_path: Path) -> None:
    results = make_results(["progressive-random", "independent", "progressive"], seeds=2, n_tasks=3)
    save(tmp_path, results)
    found = read_reliances(tmp_path, compare(results))
    assert [reliance.strategy for reliance in found] == ["progressive", "progressive-random"]
    assert read_reliances(tmp_path / "progressive" / "0" / "none", compare(results)) == ()


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    analysis = make_analysis(make_run("progressive", n_tasks=2, seed=4))
    path = write_analysis(tmp_path, analysis)
    assert path == tmp_path / ANALYSIS_FILE
    again = read_analysis(tmp_path)
    assert (again.seed, again.settings, again.digests) == (4, analysis.settings, analysis.digests)
    for one, other in zip(again.columns, analysis.columns, strict=True):
        np.testing.assert_array_equal(one.loss, other.loss)  # NaN where there is no lateral
        assert (one.sites, one.columns) == (other.sites, other.columns)


def test_an_analysis_of_another_run_is_refused(tmp_path: Path) -> None:
    results = make_results(["progressive"], seeds=2, n_tasks=3)
    save(tmp_path, results)
    write_analysis(tmp_path / "progressive" / "1", replace(make_analysis(results[1]), digests={"column 0": "other"}))
    with pytest.raises(RunFolderError, match="analysis.json: required the analysis of the run beside it, found one of"):
        read_reliances(tmp_path, compare(results))


def test_analyses_with_different_settings_are_refused(analyses: dict[tuple[int, int], RunAnalysis]) -> None:
    run = make_run("progressive", n_tasks=3, seed=1)
    with pytest.raises(RunFolderError, match="progressive: required analyses with one kind of settings and columns"):
        make_reliance("progressive", {**analyses, (0, 1): make_analysis(run, samples=50)})
