"""Arrays of several shapes from one file, from the command line to the proof."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prognet.cli import main
from prognet.results import load_results
from tests.helpers.commands import options


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three tasks: vectors of 6 numbers, images of one channel, vectors again."""
    random = np.random.default_rng(0)
    arrays: dict[str, Any] = {}
    for task, shape in enumerate(((6,), (1, 5, 4), (6,))):
        centres = 2 * random.standard_normal((2, *shape))
        for split, n in (("train", 32), ("test", 16)):
            y = np.arange(n) % 2
            arrays[f"x_{split}_{task}"] = (centres[y] + random.standard_normal((n, *shape))).astype(np.float32)
            arrays[f"y_{split}_{task}"] = y
    np.savez(tmp_path / "data.npz", **arrays)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    return tmp_path


def command(*strategies: str) -> list[str]:
    backbone = "mlp(hidden=(8, 8))"
    changes = {"path": "data.npz", "strategies": strategies, "backbone": backbone, "out": "out"}
    return ["run", "from-npz", *options(**changes, epochs=10, batch_size=16, lr=0.02)]


@pytest.mark.slow
def test_a_comparison_is_run_and_proved(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("independent", "progressive", "multitask-stems")) == 0
    results = load_results(data / "out")
    assert {result.strategy for result in results} == {"independent", "progressive", "multitask-stems"}
    for result in results:
        assert [task.input_shape for task in result.tasks] == [(6,), (1, 5, 4), (6,)]
        assert (result.accuracy[-1] > 0.7).all()
    assert main(["verify", "out"]) == 0


def test_a_trunk_for_all_is_refused_before_any_work(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command("independent", "finetune")) != 0
    shown = capsys.readouterr().err
    assert (
        "tasks: required inputs of one shape for 'finetune', found (6,) in task 0 ('task 0') and (1, 5, 4) in" in shown
    )
    assert not (data / "out").exists()
