"""The analysis of a run folder: from the files alone, kept where it is finished, refused where it does not belong."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prognet.analysed import ANALYSIS_FILE, Look, Pairs, read_analysis
from prognet.errors import RunFolderError
from prognet.evaluation import Analysed, analyse, grid
from prognet.evaluation.looking import analyse_column
from prognet.related import GEOMETRY_FILE, RELATEDNESS_FILE, read_geometry, read_relatedness
from prognet.report import write_report
from prognet.results import RunResult
from prognet.strategies import FineTune, Independent, Progressive, ProgressiveRandom
from prognet.streams import from_arrays
from prognet.streams.stream import Stream
from tests.helpers.commands import Recorder, content
from tests.helpers.data import blobs
from tests.helpers.runs import MEASUREMENT, NORMED, PLAIN, TRAINING, quick_run
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


def kinds(*wanted: str, seed: int = 0) -> Stream:
    """Tasks of these kinds on inputs (N, 6)."""
    x = torch.randn(24, 6, generator=torch.Generator().manual_seed(0))
    y = {"classification": x[:, :3].argmax(1), "regression": 5 * x[:, 0], "multi-label": (x[:, :2] > 0).float()}
    return from_arrays([(x, y[kind], x, y[kind]) for kind in wanted], kinds=list(wanted), seed=seed)  # type: ignore[arg-type]


def test_of_tasks_of_several_kinds_the_classifications_are_looked_at(tmp_path: Path) -> None:
    stream = kinds("classification", "regression", "classification", "multi-label")
    quick_run(Progressive(NORMED), stream, out=tmp_path)
    (one,) = analyse(
        tmp_path, lambda result: stream, look=replace(LOOK, pairs=replace(PAIRS, gains=True)), device="cpu"
    )
    assert (one.columns, one.problem, one.failed) == (2, None, False)
    place = tmp_path / one.run
    assert [column.task for column in read_analysis(place).columns] == [0, 2]
    assert [task.task for task in read_geometry(place).tasks] == [0, 2]
    pairs = read_relatedness(place)
    known = [(0, 2)]
    for matrix in (*pairs.values.values(), pairs.gain):
        assert [(s, t) for s, t in np.argwhere(~np.isnan(matrix)).tolist() if s != t] == known
    assert [count > 0 for count in pairs.samples] == [True, False, True, False]
    (last,) = analyse(tmp_path, lambda result: stream, look=replace(LOOK, columns="last"), device="cpu")
    assert last.columns == 1
    assert [column.task for column in read_analysis(place).columns] == [2]


def test_orders_in_which_other_tasks_classify_are_reported(tmp_path: Path) -> None:
    wanted = {
        0: ("classification", "regression", "classification"),
        1: ("classification", "classification", "regression"),
    }
    shared: dict[str, Any] = {"training": TRAINING, "measurement": MEASUREMENT, "device": "cpu"}
    grid(
        [Progressive(PLAIN)],
        lambda order: kinds(*wanted[order], seed=order),
        out=tmp_path,
        seeds=(0,),
        orders=(0, 1),
        **shared,
    )
    found = list(
        analyse(tmp_path, lambda result: kinds(*wanted[result.order], seed=result.order), look=LOOK, device="cpu")
    )
    assert [one.problem for one in found] == [None, None]
    write_report(tmp_path)
    tables = tmp_path / "tables"
    for name in ("geometry", "reliance"):
        rows = (tables / f"{name}.csv").read_text().splitlines()[1:]
        assert {row.split(",")[1] for row in rows} == {"1"}  # the one position that classifies in both


def test_columns_none_of_which_classifies_say_so(tmp_path: Path) -> None:
    stream = kinds("regression", "multi-label")
    quick_run(Progressive(NORMED), stream, out=tmp_path)
    (one,) = analyse(tmp_path, lambda result: stream, look=LOOK, device="cpu")
    assert (one.columns, one.problem, one.failed) == (0, "none of its columns classifies", False)
    assert not (tmp_path / one.run / ANALYSIS_FILE).exists()


def test_classes_of_one_sample_are_analysed_and_reported(tmp_path: Path) -> None:
    x = torch.randn(12, 6, generator=torch.Generator().manual_seed(0))
    y, every = torch.arange(5), torch.arange(12) % 5
    stream = from_arrays([(x[:5], y, x, every), (x[5:10], y, x + 1, every)], validation=0.0)
    for seed in (0, 1):
        quick_run(Progressive(PLAIN), stream, out=tmp_path, seed=seed)
    assert [one.problem for one in analyse(tmp_path, lambda result: stream, look=LOOK, device="cpu")] == [None, None]
    found = read_relatedness(tmp_path / "runs/progressive/order-0-seed-0")
    assert found.values["class_distance"][0, 1] == np.inf
    assert write_report(tmp_path).exists()
