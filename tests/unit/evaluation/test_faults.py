"""A disk, a folder or a number that lets a run down: what was finished is kept, and the message says what to do."""

import errno
import os
import resource
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch

from prognet.config import Execution, Training
from prognet.errors import DivergedError, PrognetError, RunFolderError, UnwritableError
from prognet.evaluation import grid, verify
from prognet.evaluation.store import ERROR_FILE, NEXT_FILE, PROGRESS_FILE, SCHEMA, VERSION, RunStore
from prognet.files import remove_leftovers, write_json
from prognet.manifest import MANIFEST_FILE, read_manifest
from prognet.results import RESULT_FILE, result_to_json
from prognet.strategies import FineTune, Progressive
from prognet.streams.task import Task
from tests.helpers.runs import MEASUREMENT, PLAIN, TRAINING, assert_same_numbers, quick_run
from tests.helpers.streams import make_stream

STREAM = make_stream()


def compare(out: Path, strategies: Sequence[Any] | None = None, **changes: Any) -> Any:
    arguments: dict[str, Any] = {"seeds": (0, 1), "training": TRAINING, "measurement": MEASUREMENT, "device": "cpu"}
    chosen = [Progressive(PLAIN), FineTune(PLAIN)] if strategies is None else strategies
    return grid(chosen, lambda order: STREAM, out=out, **{**arguments, **changes})


def folder_of(out: Path, strategy: str = "progressive", seed: int = 0) -> Path:
    return RunStore.of(out, strategy, 0, seed).folder


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Explosive(Progressive):
    """With seed 1 the network of the third task begins with numbers that are too large to be squared."""

    def build(self, task: Task, purpose: str = "backbone", width: float = 1.0) -> torch.nn.Module:
        network = super().build(task, purpose, width)
        if self.current_session().seed == 1 and task.label == 2:
            for parameter in network.parameters():
                parameter.data.mul_(1e30)
        return network


@pytest.mark.parametrize("stack", [1, 2])
def test_a_run_that_diverges_keeps_its_last_good_step_and_says_where(stack: int, tmp_path: Path) -> None:
    strategies = [Explosive(PLAIN, name="progressive"), FineTune(PLAIN)]
    execution = Execution(stack=stack)
    outcome = compare(tmp_path, strategies, execution=execution)
    assert sorted((result.strategy, result.seed) for result in outcome.results) == [
        ("finetune", 0),
        ("finetune", 1),
        ("progressive", 0),
    ]
    place = folder_of(tmp_path, seed=1)
    message = outcome.failed["progressive, order 0, seed 1"]
    assert message.startswith("DivergedError: training of tasks [2]: required a finite loss, found ")
    assert message.endswith(
        " at update 0 of 6; use a smaller lr than 0.01, or clip_norm. Step 2 of 3, counted from 0, was broken off; "
        f"the state after step 1 is kept in {place}."
    )
    progress = RunStore(place).progress()
    assert progress is not None
    assert progress.schedule == ((0,), (1,))
    verdicts = {verdict.run: verdict for verdict in verify(tmp_path)}
    assert [verdict.problem for verdict in verdicts.values()] == [None] * 4
    assert verdicts["runs/progressive/order-0-seed-1"].parts == 2
    before = content(place)
    assert compare(tmp_path, strategies, execution=execution).failed == outcome.failed  # again, at the same update
    assert content(place) == before


