"""`prognet analyse`: the stream is made again from what the run recorded, and the outcome is told run by run."""

from pathlib import Path
from typing import Any

import pytest

from prognet.analysed import read_analysis
from prognet.catalogue import stream_again
from prognet.cli import main
from prognet.errors import ConfigError, MissingDataError, UnknownNameError
from prognet.results import load_results
from prognet.streams import low_data_digits, split_digits
from tests.helpers.commands import options, save_arrays

RUN = "out/runs/progressive/order-0-seed-0"


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory with data.npz and a run of two strategies on it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr("prognet.report.write_report", lambda folder: Path(folder) / "report.html")
    save_arrays(tmp_path / "data.npz")
    line = options(path="data.npz", strategies=["progressive", "finetune"], out="out")
    assert main(["run", "from-npz", *line]) == 0
    return tmp_path


def test_a_folder_is_analysed_and_every_run_is_named(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capsys.readouterr()
    line = ["analyse", "out", "--samples", "8", "--repeats", "1", "--device", "cpu"]
    assert main([*line, "--root", "data.npz", "--replacement", "zero", "--columns", "last"]) == 0
    shown = capsys.readouterr()
    assert shown.out.splitlines() == [
        "runs/finetune/order-0-seed-0: its columns do not read each other",
        "runs/progressive/order-0-seed-0: columns analysed: 1",
        "show them with: prognet report out",
    ]
    found = read_analysis(place / RUN)
    assert (found.settings["samples"], found.settings["replacement"]) == (8, "zero")


def test_other_data_fail_with_code_1(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    save_arrays(place / "other.npz", n_tasks=2, x_test_0=[[0.0] * 6] * 8)
    assert main(["analyse", "out", "--root", "other.npz", "--device", "cpu"]) == 1
    assert f"{RUN.removeprefix('out/')}: stream: required the samples of the run" in capsys.readouterr().out


def test_what_cannot_be_looked_at_is_refused(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["analyse", "nowhere"]) == 2
    assert "folder: required at least one finished run below nowhere, found none." in capsys.readouterr().err
    assert main(["analyse", "out", "--samples", "3"]) == 2
    assert "samples" in capsys.readouterr().err


def test_a_stop_says_that_analysed_runs_are_kept(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prognet.evaluation.analysing.stored_learner", stop)
    assert main(["analyse", "out", "--root", "data.npz"]) == 130
    assert "stopped; every finished run is kept: the same command goes on from there." in capsys.readouterr().err


def test_a_stream_is_made_again_from_its_record(place: Path) -> None:
    config = load_results(place / "out")[0].config
    assert stream_again(config, Path("data.npz")).digest == config["stream"]["digest"]
    assert stream_again(config, None).digest == config["stream"]["digest"]  # the name of the file, where one stands


@pytest.mark.parametrize("draw", [None, 3])
def test_embedded_streams_need_no_root(draw: int | None) -> None:
    stream = split_digits(2, seed=4) if draw is None else low_data_digits(5, 20, seed=1, draw=draw)
    recorded = {
        "stream": {"name": stream.name, "arguments": dict(stream.arguments)},
        "order": stream.seed,
        "draw": stream.draw,
    }
    assert stream_again(recorded, None).digest == stream.digest


def record(name: str, **arguments: Any) -> dict[str, Any]:
    return {"stream": {"name": name, "arguments": arguments}, "order": 0, "draw": None}


def test_a_stream_that_cannot_be_made_again_says_why() -> None:
    with pytest.raises(UnknownNameError, match="stream: 'blobs' is not known"):
        stream_again(record("blobs"), None)
    with pytest.raises(ConfigError, match="root: required the place of the data of 'from-folder', found none; name it"):
        stream_again(record("from-folder", size=[8, 8]), None)
    with pytest.raises(ConfigError, match="stream: required the arguments of 'split-digits', found"):
        stream_again(record("split-digits", angle=3), None)
    with pytest.raises(MissingDataError):
        stream_again(record("split-mnist"), Path("nowhere"))
