"""The command line as a process of its own: what it imports, and what is left when it is stopped at any moment."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from prognet.cli import main
from prognet.results import RunResult
from tests.helpers.commands import content, options, save_arrays
from tests.helpers.results import make_run
from tests.helpers.runs import assert_same_numbers

WITHOUT_TORCH = """
import json, sys
from prognet.cli import main

for line in json.loads(sys.argv[1]):
    code = main(line)
    heavy = {"torch", "avalanche", "torchvision", "sklearn"} & {name.partition(".")[0] for name in sys.modules}
    assert code == 0, (line, code)
    assert not heavy, (line, heavy)
"""
INTERRUPTIBLE = """
import signal, sys
from prognet.cli import main

signal.signal(signal.SIGINT, signal.default_int_handler)  # as in a terminal; a shell may have switched it off
sys.exit(main(sys.argv[1:]))
"""
TASKS = 4


def environment(**changes: str) -> Mapping[str, str]:
    """One thread, and this package even where it is not installed."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1", **changes}


def line_of(out: Path, folder: Path) -> list[str]:
    """A comparison of some seconds: the tasks are so small that nearly all of it is updates."""
    changes = options(path=folder / "data.npz", out=out, strategies=["progressive", "finetune"], epochs=400)
    return ["run", "from-npz", *changes]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with data.npz, and below `whole` the comparison that was never disturbed."""
    folder = tmp_path_factory.mktemp("place")
    save_arrays(folder / "data.npz", n_tasks=TASKS)
    assert main(line_of(folder / "whole", folder)) == 0
    return folder


def stop_after_a_task(line: Sequence[str], out: Path, number: int) -> tuple[int, str]:
    """Starts a command and sends it a signal as soon as its first task is stored -> exit code and messages."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTIBLE, *line], stderr=subprocess.PIPE, text=True, env=environment()
    )
    try:
        end = time.monotonic() + 120
        while not list(out.rglob("progress.json")):
            assert process.poll() is None
            assert time.monotonic() < end
            time.sleep(0.01)
        process.send_signal(number)
        _, messages = process.communicate(timeout=60)
    finally:
        process.kill()
    return process.returncode, messages


def weights(folder: Path) -> dict[str, bytes]:
    return {name: data for name, (data, _) in content(folder, "*.safetensors").items()}


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_command_that_is_stopped_goes_on_to_the_same_end(
    place: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    out = place / number.name
    code, messages = stop_after_a_task(line_of(out, place), out, number)
    if number == signal.SIGINT:
        assert code == 130
        assert messages.endswith(
            "prognet: stopped; every finished task is kept: the same command goes on from there.\n"
        )
        assert "Traceback" not in messages
    else:
        assert code == -signal.SIGKILL
    assert len(list(out.rglob("result.json"))) < 2, "the signal came too late to disturb anything"
    assert (out / "manifest.json").exists()

    assert main(line_of(out, place)) == 0
    assert capsys.readouterr().out == f"report: {out}/report.html\n"
    for strategy in ("progressive", "finetune"):
        found, required = (
            RunResult.load(folder / "runs" / strategy / "order-0-seed-0" / "result.json")
            for folder in (out, place / "whole")
        )
        assert found.schedule == tuple((label,) for label in range(TASKS))
        assert_same_numbers(found, required)
    assert weights(out) == weights(place / "whole")
    assert main(["verify", str(out)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "2 of 2 runs verified"


def test_what_shows_and_reports_imports_no_torch_and_nothing_that_lies_about(tmp_path: Path) -> None:
    for name in ("tyro", "random", "matplotlib", "torch"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('this is not the library of that name')\n")
    make_run("progressive", seed=0).save(tmp_path / "out" / "runs" / "progressive" / "order-0-seed-0")
    make_run("finetune", seed=0).save(tmp_path / "out" / "runs" / "finetune" / "order-0-seed-0")
    lines = [
        [],
        ["--help"],
        ["list"],
        ["run", "--help"],
        ["run", "demo", "--help"],
        ["tune", "split-mnist", "--help"],
        ["verify", "--help"],
        ["report", "--help"],
        ["report", "out"],
    ]
    done = subprocess.run(
        [sys.executable, "-P", "-c", WITHOUT_TORCH, json.dumps(lines)],
        cwd=tmp_path,
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.endswith("report: out/report.html\n")


@pytest.mark.parametrize("buffering", ["", "1"])
def test_a_reader_who_leaves_gets_no_complaint(buffering: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "prognet", "list"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(PYTHONUNBUFFERED=buffering),
    )
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    complaints = process.stderr.read()
    process.stderr.close()
    assert process.wait(timeout=60) == 0
    assert complaints == b""


def test_the_exit_code_reaches_the_shell() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "prognet", "rnu"], env=environment(), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == "prognet: command: 'rnu' is not known; did you mean 'run'?\n"