def test_a_run_that_diverges_in_its_first_step_has_nothing_to_keep(tmp_path: Path) -> None:
    training = Training(epochs=1, batch_size=16, lr=1e30, optimiser="sgd")
    for out, kept in (
        (tmp_path, "no step before it was finished"),
        (None, "nothing is kept, since the run has no folder"),
    ):
        with pytest.raises(DivergedError) as caught:
            quick_run(FineTune(PLAIN), STREAM, training=training, out=out)
        assert str(caught.value).endswith(f" Step 0 of 3, counted from 0, was broken off; {kept}.")


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Within the block the system refuses to let a file grow beyond a size, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("stack", [1, 2])
def test_a_write_that_the_system_refuses_ends_everything_and_leaves_no_part_of_a_file(
    stack: int, tmp_path: Path
) -> None:
    execution = Execution(stack=stack)
    undisturbed = compare(tmp_path / "undisturbed", execution=execution)
    sizes = sorted(path.stat().st_size for path in (tmp_path / "undisturbed").rglob("state-*.safetensors"))
    with largest_file(sizes[-1] - 1), pytest.raises(UnwritableError, match=r"could not be written \(File too large\)"):
        compare(tmp_path / "full", execution=execution)
    assert not list((tmp_path / "full").rglob(".*"))
    found = compare(tmp_path / "full", execution=execution)
    assert found.failed == {}
    for ours, theirs in zip(found.results, undisturbed.results, strict=True):
        assert_same_numbers(ours, theirs)


@contextmanager
def mounted(place: Path, *options: str) -> Iterator[Path]:
    """Within the block a file system of its own is at a place, in memory; skips the test where that is not allowed."""
    place.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", str(place)]
    if shutil.which("mount") is None or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("this user may not mount a file system")
    try:
        yield place
    finally:
        subprocess.run(["umount", str(place)], check=True)


