"""The analysis of a run folder: from the files alone, kept where it is finished, refused where it does not belong."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prognet.analysed import ANALYSIS_FILE, Look, Pairs, read_analysis
from prognet.errors import RunFolderError
from prognet.evaluation import Analysed, analyse, grid
from prognet.evaluation.looking import analyse_column
from prognet.related import GEOMETRY_FILE, RELATEDNESS_FILE
from prognet.results import RunResult
from prognet.strategies import FineTune, Independent, Progressive, ProgressiveRandom
from prognet.streams.stream import Stream
from tests.helpers.commands import Recorder, content
from tests.helpers.data import blobs
from tests.helpers.runs import MEASUREMENT, NORMED, TRAINING, quick_run
from tests.helpers.sealing import reseal, unsealed

PAIRS = Pairs(pair_samples=8, tag_steps=1)
LOOK = Look(samples=20, repeats=1, batch_size=8, pairs=PAIRS)
FIRST, SECOND = (f"runs/progressive/order-0-seed-{seed}" for seed in (0, 1))
NO_LATERALS = "its columns do not read each other"


def again(result: RunResult) -> Stream:
    return blobs((2, 3, 2), per_class=8, seed=result.order)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Columns with and without laterals, two seeds, three tasks, and BatchNorm."""
    folder = tmp_path_factory.mktemp("runs")
    strategies = [Progressive(NORMED), ProgressiveRandom(NORMED), Independent(NORMED), FineTune(NORMED)]
    make = lambda order: blobs((2, 3, 2), per_class=8, seed=order)  # noqa: E731
    grid(strategies, make, out=folder, seeds=(0, 1), training=TRAINING, measurement=MEASUREMENT, device="cpu")
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def found_in(folder: Path, **changes: Any) -> dict[str, Analysed]:
    arguments = {"make_stream": again, "look": LOOK, "device": "cpu", **changes}
    return {one.run: one for one in analyse(folder, **arguments)}


def test_every_run_with_laterals_is_analysed_and_the_others_say_why(folder: Path) -> None:
    before = content(folder)
    found = found_in(folder)
    assert len(found) == 8
    for name, one in found.items():
        reads = name.startswith("runs/progressive")
        assert (one.columns, one.problem) == ((3, None) if reads else (0, NO_LATERALS))
        assert not one.failed
        assert (folder / name / ANALYSIS_FILE).exists() == reads
        columns = not name.startswith("runs/finetune")
        assert (folder / name / RELATEDNESS_FILE).exists() == (folder / name / GEOMETRY_FILE).exists() == columns
    after = content(folder)
    assert {name: after[name] for name in before} == before
    assert len(after) == len(before) + 4 + 2 * 6


def test_the_file_holds_what_is_measured_on_the_trained_network(tmp_path: Path) -> None:
    stream = blobs((2, 3, 2))
    result = quick_run(Progressive(NORMED), stream, out=tmp_path, seed=5)
    (one,) = analyse(tmp_path, lambda result: stream, look=LOOK, device="cpu")
    assert one == Analysed("runs/progressive/order-0-seed-5", 3, None)
    stored = read_analysis(tmp_path / one.run)
    assert (stored.strategy, stored.order, stored.seed) == ("progressive", 0, 5)
    assert stored.settings == LOOK.of_columns
    assert stored.digests == result.digests[-1]
    network = result.learner.columns.network
    for label, column in enumerate(stored.columns):
        expected = analyse_column(network, label, stream[label], LOOK, 5)
        assert (column.task, column.sites, column.columns) == (label, expected.sites, tuple(range(label + 1)))
        assert (column.accuracy, column.total_loss) == (expected.accuracy, expected.total_loss)
        for name in ("fisher", "perturbation", "loss", "source_loss", "similarity"):
            np.testing.assert_array_equal(getattr(column, name), getattr(expected, name))
    assert stored.last is stored.columns[-1]


