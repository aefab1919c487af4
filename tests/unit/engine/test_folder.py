"""The directory of a saved network: whole at any moment, verified without code, and its columns taken out alone."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from prognet.engine import LinearAdapter, ProgressiveNetwork
from prognet.engine.evidence import Evidence, probe_inputs, read_evidence, write_evidence
from prognet.engine.folder import check_files
from prognet.engine.manifest import holds_network
from prognet.engine.narrowing import remove_laterals
from prognet.errors import CheckpointError, ConfigError
from tests.helpers import sealing, zoo
from tests.helpers.asserts import assert_network_unchanged, assert_same_tensors, learn, logits, snapshot


class Killed(BaseException):
    """Stands in for the end of the process: nothing catches it."""


def build(k: int) -> nn.Module:
    return zoo.MLP.build(2 + k, seed=77 + k)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """Three columns, with what they say to 64 inputs."""
    zoo.network(zoo.MLP, 3).save(tmp_path / "net", probe=probe_inputs((6,)))
    return tmp_path / "net"


def file_of(directory: Path, kind: str) -> Path:
    (path,) = directory.glob(f"{kind}*")
    return path


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    sealing.edit(directory / "manifest.json", change)


def edit_weights(directory: Path, name: str) -> None:
    path = file_of(directory, "weights")
    tensors = load_file(path)
    tensors[name].view(-1)[-1] += 1
    save_file(tensors, path)
    sealing.rehash(directory / "manifest.json")


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("write", [1, 2, 3])
def test_a_kill_around_any_write_leaves_a_whole_network(
    write: int, moment: str, saved: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Weights, proof and manifest are written in this order; until the last one the old network is there."""
    old, new = zoo.network(zoo.MLP, 3), zoo.network(zoo.MLP, 3, seed=9)
    replace, calls = Path.replace, []

    def killing(path: Path, target: Path) -> Path:
        calls.append(path)
        if len(calls) == write and moment == "before":
            raise Killed
        replace(path, target)
        if len(calls) == write:
            raise Killed
        return target

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killing)
        with pytest.raises(Killed):
            new.save(saved, probe=probe_inputs((6,)))
    found = ProgressiveNetwork.load(saved, build)
    assert found.digests() == (new if (write, moment) == (3, "after") else old).digests()
    assert check_files(saved) == 3
    new.save(saved)  # and once more: what the kill has left is gone
    assert [re.sub("-.*", "", path.name) for path in sorted(saved.iterdir())] == ["manifest.json", "weights"]
    assert ProgressiveNetwork.load(saved, build).digests() == new.digests()


def test_a_kill_before_the_old_files_are_removed_is_survived(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killing(path: Path, missing_ok: bool = False) -> None:
        if not path.name.startswith("."):
            raise Killed

    new = zoo.network(zoo.MLP, 3, seed=9)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", killing)
        with pytest.raises(Killed):
            new.save(saved)
    assert len(list(saved.glob("weights-*"))) == 2
    assert ProgressiveNetwork.load(saved, build).digests() == new.digests()


def test_other_files_in_the_directory_are_left_alone(saved: Path) -> None:
    (saved / "weights-mine.safetensors").write_text("mine")
    zoo.network(zoo.MLP, 3, seed=9).save(saved)
    assert (saved / "weights-mine.safetensors").read_text() == "mine"


def test_the_same_network_makes_the_same_files(saved: Path, tmp_path: Path) -> None:
    zoo.network(zoo.MLP, 3).save(tmp_path / "again", probe=probe_inputs((6,)))
    assert {path.name: path.read_bytes() for path in saved.iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "again").iterdir()
    }


def test_a_moved_directory_is_checked_without_any_code(saved: Path, tmp_path: Path) -> None:
    moved = saved.rename(tmp_path / "elsewhere")
    assert check_files(moved) == 3
    assert holds_network(moved)
    assert not holds_network(tmp_path)


