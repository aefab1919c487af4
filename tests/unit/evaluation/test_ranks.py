"""A run that several processes share: who reads and writes, what is refused, and what ends it."""

import atexit
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from prognet import verify
from prognet.cli import main
from prognet.errors import ConfigError, RunFolderError
from prognet.evaluation import ranks
from prognet.evaluation.ranks import joined
from prognet.evaluation.store import RunStore
from prognet.manifest import read_manifest
from prognet.results import load_results
from prognet.training.ranks import Ranks
from tests.helpers.commands import options
from tests.helpers.processes import free_port, together, values
from tests.helpers.runs import KINDS, NORMED, assert_same_numbers, assert_same_tensors, quick_run
from tests.helpers.shared_runs import RAGGED, compared, failing, in_a_folder, refused_folder, shared_by_two
from tests.helpers.streams import make_stream

REFUSALS: Mapping[str, str] = {
    "wrapped": "strategy: required one with 2 processes that is trained by prognet's own loop, found 'ewc'; use one "
    "process.",
    "recipe": "strategy: required, with 2 processes, updates by the mean loss over the samples, found a recipe or a "
    "weighting of its own for tasks [1]; use one process.",
    "weighting": "strategy: required, with 2 processes, updates by the mean loss over the samples, found a recipe or a "
    "weighting of its own for tasks [0, 1]; use one process.",
    "penalty": "strategy: required, with 2 processes, a loss that is a mean over samples, found a penalty beside it "
    "for tasks [0, 1]; use one process.",
    "compile": "compile: required 'none' with 2 processes, found 'default'.",
    "norm": "batch_size: required two samples for each of the 2 processes, since the network has BatchNorm, found a "
    "batch of 2; use larger batches or fewer processes.",
    "norms of tasks": "batch_size: required two samples of a task or none, since BatchNorm in layers that see the "
    "samples of one task alone cannot learn from one, found a single one of tasks [0, 1, 2] in the shares of 2 "
    "processes in batches of at most 9; use larger batches, a network without BatchNorm, or an architecture whose "
    "norms see all tasks, such as Hard().",
    "stack": "stack: required 1 with 2 processes, found 2.",
    "jobs": "workers: required jobs=1 and no cluster with 2 processes, which share every run, found Workers(jobs=2, "
    "engine='processes', address=None, cpus_per_run=1.0, gpus_per_run=0.0); start many runs at once without torchrun, "
    "or share each without jobs.",
}
DISAGREEMENTS: Mapping[str, tuple[str, str]] = {
    "column": ("what was learned", "tensor columns.network.columns.0.backbone.1.weight"),
    "metrics": ("what was learned", "measurements and choices"),
    "validation": ("the validation loss", "validation loss"),
    "seed": ("a run", "seed"),
}


@pytest.mark.parametrize("what", REFUSALS)
def test_what_processes_cannot_share_is_refused_in_each_of_them(what: str) -> None:
    for one in shared_by_two():
        assert one["refusals"].keys() == REFUSALS.keys()
        assert one["refusals"][what] == f"ConfigError: {REFUSALS[what]}"


@pytest.mark.parametrize("what", DISAGREEMENTS)
def test_a_process_that_comes_to_other_numbers_is_named_in_each_of_them(what: str) -> None:
    compared_by, part = DISAGREEMENTS[what]
    for one in shared_by_two():
        assert one["disagreements"].keys() == DISAGREEMENTS.keys()
        assert one["disagreements"][what] == (
            f"DisagreementError: process 1: required {compared_by} as in process 0, found another {part!r}; use the "
            "same program, data, versions, threads and kind of device for all processes, and go on from the last "
            "finished step."
        )


def test_the_first_process_alone_writes_and_a_killed_run_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    required, numbers = values(together(in_a_folder, str(whole)))[0]
    assert [path.name for path in tmp_path.iterdir()] == ["whole-0"]
    assert [verdict.problem for verdict in verify(tmp_path / "whole-0")] == [None]
    assert_same_numbers(load_results(tmp_path / "whole-0")[0], required)

    ended = together(in_a_folder, str(killed), 6)  # at the weights of the second step
    assert ended[0].code == 9
    assert ended[1].code == 1, ended[1].said
    store = RunStore.of(tmp_path / "killed-0", "progressive", 0, 0)
    progress = store.progress()
    assert progress is not None
    assert progress.schedule == ((0,),)
    assert progress.environment["processes"] == 2

    with pytest.raises(RunFolderError, match="required processes 2, with which this run was begun, found 1; go on wi"):
        quick_run(KINDS["progressive"](NORMED), make_stream(sizes=RAGGED), out=tmp_path / "killed-0")

    for result, tensors in values(together(in_a_folder, str(killed))):
        assert_same_numbers(result, required)
        assert_same_tensors(tensors, numbers)
    for result, _ in values(together(in_a_folder, str(killed))):  # which only reads
        assert_same_numbers(result, required)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed-0", "whole-0"]
    proofs = [next((tmp_path / name).rglob("proof-*")).read_bytes() for name in ("killed-0", "whole-0")]
    assert proofs[0] == proofs[1]


