"""Comparisons on a cluster: the numbers of one process, whatever dies meanwhile.

Most of it runs on a Ray without processes, where deaths come at chosen moments; `test_cluster_real.py` has a real one.
"""

import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from prognet.config import Execution, Training, Workers
from prognet.errors import ClusterWarning, ConfigError, LockedError, RunError, UnwritableError, WorkerLostError
from prognet.evaluation import Outcome, grid, locking
from prognet.evaluation.engines import cluster, connecting, mailbox, parcels, remote
from prognet.evaluation.engines.parcels import Parcel
from prognet.evaluation.engines.remote import Letter
from prognet.evaluation.locking import runs_locked
from prognet.evaluation.store import RunStore
from prognet.files import write_atomically
from prognet.strategies import Independent, Progressive, Strategy
from prognet.streams import PerSeed
from prognet.streams.stream import Stream
from tests.helpers.commands import Recorder
from tests.helpers.data import blobs
from tests.helpers.fake_ray import DeathError, FakeRay, installed
from tests.helpers.runs import MEASUREMENT, PLAIN, assert_same_numbers
from tests.helpers.workers import Troubled, diverge, fill_the_disk, warn

TRAINING = Training(epochs=1, batch_size=10, lr=0.01)
UPDATES = 2 + 3
PUTS = 2 * 2 + 1
"""Letters of an undisturbed run of two tasks: two a step, and the result."""


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    monkeypatch.setattr(cluster, "_PAUSE", 0.0)
    monkeypatch.setattr(remote, "_TELL_EVERY", 0.0)
    remote._stream_of.cache_clear()
    return installed(monkeypatch)


def stream_of(order: int) -> Stream:
    return blobs((2, 3), seed=order)


def compare(strategies: Sequence[Strategy], out: Path, engine: Any = "ray", **changes: Any) -> Outcome:
    arguments = {
        "make_stream": stream_of,
        "seeds": (0, 1),
        "training": TRAINING,
        "measurement": MEASUREMENT,
        "device": "cpu",
        "threads": 1,
        "workers": Workers(engine=engine),
        **changes,
    }
    return grid(strategies, out=out, **arguments)


def files(out: Path) -> dict[str, bytes]:
    """Every file of every run, documents without their content, since that holds times."""
    found = {path for path in (out / "runs").rglob("*") if path.is_file()}
    return {str(path.relative_to(out)): path.read_bytes() if path.suffix == ".safetensors" else b"" for path in found}


def assert_same_comparison(found: Outcome, required: Outcome, one: Path, other: Path) -> None:
    """The same failures, numbers and tensors, bit for bit."""
    assert dict(found.failed).keys() == dict(required.failed).keys()
    assert len(found.results) == len(required.results) > 0
    for mine, theirs in zip(found.results, required.results, strict=True):
        assert_same_numbers(mine, theirs)
    assert files(one) == files(other)


def dies_at(ray: FakeRay, *numbers: int) -> None:
    """Lets the worker die instead of putting its letter, at these letters, counted from 0."""
    count = iter(range(10_000))

    def before_put(letter: bytes) -> None:
        if next(count) in numbers:
            raise DeathError

    ray.before_put = before_put


def test_a_cluster_gives_what_one_process_gives(tmp_path: Path, ray: FakeRay) -> None:
    recorder = Recorder()
    strategies = [Progressive(PLAIN), Troubled("warning", warn)]
    with pytest.warns(UserWarning, match="required fewer"):
        many = compare(strategies, tmp_path / "many", observer=recorder)
    with pytest.warns(UserWarning, match="required fewer"):
        one = compare(strategies, tmp_path / "one", "processes")
    assert_same_comparison(many, one, tmp_path / "many", tmp_path / "one")
    assert recorder.named("begin") == [(4 * UPDATES,)]
    assert recorder.updates == 4 * UPDATES
    assert sorted(call[0] for call in recorder.named("start")) == sorted(call[0] for call in recorder.named("end"))
    assert ray.calls.count("put") == 4 * PUTS
    assert sum(isinstance(one, dict) for one in ray.stored) == 1  # the stream, which all runs share, was sent once
    assert len(ray.killed) == 1  # the mailbox
    assert not ray.is_initialized()


def test_what_a_run_is_given_is_what_was_asked_for(tmp_path: Path, ray: FakeRay) -> None:
    ray.machines = [{"CPU": 8.0, "GPU": 1.0}]
    workers = Workers(engine="ray", cpus_per_run=2.0, gpus_per_run=0.0)
    compare([Independent(PLAIN)], tmp_path, seeds=(0,), workers=workers, threads=None)
    box, run = ray.options
    assert box == {"num_cpus": 0, "scheduling_strategy": ("here", False)}
    assert run == {"num_cpus": 2.0, "num_gpus": 0.0, "max_retries": 0, "scheduling_strategy": "SPREAD"}
    result = RunStore.of(tmp_path, "independent", 0, 0).finished()
    assert result is not None
    assert result.environment["threads"] == 2