@pytest.mark.parametrize(
    ("name", "column"),
    [
        ("columns.0.backbone.0.weight", 0),
        ("columns.1.backbone.4.bias", 1),
        ("columns.2.adapters.2.alpha", 2),
    ],
)
def test_the_first_tensor_that_differs_is_named(saved: Path, name: str, column: int) -> None:
    edit_weights(saved, name)
    edit_weights(saved, "columns.2.adapters.4.U.weight")
    short = name.removeprefix(f"columns.{column}.")
    message = re.compile(
        rf"required digest [0-9a-f]{{64}} of column {column}, found [0-9a-f]{{64}}; first difference: tensor "
        rf"'{re.escape(short)}'; the files were changed"
    )
    for read in (check_files, lambda directory: ProgressiveNetwork.load(directory, build)):
        with pytest.raises(CheckpointError, match=message):
            read(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda m: m["columns"][1].update(digest="0" * 64), "first difference: the recorded digest itself;"),
        (
            lambda m: m["columns"][1]["tensors"].update({"backbone.0.bias": "0"}),
            "difference: tensor 'backbone.0.bias';",
        ),
        (lambda m: m["columns"][1].update(structure="sites ()"), "required digest "),
        (lambda m: m["columns"][2].update(sources=[1, 0]), "of column 2, found"),
        (lambda m: m["columns"][2].update(sources=[7]), "columns[2].sources: required indices from 0 to 1, found (7,)"),
        (lambda m: m["columns"][2].pop("tensors"), "manifest.json: columns[2].tensors: required a value, found none;"),
        (lambda m: m.update(weights="../weights-0123456789abcdef.safetensors"), "weights: required a name such as "),
        (lambda m: m.update(weights="manifest.json"), "0123456789abcdef.safetensors, found 'manifest.json'; save the"),
        (lambda m: m.pop("weights"), "weights: required a value, found none"),
        (lambda m: m.update(files={}), "files: required the SHA-256 of weights-"),
    ],
)
def test_a_changed_manifest_is_no_proof(saved: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(saved, change)
    with pytest.raises(CheckpointError, match=re.escape(message)):
        check_files(saved)


def test_the_line_of_the_structure_that_differs_is_named(saved: Path) -> None:
    def with_tanh(k: int) -> nn.Module:
        backbone = zoo.mlp(2 + k)
        backbone[3] = nn.Tanh()
        return backbone

    with pytest.raises(
        CheckpointError, match=r"first difference: structure '3: ReLU\(\) inplace=False', found '3: Tanh"
    ):
        ProgressiveNetwork.load(saved, with_tanh)


def test_shapes_are_refused_with_path_and_both_of_them(saved: Path) -> None:
    with pytest.raises(CheckpointError) as raised:
        ProgressiveNetwork.load(saved, lambda k: zoo.mlp(2 + k, (9, 7)))
    path = file_of(saved, "weights")
    assert str(raised.value) == (
        f"{path}: required torch.float32 (9, 6) for 'columns.0.backbone.0.weight', found torch.float32 (8, 6)."
    )


def test_evidence_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    special = torch.tensor([0.0, -0.0, 0.03125, float("nan"), float("inf"), 1e-30, -4.0, 5.0])
    evidence = Evidence(
        fingerprints={"a": "1"},
        inputs={"8": special, "grid": probe_inputs((3,)), "ids": torch.arange(4)},
        outputs={"column 0": special.double(), "column 1": torch.zeros(2, 0)},
        settings={"column 0": {"device": "cpu"}, "column 1": {"device": "cuda"}},
    )
    write_evidence(tmp_path / "proof", evidence)
    found = read_evidence(tmp_path / "proof")
    assert (found.fingerprints, found.settings) == (evidence.fingerprints, evidence.settings)
    for own, given in ((found.inputs, evidence.inputs), (found.outputs, evidence.outputs)):
        assert {k: (v.dtype, v.numpy().tobytes()) for k, v in own.items()} == {
            k: (v.dtype, v.numpy().tobytes()) for k, v in given.items()
        }
    write_evidence(tmp_path / "small", Evidence(inputs={"x": probe_inputs((3, 32, 32))}))
    assert (tmp_path / "small").stat().st_size < 64 * 3 * 32 * 32 + 1000  # one byte a number


def test_probe_inputs_are_a_fixed_batch_of_64() -> None:
    x = probe_inputs((2, 3))
    assert x.shape == (64, 2, 3)
    assert torch.equal(x, probe_inputs((2, 3)))
    assert abs(x.mean()) < 0.2
    assert 0.8 < x.std() < 1.2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "required a file of proof, found none."),
        (b"", "required a whole file of proof, found a damaged one"),
        (b"\x02\0\0\0\0\0\0\0{}", "required prognet.proof version 1, found None version None."),
    ],
)
def test_a_damaged_proof_is_refused(tmp_path: Path, content: bytes | None, message: str) -> None:
    path = tmp_path / "proof.safetensors"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(CheckpointError) as raised:
        read_evidence(path)
    assert str(raised.value).startswith(f"{path}: {message}")


