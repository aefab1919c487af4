import errno
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from prognet.backbones import mlp
from prognet.config import Measurement, Training
from prognet.errors import CheckpointError, RunFolderError
from prognet.evaluation.store import PROGRESS_FILE, RunStore
from prognet.results import RESULT_FILE, load_results, result_to_json
from prognet.strategies import FineTune, Progressive, base
from prognet.streams.stream import Stream
from tests.helpers.runs import KINDS, NORMED, PLAIN, TRAINING, quick_run
from tests.helpers.sealing import edit, sealed
from tests.helpers.streams import make_stream

STREAM = make_stream()


def interrupted_after(epochs: int) -> Callable[[int], None]:
    """An observer that is interrupted at the end of an epoch; three steps have two epochs each."""
    told = []

    def advance(updates: int) -> None:
        told.append(updates)
        if len(told) == epochs:
            raise KeyboardInterrupt

    return advance


def begin(out: Path, epochs: int = 3) -> RunStore:
    """A run of fine-tuning that was interrupted in its second step."""
    with pytest.raises(KeyboardInterrupt):
        quick_run(FineTune(NORMED), STREAM, out=out, advance=interrupted_after(epochs))
    return RunStore.of(out, "finetune", 0, 0)


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_run_has_a_folder_of_its_own(tmp_path: Path) -> None:
    assert RunStore.of(tmp_path, "finetune", 2, 7).folder == tmp_path / "runs" / "finetune" / "order-2-seed-7"


def test_an_unfinished_run_leaves_its_last_step(tmp_path: Path) -> None:
    store = begin(tmp_path)
    assert names(store.folder) == [PROGRESS_FILE, "proof-1.safetensors", "state-1.safetensors"]
    progress = store.progress()
    assert progress is not None
    assert progress.schedule == ((0,),)
    assert store.finished() is None


def test_a_run_that_is_interrupted_in_its_first_step_leaves_nothing(tmp_path: Path) -> None:
    assert not begin(tmp_path, epochs=1).folder.exists()


@pytest.mark.parametrize("kind", KINDS)
def test_a_finished_run_leaves_result_and_weights(kind: str, tmp_path: Path) -> None:
    result = quick_run(KINDS[kind](NORMED), STREAM, out=tmp_path)
    steps = len(result.schedule)
    store = RunStore.of(tmp_path, result.strategy, 0, 0)
    assert names(store.folder) == [f"proof-{steps}.safetensors", RESULT_FILE, f"state-{steps}.safetensors"]
    assert store.finished() == result
    assert store.progress() is None


def test_a_finished_run_is_read_and_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = quick_run(Progressive(NORMED), STREAM, out=tmp_path)
    folder = RunStore.of(tmp_path, "progressive", 0, 0).folder
    times = {path: path.stat().st_mtime_ns for path in folder.iterdir()}
    monkeypatch.setattr(base, "fit", None)
    second = quick_run(Progressive(NORMED), STREAM, out=tmp_path)
    assert second == first  # times and memory included
    assert second.learner is None
    assert {path: path.stat().st_mtime_ns for path in folder.iterdir()} == times


def test_strategies_seeds_and_orders_have_different_folders(tmp_path: Path) -> None:
    other_order = Stream(list(STREAM), name=STREAM.name, seed=1)
    quick_run(FineTune(PLAIN), STREAM, out=tmp_path)
    quick_run(FineTune(PLAIN), STREAM, out=tmp_path, seed=1)
    quick_run(FineTune(PLAIN), other_order, out=tmp_path)
    quick_run(FineTune(PLAIN, name="mine"), STREAM, out=tmp_path)
    found = [(run.strategy, run.order, run.seed) for run in load_results(tmp_path)]
    assert found == [("finetune", 0, 0), ("finetune", 0, 1), ("finetune", 1, 0), ("mine", 0, 0)]


OTHERS: dict[str, dict[str, Any]] = {
    "training": {"training": replace(TRAINING, lr=0.02)},
    "measurement": {"measurement": Measurement()},
    "backbone": {"strategy": FineTune(mlp(hidden=(8, 7)))},
    "strategy": {"strategy": Progressive(NORMED, name="finetune")},
    "stream": {"stream": make_stream((2, 5, 3), [40, 40, 41])},
}