@pytest.mark.parametrize(("letter", "again"), [(0, 5), (1, 3), (2, 3), (3, 1), (4, 1)])
def test_a_worker_that_dies_is_replaced_and_its_run_goes_on_from_its_last_step(
    tmp_path: Path, ray: FakeRay, letter: int, again: int
) -> None:
    recorder = Recorder()
    dies_at(ray, letter)
    with pytest.warns(ClusterWarning, match="progressive, order 0, seed 0: its worker was lost .The worker died unexp"):
        many = compare([Progressive(PLAIN)], tmp_path / "many", seeds=(0,), observer=recorder)
    one = compare([Progressive(PLAIN)], tmp_path / "one", "processes", seeds=(0,))
    assert_same_comparison(many, one, tmp_path / "many", tmp_path / "one")
    assert recorder.updates == UPDATES
    assert len(recorder.named("start")) == 1
    assert ray.calls.count("put") == letter + 1 + again  # a step whose tensors had arrived was not learned again


def test_runs_that_are_stacked_stay_together_when_their_worker_dies(tmp_path: Path, ray: FakeRay) -> None:
    execution = Execution(stack=2)
    one = compare([Progressive(PLAIN)], tmp_path / "one", "processes", execution=execution)
    for letter in range(0, 2 * PUTS, 3):
        dies_at(ray, letter)
        out = tmp_path / f"many-{letter}"
        with pytest.warns(ClusterWarning):
            many = compare([Progressive(PLAIN)], out, execution=execution)
        assert_same_comparison(many, one, out, tmp_path / "one")


def test_a_run_whose_worker_always_dies_fails_and_the_others_do_not(tmp_path: Path, ray: FakeRay) -> None:
    recorder = Recorder()

    def before_put(letter: bytes) -> None:
        said: Letter = pickle.loads(letter)
        if (said.number, said.parcel.names > {"progress.json", "progress.next.json"}) == (1, True):
            raise DeathError  # whenever the second run has kept its second step

    ray.before_put = before_put
    with pytest.warns(ClusterWarning) as told:
        outcome = compare([Progressive(PLAIN)], tmp_path, observer=recorder)
    assert len(told) == 4
    assert [run.seed for run in outcome.results] == [0]
    assert list(outcome.failed) == ["progressive, order 0, seed 1"]
    assert outcome.failed["progressive, order 0, seed 1"] == (
        "WorkerLostError: engine: required a worker that lives as long as its run, found 5 in a row that ended in "
        "progressive, order 0, seed 1 without a further step, the last one by: The worker died unexpectedly. Finished "
        "steps are kept."
    )
    progress = RunStore.of(tmp_path, "progressive", 0, 1).progress()
    assert progress is not None
    assert progress.schedule == ((0,),)
    assert recorder.updates == 2 * UPDATES
    ray.before_put = lambda letter: None
    assert compare([Progressive(PLAIN)], tmp_path).failed == {}


def test_deaths_count_in_a_row_only(tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cluster, "_DEATHS", 2)
    dies_at(ray, 1, 3, 5, 7)  # each after a letter that had arrived
    with pytest.warns(ClusterWarning):
        outcome = compare([Progressive(PLAIN)], tmp_path, seeds=(0,))
    assert outcome.failed == {}


def test_a_letter_of_an_earlier_attempt_is_too_late(tmp_path: Path, ray: FakeRay) -> None:
    evil = pickle.dumps(Letter(0, 0, 0, Parcel({"error.txt": b"late"}, frozenset({"error.txt"}))))
    boxes: list[Any] = []
    dies_at(ray, 2)
    inner = ray.before_put

    def before_put(letter: bytes) -> None:
        if pickle.loads(letter).attempt == 1:
            boxes[0].put(evil)
        inner(letter)

    class Box(mailbox.Mailbox):
        def __init__(self, room: int) -> None:
            super().__init__(room)
            boxes.append(self)

    ray.before_put = before_put
    with pytest.MonkeyPatch.context() as patch, pytest.warns(ClusterWarning):
        patch.setattr(mailbox, "Mailbox", Box)
        outcome = compare([Progressive(PLAIN)], tmp_path, seeds=(0,))
    assert outcome.failed == {}
    assert not list(tmp_path.rglob("error.txt"))


def crash(seed: int, label: int) -> None:
    if (seed, label) == (1, 1):
        raise ZeroDivisionError("a thing of one's own")


