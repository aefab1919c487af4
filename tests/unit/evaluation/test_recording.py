"""What frozen columns say is recorded when they are frozen, and compared in every later step and from the files."""

import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import mlp
from prognet.engine import ProgressiveNetwork
from prognet.engine.evidence import (
    Evidence,
    agreement,
    largest_difference,
    outputs_of,
    probe_inputs,
    read_evidence,
    reproducible,
    setting_of,
    write_evidence,
)
from prognet.errors import FrozenColumnError
from prognet.evaluation import Verdict, verify
from prognet.evaluation.recording import as_recorded, recheck, record
from prognet.strategies import FineTune, Progressive
from prognet.streams.task import Task
from tests.helpers import zoo
from tests.helpers.runs import NORMED, PLAIN, assert_same_tensors, learn_all, modes, quick_run, tensors
from tests.helpers.sealing import edit, rehash
from tests.helpers.streams import make_stream

STREAM = make_stream((2, 3))
RUN = "runs/progressive/order-0-seed-0"
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of two columns, and a network that was saved with probe inputs."""
    folder = tmp_path_factory.mktemp("made")
    result = quick_run(Progressive(NORMED), STREAM, out=folder)
    shape = STREAM[0].input_shape
    result.learner.columns.network.save(folder / "net", probe=torch.randn(64, *shape))
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "moved"))


def proof(folder: Path) -> Path:
    (path,) = folder.glob("proof-*.safetensors")
    return path


def change(path: Path, how: Callable[[Evidence], Evidence]) -> None:
    write_evidence(path, how(read_evidence(path)))
    if (path.parent / "result.json").exists():
        rehash(path.parent / "result.json")


def verdicts(folder: Path, backbone: Any = None) -> dict[str, Verdict]:
    return {verdict.run: verdict for verdict in verify(folder, backbone)}


def test_a_run_leaves_what_its_columns_said(folder: Path) -> None:
    evidence = read_evidence(proof(folder / RUN))
    names = [f"columns.network.columns.{k}" for k in range(2)]
    assert list(evidence.outputs) == list(evidence.settings) == names
    ((shape, x),) = evidence.inputs.items()
    assert shape == "x".join(map(str, STREAM[0].input_shape))
    assert torch.equal(x, probe_inputs(STREAM[0].input_shape))
    assert [evidence.outputs[name].shape for name in names] == [(64, 2), (64, 3)]
    assert evidence.settings[names[0]] == setting_of(CPU)


def test_the_columns_say_it_after_their_freezing(folder: Path) -> None:
    """What is recorded is what the frozen column says in a plain call without gradients."""
    result = quick_run(Progressive(NORMED), STREAM)
    evidence = read_evidence(proof(folder / RUN))
    with reproducible(CPU):
        for label in range(2):
            y = result.learner.predict(probe_inputs(STREAM[0].input_shape), label)
            assert torch.equal(y, evidence.outputs[f"columns.network.columns.{label}"])


def test_runs_and_networks_are_verified_wherever_they_are(folder: Path) -> None:
    assert verdicts(folder) == {
        "net": Verdict("net", 2, None, unchecked=2),
        RUN: Verdict(RUN, 2, None, same_bits=2),
    }
    assert verdicts(folder / "net", NORMED) == {".": Verdict(".", 2, None, same_bits=2)}


def test_verifying_leaves_threads_and_files_as_they_were(folder: Path) -> None:
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    threads, state = torch.get_num_threads(), torch.get_rng_state()
    verdicts(folder, NORMED)
    assert torch.get_num_threads() == threads
    assert torch.equal(torch.get_rng_state(), state)
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def nudged(name: str, by: float = 1e-6) -> Callable[[Evidence], Evidence]:
    """The output of a part, changed a little."""
    return lambda evidence: replace(evidence, outputs={**evidence.outputs, name: evidence.outputs[name] + by})


def in_setting(**changes: Any) -> Callable[[Evidence], Evidence]:
    """The same record, as if it came from elsewhere."""

    def edit(evidence: Evidence) -> Evidence:
        settings = {name: {**setting, **changes} for name, setting in evidence.settings.items()}
        return replace(evidence, settings=settings)

    return edit


PARTS = {RUN: "columns.network.columns.1", "net": "column 1"}


@pytest.mark.parametrize("place", PARTS)
def test_other_bits_in_the_same_setting_fail(folder: Path, place: str) -> None:
    path = proof(folder / place)
    change(path, nudged(PARTS[place]))
    if place == "net":
        replace_proof(folder / place, path)
    found = verdicts(folder, NORMED)[place]
    assert found.problem is not None
    assert (
        f"required the recorded output of {PARTS[place]}, bit for bit in this setting, found another" in found.problem
    )
    assert found.summary == f"FAILED: {found.problem}"


def replace_proof(place: Path, path: Path) -> None:
    """Names another file of proof in the manifest of a network."""
    other = path.rename(place / "proof-0123456789abcdef.safetensors")

    def name_it(manifest: dict[str, Any]) -> None:
        manifest["files"][other.name] = manifest["files"].pop(manifest["proof"])
        manifest["proof"] = other.name

    edit(place / "manifest.json", name_it)
    rehash(place / "manifest.json")


@pytest.mark.parametrize("changes", [{"model": "another"}, {"torch": "0.0"}, {"device": "mps"}], ids=str)
def test_other_bits_elsewhere_are_reported(folder: Path, changes: Mapping[str, Any]) -> None:
    path = proof(folder / RUN)
    change(path, nudged("columns.network.columns.1", 0.25))
    change(path, in_setting(**changes))
    found = verdicts(folder)[RUN]
    assert (found.problem, found.parts, found.same_bits, found.elsewhere) == (None, 2, 1, 1)
    assert found.largest == pytest.approx(0.25, abs=1e-6)
    assert found.summary == (
        "2 frozen parts unchanged; 1 say the same bits as when recorded; 1 were recorded in another setting and differ "
        "by 2.5e-01 at most"
    )


def test_a_summary_says_what_was_not_computed(folder: Path) -> None:
    expected = "2 frozen parts unchanged; 2 recorded outputs need --backbone to be computed anew"
    assert verdicts(folder / "net")["."].summary == expected


def test_a_network_without_probe_inputs_is_verified_by_its_digests(tmp_path: Path) -> None:
    zoo.network(zoo.MLP, 3).save(tmp_path)
    assert verdicts(tmp_path, PLAIN) == {".": Verdict(".", 3, None)}


def test_another_backbone_for_a_network_is_refused(folder: Path) -> None:
    problem = verdicts(folder / "net", mlp(hidden=(8, 6)))["."].problem
    assert problem is not None
    assert "required the description of a network that `build` fits, found" in problem


@pytest.mark.parametrize("kind", ["weights", "proof"])
def test_a_missing_file_of_a_network_is_named(folder: Path, kind: str) -> None:
    (path,) = (folder / "net").glob(f"{kind}-*")
    path.unlink()
    problem = verdicts(folder / "net")["."].problem
    assert problem is not None
    assert problem.startswith(f"{path}: required a ")


def test_a_network_with_a_broken_manifest_is_seen(folder: Path) -> None:
    (folder / "net" / "manifest.json").write_text("{")
    problem = verdicts(folder)["net"].problem
    assert problem is not None
    assert "required a prognet.network file, found unreadable content" in problem


def test_a_run_without_its_proof_fails(folder: Path) -> None:
    path = proof(folder / RUN)
    path.unlink()
    assert verdicts(folder)[RUN].problem == (
        f"{path}: required a safetensors file, found none; remove the folder {folder / RUN} and run the same command "
        "again."
    )


def test_a_record_of_other_columns_fails(folder: Path) -> None:
    change(proof(folder / RUN), lambda evidence: replace(evidence, outputs={}, settings={}))
    problem = verdicts(folder)[RUN].problem
    assert problem is not None
    assert problem.startswith("progressive: required the frozen columns [] of the record, found ['columns.network.col")


def test_a_tensor_that_is_not_frozen_is_proved_as_well(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    quick_run(FineTune(PLAIN), STREAM, out=tmp_path)
    (path,) = tmp_path.rglob("state-2.safetensors")
    numbers = load_file(path)
    name = sorted(numbers)[-1]
    numbers[name].view(-1)[0] += 1
    save_file(numbers, path)
    rehash(path.parent / "result.json")
    (verdict,) = verify(tmp_path)
    assert verdict.problem == (
        f"{path.parent}: required the tensor {name!r} as it was stored, found another in state-2.safetensors."
    )


def test_recording_changes_nothing_and_keeps_what_was_said_first() -> None:
    learner = learn_all(Progressive(NORMED), STREAM)
    before, mode, state = tensors(learner), modes(learner), torch.get_rng_state()
    first = record(learner, Evidence())
    assert_same_tensors(tensors(learner), before)
    assert modes(learner) == mode
    assert torch.equal(torch.get_rng_state(), state)
    name = "columns.network.columns.0"
    elsewhere = in_setting(model="another")(nudged(name)(first))
    second = record(learner, elsewhere)
    assert torch.equal(second.outputs[name], elsewhere.outputs[name])
    assert second.settings == elsewhere.settings
    assert recheck(learner, second).elsewhere == 1


class Rescaled(nn.Module):
    """A layer with a setting that no digest covers."""

    def __init__(self) -> None:
        super().__init__()
        self._scale = 1.0

    def forward(self, x: Tensor) -> Tensor:
        return self._scale * x


def rescaling(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(input_shape), 4), Rescaled(), nn.Linear(4, n_classes))


class Meddling(Progressive):
    """Changes something that is no tensor in column 0, while it learns task 1."""

    def learn(self, tasks: Sequence[Task]) -> None:
        super().learn(tasks)
        if tasks[0].label == 1:
            for module in self.columns.network.column(0).modules():
                if isinstance(module, Rescaled):
                    module._scale = 2.0


def test_what_the_digest_cannot_see_is_found_by_what_a_column_says(tmp_path: Path) -> None:
    with pytest.raises(FrozenColumnError) as caught:
        quick_run(Meddling(rescaling), STREAM, out=tmp_path)
    assert str(caught.value).startswith(
        "progressive: required the same output bits of columns.network.columns.0 as when it was frozen, found others"
    )


def test_agreement_of_outputs() -> None:
    zeros, ones = torch.zeros(2, 2), torch.ones(2, 2)
    here, there = {"device": "cpu"}, {"device": "cuda"}
    stored = Evidence(
        outputs={"a": zeros, "b": zeros, "c": zeros, "d": zeros},
        settings={"a": here, "b": here, "c": there, "d": there},
    )
    found = agreement(stored, {"a": zeros, "b": ones, "c": ones / 4, "d": ones / 2}, here)
    assert (found.same_bits, found.elsewhere, found.largest, found.broken) == (1, 2, 0.5, ("b",))
    assert agreement(stored, {"a": -zeros}, here).broken == ("a",)  # the sign of zero is a bit


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        ([1.0, 2.0], [1.0, 2.5], 0.5),
        ([1.0], [1.0, 2.0], float("inf")),
        ([1.0], [float("nan")], float("inf")),
        ([], [], 0.0),
    ],
)
def test_the_largest_difference(a: list[float], b: list[float], expected: float) -> None:
    assert largest_difference(torch.tensor(a), torch.tensor(b)) == expected


def test_the_setting_names_what_bits_depend_on() -> None:
    setting = setting_of(CPU)
    assert {"device", "model", "capability", "torch", "threads", "matmul_precision"} == set(setting)
    assert setting["threads"] == torch.get_num_threads()
    assert all(setting.values())


def test_threads_and_device_are_those_of_the_record() -> None:
    threads = torch.get_num_threads()
    evidence = Evidence(settings={"a": {"device": "cpu", "threads": threads + 1}})
    with as_recorded(evidence) as device:
        assert (torch.get_num_threads(), device) == (threads + 1, CPU)
    assert torch.get_num_threads() == threads
    with as_recorded(Evidence(settings={"a": {"device": "cuda"}})) as device:
        assert device.type == ("cuda" if torch.cuda.is_available() else "cpu")
    with as_recorded(Evidence()) as device:
        assert (torch.get_num_threads(), device) == (threads, CPU)


def test_reproducible_restores_what_it_sets() -> None:
    fast = torch.backends.mha.get_fastpath_enabled()
    with pytest.raises(KeyboardInterrupt), reproducible(CPU):
        assert not torch.backends.mha.get_fastpath_enabled()
        assert not torch.is_grad_enabled()
        assert torch.backends.cudnn.deterministic
        raise KeyboardInterrupt
    assert torch.backends.mha.get_fastpath_enabled() == fast
    assert torch.is_grad_enabled()


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_outputs_are_those_of_the_columns(kind: zoo.Kind) -> None:
    net = zoo.network(kind, 3).train()
    x = kind.example(64)
    found = outputs_of([net.column(k) for k in range(3)], x)
    assert net.column(2).training
    net.freeze()
    with reproducible(CPU):
        for k in range(2):
            assert torch.equal(found[k], net(x, k))
    assert outputs_of([], x) == {}


def test_where_the_inputs_lie_in_memory_changes_no_bit() -> None:
    """Kernels of the CPU add in another order at addresses that are not aligned, such as those within a file."""
    column, x = zoo.network(zoo.MLP, 1).column(0), zoo.MLP.example(64)
    required = outputs_of([column], x)[0]
    for offset in range(1, 16):
        shifted = torch.cat([torch.zeros(offset), x.flatten()])[offset:].view_as(x)
        assert torch.equal(outputs_of([column], shifted)[0], required)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_record_on_cuda_is_the_same_bits_there(tmp_path: Path) -> None:
    quick_run(Progressive(NORMED), STREAM, out=tmp_path, device="cuda")
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.same_bits) == (None, 2)
    net = zoo.network(zoo.LENET, 2).to("cuda")
    net.save(tmp_path / "net", probe=zoo.LENET.example(64))
    assert isinstance(ProgressiveNetwork.load(tmp_path / "net", lambda k: zoo.LENET.build(2 + k)), ProgressiveNetwork)
