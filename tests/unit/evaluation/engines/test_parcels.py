"""Folders that exchange parcels: the same files on both sides, and a kill at any moment leaves a run that can go on."""

import os
import shutil
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from functools import cache
from itertools import count
from pathlib import Path

import pytest
import torch

from prognet.config import Execution, Measurement, Training
from prognet.errors import RunFolderError, UnwritableError
from prognet.evaluation.engines import parcels
from prognet.evaluation.engines.parcels import Mirror, Parcel
from prognet.evaluation.store import RunStore
from prognet.evaluation.work import Plan, Unit, carry_out_unit
from prognet.files import write_atomically
from prognet.results import RunResult
from prognet.strategies import Progressive
from tests.helpers.runs import PLAIN, assert_same_numbers
from tests.helpers.streams import make_stream

STREAM = make_stream((2, 3, 2), sizes=(16, 16, 16), n_val=2)
TRAINING = Training(epochs=1, batch_size=16, lr=0.01)
MEASUREMENT = Measurement(lca_updates=0, curve_points=0, gates=())
SEEDS = (3, 5)
HOSTILE = (
    "../result.json",
    "..",
    "/etc/result.json",
    "a/b.json",
    "a\\b.json",
    ".result.json.lock",
    ".state-1.safetensors",
    "result.json\n",
    "run.py",
    "result.json.lock",
    "",
    "x" * 200 + ".json",
    "réponse.json",
)


class KilledError(BaseException):
    """The process has died."""


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()} if folder.is_dir() else {}


def put(folder: Path, **files: bytes) -> None:
    for name, data in files.items():
        write_atomically(folder / name.replace("__", "-").replace("_", "."), data)


@pytest.fixture
def far(tmp_path: Path) -> Path:
    return tmp_path / "far"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    return tmp_path / "home"


def test_the_first_parcel_holds_everything_and_the_next_one_what_is_new(far: Path, home: Path) -> None:
    mirror, other = Mirror(far), Mirror(home)
    put(far, state__1_safetensors=b"one", progress_json=b"p1")
    first = mirror.changes()
    assert first == Parcel(
        {"state-1.safetensors": b"one", "progress.json": b"p1"}, frozenset({"state-1.safetensors", "progress.json"})
    )
    assert first.size == 5
    other.write(first)
    put(far, state__2_safetensors=b"two")
    put(far, progress_json=b"p2")
    (far / "state-1.safetensors").unlink()
    second = mirror.changes()
    assert second is not None
    assert dict(second.files) == {"state-2.safetensors": b"two", "progress.json": b"p2"}
    other.write(second)
    assert content(home) == content(far)
    assert mirror.changes() is None


def test_a_file_that_is_written_again_with_the_same_size_is_sent_again(far: Path) -> None:
    mirror = Mirror(far)
    put(far, progress_json=b"old")
    mirror.changes()
    stat = (far / "progress.json").stat()
    put(far, progress_json=b"new")
    os.utime(far / "progress.json", ns=(stat.st_atime_ns, stat.st_mtime_ns))  # a clock that stands still
    parcel = mirror.changes()
    assert parcel is not None
    assert parcel.files == {"progress.json": b"new"}


def test_what_is_only_removed_makes_a_parcel(far: Path, home: Path) -> None:
    mirror, other = Mirror(far), Mirror(home)
    put(far, progress_json=b"p", error_txt=b"e")
    first = mirror.changes()
    assert first is not None
    other.write(first)
    (far / "error.txt").unlink()
    parcel = mirror.changes()
    assert parcel == Parcel({}, frozenset({"progress.json"}))
    other.write(parcel)
    assert content(home) == {"progress.json": b"p"}


def test_what_was_written_here_is_not_sent_back(far: Path) -> None:
    mirror = Mirror(far)
    mirror.write(Parcel({"progress.json": b"p"}, frozenset({"progress.json"})))
    assert mirror.changes() is None


def test_a_folder_that_does_not_exist_is_empty_and_stays_away(far: Path) -> None:
    assert Mirror(far).changes() is None
    Mirror(far).write(Parcel({}, frozenset()))
    assert not far.exists()


def test_locks_and_files_that_are_being_written_stay_where_they_are(far: Path) -> None:
    put(far, progress_json=b"p")
    for name in (".lock", ".result.json.1f2e3d4c", ".order-0-seed-0.lock"):
        (far / name).write_bytes(b"mine")
    (far / "folder.json").mkdir()
    parcel = Mirror(far).changes()
    assert parcel is not None
    assert parcel.names == {"progress.json"}


