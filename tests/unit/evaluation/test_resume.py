"""A run that was killed ends bit-identical to one that was not."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from torch import Tensor

from prognet.config import Training
from prognet.evaluation.store import RunStore
from prognet.results import RESULT_FILE, RunResult, load_results
from tests.helpers.runs import KINDS, NORMED, TRAINING, assert_same_numbers, assert_same_tensors, quick_run, tensors
from tests.helpers.streams import make_stream

STREAM = make_stream()
ROOT = Path(__file__).parents[3]


class Killed(BaseException):
    """Stands in for the end of the process: nothing catches it."""


@cache
def undisturbed(kind: str, training: Training = TRAINING) -> tuple[RunResult, Mapping[str, Tensor]]:
    result = quick_run(KINDS[kind](NORMED), STREAM, training=training)
    return result, tensors(result.learner)


def killed_at(call: int, function: Callable[..., Any] = lambda *arguments: None, after: bool = False) -> Any:
    """`function`, but the process ends at one of its calls, counted from 1; `after` its work or before."""
    calls = []

    def wrapped(*arguments: Any) -> Any:
        calls.append(arguments)
        if len(calls) == call and not after:
            raise Killed
        value = function(*arguments)
        if len(calls) == call:
            raise Killed
        return value

    return wrapped


@cache
def undisturbed_proof(kind: str, training: Training = TRAINING) -> bytes:
    with TemporaryDirectory() as folder:
        quick_run(KINDS[kind](NORMED), STREAM, training=training, out=folder)
        (path,) = Path(folder).rglob("proof-*.safetensors")
        return path.read_bytes()


def assert_ends_undisturbed(kind: str, out: Path, training: Training = TRAINING) -> None:
    """Runs again in the same folder, and once more from what is then in it."""
    required, numbers = undisturbed(kind, training)
    resumed = quick_run(KINDS[kind](NORMED), STREAM, out=out, training=training)
    assert_same_numbers(resumed, required)
    assert_same_tensors(tensors(resumed.learner), numbers)
    assert_same_numbers(load_results(out)[0], required)
    assert load_results(out)[0] == resumed
    (path,) = out.rglob("proof-*.safetensors")
    assert path.read_bytes() == undisturbed_proof(kind, training)


@pytest.mark.parametrize(("kind", "epoch"), [*((kind, epoch) for kind in KINDS for epoch in (3, 6)), ("finetune", 1)])
def test_an_interrupted_run_ends_undisturbed(kind: str, epoch: int, tmp_path: Path) -> None:
    steps = len(undisturbed(kind)[0].schedule)
    with pytest.raises(Killed):
        quick_run(KINDS[kind](NORMED), STREAM, out=tmp_path, advance=killed_at(min(epoch, 2 * steps)))
    progress = RunStore.of(tmp_path, KINDS[kind](NORMED).name, 0, 0).progress()
    finished = (min(epoch, 2 * steps) - 1) // 2
    assert (0 if progress is None else len(progress.schedule)) == finished
    assert_ends_undisturbed(kind, tmp_path)


def test_a_run_that_is_killed_again_and_again_ends_undisturbed(tmp_path: Path) -> None:
    for call in (4, 4, 3):  # a resumed run first tells what was finished: killed in step 1, in step 2, in step 2
        with pytest.raises(Killed):
            quick_run(KINDS["progressive"](NORMED), STREAM, out=tmp_path, advance=killed_at(call))
    assert_ends_undisturbed("progressive", tmp_path)


@pytest.mark.parametrize("kind", ["progressive", "finetune-head"])
def test_early_stopping_and_a_schedule_resume_too(kind: str, tmp_path: Path) -> None:
    training = Training(epochs=5, batch_size=16, lr=0.1, schedule="cosine", patience=1, optimiser="sgd", momentum=0.9)
    epochs = [len(curve.validation) for curve in undisturbed(kind, training)[0].curves]
    with pytest.raises(Killed):
        observer = killed_at(epochs[0] + 1)
        quick_run(KINDS[kind](NORMED), STREAM, out=tmp_path, training=training, advance=observer)
    assert_ends_undisturbed(kind, tmp_path, training)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("write", range(1, 14))
def test_a_kill_around_any_write_is_survived(
    write: int, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # proof, weights, progress and its promotion of the three steps are writes 1 to 12, the result is the thirteenth
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at(write, Path.replace, after))
        with pytest.raises(Killed):
            quick_run(KINDS["progressive"](NORMED), STREAM, out=tmp_path)
    if write == 13 and after:
        assert_same_numbers(
            quick_run(KINDS["progressive"](NORMED), STREAM, out=tmp_path), undisturbed("progressive")[0]
        )
    else:
        assert_ends_undisturbed("progressive", tmp_path)


@pytest.mark.parametrize("removal", [1, 2])
def test_a_kill_before_old_weights_are_removed_is_survived(
    removal: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    removed: list[str] = []
    unlink = Path.unlink

    def killing(path: Path, missing_ok: bool = False) -> None:
        if path.name.startswith("state-"):
            removed.append(path.name)
            if len(removed) == removal:
                raise Killed
        unlink(path, missing_ok)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killing)
        with pytest.raises(Killed):
            quick_run(KINDS["finetune"](NORMED), STREAM, out=tmp_path)
    assert_ends_undisturbed("finetune", tmp_path)
    folder = RunStore.of(tmp_path, "finetune", 0, 0).folder
    assert sorted(path.name for path in folder.iterdir()) == ["proof-3.safetensors", RESULT_FILE, "state-3.safetensors"]


CHILD = """
import os, signal, sys, torch
torch.set_num_threads(1)
from tests.helpers.runs import KINDS, NORMED, quick_run
from tests.helpers.streams import make_stream

told = []

def advance(updates):
    told.append(updates)
    if len(told) == 4:
        os.kill(os.getpid(), signal.SIGKILL)

quick_run(KINDS["progressive"](NORMED), make_stream(), out=sys.argv[1], advance=advance)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGKILL")
def test_a_process_that_was_killed_is_continued_by_another(tmp_path: Path) -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", CHILD, str(tmp_path)]
    child = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert child.returncode == -signal.SIGKILL, child.stderr.decode()
    progress = RunStore.of(tmp_path, "progressive", 0, 0).progress()
    assert progress is not None
    assert progress.schedule == ((0,),)
    assert_ends_undisturbed("progressive", tmp_path)
