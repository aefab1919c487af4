import errno
import fcntl
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prognet.config import Execution
from prognet.errors import LockedError, RunFolderError, UnwritableError
from prognet.evaluation import grid, locking, verify
from prognet.evaluation.locking import comparison_locked, runs_locked
from prognet.evaluation.replication import run_together
from prognet.evaluation.store import RunStore
from prognet.results import RunResult, load_results
from prognet.strategies import FineTune
from tests.helpers.runs import MEASUREMENT, PLAIN, TRAINING, make_session, quick_run
from tests.helpers.streams import make_stream

STREAM = make_stream((2, 2))

CHILD = """
import fcntl, json, os, sys, time
file = open(sys.argv[1], "a+")
fcntl.flock(file, fcntl.LOCK_EX)
file.truncate(0)
file.write(sys.argv[2])
file.flush()
print("held", flush=True)
time.sleep(float(sys.argv[3]))
"""
"""Another process that knows nothing of prognet, and holds a lock."""


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does not wait for long."""
    monkeypatch.setattr(locking, "WAIT", 0.05)


@contextmanager
def held(path: Path, said: str = "", seconds: float = 60) -> Iterator["subprocess.Popen[str]"]:
    """Within the block another process holds a lock, for some seconds at most, and has written something into it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-c", CHILD, str(path), said, str(seconds)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "held\n"
        try:
            yield child
        finally:
            child.kill()


def lock_of_run(out: Path, seed: int = 0) -> Path:
    return out / "runs" / "finetune" / f".order-0-seed-{seed}.lock"


def locks(folder: Path) -> list[Path]:
    return list(folder.rglob("*.lock"))


def compare(out: Path, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"seeds": (0,), "training": TRAINING, "measurement": MEASUREMENT, "device": "cpu"}
    return grid([FineTune(PLAIN)], lambda order: STREAM, out=out, **{**arguments, **changes})


def test_the_second_is_told_who_is_at_work_since_when_and_what_to_do(tmp_path: Path) -> None:
    with comparison_locked(tmp_path), pytest.raises(LockedError) as caught, comparison_locked(tmp_path):
        pass
    message, since = str(caught.value), r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00"
    found = re.fullmatch(
        re.escape(
            f"{tmp_path}: required a folder in which no other process is at work, found process {os.getpid()} on "
        )
        + re.escape(f"{socket.gethostname()}, since ")
        + f"({since}), in it; wait until that one has ended, or choose another folder\\.",
        message,
    )
    assert found is not None, message


@pytest.mark.parametrize("said", ["", "no json", "[]", '{"pid": 3}'])
def test_a_holder_that_does_not_say_who_it_is(said: str, tmp_path: Path) -> None:
    with held(tmp_path / ".lock", said), pytest.raises(LockedError, match="found another process in it; wait until"):
        compare(tmp_path)


def test_what_another_process_says_is_shown_as_it_stands(tmp_path: Path) -> None:
    said = json.dumps({"pid": 7, "host": "node-3", "since": "yesterday"})
    with held(tmp_path / ".lock", said), pytest.raises(LockedError, match="process 7 on node-3, since yesterday, in"):
        compare(tmp_path)


def test_the_lock_of_a_process_that_was_killed_is_free(tmp_path: Path) -> None:
    with held(tmp_path / ".lock") as child:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert locks(tmp_path)  # the file is still there, and means nothing
        with comparison_locked(tmp_path):
            pass
    assert not locks(tmp_path)


def test_a_process_that_is_about_to_end_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "WAIT", 30)
    with held(tmp_path / ".lock", seconds=0.3):
        started = time.perf_counter()
        with comparison_locked(tmp_path):
            assert time.perf_counter() - started > 0.1


def test_one_of_many_threads_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "WAIT", 60)
    inside: list[int] = []
    most: list[int] = []

    def work() -> None:
        for _ in range(10):
            with comparison_locked(tmp_path):
                inside.append(1)
                most.append(len(inside))
                time.sleep(0.001)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 40


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list open files")
def test_no_open_file_is_left(tmp_path: Path) -> None:
    def handles() -> int:
        return len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a link may vanish while it is looked at

    before = handles()
    for _ in range(5):
        with (
            comparison_locked(tmp_path),
            runs_locked([tmp_path / "run"]),
            pytest.raises(LockedError),
            comparison_locked(tmp_path),
        ):
            pass
    assert handles() == before