def test_files_that_never_came_with_a_parcel_are_never_removed(home: Path) -> None:
    put(home, notes_txt=b"mine", lock=b"theirs")
    mirror = Mirror(home)
    mirror.write(Parcel({"progress.json": b"p"}, frozenset({"progress.json"})))
    mirror.write(Parcel({"result.json": b"r"}, frozenset({"result.json"})))
    assert content(home) == {"notes.txt": b"mine", "lock": b"theirs", "result.json": b"r"}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_name_that_is_none_of_a_run_is_refused_and_nothing_is_written(home: Path, name: str) -> None:
    good = {"progress.json": b"p"}
    for parcel in (
        Parcel({**good, name: b"evil"}, frozenset({"progress.json", name})),
        Parcel({**good, name: b"evil"}, frozenset({"progress.json"})),
        Parcel(good, frozenset({"progress.json", name})),
    ):
        with pytest.raises(RunFolderError, match="required the names of files of a run in what arrived, found"):
            Mirror(home).write(parcel)
    assert not home.exists()


def test_a_file_that_is_not_among_the_names_is_refused(home: Path) -> None:
    with pytest.raises(RunFolderError, match="found 'result.json'; nothing of it was written"):
        Mirror(home).write(Parcel({"result.json": b"r"}, frozenset()))
    assert not home.exists()


def test_a_parcel_after_one_that_was_lost_is_refused(home: Path) -> None:
    mirror = Mirror(home)
    mirror.write(Parcel({"state-1.safetensors": b"1"}, frozenset({"state-1.safetensors"})))
    late = Parcel({"progress.json": b"p2"}, frozenset({"progress.json", "state-2.safetensors"}))
    with pytest.raises(RunFolderError, match="found no state-2.safetensors; something before it was lost"):
        mirror.write(late)
    assert content(home) == {"state-1.safetensors": b"1"}


