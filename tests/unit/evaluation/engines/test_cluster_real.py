"""The cluster engine on a real Ray of this machine: workers that are killed, and what a lambda needs."""

import os
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pytest
from torch import nn

from prognet.config import Training, Workers
from prognet.errors import ClusterWarning
from prognet.evaluation import Outcome, grid
from prognet.evaluation.store import RunStore
from prognet.strategies import Progressive
from prognet.streams.stream import Stream
from tests.helpers.data import blobs
from tests.helpers.runs import MEASUREMENT, assert_same_numbers
from tests.helpers.workers import dying, note_process

pytest.importorskip("ray", reason="the extra ray is not installed")

TRAINING = Training(epochs=2, batch_size=10, lr=0.01)
ROOT = Path(__file__).parents[4]


def stream_of(order: int) -> Stream:
    return blobs((2, 3), seed=order)


@pytest.mark.slow
def test_a_worker_that_dies_is_replaced_and_a_lambda_is_sent(tmp_path: Path) -> None:
    from tests.helpers.workers import Troubled

    notes, places = tmp_path / "notes", tmp_path / "places"
    notes.mkdir()
    places.mkdir()
    width = 5  # a function that no worker could import
    plain = Progressive(
        lambda shape, n: nn.Sequential(nn.Flatten(), nn.Linear(shape[0], width), nn.ReLU(), nn.Linear(width, n))
    )

    def compare(out: Path, times: int, workers: Workers) -> dict[str, Outcome]:
        outcomes: dict[str, Outcome] = {}
        for name, strategy in (
            ("dying", dying(notes, times)),
            ("plain", plain),
            ("noting", Troubled("noting", partial(note_process, places))),
        ):
            outcome = grid(
                [strategy],
                stream_of,
                out=out / name,
                seeds=(0, 1),
                training=TRAINING,
                measurement=MEASUREMENT,
                device="cpu",
                threads=1,
                workers=workers,
            )
            assert outcome.failed == {}
            outcomes[name] = outcome
        return outcomes

    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)  # one for all three
    try:
        with pytest.warns(ClusterWarning, match="dying, order 0, seed 1: its worker was lost"):
            many = compare(tmp_path / "many", 1, Workers(engine="ray"))
        assert str(os.getpid()) not in {path.name for path in places.iterdir()}
        assert ray.is_initialized()
    finally:
        ray.shutdown()
    assert len(list(notes.iterdir())) == 1
    one = compare(tmp_path / "one", 1, Workers())
    for name, outcome in many.items():
        for found, required in zip(outcome.results, one[name].results, strict=True):
            assert_same_numbers(found, required)
    tensors = [
        {str(path.relative_to(tmp_path / side)): path.read_bytes() for path in (tmp_path / side).rglob("*.safetensors")}
        for side in ("many", "one")
    ]
    assert tensors[0] == tensors[1]
    assert len(tensors[0]) == 3 * 2 * 2


PROGRAM = """
import signal, sys
from prognet.cli import main
signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; a shell may have switched it off
sys.exit(main())
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGKILL])
def test_a_comparison_that_is_stopped_leaves_no_process_and_goes_on(tmp_path: Path, kind: signal.Signals) -> None:
    line = ["run", "split-digits", "--strategies", "independent", "--seeds", "2", "--n-tasks", "3", "--threads", "1"]
    line += ["--out", str(tmp_path / "out"), "--engine", "ray"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (tmp_path / "said").open("wb") as said:
        program = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, *line, "--epochs", "400"],
            env=environment,
            stdout=said,
            stderr=said,
            cwd=ROOT,
        )
        store = RunStore.of(tmp_path / "out", "independent", 0, 0)
        until = time.monotonic() + 240
        while store.progress() is None and time.monotonic() < until:
            assert program.poll() is None, (tmp_path / "said").read_text()
            time.sleep(0.2)
        children = descendants(program.pid)
        assert len(children) > 3  # Ray's own and the workers
        program.send_signal(kind)
        code = program.wait(180)
    assert code == (130 if kind == signal.SIGINT else -signal.SIGKILL)
    progress = store.progress()
    assert progress is not None
    assert len(progress.schedule) >= 1
    until = time.monotonic() + 180
    while (left := [pid for pid in children if is_alive(pid)]) and time.monotonic() < until:
        time.sleep(0.5)
    assert left == []
    if kind == signal.SIGINT:
        text = (tmp_path / "said").read_text()
        assert "prognet: stopped; every finished task is kept" in text
        assert "raylet" not in text
        assert "Traceback" not in text


def descendants(pid: int) -> set[int]:
    """The processes that a process has begun, and those have."""
    parents = {child: parent for child, parent, _ in processes()}
    found = {pid}
    while more := {child for child, parent in parents.items() if parent in found} - found:
        found |= more
    return found - {pid}


def is_alive(pid: int) -> bool:
    """Whether there is such a process, and it is no zombie."""
    return any(one == pid and not state.startswith("Z") for one, _, state in processes())


def processes() -> list[tuple[int, int, str]]:
    """Number, number of the parent, and state of every process."""
    text = subprocess.run(["ps", "-eo", "pid=,ppid=,stat="], capture_output=True, text=True, check=True).stdout
    return [(int(pid), int(parent), state) for pid, parent, state in map(str.split, text.splitlines())]
