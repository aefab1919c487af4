import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from time import monotonic, sleep
from typing import Any

import pytest
import torch

from prognet.config import Training, Workers
from prognet.errors import ConfigError, UnwritableError, WorkerLostError
from prognet.evaluation import Outcome, grid, verify
from prognet.evaluation.engines import engine_for, threads_for
from prognet.evaluation.engines.engine import InTurn
from prognet.evaluation.engines.pool import worker_processes
from prognet.evaluation.engines.processes import Processes
from prognet.strategies import Independent, Progressive, Strategy
from prognet.streams.stream import Stream
from tests.helpers.commands import Recorder
from tests.helpers.data import blobs
from tests.helpers.runs import MEASUREMENT, PLAIN, assert_same_numbers
from tests.helpers.workers import Troubled, diverge, dying, fill_the_disk, note_process, warn

TRAINING = Training(epochs=2, batch_size=10, lr=0.01)
UPDATES = 2 * (2 + 3)


def stream_of(order: int) -> Stream:
    return blobs((2, 3), seed=order)


def compare(strategies: Sequence[Strategy], out: Path, jobs: int = 2, **changes: Any) -> Outcome:
    arguments = {
        "make_stream": stream_of,
        "seeds": (0, 1),
        "training": TRAINING,
        "measurement": MEASUREMENT,
        "device": "cpu",
        "threads": 1,
        "workers": Workers(jobs=jobs),
        **changes,
    }
    return grid(strategies, out=out, **arguments)