def test_tensors_come_before_the_documents_that_name_them_and_go_after_them(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done: list[str] = []
    plain, unlink = write_atomically, Path.unlink

    def write(path: Path, data: bytes) -> None:
        done.append(f"+{path.name}")
        plain(path, data)

    def remove(path: Path, missing_ok: bool = False) -> None:
        if not path.name.startswith("."):
            done.append(f"-{path.name}")
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(parcels, "write_atomically", write)
    monkeypatch.setattr(Path, "unlink", remove)
    mirror = Mirror(home)
    old = ["progress.json", "progress.next.json", "state-1.safetensors"]
    mirror.write(Parcel(dict.fromkeys(old, b"1"), frozenset(old)))
    assert done == ["+state-1.safetensors", "+progress.next.json", "+progress.json"]
    done.clear()
    new = ["result.json", "state-2.safetensors", "proof-2.safetensors"]
    mirror.write(Parcel(dict.fromkeys(new, b"2"), frozenset(new)))
    assert sorted(done[:2]) == ["+proof-2.safetensors", "+state-2.safetensors"]
    assert done[2:] == ["+result.json", "-progress.json", "-progress.next.json", "-state-1.safetensors"]


def test_a_disk_that_is_full_is_told_as_such(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path, *args: object, **more: object) -> None:
        raise OSError(28, "No space left on device")

    mirror = Mirror(home)
    mirror.write(Parcel({"progress.json": b"1"}, frozenset({"progress.json"})))
    monkeypatch.setattr(Path, "unlink", fail)
    with pytest.raises(UnwritableError, match="could not be removed .No space left"):
        mirror.write(Parcel({}, frozenset()))


@cache
def plan_in(out: Path, stack: int) -> Plan:
    return Plan(
        strategies={"progressive": Progressive(PLAIN)},
        training=TRAINING,
        measurement=MEASUREMENT,
        execution=Execution(stack=stack),
        device=torch.device("cpu"),
        threads=1,
        out=out,
    )


def folders(out: Path, unit: Unit) -> list[Path]:
    return [RunStore.of(out, unit.strategy, unit.order, seed).folder for seed in unit.seeds]


def computed_far_away(home: Path, far: Path, unit: Unit) -> list[RunResult]:
    """Carries out a unit in one folder and brings it home to another one, as a cluster does."""
    shutil.rmtree(far, ignore_errors=True)
    theirs = {folder: Mirror(folder) for folder in folders(far, unit)}
    ours = dict(zip(theirs, [Mirror(folder) for folder in folders(home, unit)], strict=True))
    for folder, mirror in theirs.items():
        mirror.write(ours[folder].changes() or Parcel({}, frozenset()))

    def kept(folder: Path) -> None:
        parcel = theirs[folder].changes()
        if parcel is not None:
            ours[folder].write(parcel)

    report = carry_out_unit(plan_in(far, len(unit.seeds)), unit, [STREAM] * len(unit.seeds), kept=kept)
    for folder in theirs:
        kept(folder)
    results = [outcome for outcome in report.outcomes if isinstance(outcome, RunResult)]
    assert len(results) == len(unit.seeds)
    return results


def killed_after(operations: int, monkeypatch: pytest.MonkeyPatch, home: Path) -> Callable[[], bool]:
    """Lets the process die at home after some writes and removals -> says whether it has."""
    plain, unlink, numbers = write_atomically, Path.unlink, count()
    died: list[bool] = []

    def step(path: Path) -> None:
        if home in path.parents and not path.name.startswith(".") and next(numbers) >= operations:
            died.append(True)
            raise KilledError

    def write(path: Path, data: bytes) -> None:
        step(path)
        plain(path, data)

    def remove(path: Path, missing_ok: bool = False) -> None:
        step(path)
        unlink(path, missing_ok=missing_ok)

    monkeypatch.setattr(parcels, "write_atomically", write)
    monkeypatch.setattr(Path, "unlink", remove)
    return lambda: bool(died)


def goes_on_after_a_kill(operations: int, unit: Unit, place: Path) -> bool:
    """Kills the driver, goes on, and compares with a run that nobody disturbed -> whether it was killed at all."""
    home, far, calm = place / "home", place / "far", place / "calm"
    if not calm.exists():
        computed_far_away(calm, far, unit)
    shutil.rmtree(home, ignore_errors=True)
    with pytest.MonkeyPatch.context() as monkeypatch:
        has_died = killed_after(operations, monkeypatch, home)
        with suppress(KilledError):
            computed_far_away(home, far, unit)
    computed_far_away(home, far, unit)
    for mine, theirs in zip(folders(home, unit), folders(calm, unit), strict=True):
        assert_same_numbers(RunResult.load(mine / "result.json"), RunResult.load(theirs / "result.json"))
        ours, calms = content(mine), content(theirs)
        assert ours.keys() == calms.keys()
        assert all(ours[name] == calms[name] for name in ours if name.endswith(".safetensors"))
    return has_died()


ALONE, STACK = Unit("progressive", 0, SEEDS[:1], 0), Unit("progressive", 0, SEEDS, 0)


@pytest.mark.parametrize("unit", [ALONE, STACK], ids=["alone", "stacked"])
def test_a_kill_at_home_between_two_files_leaves_a_run_that_ends_with_the_same_bits(tmp_path: Path, unit: Unit) -> None:
    for operations in (4, 9):
        assert goes_on_after_a_kill(operations, unit, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("unit", [ALONE, STACK], ids=["alone", "stacked"])
def test_a_kill_at_home_at_any_operation_leaves_a_run_that_ends_with_the_same_bits(tmp_path: Path, unit: Unit) -> None:
    kills = 0
    while goes_on_after_a_kill(kills, unit, tmp_path):
        kills += 1
    assert kills >= 16 * len(unit.seeds)


def test_only_what_is_finished_is_lost_by_a_worker_that_dies(tmp_path: Path) -> None:
    far, home = tmp_path / "far", tmp_path / "home"
    theirs, ours = Mirror(folders(far, ALONE)[0]), Mirror(folders(home, ALONE)[0])
    calls = count()

    def kept(folder: Path) -> None:
        parcel = theirs.changes()
        assert parcel is not None
        ours.write(parcel)
        if next(calls) == 3:  # the second step has been committed
            raise KilledError

    with pytest.raises(KilledError):
        carry_out_unit(plan_in(far, 1), ALONE, [STREAM], kept=kept)
    shutil.rmtree(far)
    progress = RunStore(folders(home, ALONE)[0]).progress()
    assert progress is not None
    assert progress.schedule == ((0,), (1,))
    updates: list[int] = []
    far.mkdir()
    mirror = Mirror(folders(far, ALONE)[0])
    mirror.write(Mirror(folders(home, ALONE)[0]).changes() or Parcel({}, frozenset()))
    report = carry_out_unit(plan_in(far, 1), ALONE, [STREAM], updates.append)
    outcome = report.outcomes[0]
    assert isinstance(outcome, RunResult)
    assert updates[0] == sum(cost.updates for cost in progress.costs)  # told at once: they are not done again
    assert replace(outcome, learner=None).schedule == ((0,), (1,), (2,))
