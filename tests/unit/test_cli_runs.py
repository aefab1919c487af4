import errno
import json
import os
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prognet.cli import main
from prognet.config import Training
from prognet.files import write_json
from prognet.manifest import read_manifest
from prognet.results import load_results
from prognet.tuned import Choice, Tuned, read_tuned, write_tuned
from tests.helpers.commands import OWN_BACKBONE, content, options, save_arrays
from tests.helpers.sealing import edit


@pytest.fixture(autouse=True)
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A working directory with data.npz, and a terminal that is wide enough for every message."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    save_arrays(tmp_path / "data.npz")
    return tmp_path


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports have tests of their own, and take longer than these runs."""
    monkeypatch.setattr("prognet.report.write_report", lambda folder: Path(folder) / "report.html")


def run(*strategies: str, out: str = "out", **changes: Any) -> int:
    """`prognet run from-npz` with quick settings."""
    return main(["run", "from-npz", *options(path="data.npz", strategies=strategies, out=out, **changes)])


def test_data_and_backbone_of_ones_own_from_the_command_to_the_proof(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (place / "my_own_module.py").write_text(OWN_BACKBONE)
    monkeypatch.delitem(sys.modules, "my_own_module", raising=False)
    before = list(sys.path)
    line = ["from-npz", "--path", "data.npz", "--backbone", "my_own_module:build", "--seeds", "2", "--epochs", "2"]
    names = ["--strategies", "progressive", "independent-wide", "finetune"]
    assert main(["run", *line, *names, "--device", "cpu", "--out", "own"]) == 0
    assert sys.path == before
    shown = capsys.readouterr()
    assert shown.out == "report: own/report.html\n"
    reason = (
        "backbone: required an argument width=1.0 by which the network can be widened, found none; add it to get this"
    )
    assert f"prognet: independent-wide: {reason} control.\n" in shown.err
    manifest = read_manifest(place / "own")
    assert manifest.command == ["prognet", "run", *line, *names, "--device", "cpu", "--out", "own"]
    assert manifest.unavailable == {"independent-wide": f"{reason} control."}
    assert manifest.strategies == ["progressive", "finetune"]
    assert [(item.strategy, item.seed) for item in load_results(place / "own")] == [
        ("finetune", 0),
        ("finetune", 1),
        ("progressive", 0),
        ("progressive", 1),
    ]
    page = (place / "own" / "report.html").read_text(encoding="utf-8")
    assert "my_own_module:build" in page
    assert "independent-wide" in page

    assert main(["verify", "own"]) == 1
    refused = capsys.readouterr().out.splitlines()
    assert len(refused) == 5
    for verdict in refused[:4]:
        assert "FAILED: backbone: required one of prognet's own" in verdict
        assert "give it yourself, on the command line with --backbone my_own_module:build." in verdict
    assert refused[4] == "0 of 4 runs verified"
    assert main(["verify", "own", "--backbone", "my_own_module:build"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "runs/finetune/order-0-seed-0: 0 frozen parts unchanged",
        "runs/finetune/order-0-seed-1: 0 frozen parts unchanged",
        "runs/progressive/order-0-seed-0: 2 frozen parts unchanged; 2 say the same bits as when recorded",
        "runs/progressive/order-0-seed-1: 2 frozen parts unchanged; 2 say the same bits as when recorded",
        "4 of 4 runs verified",
    ]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished comparison on the embedded data, with its report."""
    folder = tmp_path_factory.mktemp("digits") / "out"
    line = options(n_tasks=2, seeds=2, strategies=["progressive", "finetune"], out=folder)
    assert main(["run", "split-digits", *line]) == 0
    return folder


@pytest.fixture
def folder(digits: Path, place: Path) -> Path:
    return Path(shutil.copytree(digits, place / "out"))


def again(folder: Path, **changes: Any) -> int:
    arguments = {"n_tasks": 2, "seeds": 2, "strategies": ["progressive", "finetune"], "out": folder, **changes}
    return main(["run", "split-digits", *options(**arguments)])


def test_a_run_leaves_results_weights_and_a_report(digits: Path) -> None:
    found = {str(path.relative_to(digits)) for path in digits.rglob("*") if path.is_file()}
    runs = [f"runs/{name}/order-0-seed-{seed}" for name in ("progressive", "finetune") for seed in (0, 1)]
    assert {
        f"{run}/{file}" for run in runs for file in ("result.json", "proof-2.safetensors", "state-2.safetensors")
    } == {name for name in found if name.startswith("runs/")}
    assert found > {"manifest.json", "report.html", "tables/summary.csv"}
    assert {Path(name).parts[0] for name in found} == {"manifest.json", "report.html", "runs", "figures", "tables"}


def test_the_same_command_trains_nothing_again(
    folder: Path, no_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder / "runs")
    assert again(folder) == 0
    assert content(folder / "runs") == before
    assert capsys.readouterr().out == f"report: {folder}/report.html\n"


