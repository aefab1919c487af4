import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prognet import cli
from prognet.catalogue import BACKBONES, STRATEGIES, STREAMS
from prognet.cli import main
from prognet.errors import UsageError
from prognet.recipes import OWN_DATA, RECIPES
from tests.helpers.commands import options, save_arrays

EXPERIMENT_OPTIONS = ["--strategies", "--backbone", "--seeds", "--orders", "--device", "--threads"]
DIGITS_OPTIONS = ["--n-tasks", "--validation", "--heads", "--class-order"]
TRAINING_OPTIONS = [
    *("--epochs", "--updates", "--first-updates", "--batch-size", "--first-batch-size"),
    *("--optimiser", "--lr", "--momentum", "--weight-decay"),
    *("--schedule", "--label-smoothing", "--clip-norm", "--augment", "--patience"),
]
MEASUREMENT_OPTIONS = [
    *("--lca-updates", "--curve-points", "--curve-samples", "--evaluation-batch-size"),
    *("--gates", "--gate-steps"),
]
EXECUTION_OPTIONS = [
    *("--precision", "--channels-last", "--compile"),
    *("--data-memory", "--feature-memory", "--feature-precision", "--stack", "--deterministic"),
]
WORKER_OPTIONS = ["--jobs", "--engine", "--address", "--cpus-per-run", "--gpus-per-run"]
COMMON_OPTIONS = [
    *("--help", "--out"),
    *(EXPERIMENT_OPTIONS + DIGITS_OPTIONS + TRAINING_OPTIONS + MEASUREMENT_OPTIONS + EXECUTION_OPTIONS),
]
DEMO_OPTIONS = [*COMMON_OPTIONS, "--tuned", "--fine-tuning", *WORKER_OPTIONS]
TUNE_OPTIONS = [*COMMON_OPTIONS, "--trials", "--tasks", "--fine-tuning"]


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory with data.npz, and a terminal that is wide enough for every message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    save_arrays(tmp_path / "data.npz")
    return tmp_path


def run(*strategies: str, out: str = "out", **changes: Any) -> int:
    """`prognet run from-npz` with quick settings."""
    return main(["run", "from-npz", *options(path="data.npz", strategies=strategies, out=out, **changes)])


def shown_options(text: str) -> list[str]:
    return re.findall(r"[ │] (?:-h, )?(--[a-z][a-z-]+)", text)  # in columns that may stand side by side


def nothing_was_written(place: Path) -> bool:
    return [path.name for path in place.iterdir()] == ["data.npz"]


# what is there


def test_the_commands_are_these(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(cli._COMMANDS) == ["run", "tune", "report", "verify", "analyse", "list"]
    assert main(["--help"]) == 0
    shown = capsys.readouterr().out
    assert re.findall(r"^  prognet (\w+)", shown, flags=re.MULTILINE) == list(cli._COMMANDS)
    assert ", ".join([*RECIPES, *OWN_DATA]) in shown


@pytest.mark.parametrize("line", [[], ["-h"], ["run", "--help"], ["run", "-h"], ["tune", "--help"], ["list", "--help"]])
def test_help_is_at_hand(line: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line) == 0
    assert capsys.readouterr().out.startswith("prognet: progressive networks")


def test_the_options_of_the_demo_are_these(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "demo", "--help"]) == 0
    assert sorted(shown_options(capsys.readouterr().out)) == sorted(DEMO_OPTIONS)