def test_a_comparison_in_a_folder_at_work_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    with held(tmp_path / ".lock"):
        with pytest.raises(LockedError):
            compare(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
    assert compare(tmp_path).failed == {}
    assert not locks(tmp_path)


def test_a_run_that_another_process_carries_out_is_refused(tmp_path: Path) -> None:
    folder = RunStore.of(tmp_path, "finetune", 0, 0).folder
    with held(lock_of_run(tmp_path)):
        with pytest.raises(LockedError) as caught:
            quick_run(FineTune(PLAIN), STREAM, out=tmp_path)
        assert str(caught.value).startswith(f"{folder}: required a folder in which no other process is at work")
        assert not folder.exists()
    quick_run(FineTune(PLAIN), STREAM, out=tmp_path)
    assert not locks(tmp_path)


def test_the_lock_is_held_while_the_run_goes_on(tmp_path: Path) -> None:
    seen = []

    def look(updates: int) -> None:
        with lock_of_run(tmp_path).open() as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                seen.append("held")
            said = json.loads(file.read())
            assert said["pid"] == os.getpid()

    quick_run(FineTune(PLAIN), STREAM, out=tmp_path, advance=look)
    assert seen == ["held"] * 4


def test_different_runs_of_one_folder_may_go_on_at_once(tmp_path: Path) -> None:
    with held(lock_of_run(tmp_path, seed=0)):
        assert quick_run(FineTune(PLAIN), STREAM, out=tmp_path, seed=1).seed == 1


def test_a_failure_to_lock_one_run_is_that_runs_own(tmp_path: Path) -> None:
    with held(lock_of_run(tmp_path, seed=0)):
        outcome = compare(tmp_path, seeds=(0, 1))
    assert [result.seed for result in outcome.results] == [1]
    assert list(outcome.failed) == ["finetune, order 0, seed 0"]
    assert outcome.failed["finetune, order 0, seed 0"].startswith("LockedError: ")


def test_a_finished_run_is_read_whoever_is_at_work(tmp_path: Path) -> None:
    first = quick_run(FineTune(PLAIN), STREAM, out=tmp_path)
    with held(lock_of_run(tmp_path)), held(tmp_path / ".lock"):
        assert quick_run(FineTune(PLAIN), STREAM, out=tmp_path) == first
        assert load_results(tmp_path)[0] == first
        assert [verdict.problem for verdict in verify(tmp_path)] == [None]


def test_one_process_holds_the_locks_of_all_that_are_trained_together(tmp_path: Path) -> None:
    seen = set()
    session = replace(make_session(), advance=lambda updates: seen.add(len(locks(tmp_path))))
    session = replace(session, execution=Execution(stack=3))
    found = run_together(FineTune(PLAIN), [STREAM] * 3, session, (0, 1, 2), 1, tmp_path)
    assert all(isinstance(one, RunResult) for one in found)
    assert seen == {3}
    assert not locks(tmp_path)
    with held(lock_of_run(tmp_path, seed=1)):  # all of them are finished, and only read
        assert run_together(FineTune(PLAIN), [STREAM] * 3, session, (0, 1, 2), 1, tmp_path) == [
            replace(one, learner=None) for one in found if isinstance(one, RunResult)
        ]


def test_runs_that_are_trained_together_are_refused_together(tmp_path: Path) -> None:
    session = replace(make_session(), execution=Execution(stack=2))
    with held(lock_of_run(tmp_path, seed=1)):
        found = run_together(FineTune(PLAIN), [STREAM] * 2, session, (0, 1), 1, tmp_path)
    assert [type(one) for one in found] == [LockedError, LockedError]
    assert "order-0-seed-1: required a folder" in str(found[0])
    assert not list(tmp_path.rglob("*.json"))


def test_what_was_locked_before_the_failure_is_let_go(tmp_path: Path) -> None:
    first, second = (RunStore.of(tmp_path, "finetune", 0, seed).folder for seed in (0, 1))
    with held(lock_of_run(tmp_path, seed=1)):
        with pytest.raises(LockedError), runs_locked([second, first]):
            pass
        with runs_locked([first]):
            pass


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOTSUP, errno.ENOLCK])
def test_a_file_system_without_locks_is_named(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def without(file: int, operation: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", without)
    with pytest.raises(RunFolderError) as caught:
        quick_run(FineTune(PLAIN), STREAM, out=tmp_path)
    folder = RunStore.of(tmp_path, "finetune", 0, 0).folder
    assert str(caught.value) == (
        f"{folder}: required a file system with locks (flock), found one without ({os.strerror(number)}); choose a "
        "folder on another one, or mount it with locks."
    )
    assert not isinstance(caught.value, LockedError | UnwritableError)


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnwritableError) as caught:
        compare(tmp_path / "file" / "out")
    path = tmp_path / "file" / "out" / ".lock"
    assert str(caught.value) == (
        f"{path}: could not be written (Not a directory); make the folder writable or choose another folder, then run "
        "the same command again: finished work is kept."
    )