def test_errors_stay_in_their_runs_and_speak_of_the_folder_at_home(tmp_path: Path, ray: FakeRay) -> None:
    outcome = compare([Troubled("failing", diverge), Troubled("crashing", crash)], tmp_path)
    assert len(outcome.results) == 2
    folder = tmp_path / "runs" / "crashing" / "order-0-seed-1"
    reason = outcome.failed["failing, order 0, seed 1"]
    assert reason.startswith("DivergedError: lr: required a smaller one, found this.")
    assert reason.endswith(f"the state after step 0 is kept in {tmp_path}/runs/failing/order-0-seed-1.")
    assert outcome.failed["crashing, order 0, seed 1"] == (
        f"RunError: ZeroDivisionError: a thing of one's own; the traceback is in {folder / 'error.txt'}."
    )
    assert "ZeroDivisionError" in (folder / "error.txt").read_text()
    assert (folder / "progress.json").exists()
    goes_on = compare([Troubled("failing", ignore), Troubled("crashing", ignore)], tmp_path)
    assert goes_on.failed == {}
    assert not (folder / "error.txt").exists()


def ignore(seed: int, label: int) -> None:
    """Does nothing."""


def test_a_full_disk_at_home_ends_the_whole_comparison(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = write_atomically

    def write(path: Path, content: bytes) -> None:
        if tmp_path in path.parents:
            raise UnwritableError(f"{path}: could not be written (no space left).")
        plain(path, content)

    monkeypatch.setattr(parcels, "write_atomically", write)
    with pytest.raises(UnwritableError, match="no space left"):
        compare([Progressive(PLAIN)], tmp_path)
    assert len(ray.cancelled) == 2
    assert len(ray.killed) == 1
    assert not ray.is_initialized()
    with runs_locked([tmp_path / "runs" / "progressive" / f"order-0-seed-{seed}" for seed in (0, 1)]):
        pass


def test_a_full_disk_of_a_worker_is_a_worker_lost(tmp_path: Path, ray: FakeRay) -> None:
    with pytest.warns(ClusterWarning, match="its worker was lost .state.safetensors: could not be written"):
        outcome = compare([Troubled("full", fill_the_disk)], tmp_path)
    assert [run.seed for run in outcome.results] == [0]
    assert outcome.failed["full, order 0, seed 1"].startswith("WorkerLostError: engine: required a worker that lives")


def test_ctrl_c_writes_what_has_arrived_and_ends_the_rest(tmp_path: Path, ray: FakeRay) -> None:
    def stop(letter: bytes) -> None:
        if pickle.loads(letter).parcel.names >= {"state-2.safetensors"}:
            raise KeyboardInterrupt

    ray.before_put = stop
    with pytest.raises(KeyboardInterrupt):
        compare([Progressive(PLAIN)], tmp_path / "many")
    assert len(ray.cancelled) == 2
    assert not ray.is_initialized()
    progress = RunStore.of(tmp_path / "many", "progressive", 0, 0).progress()
    assert progress is not None
    assert progress.schedule == ((0,),)  # its letters lay in the mailbox
    ray.before_put = lambda letter: None
    many = compare([Progressive(PLAIN)], tmp_path / "many")
    one = compare([Progressive(PLAIN)], tmp_path / "one", "processes")
    assert_same_comparison(many, one, tmp_path / "many", tmp_path / "one")


def test_a_comparison_that_is_closed_ends_what_goes_on(tmp_path: Path, ray: FakeRay) -> None:
    recorder = Recorder(at=2, do=lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        compare([Progressive(PLAIN)], tmp_path, observer=recorder, seeds=(0, 1, 2))
    assert len(ray.cancelled) > 0
    assert not ray.is_initialized()


def test_a_cluster_that_was_joined_before_is_left_as_it_is(tmp_path: Path, ray: FakeRay) -> None:
    ray.init(address="mine")
    compare([Independent(PLAIN)], tmp_path, seeds=(0,))
    assert ray.is_initialized()
    assert ray.joined == [{"address": "mine"}]


def test_what_is_finished_needs_no_cluster(tmp_path: Path, ray: FakeRay) -> None:
    first = compare([Independent(PLAIN)], tmp_path)
    recorder = Recorder()
    ray.joined.clear()
    again = compare([Independent(PLAIN)], tmp_path, observer=recorder)
    assert ray.joined == []
    assert len(again.results) == 2
    for one, other in zip(again.results, first.results, strict=True):
        assert_same_numbers(one, other)
    assert recorder.updates == 2 * UPDATES
    assert len(recorder.named("start")) == len(recorder.named("end")) == 2


def test_a_run_that_another_process_carries_out_fails_and_the_others_do_not(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(locking, "WAIT", 0.0)
    with runs_locked([RunStore.of(tmp_path, "independent", 0, 1).folder]):
        outcome = compare([Independent(PLAIN)], tmp_path)
    assert len(outcome.results) == 1
    assert outcome.failed["independent, order 0, seed 1"].startswith(LockedError.__name__)


def test_streams_that_are_drawn_are_sent_while_they_are_needed(tmp_path: Path, ray: FakeRay) -> None:
    def drawn(order: int, seed: int) -> Stream:
        stream = blobs((2, 3), seed=order)
        return Stream(list(stream), name="drawn", seed=order, draw=seed)

    outcome = compare([Independent(PLAIN)], tmp_path, make_stream=PerSeed(drawn))
    assert outcome.failed == {}
    assert sum(isinstance(one, dict) for one in ray.stored) == 2


def test_other_versions_on_a_machine_are_refused(tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "versions", lambda: {"prognet": "0.0.1", "torch": "2", "numpy": "2"})
    with pytest.raises(ConfigError, match="engine: required prognet .* on every machine of the cluster, as on the one"):
        compare([Independent(PLAIN)], tmp_path)


def test_a_worker_that_cannot_begin_ends_the_comparison(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*arguments: Any) -> bytes:
        raise ModuleNotFoundError("No module named 'prognet'")

    monkeypatch.setattr(cluster, "run_errand", fail)
    with pytest.raises(ConfigError, match="found a worker that cannot begin .ModuleNotFoundError: No module named"):
        compare([Independent(PLAIN)], tmp_path)


def test_what_a_worker_raises_in_the_middle_belongs_to_its_run(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(post: remote.Post) -> None:
        raise ZeroDivisionError("late")

    monkeypatch.setattr(remote.Post, "send_rest", fail)
    outcome = compare([Independent(PLAIN)], tmp_path)
    assert outcome.failed["independent, order 0, seed 0"].startswith(f"{RunError.__name__}: ZeroDivisionError: late;")


def test_a_mailbox_that_dies_ends_the_comparison_and_the_folder_goes_on(tmp_path: Path, ray: FakeRay) -> None:
    boxes: list[Any] = []

    def stop(letter: bytes) -> None:
        if pickle.loads(letter).number == 1:
            raise DeathError

    def kill_the_mailbox() -> None:
        if ray.calls.count("put") >= PUTS:
            boxes[0].is_alive = False

    plain = ray.remote

    class Spy(type(plain(object))):  # type: ignore[misc]
        def remote(self, *arguments: Any) -> Any:
            made = super().remote(*arguments)
            boxes.append(made) if isinstance(self._target, type) else None
            return made

        def options(self, **options: Any) -> Any:
            return Spy(self._ray, self._target, options)

    ray.before_put, ray.before_wait = stop, kill_the_mailbox
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore", ClusterWarning)
        import ray as module

        patch.setattr(module, "remote", lambda target: Spy(ray, target, {}))
        with pytest.raises(WorkerLostError, match="required a mailbox that lives as long as the comparison, found it"):
            compare([Independent(PLAIN)], tmp_path)
    ray.before_put, ray.before_wait = (lambda letter: None), (lambda: None)
    assert compare([Independent(PLAIN)], tmp_path).failed == {}


def test_no_machine_for_a_run_is_said_at_once(tmp_path: Path, ray: FakeRay) -> None:
    ray.machines = [{"CPU": 1.0}, {"memory": 5.0}]
    with pytest.raises(ConfigError) as raised:
        compare([Independent(PLAIN)], tmp_path, workers=Workers(engine="ray", cpus_per_run=4.0))
    assert str(raised.value) == (
        "cpus_per_run, gpus_per_run: required a machine with 4 cores and 0 GPUs for a run, found machines with 1 cores "
        "and 0 GPUs, 0 cores and 0 GPUs; ask for less, or add such a machine with `ray start` (a cluster that grows by "
        "itself needs one of them to begin with)."
    )


def test_machines_that_are_lost_are_waited_for_and_then_given_up(
    tmp_path: Path, ray: FakeRay, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "_LOOK_EVERY", 0.0)
    monkeypatch.setattr(connecting, "_PATIENCE", 0.0)

    def lose() -> None:
        ray.machines = []

    ray.before_wait = lose
    with (
        pytest.warns(ClusterWarning, match="no machine of the cluster is left that can hold a run; waits"),
        pytest.raises(WorkerLostError, match="found none for 0 minutes; start machines, then run the same command"),
    ):
        compare([Independent(PLAIN)], tmp_path, seeds=range(4))


class Stubborn:
    """Can be copied, and not be sent."""

    def __call__(self, seed: int, label: int) -> None:
        """Does nothing."""

    def __deepcopy__(self, memo: object) -> "Stubborn":
        return self

    def __reduce__(self) -> str:
        raise TypeError("I stay here")


def test_a_strategy_that_has_no_form_as_bytes_is_refused(tmp_path: Path, ray: FakeRay) -> None:
    with pytest.raises(ConfigError, match="sent to another machine, found in 'open' TypeError: I stay here"):
        compare([Troubled("open", Stubborn())], tmp_path / "out")
    assert not (tmp_path / "out").exists()