def test_the_options_of_a_search_are_these(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tune", "demo", "--help"]) == 0
    assert sorted(shown_options(capsys.readouterr().out)) == sorted(TUNE_OPTIONS)


@pytest.mark.parametrize("name", [*RECIPES, *OWN_DATA])
@pytest.mark.parametrize("command", ["run", "tune"])
def test_every_name_can_be_asked_for_its_options(name: str, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: prognet {command} {name}" in shown
    kind = OWN_DATA[name] if name in OWN_DATA else type(RECIPES[name]().experiment.options)
    for field in kind.__dataclass_fields__:
        assert f"--{field.replace('_', '-')}" in shown_options(shown)


@pytest.mark.parametrize(("command", "names"), [("report", ["--help"]), ("verify", ["--help", "--backbone"])])
def test_the_options_of_a_folder_are_these(command: str, names: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main([command, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"usage: prognet {command} [-h] PATH" in shown
    assert shown_options(shown) == names


def test_the_list_shows_every_name_once(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if not line.startswith(" ")] == ["recipes", "streams", "strategies", "backbones"]
    names = [line.split()[0] for line in lines if line.startswith(" ")]
    recipes = ["demo", "low-data-mnist-5", "low-data-mnist-40", "low-data-mnist-400"]
    assert names == [*recipes, *STREAMS, *STRATEGIES, *BACKBONES]
    assert all(len(line.split()) > 2 for line in lines if line.startswith(" "))


def test_the_program_takes_its_arguments_from_the_shell(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["prognet", "lsit"])
    assert main() == 2
    assert capsys.readouterr().err == "prognet: command: 'lsit' is not known; did you mean 'list'?\n"


# what is refused

REFUSED: list[tuple[list[str], str]] = [
    (["rnu"], "prognet: command: 'rnu' is not known; did you mean 'run'?"),
    (["run"], "prognet: run: required a name first, one of demo, split-digits, "),
    (["run", "--seeds", "2", "demo"], "from-npz, from-folder; found --seeds."),
    (["run", "dmeo"], "prognet: recipe or stream: 'dmeo' is not known; did you mean 'demo'?"),
    (["tune", "split-mnits"], "prognet: recipe or stream: 'split-mnits' is not known; did you mean 'split-mnist'?"),
    (
        ["run", "demo", "--strategies", "progresive"],
        "prognet: strategy: 'progresive' is not known; did you mean 'progressive'?",
    ),
    (["run", "demo", "--backbone", "mpl"], "prognet: backbone: 'mpl' is not known; did you mean 'mlp'?"),
    (["run", "demo", "--backbone", "mlp(8)"], "found 'mlp(8)'."),
    (["run", "demo", "--backbone", "no_module:build"], "found ModuleNotFoundError: No module named 'no_module'."),
    (["run", "demo", "--epoch", "3"], "Unrecognized options: --epoch, 3"),
    (["run", "demo", "--epoch", "3"], "--epochs INT"),
    (["run", "demo", "--epochs", "many"], "Error parsing --epochs"),
    (["run", "demo", "--lr", "-1"], "lr: required a finite number above 0, found -1.0."),
    (["run", "demo", "--seeds", "0"], "seeds: required a whole number, at least 1, found 0."),
    (["run", "demo", "--strategies"], "strategies: required at least one name, found none"),
    (["run", "demo", "--strategies", "finetune", "finetune"], "strategies: required each name once"),
    (["run", "demo", "--heads", "none"], "--heads"),
    (["run", "demo", "--tuned", "nowhere.json"], "nowhere.json: required a prognet.tuned file, found none"),
    (["run", "demo", "--device", "abacus", "--out", "out"], "device: required 'auto' or a device of this machine"),
    (["run", "demo", "--n-tasks", "6", "--out", "out"], "n_tasks: required 1 to 5"),
    (["run", "from-npz"], "--path PATH"),
    (["run", "from-npz", "--path", "no.npz", "--out", "out"], "path: required a .npz file, found none at no.npz"),
    (["run", "split-mnist", "--out", "out"], "prognet: root: required the folder of MNIST, found None"),
    (["run", "split-mnist", "--root", "no", "--out", "out"], "prognet: root: required MNIST below no, "),
    (["run", "from-folder", "--root", "no", "--out", "out"], "prognet: root: required"),
    (["tune", "demo"], "--out PATH"),
    (
        ["tune", "from-npz", "--path", "data.npz", "--out", "t", "--tasks", "1", "--trials", "0"],
        "trials: required at least 1, found 0.",
    ),
    (["tune", "from-npz", "--path", "data.npz", "--out", "t"], "n_tasks: required 1 to 2, found 3"),
    (["tune", "from-npz", "--path", "data.npz", "--out", "."], "out: required the name of a file, found the folder ."),
    (["report"], "PATH"),
    (["report", "a", "b"], "Unrecognized options: b"),
    (["report", "nowhere"], "folder: required at least one finished run below nowhere, found none"),
    (["verify"], "PATH"),
    (["verify", "a", "b", "c"], "Unrecognized options: b, c"),
    (["verify", "nowhere"], "folder: required at least one run or saved network below nowhere, found none."),
    (["verify", "nowhere", "--backbone", "mpl"], "did you mean 'mlp'?"),
    (["list", "streams"], "prognet: list: required nothing more, found streams; it shows everything at once."),
]


@pytest.mark.parametrize(
    ("line", "message"), REFUSED, ids=lambda value: " ".join(value) if isinstance(value, list) else ""
)
def test_what_cannot_be_is_refused_before_anything_is_written(
    line: list[str], message: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(line) == 2
    shown = capsys.readouterr()
    assert message in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""
    assert nothing_was_written(place)


@pytest.mark.parametrize("split", ["train", "test"])
def test_data_with_nan_are_refused_before_anything_is_written(
    split: str, place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    broken = np.zeros((24 if split == "train" else 8, 6), dtype=np.float32)
    broken[2, 1] = np.nan
    changed: dict[str, Any] = {f"x_{split}_1": broken}
    save_arrays(place / "data.npz", **changed)
    assert run("finetune") == 2
    assert "NaN" in capsys.readouterr().err
    assert nothing_was_written(place)


def test_a_backbone_that_does_not_fit_is_refused_before_anything_is_written(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("finetune", backbone="os:getcwd") == 2
    assert "backbone: required a function (input_shape, n_classes) -> nn.Module" in capsys.readouterr().err
    assert run("finetune", backbone="cnn") == 2
    assert "input_shape: required an image" in capsys.readouterr().err
    assert nothing_was_written(place)


def test_usage_errors_are_errors_of_prognet() -> None:
    with pytest.raises(UsageError, match="run: required a name first"):
        cli.run_command([])
    with pytest.raises(UsageError, match="list: required nothing more"):
        cli.list_command(["x"])