def weights(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*.safetensors")}


def assert_same_comparison(found: Outcome, required: Outcome, folders: Sequence[Path]) -> None:
    """The same numbers, failures and tensors, bit for bit."""
    assert found.failed.keys() == required.failed.keys()
    assert len(found.results) == len(required.results) > 0
    for one, other in zip(found.results, required.results, strict=True):
        assert_same_numbers(one, other)
    assert weights(folders[0]) == weights(folders[1])


def test_several_processes_give_what_one_gives(tmp_path: Path) -> None:
    notes, recorder = tmp_path / "notes", Recorder()
    notes.mkdir()
    strategies = [
        Progressive(PLAIN),
        Troubled("noting", partial(note_process, notes)),
        Troubled("failing", diverge),
        Troubled("warning", warn),
    ]
    with pytest.warns(UserWarning, match="required fewer"):
        many = compare(strategies, tmp_path / "many", observer=recorder)
    assert 1 <= len(list(notes.iterdir())) <= 2
    with pytest.warns(UserWarning, match="required fewer"):
        one = compare(strategies, tmp_path / "one", jobs=1)
    assert_same_comparison(many, one, [tmp_path / "many", tmp_path / "one"])
    reason = many.failed["failing, order 0, seed 1"]
    assert reason.startswith("DivergedError: lr: required a smaller one, found this.")
    assert all(verdict.problem is None for verdict in verify(tmp_path / "many"))
    assert recorder.named("begin") == [(8 * UPDATES,)]
    assert recorder.updates == 8 * UPDATES
    assert sorted(call[0] for call in recorder.named("start")) == sorted(call[0] for call in recorder.named("end"))
    assert [call[0] for call in recorder.named("end") if call[1]] == ["failing, order 0, seed 1"]


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_its_run_goes_on(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    many = compare([dying(notes, 2), Independent(PLAIN)], tmp_path / "many")
    assert len(list(notes.iterdir())) == 2
    assert many.failed == {}
    calm = compare([dying(notes, 0), Independent(PLAIN)], tmp_path / "calm", jobs=1)
    assert_same_comparison(many, calm, [tmp_path / "many", tmp_path / "calm"])


@pytest.mark.slow
def test_a_run_whose_worker_always_dies_fails_and_the_others_do_not(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    recorder = Recorder()
    outcome = compare([dying(notes, 99), Independent(PLAIN)], tmp_path / "out", observer=recorder)
    assert [(run.strategy, run.seed) for run in outcome.results] == [
        ("dying", 0),
        ("independent", 0),
        ("independent", 1),
    ]
    assert list(outcome.failed) == ["dying, order 0, seed 1"]
    assert "found 3 that died in dying, order 0, seed 1; mostly" in outcome.failed["dying, order 0, seed 1"]
    assert len(list(notes.iterdir())) == 1 + 3
    errors = [call[1] for call in recorder.named("end") if call[1] is not None]
    assert [type(error) for error in errors] == [WorkerLostError]
    assert recorder.updates == 4 * UPDATES
    goes_on = compare([dying(notes, 0), Independent(PLAIN)], tmp_path / "out", jobs=1)
    assert goes_on.failed == {}


@pytest.mark.slow
def test_a_full_disk_ends_the_whole_comparison(tmp_path: Path) -> None:
    with pytest.raises(UnwritableError, match="no space left"):
        compare([Troubled("full", fill_the_disk)], tmp_path, seeds=(1, 0, 2, 3, 4, 5))


def test_what_cannot_be_sent_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    strategy = Independent(lambda shape, n_classes: PLAIN(shape, n_classes))
    with pytest.raises(ConfigError, match="use jobs=1"):
        compare([strategy], tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_script_without_its_guard_is_told_of_it(tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(
        "import prognet\n"
        "prognet.grid([prognet.Independent(prognet.backbones.mlp(hidden=(4,)))],\n"
        "    lambda order: prognet.streams.split_digits(seed=order), out='out', seeds=(0, 1), device='cpu',\n"
        "    training=prognet.Training(epochs=1), workers=prognet.Workers(jobs=2))\n"
    )
    done = subprocess.run([sys.executable, script], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "ConfigError: jobs: required processes that begin" in done.stderr
    assert "call prognet below `if __name__ == '__main__':`" in done.stderr


PROGRAM = """
import signal
from functools import partial
from pathlib import Path

from prognet import Training, Workers, grid
from tests.helpers.data import blobs
from tests.helpers.workers import Troubled, note_process

if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; a shell may have switched it off
    strategy = Troubled("noting", partial(note_process, Path("notes")))
    grid([strategy], lambda order: blobs((2, 3), seed=order), out="out", seeds=(0, 1), device="cpu", threads=1,
        training=Training(epochs=10**6), workers=Workers(jobs=2))
"""


def is_alive(process: int) -> bool:
    """Whether it is there and more than an entry that nobody has asked for yet."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")")[-1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="tells processes by /proc, which is not here")
@pytest.mark.parametrize("way", [signal.SIGKILL, signal.SIGINT])
def test_workers_end_with_the_program(tmp_path: Path, way: signal.Signals) -> None:
    notes = tmp_path / "notes"
    notes.mkdir()
    (tmp_path / "program.py").write_text(PROGRAM)
    paths = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[4])}
    quiet = subprocess.DEVNULL
    with subprocess.Popen([sys.executable, "program.py"], cwd=tmp_path, env=paths, stderr=quiet) as program:
        try:
            wait_for(lambda: len(list(notes.iterdir())) == 2 or program.poll() is not None)
            workers = [int(note.name) for note in notes.iterdir()]
            assert len(workers) == 2
            assert all(map(is_alive, workers))
            program.send_signal(way)
            wait_for(lambda: not any(map(is_alive, workers)))
            assert program.wait(60) != 0
        finally:
            program.kill()


def wait_for(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Waits until something holds."""
    end = monotonic() + seconds
    while not condition():
        assert monotonic() < end
        sleep(0.1)


def test_an_error_ends_worker_processes_in_the_middle_of_their_work() -> None:
    began, workers = monotonic(), []
    with pytest.raises(ZeroDivisionError), worker_processes(1) as pool:
        workers.append(pool.submit(os.getpid).result())
        pool.submit(sleep, 600)
        raise ZeroDivisionError
    assert not is_alive(workers[0])
    assert monotonic() - began < 300


def test_engines_are_chosen_by_the_number_of_jobs() -> None:
    assert isinstance(engine_for(Workers(), "cpu"), InTurn)
    assert isinstance(engine_for(Workers(jobs=3), "cpu"), Processes)
    with pytest.raises(ConfigError, match="device: required 'auto' or a device"):
        engine_for(Workers(jobs=2), "cuda:77")


def test_jobs_share_the_cores_unless_threads_are_asked_for() -> None:
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(4)
        assert [threads_for(Workers(jobs=jobs), None) for jobs in (1, 2, 3, 9)] == [4, 2, 1, 1]
        assert threads_for(Workers(jobs=3), 4) == 4
    finally:
        torch.set_num_threads(threads)
