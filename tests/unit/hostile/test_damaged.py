"""One run of several is damaged: it is named, and the others go on."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from prognet.cli import main
from prognet.config import Execution, Training
from prognet.errors import RunFolderError
from prognet.evaluation import Outcome, grid, verify
from prognet.report import write_report
from prognet.results import load_results
from prognet.strategies import FineTune, Progressive
from tests.helpers.analyses import make_analysis
from tests.helpers.commands import Recorder, content
from tests.helpers.data import blobs
from tests.helpers.hostile import flipped
from tests.helpers.runs import MEASUREMENT, PLAIN, assert_same_numbers
from tests.helpers.sealing import reseal, unsealed

SEEDS = (0, 1, 2)
DAMAGED = Path("runs") / "progressive" / "order-0-seed-1"
NAME = "progressive, order 0, seed 1"


def compare(folder: Path, stack: int = 1, **changes: Any) -> Outcome:
    """Two strategies with three seeds; what is there is not run again."""
    arguments: dict[str, Any] = {
        "seeds": SEEDS,
        "training": Training(epochs=1, batch_size=64),
        "measurement": MEASUREMENT,
        "execution": Execution(stack=stack),
        "device": "cpu",
        "threads": 1,
        **changes,
    }
    return grid([Progressive(PLAIN), FineTune(PLAIN)], lambda order: blobs((2, 2), seed=order), out=folder, **arguments)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("grid")
    compare(folder)
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    """The comparison, with a flipped bit in the result of one run."""
    copied = Path(shutil.copytree(made, tmp_path / "copy"))
    flip(copied / DAMAGED / "result.json")
    return copied


def flip(path: Path) -> None:
    """Turns the middle bit of a file over."""
    whole = path.read_bytes()
    path.write_bytes(flipped(whole, 4 * len(whole)))


def remedy(folder: Path) -> str:
    return f"remove the folder {folder / DAMAGED} and run the same command again."


def test_results_are_loaded_whole_or_not_at_all(folder: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        load_results(folder)
    assert str(caught.value).startswith(f"{folder / DAMAGED / 'result.json'}: required ")
    assert str(caught.value).endswith(remedy(folder))


def test_the_same_command_names_the_run_and_keeps_the_others(folder: Path, made: Path) -> None:
    before = content(folder / "runs")
    outcome = compare(folder)
    assert list(outcome.failed) == [NAME]
    assert outcome.failed[NAME].endswith(remedy(folder))
    assert len(outcome.results) == 5
    assert content(folder / "runs") == before
    shutil.rmtree(folder / DAMAGED)  # what the message says
    assert not compare(folder).failed
    for one, other in zip(load_results(folder), load_results(made), strict=True):
        assert_same_numbers(one, other)


def test_a_run_that_is_trained_with_others_does_not_stop_them(tmp_path: Path) -> None:
    compare(tmp_path, stack=3)
    flip(tmp_path / DAMAGED / "result.json")
    outcome = compare(tmp_path, stack=3)
    assert list(outcome.failed) == [NAME]
    assert len(outcome.results) == 5


@pytest.mark.parametrize("name", ["state-1.safetensors", "proof-1.safetensors", "progress.json"])
@pytest.mark.parametrize("stack", [1, 3])
def test_a_run_that_was_stopped_and_damaged_does_not_stop_the_others(tmp_path: Path, name: str, stack: int) -> None:
    """Ctrl-C comes in the second step, when every run has kept its first one."""

    def stop() -> None:
        raise KeyboardInterrupt

    at, seeds = (4, SEEDS) if stack == 3 else (2, (1,))
    with pytest.raises(KeyboardInterrupt):
        compare(tmp_path, stack=stack, seeds=seeds, observer=Recorder(at=at, do=stop))
    path = tmp_path / DAMAGED / name
    assert path.exists()
    flip(path)
    outcome = compare(tmp_path, stack=stack)
    assert list(outcome.failed) == [NAME]
    assert str(path) in outcome.failed[NAME]
    assert outcome.failed[NAME].endswith(remedy(tmp_path))
    assert len(outcome.results) == 5


def test_verify_fails_for_that_run_and_for_no_other(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = {verdict.run: verdict.problem for verdict in verify(folder)}
    assert [run for run, problem in found.items() if problem is not None] == [str(DAMAGED)]
    assert main(["verify", str(folder)]) == 1
    said = capsys.readouterr().out
    assert f"{DAMAGED}: FAILED: {folder / DAMAGED / 'result.json'}: required " in said
    assert said.endswith("5 of 6 runs verified\n")


def test_the_report_is_made_from_the_others_and_says_so(folder: Path) -> None:
    from prognet.analysed import write_analysis

    whole = next(run for run in load_results(folder / "runs" / "finetune"))
    write_analysis(folder / DAMAGED, make_analysis(whole))  # beside a run that cannot be read
    broken = folder / "runs" / "progressive" / "order-0-seed-0" / "geometry.json"
    broken.write_text("{")
    flip(folder / "manifest.json")
    page = write_report(folder).read_text(encoding="utf-8").replace("&#39;", "'").replace("&#34;", '"')
    for place in (DAMAGED, broken.relative_to(folder), "manifest.json"):
        assert page.count(f'<p class="alarm">Left out, since it is damaged: {place}: {folder / place}') == 1
    assert remedy(folder) in page
    assert "The grid is not complete: 1 runs are missing: progressive (order 0, seed 1)" in page
    assert page.count('<p class="alarm">') == 4


def test_a_report_of_nothing_that_can_be_read_is_refused(folder: Path) -> None:
    shutil.rmtree(folder / "runs" / "finetune")
    for seed in (0, 2):
        flip(folder / "runs" / "progressive" / f"order-0-seed-{seed}" / "result.json")
    with pytest.raises(
        RunFolderError, match="required at least one finished run below .*, found none that can be read: "
    ):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_a_damaged_manifest_is_refused_before_any_training_and_removing_it_helps(folder: Path) -> None:
    shutil.rmtree(folder / DAMAGED)
    path = folder / "manifest.json"
    flip(path)
    before = content(folder)
    with pytest.raises(RunFolderError) as caught:
        compare(folder)
    assert str(caught.value).startswith(f"{path}: required ")
    assert str(caught.value).endswith("remove the file and run the same command again, which writes it anew.")
    assert content(folder) == before
    path.unlink()
    assert len(compare(folder).results) == 6


def test_a_result_that_names_no_files_is_no_proof(folder: Path) -> None:
    path = folder / DAMAGED / "result.json"
    shutil.rmtree(folder / "runs" / "finetune")
    path = folder / "runs" / "progressive" / "order-0-seed-0" / "result.json"
    reseal(path, {**unsealed(path), "files": {}})
    found = {verdict.run: verdict.problem for verdict in verify(folder)}
    problem = found["runs/progressive/order-0-seed-0"]
    assert problem is not None
    assert "files: required the SHA-256 of state-2.safetensors, found []; remove the folder" in problem