def test_columns_of_no_task_take_part_and_are_not_looked_at(folder: Path) -> None:
    found_in(folder)
    analysis = read_analysis(folder / FIRST.replace("progressive", "progressive-random"))
    assert [column.task for column in analysis.columns] == [0, 1, 2]
    assert [column.columns for column in analysis.columns] == [(0,), (1, 2), (1, 3, 4)]


def test_the_last_column_alone(folder: Path) -> None:
    found = found_in(folder, look=Look(columns="last", samples=20, repeats=1, pairs=PAIRS))
    assert found[FIRST].columns == 1
    assert read_analysis(folder / FIRST).last.task == 2


def test_what_is_finished_is_kept_and_other_settings_are_looked_at_anew(folder: Path) -> None:
    stopped = analyse(folder, again, look=LOOK, device="cpu", observer=Recorder(at=4, do=stop))
    seen: list[Analysed] = []
    with pytest.raises(KeyboardInterrupt):
        seen.extend(stopped)
    assert (folder / FIRST / ANALYSIS_FILE).exists()
    assert not (folder / SECOND / ANALYSIS_FILE).exists()
    before = content(folder / FIRST)
    recorder = Recorder()
    found_in(folder, observer=recorder)
    assert content(folder / FIRST) == before
    assert recorder.named("begin") == [(24,)]
    assert len(recorder.named("start")) == len(recorder.named("end")) == 8
    assert recorder.updates == 9  # three columns each, of the three runs that were left
    found_in(folder, look=Look(samples=10, repeats=1, pairs=PAIRS))
    assert read_analysis(folder / FIRST).settings["samples"] == 10


def stop() -> None:
    raise KeyboardInterrupt


def test_other_data_are_refused_run_by_run(folder: Path) -> None:
    found = found_in(folder, make_stream=lambda result: blobs((2, 3, 2), per_class=9))
    assert found[FIRST].failed
    problem = str(found[FIRST].problem)
    assert problem.startswith("stream: required the samples of the run, digest ")
    assert problem.endswith("in 'blobs', order 0; name the folder of the same data.")
    assert found["runs/independent/order-0-seed-0"].failed  # its tasks are looked at as well
    assert found["runs/finetune/order-0-seed-0"].problem == NO_LATERALS


def test_a_changed_column_is_refused_alone(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = next((folder / FIRST).glob("state-*.safetensors"))
    tensors = load_file(path)
    next(tensor for name, tensor in tensors.items() if "columns.0.backbone" in name).view(-1)[0] += 1
    save_file(tensors, path)
    found = found_in(folder)
    assert found[FIRST].failed
    assert found[SECOND].problem is None


def test_a_damaged_run_leaves_the_others(folder: Path) -> None:
    path = folder / FIRST / "result.json"
    path.write_bytes(path.read_bytes().replace(b"progressive", b"progressivE", 1))
    found = found_in(folder)
    assert found[FIRST].failed
    assert f"{path}: required the content with SHA-256 " in str(found[FIRST].problem)
    assert f"remove the folder {path.parent} and run the same command again." in str(found[FIRST].problem)
    assert found[SECOND].problem is None


def test_a_damaged_analysis_is_named(folder: Path) -> None:
    found_in(folder)
    path = folder / FIRST / ANALYSIS_FILE
    whole = unsealed(path)
    changes: list[dict[str, Any]] = [{"columns": []}, {"columns": [{}]}, {"columns": 3}, {"other": 1}]
    for change in changes:
        reseal(path, whole | change)
        with pytest.raises(
            RunFolderError, match=f"{path}: {next(iter(change))}.*: required .*; remove the file and run"
        ):
            read_analysis(path.parent)
    assert found_in(folder)[FIRST].failed
    reseal(path, whole | {"version": 99})
    with pytest.raises(RunFolderError, match="required version 2 of prognet.analysis, found 99"):
        read_analysis(path.parent)


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="folder: required at least one finished run below"):
        next(analyse(tmp_path, again))