@pytest.mark.parametrize("finished", [True, False], ids=["finished", "unfinished"])
@pytest.mark.parametrize("key", OTHERS)
def test_another_run_in_the_same_folder_is_refused(key: str, finished: bool, tmp_path: Path) -> None:
    if finished:
        quick_run(FineTune(NORMED), STREAM, out=tmp_path)
    else:
        begin(tmp_path)
    folder = RunStore.of(tmp_path, "finetune", 0, 0).folder
    before = {path: path.read_bytes() for path in folder.iterdir()}
    arguments = {"strategy": FineTune(NORMED), "stream": STREAM, "out": tmp_path, **OTHERS[key]}
    with pytest.raises(RunFolderError) as caught:
        quick_run(arguments.pop("strategy"), arguments.pop("stream"), **arguments)
    assert str(caught.value).startswith(f"{folder}: required a run with {key} = ")
    assert str(caught.value).endswith("; choose another folder, or remove this one.")
    assert {path: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize("key", ["torch", "prognet", "device"])
def test_an_unfinished_run_of_another_environment_is_refused(key: str, tmp_path: Path) -> None:
    store = begin(tmp_path)
    edit(store.folder / PROGRESS_FILE, lambda document: document["environment"].update({key: "0.0"}))
    with pytest.raises(RunFolderError) as caught:
        quick_run(FineTune(NORMED), STREAM, out=tmp_path)
    message = f"{store.folder}: required {key} '0.0', with which this run was begun, found "
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("; go on with that one, or remove the run's folder to begin it again.")


def test_a_finished_run_of_another_environment_is_read(tmp_path: Path) -> None:
    quick_run(FineTune(NORMED), STREAM, out=tmp_path)
    path = RunStore.of(tmp_path, "finetune", 0, 0).folder / RESULT_FILE
    edit(path, lambda document: document["environment"].update({"torch": "0.0"}))
    assert quick_run(FineTune(NORMED), STREAM, out=tmp_path).environment["torch"] == "0.0"


def test_a_run_goes_on_with_the_threads_with_which_it_was_begun(tmp_path: Path) -> None:
    store = begin(tmp_path)
    threads = torch.get_num_threads()
    edit(store.folder / PROGRESS_FILE, lambda document: document["environment"].update({"threads": threads + 1}))
    seen: list[int] = []
    result = quick_run(
        FineTune(NORMED), STREAM, out=tmp_path, advance=lambda updates: seen.append(torch.get_num_threads())
    )
    assert set(seen) == {threads + 1}
    assert torch.get_num_threads() == threads
    assert result.environment["threads"] == threads + 1


@pytest.mark.parametrize("size", [0, 7, 100, -1])
def test_a_truncated_file_of_weights_is_named(size: int, tmp_path: Path) -> None:
    path = begin(tmp_path).folder / "state-1.safetensors"
    path.write_bytes(path.read_bytes()[:size])
    with pytest.raises(CheckpointError) as caught:
        quick_run(FineTune(NORMED), STREAM, out=tmp_path)
    assert str(caught.value).startswith(f"{path}: required a whole safetensors file, found a damaged one (")


def test_a_missing_file_of_weights_is_named(tmp_path: Path) -> None:
    path = begin(tmp_path).folder / "state-1.safetensors"
    path.unlink()
    with pytest.raises(CheckpointError) as caught:
        quick_run(FineTune(NORMED), STREAM, out=tmp_path)
    assert str(caught.value) == (
        f"{path}: required a safetensors file, found none; remove the folder {path.parent} and run the same command "
        "again."
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "required a prognet.progress file, found unreadable content"),
        ('{"schema": "prognet.result", "version": 1}', "required schema 'prognet.progress', found 'prognet.result'."),
        ('{"schema": "prognet.progress", "version": 99}', "required version 3 of prognet.progress, found 99"),
        ('{"schema": "prognet.progress", "version": 3}', "required a last line with the SHA-256 of what stands before"),
        (
            sealed({"schema": "prognet.progress", "version": 3}).decode(),
            "strategy: required a value, found none; remove",
        ),
    ],
)
def test_a_damaged_progress_file_is_named(text: str, message: str, tmp_path: Path) -> None:
    path = begin(tmp_path).folder / PROGRESS_FILE
    path.write_text(text)
    with pytest.raises(RunFolderError) as caught:
        quick_run(FineTune(NORMED), STREAM, out=tmp_path)
    assert str(caught.value).startswith(f"{path}: {message}")


@pytest.mark.parametrize("field", ["schedule", "metrics", "curves", "costs", "digests", "tasks"])
def test_a_progress_file_with_a_field_of_another_form_is_refused(field: str, tmp_path: Path) -> None:
    path = begin(tmp_path).folder / PROGRESS_FILE
    edit(path, lambda document: document.update({field: 3}))
    with pytest.raises(
        RunFolderError,
        match=rf"progress.json: {field}: required .*, found 3; remove the folder .*order-0-seed-0 and run",
    ):
        quick_run(FineTune(NORMED), STREAM, out=tmp_path)


@pytest.mark.parametrize("write", range(4, 11))
def test_a_full_disk_leaves_the_step_before_and_costs_no_finished_work(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # proof, weights and progress of the three steps are writes 1 to 9, the result is the tenth
    undisturbed = quick_run(FineTune(NORMED), STREAM)
    calls, sync = [], os.fsync

    def failing(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == write:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", failing)
    with pytest.raises(RunFolderError, match=r"could not be written \(No space left on device\); free space or"):
        quick_run(FineTune(NORMED), STREAM, out=tmp_path)
    monkeypatch.setattr(os, "fsync", sync)
    store = RunStore.of(tmp_path, "finetune", 0, 0)
    progress = store.progress()
    assert progress is not None
    assert len(progress.schedule) == (write - 1) // 3
    assert store.weights_of(progress).exists()
    assert not [name for name in names(store.folder) if name.startswith(".")]
    told: list[int] = []
    resumed = quick_run(FineTune(NORMED), STREAM, out=tmp_path, advance=told.append)
    assert len(told) == 1 + 2 * (3 - len(progress.schedule))  # what was finished, then two epochs a step
    assert sum(told) == sum(cost.updates for cost in undisturbed.costs)
    assert result_to_json(resumed)["metrics"] == result_to_json(undisturbed)["metrics"]


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "runs").write_text("a file in the way")
    with pytest.raises(RunFolderError, match="could not be written"):
        quick_run(FineTune(PLAIN), make_stream((2,)), out=tmp_path, training=Training(epochs=1))