def test_a_disk_that_is_full_and_then_has_room(tmp_path: Path) -> None:
    undisturbed = compare(tmp_path / "undisturbed")
    pages = [-(-len(one) // 4096) for one in content(tmp_path / "undisturbed").values()]
    with mounted(tmp_path / "disk", f"size={3 * sum(pages)}k") as disk:  # of the four that it takes
        with pytest.raises(UnwritableError, match=r"could not be written \(No space left on device\); free space or"):
            compare(disk / "out")
        assert not list(disk.rglob(".*.*"))
        ended = list((disk / "out").rglob(RESULT_FILE))
        assert 0 < len(ended) < 4
        subprocess.run(["mount", "-o", "remount,size=8m", str(disk)], check=True)
        found = compare(disk / "out")
    for ours, theirs in zip(found.results, undisturbed.results, strict=True):
        assert_same_numbers(ours, theirs)


def test_a_folder_that_may_only_be_read(tmp_path: Path) -> None:
    with mounted(tmp_path / "disk", "size=8m") as disk:
        first = quick_run(FineTune(PLAIN), STREAM, out=disk)
        subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
        assert quick_run(FineTune(PLAIN), STREAM, out=disk) == first  # a finished run is only read
        assert [verdict.problem for verdict in verify(disk)] == [None]
        for carry_out in (lambda: quick_run(FineTune(PLAIN), STREAM, seed=1, out=disk), lambda: compare(disk)):
            with pytest.raises(UnwritableError) as caught:
                carry_out()
            assert "could not be written (Read-only file system); make the folder writable or" in str(caught.value)


class Removing(Progressive):
    """With seed 0 somebody removes the folder before the second task."""

    out: Path

    def learn(self, tasks: Sequence[Task]) -> None:
        session = self.current_session()
        if tasks[0].label == 1 and session.seed == 0 and session.training.epochs:
            shutil.rmtree(self.out)
        super().learn(tasks)


def test_a_folder_that_is_removed_in_the_middle(tmp_path: Path) -> None:
    out, strategy = tmp_path / "out", Removing(PLAIN, name="progressive")
    strategy.out = out
    outcome = compare(out, [strategy])
    assert [result.seed for result in outcome.results] == [1]
    reason = outcome.failed["progressive, order 0, seed 0"]
    assert reason.startswith(f"CheckpointError: {folder_of(out)}/proof-1.safetensors: required")
    assert "found none" in reason
    assert read_manifest(out).failed == outcome.failed
    found = compare(out, [Progressive(PLAIN)])
    assert found.failed == {}
    for ours, theirs in zip(
        found.results, compare(tmp_path / "undisturbed", [Progressive(PLAIN)]).results, strict=True
    ):
        assert_same_numbers(ours, theirs)


@pytest.mark.parametrize("name", [RESULT_FILE, PROGRESS_FILE, NEXT_FILE])
@pytest.mark.parametrize("stack", [1, 2])
def test_a_folder_in_the_place_of_a_file_of_a_run_ends_that_run_only(name: str, stack: int, tmp_path: Path) -> None:
    path = folder_of(tmp_path) / name
    path.mkdir(parents=True)
    outcome = compare(tmp_path, execution=Execution(stack=stack))
    assert sorted((result.strategy, result.seed) for result in outcome.results) == [
        ("finetune", 0),
        ("finetune", 1),
        ("progressive", 1),
    ]
    (reason,) = outcome.failed.values()
    assert reason.startswith("RunFolderError: ") and str(path) in reason


def test_a_folder_in_the_place_of_the_manifest_is_refused_at_once(tmp_path: Path) -> None:
    (tmp_path / MANIFEST_FILE).mkdir()
    with pytest.raises(RunFolderError, match=str(tmp_path / MANIFEST_FILE)):
        compare(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [MANIFEST_FILE]


def test_a_folder_in_the_place_of_the_tensors_is_named(tmp_path: Path) -> None:
    told: list[int] = []

    def stop(updates: int) -> None:
        told.append(updates)
        if len(told) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick_run(FineTune(PLAIN), STREAM, out=tmp_path, advance=stop)
    path = folder_of(tmp_path, "finetune") / "state-1.safetensors"
    path.unlink()
    path.mkdir()
    with pytest.raises(PrognetError, match=str(path)):
        quick_run(FineTune(PLAIN), STREAM, out=tmp_path)


def half(path: Path) -> Path:
    """What a kill leaves of a file that is being written."""
    path.parent.mkdir(parents=True, exist_ok=True)
    left = path.with_name(f".{path.name}.0123abcd")
    left.write_text("half")
    return left


@pytest.mark.parametrize("stack", [1, 2])
def test_what_kills_have_left_is_removed(stack: int, tmp_path: Path) -> None:
    left = [half(tmp_path / MANIFEST_FILE), half(folder_of(tmp_path) / "state-1.safetensors")]
    kept = [half(tmp_path / "report.html"), tmp_path / ".mine", folder_of(tmp_path) / ".mine.txt"]
    for path in kept:
        path.write_text("mine")
    assert compare(tmp_path, execution=Execution(stack=stack)).failed == {}
    assert [path for path in left if path.exists()] == []
    assert [path for path in kept if not path.exists()] == []


@pytest.mark.parametrize("stack", [1, 2])
def test_a_run_that_was_killed_at_its_very_end_is_tidied(stack: int, tmp_path: Path) -> None:
    execution = Execution(stack=stack)
    first = compare(tmp_path, execution=execution)
    place = folder_of(tmp_path)
    before = content(place)
    for left in (NEXT_FILE, ERROR_FILE, "state-2.safetensors", "proof-2.safetensors"):
        (place / left).write_text("left")
    progress = RunStore(place).finished()
    assert progress is not None
    write_json(place / PROGRESS_FILE, SCHEMA, VERSION, result_to_json(progress))
    found = compare(tmp_path, execution=execution)
    assert list(found.results) == list(first.results)
    assert content(place) == before


def test_a_half_written_file_that_cannot_be_removed_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    left = half(tmp_path / "state-1.safetensors")

    def refuse(path: Path, missing_ok: bool = False) -> None:
        raise OSError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(Path, "unlink", refuse)
    with pytest.raises(UnwritableError) as caught:
        remove_leftovers(tmp_path)
    assert str(caught.value) == (
        f"{left}: could not be removed (Permission denied); make the folder writable, then run the same command again: "
        "finished work is kept."
    )