def test_saving_with_a_probe_changes_nothing(tmp_path: Path) -> None:
    net = zoo.network(zoo.MLP_NORM, 3).train()
    assert_network_unchanged(net, lambda: net.save(tmp_path, probe=probe_inputs((6,))))
    evidence = read_evidence(file_of(tmp_path, "proof"))
    with torch.no_grad():
        for k in range(3):
            assert torch.equal(evidence.outputs[f"column {k}"], net.eval()(probe_inputs((6,)), k))


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_a_column_is_taken_out_with_what_it_reads_and_no_more(kind: zoo.Kind, tmp_path: Path) -> None:
    net, x = ProgressiveNetwork(zoo.RANDOM), kind.example()
    for k, sources in enumerate(([], [], [0], [1], [2, 0])):
        net.add_column(kind.build(2 + k, k), x, sources=sources)
    learn(net, 4, x, lambda parameters: torch.optim.SGD(parameters, lr=0.01))
    net.eval()
    alone = net.extract(4)
    assert net.closure([4]) == (0, 2, 4)
    assert [alone.column(k).sources for k in range(3)] == [(), (0,), (0, 1)]
    assert [alone.column(k).frozen for k in range(3)] == [True, True, False]
    for own, old in enumerate((0, 2, 4)):
        assert torch.equal(logits(alone, own, x), logits(net, old, x))
        assert alone.digest(own) == net.digest(old)
        assert_same_tensors(snapshot(alone.column(own)), snapshot(net.column(old)))
    alone.check_frozen()
    alone.save(tmp_path)
    again = ProgressiveNetwork.load(tmp_path, lambda k: kind.build(2 + (0, 2, 4)[k], seed=70)).eval()
    assert again.digests() == alone.digests()
    assert torch.equal(logits(again, 2, x), logits(net, 4, x))
    before = net.digests()
    with torch.no_grad():
        for parameter in alone.parameters():
            parameter.zero_()
    assert net.digests() == before
    assert len(net.extract(0)) == 1


def test_a_pruned_column_is_taken_out_and_saved(tmp_path: Path) -> None:
    net, x = zoo.network(zoo.MLP, 4).eval(), zoo.MLP.example()
    senders = {source: net.column(source).sites for source in net.column(3).sources}
    remove_laterals(net.column(3), senders, [("2", 0), ("2", 1), ("4", 0)])
    assert net.column(3).sources == (1, 2)
    alone = net.extract(3)
    assert torch.equal(logits(alone, len(alone) - 1, x), logits(net, 3, x))
    assert alone.digest(len(alone) - 1) == net.digest(3)
    net.save(tmp_path)
    again = ProgressiveNetwork.load(tmp_path, build).eval()
    assert again.column(3).reads == net.column(3).reads
    assert torch.equal(logits(again, 3, x), logits(net, 3, x))
    assert check_files(tmp_path) == 4


def test_a_column_that_is_not_there_cannot_be_taken_out() -> None:
    with pytest.raises(ConfigError, match="column: required an index from 0 to 1, found 2"):
        zoo.network(zoo.MLP, 2).extract(2)


def test_a_network_that_was_taken_out_goes_on() -> None:
    net, x = ProgressiveNetwork(LinearAdapter()), zoo.MLP.example()
    for k, sources in enumerate(([], [], [1])):
        net.add_column(zoo.MLP.build(2, k), x, sources=sources)
    alone = net.extract(2)
    assert alone.adapter == LinearAdapter()
    k = alone.add_column(zoo.MLP.build(5), x)
    assert alone.column(k).sources == (0, 1)
    learn(alone, k, x, lambda parameters: torch.optim.Adam(parameters))
    assert (len(net), len(alone)) == (3, 3)
