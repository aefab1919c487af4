"""The records of relatedness and geometry: read back as they were written, damaged ones refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prognet.errors import RunFolderError
from prognet.related import (
    GEOMETRY_FILE,
    PAIR_KEYS,
    PAIR_MEASURES,
    RELATEDNESS_FILE,
    read_geometry,
    read_relatedness,
    write_geometry,
    write_relatedness,
)
from tests.helpers.relations import make_geometry, make_relatedness
from tests.helpers.results import make_run
from tests.helpers.sealing import edit, reseal, unsealed


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    run = make_run("progressive", n_tasks=3, seed=4)
    found, shape = make_relatedness(run), make_geometry(run)
    found.values["mmd"][0, 1] = np.inf
    assert write_relatedness(tmp_path, found) == tmp_path / RELATEDNESS_FILE
    assert write_geometry(tmp_path, shape) == tmp_path / GEOMETRY_FILE
    again, shape_again = read_relatedness(tmp_path), read_geometry(tmp_path)
    assert (again.strategy, again.seed, again.samples) == ("progressive", 4, (100, 100, 100))
    assert (again.settings, again.digests) == (found.settings, found.digests)
    for key in PAIR_KEYS:
        np.testing.assert_array_equal(again.values[key], found.values[key])
        np.testing.assert_array_equal(again.shuffled[key], found.shuffled[key])
    np.testing.assert_array_equal(again.gain, found.gain)
    for one, other in zip(shape_again.tasks, shape.tasks, strict=True):
        assert (one.task, one.sites) == (other.task, other.sites)
        np.testing.assert_array_equal(one.ratio, other.ratio)
        np.testing.assert_array_equal(one.nc1, other.nc1)


def test_the_ratio_of_classes_that_never_differ_is_undefined() -> None:
    task = make_geometry(make_run("progressive", n_tasks=1)).tasks[0]
    found = replace(task, within=np.array([2.0, 1.0]), between=np.array([4.0, 0.0])).ratio
    np.testing.assert_array_equal(found, [0.5, np.nan])


@pytest.mark.parametrize(
    "change", [{"samples": ["1"]}, {"gain": 3}, {"gain": [[1.0]]}, {"values": []}, {"shuffled": {}}, {"more": 1}]
)
def test_a_damaged_relatedness_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    path = write_relatedness(tmp_path, make_relatedness(make_run("progressive", n_tasks=3)))
    edit(path, lambda document: document.update(change))
    with pytest.raises(RunFolderError, match=f"relatedness.json: {next(iter(change))}.*: required .*; remove the file"):
        read_relatedness(tmp_path)


def test_a_damaged_geometry_and_another_version_are_refused(tmp_path: Path) -> None:
    path = write_geometry(tmp_path, make_geometry(make_run("progressive", n_tasks=2)))
    whole = unsealed(path)
    reseal(path, whole | {"tasks": [{"sites": ["2"]}]})
    with pytest.raises(RunFolderError, match=r"geometry.json: tasks\[0\].task: required a value, found none"):
        read_geometry(tmp_path)
    reseal(path, whole | {"version": 9})
    with pytest.raises(RunFolderError, match="required version 2 of prognet.geometry, found 9"):
        read_geometry(tmp_path)


def test_measures_have_names_of_their_own_and_a_direction() -> None:
    assert len(set(PAIR_KEYS)) == len({measure.title for measure in PAIR_MEASURES}) == len(PAIR_MEASURES)
    assert {measure.sign for measure in PAIR_MEASURES} == {-1, 1}
