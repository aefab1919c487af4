"""Files that are damaged, of another release, or of another network: refused, with the path and the reason."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prognet.engine import ProgressiveNetwork
from prognet.errors import CheckpointError, PrognetError
from tests.helpers import sealing, zoo


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A network of three small columns."""
    zoo.network(zoo.MLP, 3).save(tmp_path)
    return tmp_path


def file_of(directory: Path, name: str = "weights") -> Path:
    """The manifest, or the one file of weights."""
    (path,) = directory.glob(f"{name}*")
    return path


def builder(kind: zoo.Kind) -> Callable[[int], nn.Module]:
    return lambda k: kind.build(2 + k, seed=77 + k)


def load(directory: Path) -> ProgressiveNetwork:
    return ProgressiveNetwork.load(directory, builder(zoo.MLP))


def edit(directory: Path, change: Callable[[dict[str, Any]], object]) -> None:
    sealing.edit(directory / "manifest.json", change)


def _refused(directory: Path, message: str, build: Callable[[int], nn.Module] | None = None) -> None:
    with pytest.raises(CheckpointError, match=re.escape(message)) as raised:
        ProgressiveNetwork.load(directory, build or builder(zoo.MLP))
    assert str(directory) in str(raised.value)
    assert isinstance(raised.value, PrognetError)
    assert isinstance(raised.value, ValueError)


def _without_site(entry: dict[str, Any], name: str) -> None:
    entry["sites"] = [site for site in entry["sites"] if site["name"] != name]
    del entry["reads"][name]


@pytest.mark.parametrize("bit", [0, 5, 7])
@pytest.mark.parametrize("position", [-1, -200, -1500])
def test_a_flipped_bit_in_the_weights(saved: Path, position: int, bit: int) -> None:
    path = file_of(saved)
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)
    _refused(saved, f"{path}: required a whole safetensors file, found a damaged one (its SHA-256 is ")
    sealing.rehash(saved / "manifest.json")
    _refused(saved, "the files were changed, or `build` makes another backbone than the one that was saved.")


@pytest.mark.parametrize("file", ["weights", "manifest"])
def test_no_flipped_bit_gives_another_network(saved: Path, file: str) -> None:
    """Any one bit of either file: the network is refused, and the file is named."""
    path = file_of(saved, file)
    content = path.read_bytes()
    generator = torch.Generator().manual_seed(0)
    for position in torch.randperm(len(content), generator=generator)[:150].tolist():
        broken = bytearray(content)
        broken[position] ^= 1 << (position % 8)
        path.write_bytes(broken)
        with pytest.raises(CheckpointError, match=re.escape(str(path))):
            load(saved)


@pytest.mark.parametrize("kept", [0, 4, 100, 1000, -1])
def test_a_truncated_file(saved: Path, kept: int) -> None:
    path = file_of(saved)
    path.write_bytes(path.read_bytes()[:kept])
    _refused(saved, f"{path}: required a whole safetensors file, found a damaged one (")


@pytest.mark.parametrize(
    ("file", "message"),
    [
        ("weights", "required a safetensors file, found none."),
        ("manifest", "required a prognet.network file, found none; is this the right folder?"),
    ],
)
def test_a_missing_file(saved: Path, file: str, message: str) -> None:
    path = file_of(saved, file)
    path.unlink()
    _refused(saved, f"{path}: {message}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda m: m.update(version=4),
            "required version 3 of prognet.network, found 4; it was written by another rel",
        ),
        (lambda m: m.update(schema="prognet.run"), "required schema 'prognet.network', found 'prognet.run'."),
        (lambda m: m.pop("columns"), "columns: required a value, found none; save the network again, or put a copy of"),
        (lambda m: m.pop("adapter"), "adapter: required a value, found none"),
        (lambda m: m["columns"][0].update(input_shape=None), "columns[0].input_shape: required a list, found None"),
        (lambda m: m.update(adapter={"kind": "Gone", "arguments": {}}), "adapter: required one of "),
        (
            lambda m: m["columns"][1].pop("digest"),
            "columns[1].digest: required a value, found none",
        ),
        (
            lambda m: m["columns"][1].update(frozen=1),
            "columns[1].frozen: required true or false, found 1",
        ),
        (lambda m: m["columns"][1].update(sources=[1]), "columns[1].sources: required indices from 0 to 0, found (1,)"),
        (lambda m: _without_site(m["columns"][0], "4"), "site '4': required in every source column, found only ['2']"),
        (
            lambda m: m["columns"][1]["sites"][0].update(name="9"),
            "required the description of a network that `build` fits",
        ),
        (lambda m: m["columns"].pop(), "required the tensors of the module, found missing [], unexpected ['columns.2."),
        (lambda m: m["columns"][2].update(sources=[1, 0]), "required digest"),
        (lambda m: m["columns"][2]["adapter"]["arguments"].update(alpha=2.0), "required digest"),
    ],
)
def test_a_manifest_that_does_not_fit(saved: Path, change: Callable[[dict[str, Any]], object], message: str) -> None:
    edit(saved, change)
    _refused(saved, message)


def test_weights_of_another_save(saved: Path, tmp_path: Path) -> None:
    zoo.network(zoo.MLP, 3, seed=9).save(tmp_path / "other")
    file_of(tmp_path / "other").replace(file_of(saved))
    _refused(saved, "required a whole safetensors file, found a damaged one (its SHA-256 is")
    sealing.rehash(saved / "manifest.json")
    _refused(saved, "required digest")


def _settings(k: int) -> nn.Module:
    backbone = zoo.mlp(2 + k)
    backbone[1] = nn.Tanh()
    return backbone


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (
            lambda k: zoo.mlp(2 + k, (9, 7)),
            "required torch.float32 (9, 6) for 'columns.0.backbone.0.weight', found torch.",
        ),
        (
            lambda k: zoo.mlp(2 + k).double(),
            "required torch.float64 (8, 6) for 'columns.0.backbone.0.weight', found torch",
        ),
        (
            lambda k: zoo.mlp(2 + k, (8, 7, 7)),
            "required the tensors of the module, found missing ['columns.0.backbone.6",
        ),
        (lambda k: nn.Linear(6, 2), "required the description of a network that `build` fits, found "),
        (lambda k: None, "required the description of a network that `build` fits, found "),
        (
            lambda k: nn.Sequential(nn.LazyLinear(8), *zoo.mlp(2 + k)[1:]),
            "found a lazy layer; call the module once before",
        ),
        (_settings, "required digest"),
    ],
    ids=["width", "type", "depth", "names", "none", "lazy", "activation"],
)
def test_another_backbone_is_refused(saved: Path, build: Callable[[int], nn.Module], message: str) -> None:
    _refused(saved, message, build)


def test_one_backbone_for_all_columns_is_refused(tmp_path: Path) -> None:
    net = ProgressiveNetwork()
    for _ in range(2):
        net.add_column(zoo.MLP.build(), zoo.MLP.example())
    net.save(tmp_path)
    module = zoo.MLP.build()
    _refused(
        tmp_path, "required the tensors of the module, found missing [], unexpected ['columns.1.", lambda k: module
    )


def test_nothing_is_pickled(saved: Path) -> None:
    """A pickle in place of the weights is not read."""
    torch.save(zoo.network(zoo.MLP, 3).state_dict(), file_of(saved))
    sealing.rehash(saved / "manifest.json")
    _refused(saved, "required a whole safetensors file, found a damaged one")