def test_an_error_of_the_first_process_in_its_folder_is_raised_in_each(tmp_path: Path) -> None:
    (tmp_path / "out-0").write_text("a file")
    first, second = values(together(refused_folder, str(tmp_path / "out")))
    assert first == second
    assert first.startswith("UnwritableError: ")


def test_a_comparison_goes_on_after_a_run_that_diverges_in_all_processes(tmp_path: Path) -> None:
    first, second = values(together(compared, str(tmp_path / "out")))
    names = ["independent, order 0, seed 0", "finetune, order 0, seed 0"]
    assert first[2] == [f"{what}: {name}" for name in names for what in ("begins", "ends")]
    assert second[2] == []
    for results, failed, _ in (first, second):
        assert [result.strategy for result in results] == ["finetune"]
        assert list(failed) == names[:1]
        assert failed[names[0]].startswith("DivergedError: training of tasks [0]: required a finite ")
    assert first[1][names[0]].replace("out-0", "") == second[1][names[0]].replace("out-0", "")
    assert_same_numbers(first[0][0], second[0][0])
    assert [path.name for path in tmp_path.iterdir()] == ["out-0"]
    assert dict(read_manifest(tmp_path / "out-0").failed) == dict(first[1])


def test_an_error_of_one_process_ends_all_of_them(tmp_path: Path) -> None:
    first, second = together(failing, str(tmp_path))
    assert (first.code, second.code) == (1, 1)
    assert "ValueError: a fault" in second.said
    assert "Connection closed by peer" in first.said or "Connection reset by peer" in first.said
    assert not list(tmp_path.rglob("result.json"))


def test_one_process_is_its_own_first() -> None:
    alone, numbers = Ranks(), torch.tensor([1.0, 2.0])
    assert alone.is_first
    assert alone.is_alone
    assert not Ranks(1, 2).is_first
    assert torch.equal(alone.total(numbers), numbers)
    assert torch.equal(alone.every(numbers), numbers[None])
    assert alone.first_does(lambda: 7) == 7
    alone.agree("nothing", {"a": "b"})
    alone.from_first([numbers])
    assert numbers.tolist() == [1, 2]


def test_processes_that_do_not_know_where_to_meet_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("WORLD_SIZE", "2")
    message = (
        "WORLD_SIZE: required the variables of torchrun beside it, found 2 without RANK, MASTER_ADDR, MASTER_PORT; "
        "start with torchrun, or without WORLD_SIZE."
    )
    with pytest.raises(ConfigError, match=message):
        quick_run(KINDS["finetune"](NORMED), make_stream())
    monkeypatch.setenv("WORLD_SIZE", "1")
    assert joined("cpu") == torch.device("cpu")


def test_a_device_that_processes_cannot_share_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(ranks, "resolve_device", lambda device, is_deterministic: torch.device("mps"))
    with pytest.raises(ConfigError, match="device: required 'cpu' or 'cuda' with 2 processes, found 'mps'."):
        joined("auto")


def test_each_process_takes_a_gpu_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[int] = []
    asked = {"WORLD_SIZE": "3", "RANK": "1", "LOCAL_RANK": "1", "MASTER_ADDR": "nowhere", "MASTER_PORT": "1"}
    for name, value in asked.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "set_device", taken.append)
    monkeypatch.setattr(ranks, "resolve_device", lambda device, is_deterministic: torch.device("cuda", 1))
    monkeypatch.setattr(atexit, "register", lambda work: None)
    backends: list[str] = []
    monkeypatch.setattr(torch.distributed, "init_process_group", lambda backend, timeout: backends.append(backend))
    assert joined("auto") == torch.device("cuda", 1)
    assert (taken, backends) == ([1], ["cpu:gloo,cuda:nccl"])
    monkeypatch.setenv("LOCAL_RANK", "2")
    message = "device: required a GPU for each process of a machine, found 2 for process 2, counted from 0; start fewer"
    with pytest.raises(ConfigError, match=message):
        joined("cuda")


@pytest.mark.parametrize("command", ["tune", "report", "verify", "analyse", "list"])
def test_other_commands_are_for_one_process(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert main([command, "demo"]) == 2
    required = f"prognet: {command}: required one process, found 2 of torchrun, which can share `run` only.\n"
    assert capsys.readouterr().err == required


@pytest.mark.slow
def test_torchrun_shares_a_command(tmp_path: Path) -> None:
    out = tmp_path / "out"
    words = ["run", "split-digits", "--strategies", "progressive", "--out", str(out), *options(batch_size=31)]
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", "2", "--master-port", str(free_port())]
    done = subprocess.run(
        [sys.executable, *torchrun, "-m", "prognet", *words], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("report: ") == 1
    assert done.stderr.count("files: ") == 1
    (result,) = load_results(out)
    assert result.environment["processes"] == 2
    assert (out / "report.html").exists()
    assert main(["run", "split-digits", "--strategies", "progressive", "--out", f"{out}-1", *words[6:]]) == 0
    (alone,) = load_results(f"{out}-1")
    np.testing.assert_allclose(result.accuracy, alone.accuracy, atol=0.02)
