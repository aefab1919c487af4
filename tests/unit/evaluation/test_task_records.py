"""Relatedness and geometry of stored runs: what the files hold, when they are made, and when they are made again."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from prognet.analysed import Look, Pairs
from prognet.analysis import column_geometry
from prognet.config import Training
from prognet.errors import RunFolderError
from prognet.evaluation import analyse, grid
from prognet.evaluation.gains import measure_gains
from prognet.evaluation.looking import drawn
from prognet.evaluation.relating import relate
from prognet.related import (
    GEOMETRY_FILE,
    RELATEDNESS_FILE,
    read_geometry,
    read_relatedness,
    write_geometry,
    write_relatedness,
)
from prognet.results import RunResult
from prognet.seeds import derive_seed
from prognet.strategies import FineTune, Independent, Progressive
from prognet.streams.stream import Stream
from tests.helpers.commands import Recorder, content
from tests.helpers.data import blobs
from tests.helpers.runs import MEASUREMENT, NORMED, TRAINING, make_session, quick_run
from tests.helpers.sealing import reseal, unsealed

PAIRS = Pairs(pair_samples=12, tag_steps=2)
LOOK = Look(samples=12, repeats=1, batch_size=8, columns="last", pairs=PAIRS)
GAINS = replace(LOOK, pairs=replace(PAIRS, gains=True))
PLACE = "runs/progressive/order-0-seed-0"


def again(result: RunResult) -> Stream:
    return blobs((2, 3, 2), per_class=8, seed=result.order)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    strategies = [Progressive(NORMED), Independent(NORMED), FineTune(NORMED)]
    make = lambda order: blobs((2, 3, 2), per_class=8, seed=order)  # noqa: E731
    grid(strategies, make, out=folder, seeds=(0,), training=TRAINING, measurement=MEASUREMENT, device="cpu")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def test_the_files_hold_what_is_measured_on_the_trained_network(tmp_path: Path) -> None:
    stream = blobs((2, 3, 2))
    result = quick_run(Progressive(NORMED), stream, out=tmp_path, seed=5)
    list(analyse(tmp_path, lambda result: stream, look=LOOK, device="cpu"))
    place = tmp_path / "runs/progressive/order-0-seed-5"
    pairs, classes = read_relatedness(place), read_geometry(place)
    columns = result.learner.columns
    expected = relate(columns.network, columns.column_of, list(stream), NORMED, PAIRS, seed=5, batch_size=8)
    assert (pairs.strategy, pairs.order, pairs.seed) == (classes.strategy, classes.order, classes.seed)
    assert (pairs.strategy, pairs.order, pairs.seed) == ("progressive", 0, 5)
    assert pairs.settings == asdict(PAIRS)
    assert classes.settings == {"samples": 12}
    assert pairs.digests == classes.digests == result.digests[-1]
    assert pairs.samples == expected.samples == (12, 12, 12)
    for key in expected.values:
        np.testing.assert_array_equal(pairs.values[key], expected.values[key])
        np.testing.assert_array_equal(pairs.shuffled[key], expected.shuffled[key])
    assert np.isnan(pairs.gain).all()
    for label, task in enumerate(stream):
        x, y = drawn(task, task.test, 12, 5, "geometry", columns.network.column(0).backbone[1].weight.device)
        seed = derive_seed(5, label, "geometry control")
        shape = column_geometry(columns.network, label, x, y, task.n_classes, seed=seed, batch_size=8)
        assert classes.tasks[label].sites == shape.sites
        np.testing.assert_array_equal(classes.tasks[label].ratio, [site.ratio for site in shape.classes])
        np.testing.assert_array_equal(classes.tasks[label].shuffled, [site.ratio for site in shape.shuffled])


def test_gains_are_measured_when_they_are_asked_for(folder: Path) -> None:
    recorder = Recorder()
    found = list(analyse(folder, again, look=GAINS, device="cpu", observer=recorder))
    assert not [one for one in found if one.failed]
    assert recorder.named("begin") == [(3 * (1 + 5),)]
    assert recorder.updates == 5 + 5 + 1  # columns that were trained, of two runs, and one that was looked at
    pairs = read_relatedness(folder / PLACE)
    above = np.triu_indices(3, 1)
    assert np.isfinite(pairs.gain[above]).all()
    assert np.isfinite(pairs.alone[1:]).all()
    assert pairs.settings["gains"]


def test_gains_are_those_of_the_run_s_own_training(folder: Path) -> None:
    list(analyse(folder, again, look=GAINS, device="cpu"))
    pairs = read_relatedness(folder / PLACE.replace("progressive", "independent"))
    learner = quick_run(Independent(NORMED), blobs((2, 3, 2), per_class=8)).learner
    session = make_session(Training(**{**asdict(TRAINING), "augment": ()}))
    columns = learner.columns
    found = measure_gains(columns.network, columns.column_of, list(blobs((2, 3, 2), per_class=8)), NORMED, session)
    np.testing.assert_array_equal(pairs.gain, found.gain)


def test_what_is_there_is_kept_and_other_settings_make_it_anew(folder: Path) -> None:
    list(analyse(folder, again, look=LOOK, device="cpu"))
    before = content(folder)
    list(analyse(folder, again, look=LOOK, device="cpu"))
    assert content(folder) == before
    other = replace(LOOK, pairs=replace(PAIRS, pair_samples=10))
    list(analyse(folder, again, look=other, device="cpu"))
    assert read_relatedness(folder / PLACE).samples == (10, 10, 10)
    (folder / PLACE / GEOMETRY_FILE).unlink()
    list(analyse(folder, again, look=other, device="cpu"))
    assert (folder / PLACE / GEOMETRY_FILE).exists()


def test_records_of_other_parts_are_made_anew(folder: Path) -> None:
    list(analyse(folder, again, look=LOOK, device="cpu"))
    place = folder / PLACE
    before = read_relatedness(place)
    write_relatedness(place, replace(before, digests={"column 0": "other"}))
    write_geometry(place, replace(read_geometry(place), digests={"column 0": "other"}))
    list(analyse(folder, again, look=LOOK, device="cpu"))
    assert read_relatedness(place).digests == read_geometry(place).digests == before.digests


def test_tasks_that_are_no_classifications_have_no_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prognet.evaluation.task_records.related", lambda tasks: False)
    found = list(analyse(folder, again, look=LOOK, device="cpu"))
    assert not [one for one in found if one.failed]
    assert not list(folder.rglob(RELATEDNESS_FILE))


def test_a_damaged_file_is_named(folder: Path) -> None:
    list(analyse(folder, again, look=LOOK, device="cpu"))
    path = folder / PLACE / RELATEDNESS_FILE
    path.write_text(path.read_text().replace('"gain"', '"won"'))
    with pytest.raises(
        RunFolderError, match=f"{path}: required the content with SHA-256 .*; the file was edited or is "
    ):
        read_relatedness(path.parent)
    reseal(path, unsealed(path))
    with pytest.raises(RunFolderError, match=f"{path}: won: required one of the fields .*; remove the"):
        read_relatedness(path.parent)
    found = {one.run: one for one in analyse(folder, again, look=LOOK, device="cpu")}
    assert found[PLACE].failed
