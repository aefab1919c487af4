"""Relatedness and geometry of several seeds put together, their tables, and what is refused."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from prognet.errors import RunFolderError
from prognet.related import read_relatedness, write_geometry, write_relatedness
from prognet.report import compare, to_csv, to_markdown
from prognet.report.geometry import geometry_table, make_shapes
from prognet.report.relatedness import (
    make_relatedness as put_together,
)
from prognet.report.relatedness import (
    pair_table,
    ranking_table,
    read_geometries,
    read_relatednesses,
)
from prognet.report.units import MINUS
from prognet.results import Results
from tests.helpers.relations import make_geometry, make_relatedness
from tests.helpers.results import make_results


@pytest.fixture
def results() -> Results:
    return make_results(["progressive", "independent", "finetune"], seeds=3, n_tasks=3)


def save(folder: Path, results: Results, **changes: bool) -> None:
    for run in results:
        place = folder / run.strategy / str(run.seed)
        run.save(place)
        if run.strategy != "finetune":
            write_relatedness(place, make_relatedness(run, **changes))
            write_geometry(place, make_geometry(run))


def test_a_folder_is_read_in_the_order_of_the_report(tmp_path: Path, results: Results) -> None:
    save(tmp_path, results)
    found = read_relatednesses(tmp_path, compare(results))
    assert [one.strategy for one in found] == ["progressive", "independent"]
    assert list(read_geometries(tmp_path, compare(results))) == ["progressive", "independent"]
    first = found[0]
    assert (first.seeds, first.samples) == (3, (100, 100, 100))
    assert first.gain.mean[0, 2] == pytest.approx(0.06)  # 0.05, and 0, 0.01, 0.02 by seed
    assert first.gain.at(0, 2).half_width == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-5)
    assert first.values["mmd"].mean[0, 2] == -0.5
    assert first.shuffled["mmd"].mean[0, 2] == 0.5
    assert np.isnan(first.gain.mean[2]).all()
    assert len(first.ranking) == 15


def test_tables_have_a_row_for_every_pair_and_for_every_measure(tmp_path: Path, results: Results) -> None:
    save(tmp_path, results)
    found = read_relatednesses(tmp_path, compare(results))
    pairs, ranks = pair_table(found), ranking_table(found)
    assert [row[:3] for row in pairs.rows[:3]] == [
        ("progressive", 1.0, 2.0),
        ("progressive", 1.0, 3.0),
        ("progressive", 2.0, 3.0),
    ]
    assert len(pairs) == 2 * 3
    assert f"| progressive | 1 | 3 | +6.00 ± 2.48 | {MINUS}0.500 ± 0 |" in to_markdown(pairs)
    assert to_csv(pairs).startswith("strategy,source,target,gain,gain_low,gain_high,mean_distance,")
    assert len(ranks) == 2 * 15
    assert "| progressive | LEEP | 1.00 ± 0 |" in to_markdown(ranks)
    assert "On 100 training samples of each task." in pairs.note


def test_without_measured_gains_nothing_is_ranked(tmp_path: Path, results: Results) -> None:
    save(tmp_path, results, gains=False)
    found = read_relatednesses(tmp_path, compare(results))
    assert [one.ranking for one in found] == [(), ()]
    assert "gain" not in to_csv(pair_table(found)).splitlines()[0]
    assert len(ranking_table(found)) == 0


def test_geometry_is_averaged_and_tabled(results: Results) -> None:
    runs = [run for run in results if run.strategy == "progressive"]
    (found,) = make_shapes({"progressive": {(0, run.seed): make_geometry(run) for run in runs}})
    assert (found.strategy, found.seeds, len(found.tasks)) == ("progressive", 3, 3)
    task = found.tasks[1]
    assert (task.task, task.sites) == (2, ("2", "4"))
    assert task.ratio.mean == pytest.approx([2.1, 1.1])
    assert task.ratio.at(0).half_width == pytest.approx(4.302653 * 0.1 / np.sqrt(3), rel=1e-5)
    assert task.shuffled.mean.tolist() == [9, 9]
    text = to_markdown(geometry_table((found,)))
    assert (
        "| progressive | 2 | 4 | 1.100 ± 0.248 | 1.000 ± 0 | 1.100 ± 0.248 | 9.000 ± 0 | 0.250 ± 0 | 2.000 ± 0 |"
        in text
    )


def test_columns_with_other_sites_are_not_averaged(results: Results) -> None:
    one, other = (make_geometry(run) for run in results[:2])
    moved = replace(other, tasks=tuple(replace(task, sites=("2", "6")) for task in other.tasks))
    with pytest.raises(RunFolderError, match="progressive: required columns with one kind of sites, found 2 kinds"):
        make_shapes({"progressive": {(0, 0): one, (0, 1): moved}})


def test_records_of_other_runs_or_settings_are_refused(tmp_path: Path, results: Results) -> None:
    save(tmp_path, results)
    comparison, place = compare(results), tmp_path / "progressive" / "1"
    whole = read_relatedness(place)
    write_relatedness(place, replace(whole, digests={"column 0": "other"}))
    with pytest.raises(RunFolderError, match="relatedness.json: required the record of the run beside it, found"):
        read_relatednesses(tmp_path, comparison)
    write_relatedness(place, replace(whole, settings={"pair_samples": 7}))
    with pytest.raises(RunFolderError, match="progressive: required records with one kind of settings, found"):
        read_relatednesses(tmp_path, comparison)


def test_orders_are_averaged_within_a_seed() -> None:
    runs = make_results(["progressive"], seeds=2, orders=2, n_tasks=3)
    found = put_together("progressive", {(run.order, run.seed): make_relatedness(run) for run in runs})
    assert found.gain.n == found.seeds == 2