def test_more_seeds_are_added_to_the_folder(folder: Path, no_report: None) -> None:
    before, created = content(folder / "runs"), read_manifest(folder).created
    assert again(folder, seeds=3, strategies=["finetune"]) == 0
    after = content(folder / "runs")
    assert before.items() <= after.items()
    assert {name for name in after if name not in before} == {
        "finetune/order-0-seed-2/proof-2.safetensors",
        "finetune/order-0-seed-2/result.json",
        "finetune/order-0-seed-2/state-2.safetensors",
    }
    manifest = read_manifest(folder)
    assert (manifest.strategies, manifest.seeds) == (["progressive", "finetune"], [0, 1, 2])
    assert manifest.created == created


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"lr": 0.5}, "training.lr = 0.5, found 0.01"),
        ({"lca_updates": 2}, "measurement.lca_updates = 2, found 1"),
        ({"n_tasks": 3}, "stream.arguments = {'n_tasks': 3, "),
        ({"backbone": "mlp(hidden=(5,))"}, "backbone.arguments = {'hidden': [5], "),
    ],
)
def test_another_comparison_in_the_same_folder_is_refused(
    folder: Path, changes: dict[str, Any], difference: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = content(folder)
    assert again(folder, **changes) == 2
    message = f"prognet: {folder}/manifest.json: required a comparison with {difference}"
    assert message in capsys.readouterr().err
    assert content(folder) == before


def test_other_data_under_the_same_name_are_refused(
    place: Path, no_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("finetune") == 0
    before = content(place / "out")
    save_arrays(place / "data.npz", x_test_1=np.zeros((8, 6), dtype=np.float32))
    assert run("finetune", "independent", seeds=2) == 2
    assert "prognet: out/manifest.json: required a comparison with data.0 = '" in capsys.readouterr().err
    assert content(place / "out") == before


def test_a_folder_of_another_version_is_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_json(folder / "manifest.json", "prognet.folder", 99, {})
    before = content(folder)
    assert again(folder) == 2
    message = "required version 3 of prognet.folder, found 99; it was written by another release"
    assert message in capsys.readouterr().err
    assert content(folder) == before


def test_an_intact_folder_is_verified(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(folder)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 of 4 runs verified"


def test_a_changed_folder_fails_where_it_was_changed(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = folder / "runs" / "progressive" / "order-0-seed-1" / "result.json"
    edit(path, lambda document: document["digests"][1].update({"column 1": "f" * 64}))
    assert main(["verify", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    failed = [line for line in lines if "FAILED" in line]
    assert len(failed) == 1
    assert failed[0].startswith("runs/progressive/order-0-seed-1: FAILED: ")
    assert f"required digest {'f' * 64} of column 1, as recorded after step 1" in failed[0]
    assert lines[-1] == "3 of 4 runs verified"


# what goes wrong

WILD = Training(epochs=2, batch_size=32, optimiser="sgd", lr=1e6)
CALM = Training(epochs=1, batch_size=32, lr=0.002)


def test_a_report_says_what_it_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(folder)]) == 0
    assert capsys.readouterr().err == ""
    broken = sorted(folder.rglob("result.json"))[0]
    broken.write_bytes(broken.read_bytes()[:-5])
    assert main(["report", str(folder)]) == 1
    said = capsys.readouterr()
    assert said.out == f"report: {folder / 'report.html'}\n"
    assert said.err.startswith(f"prognet: left out: {broken}: ")
    assert said.err.count("\n") == 1


def save_tuned(path: Path, **trainings: Training) -> Path:
    choices = {name: Choice(training, 0.5, [0.5]) for name, training in trainings.items()}
    write_tuned(path, Tuned({}, [0], list(trainings.values()), choices))
    return path


def test_a_strategy_that_diverges_fails_alone(place: Path, no_report: None, capsys: pytest.CaptureFixture[str]) -> None:
    save_tuned(place / "tuned.json", finetune=WILD, independent=CALM, multitask=CALM)
    assert run("finetune", "progressive", "independent", tuned="tuned.json") == 1
    shown = capsys.readouterr()
    assert shown.out == "report: out/report.html\n"
    missing = "prognet: progressive: tuned.json has no choice for it; it is trained as all would be without.\n"
    assert shown.err.startswith(missing)
    assert "\nprognet: finetune, order 0, seed 0: DivergedError: training of tasks [" in shown.err
    manifest = read_manifest(place / "out")
    assert list(manifest.failed) == ["finetune, order 0, seed 0"]
    assert sorted(manifest.tuned) == ["finetune", "independent"]
    trained = {item.strategy: item.config["training"] for item in load_results(place / "out")}
    assert {name: training["lr"] for name, training in trained.items()} == {"independent": 0.002, "progressive": 0.001}


def test_no_report_is_tried_where_every_run_failed(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("finetune", optimiser="sgd", lr=1e6, epochs=2) == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "DivergedError" in shown.err
    assert not (place / "out" / "report.html").exists()


@pytest.mark.parametrize("files", [0, 2])
def test_a_full_disk_is_said_and_stops_everything(
    files: int, place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    written: list[int] = []

    def fsync(descriptor: int) -> None:
        written.append(descriptor)
        if len(written) > files:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fsync)
    assert run("finetune", "independent", "progressive") == 2
    assert re.search(
        r"prognet: out/\S+: could not be written \(No space left on device\); free space or choose another folder, "
        r"then run the same command again: finished work is kept\.\n",
        capsys.readouterr().err,
    )
    assert len(written) == files + 1
    assert not list((place / "out").rglob(".*"))  # no part of a file is left


def test_ctrl_c_ends_with_a_word(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(*arguments: object, **keywords: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("prognet.evaluation.grid", stop)
    assert run("finetune") == 130
    assert capsys.readouterr().err.endswith(
        "prognet: stopped; every finished task is kept: the same command goes on from there.\n"
    )
    monkeypatch.setattr("prognet.report.write_report", stop)
    assert main(["report", "out"]) == 130
    assert capsys.readouterr().err == "prognet: stopped.\n"


# what a search does


def test_a_search_writes_what_a_run_reads(place: Path, no_report: None, capsys: pytest.CaptureFixture[str]) -> None:
    names = ("finetune", "progressive")
    line = options(path="data.npz", strategies=names, out="tuned.json", trials=2, tasks=2, seeds=2)
    assert main(["tune", "from-npz", *line]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == [*names, "written"]
    assert lines[2] == "written: tuned.json; use it with: prognet run from-npz --tuned tuned.json"
    document = json.loads((place / "tuned.json").read_text())
    assert document["budget"]["trials"] == 2
    assert document["budget"]["seeds"] == [0, 1]
    assert document["stream"]["tasks"] == 2
    assert document["trials"][0]["lr"] == 0.001  # the recipe's
    found = read_tuned(place / "tuned.json")
    assert run(*names, tuned="tuned.json") == 0
    manifest = read_manifest(place / "out")
    for item in load_results(place / "out"):
        assert item.config["training"] == manifest.tuned[item.strategy]
        assert item.config["training"]["lr"] == found[item.strategy].lr


def test_a_recipe_that_was_searched_is_compared_with_the_training_it_was_tried_with(
    place: Path, no_report: None, capsys: pytest.CaptureFixture[str]
) -> None:
    line = options(path="data.npz", strategies=["finetune"], out="tuned.json", trials=3, tasks=2, seeds=2)
    assert main(["tune", "from-npz", *line, "--fine-tuning", "recipe.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[0] for line in lines] == ["finetune", "written", "finetune-searched", "written"]
    assert lines[3] == "written: recipe.json; use it with: --fine-tuning recipe.json"
    document = json.loads((place / "recipe.json").read_text())
    assert document["budget"] == {"trials": 3, "seeds": [0, 1], "chosen_by": "average validation accuracy"}
    assert [trial["training"] for trial in document["trials"]] == json.loads((place / "tuned.json").read_text())[
        "trials"
    ]
    document |= {"recipe": {"reinit": 1, "rate": 0.5}, "training": {**document["training"], "lr": 0.0625}}
    (place / "recipe.json").write_text(json.dumps(document))
    assert run("finetune", fine_tuning="recipe.json") == 0
    plain, searched = load_results(place / "out")
    assert (plain.strategy, searched.strategy) == ("finetune", "finetune-searched")
    recipe = searched.config["strategy"]["arguments"]["recipe"]["arguments"]
    assert (recipe["reinit"], recipe["rate"], searched.config["training"]["lr"]) == (1, 0.5, 0.0625)
    assert plain.config["training"]["lr"] == 0.001
    assert "finetune-searched" in read_manifest(place / "out").tuned
    assert main(["verify", "out"]) == 0


def test_files_that_a_search_for_a_recipe_cannot_use_are_refused_before_it(
    place: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = options(path="data.npz", strategies=["finetune"], out="tuned.json", trials=1, tasks=1)
    for found, message in ((".", "the name of a file, found the folder"), ("tuned.json", "another file than --out")):
        assert main(["tune", "from-npz", *line, "--fine-tuning", found]) == 2
        assert f"prognet: fine-tuning: required {message}" in capsys.readouterr().err
    assert not (place / "tuned.json").exists()
    assert run("finetune", fine_tuning="recipe.json") == 2
    assert "recipe.json: required a prognet.recipe file, found none" in capsys.readouterr().err
    assert not (place / "out").exists()


def test_a_search_that_cannot_be_written_shows_what_it_found(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = options(path="data.npz", strategies=["finetune"], out="data.npz/tuned.json", trials=1, tasks=1)
    assert main(["tune", "from-npz", *line]) == 2
    shown = capsys.readouterr()
    assert shown.out.startswith("finetune: lr=1.00e-03 ")
    assert "prognet: data.npz/tuned.json: could not be written" in shown.err
