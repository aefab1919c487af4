"""A comparison that is killed at random moments, again and again; `benchmarks/kills.py` does it two hundred times."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "benchmarks" / "kills.py"

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork"),
    pytest.mark.skipif(not SCRIPT.exists(), reason="the benchmarks are not part of this copy"),
]


def kill(out: Path, kills: int, *options: str) -> Any:
    """What came of some kills."""
    command = [sys.executable, str(SCRIPT), "--kills", str(kills), "--out", str(out), *options]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads((out / "kills.json").read_text())


def assert_nothing_lost(found: Any, kills: int) -> None:
    assert found["kills"] == kills
    assert found["faults"] == 0
    for way in found["ways"].values():
        assert way["comparisons"] >= 1  # each was compared with an undisturbed one
        assert sum(way["moments"].values()) == way["kills"]


def test_a_few_kills_lose_no_finished_step_and_change_no_number(tmp_path: Path) -> None:
    options = ("--seeds", "2", "--epochs", "1", "--ways", "forked, stacked", "--seed", "1")
    assert_nothing_lost(kill(tmp_path, 4, *options), 4)


@pytest.mark.slow
def test_a_dozen_kills_of_every_kind(tmp_path: Path) -> None:
    found = kill(tmp_path, 24, "--seeds", "2", "--epochs", "2", "--seed", "2")
    assert_nothing_lost(found, 24)
    assert {name: way["kills"] for name, way in found["ways"].items()} == {
        "forked": 13,
        "forked, stacked": 9,
        "command": 1,
        "command, two jobs": 1,
    }
