"""Saved networks: what comes back is what was saved, bit by bit, and a module is filled wholly or not at all."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import nn

from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork
from prognet.engine.checkpoint import load_module, save_module
from prognet.errors import CheckpointError, RunFolderError
from tests.helpers import zoo
from tests.helpers.asserts import (
    assert_generator_untouched,
    assert_no_forgetting,
    assert_same_tensors,
    learn,
    logits,
    snapshot,
)


def builder(kind: zoo.Kind) -> Callable[[int], nn.Module]:
    """What a user has: the same architecture, with other weights."""
    return lambda k: kind.build(2 + k, seed=77 + k)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    """A network of three small columns."""
    zoo.network(zoo.MLP, 3).save(tmp_path)
    return tmp_path


def load(directory: Path) -> ProgressiveNetwork:
    return ProgressiveNetwork.load(directory, builder(zoo.MLP))


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
@pytest.mark.parametrize("adapter", [LinearAdapter(), MLPAdapter.paper()], ids=repr)
def test_what_was_saved_is_loaded(kind: zoo.Kind, adapter: Adapter, tmp_path: Path) -> None:
    net, x = zoo.network(kind, 3, adapter), kind.example()
    learn(net, 2, x, lambda parameters: torch.optim.Adam(parameters), steps=1)
    net.eval().save(tmp_path)
    again = ProgressiveNetwork.load(str(tmp_path), builder(kind)).eval()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [re.sub(r"-[0-9a-f]{16}", "-*", name) for name in names] == ["manifest.json", "weights-*.safetensors"]
    assert_same_tensors(snapshot(net), snapshot(again))
    assert again.digests() == net.digests()
    assert again.adapter == net.adapter
    assert again.input_shape == net.input_shape
    for k in range(3):
        assert torch.equal(logits(net, k, x), logits(again, k, x))
        assert (net.column(k).frozen, net.column(k).sites) == (again.column(k).frozen, again.column(k).sites)
    assert [again.column(k).frozen for k in range(3)] == [True, True, False]
    again.check_frozen()


def test_loading_and_saving_draw_no_random_number(tmp_path: Path) -> None:
    net = zoo.network(zoo.RESNET, 2)
    assert_generator_untouched(lambda: net.save(tmp_path))
    assert_generator_untouched(lambda: ProgressiveNetwork.load(tmp_path, lambda k: zoo.ResNet(2 + k)))


def test_a_network_goes_on_after_loading(saved: Path) -> None:
    net, x = load(saved), zoo.MLP.example()

    def later() -> None:
        k = net.add_column(zoo.MLP.build(5), x)
        learn(net, k, x, lambda parameters: torch.optim.SGD(parameters, lr=0.1, momentum=0.9, weight_decay=0.1))

    net.freeze()
    assert_no_forgetting(net, [0, 1, 2], x, later)
    net.save(saved)
    assert load(saved).digests() == net.digests()


def test_twelve_columns_are_loaded(tmp_path: Path) -> None:
    """DLR-BPNN reads the number of columns from the first character of a name (bug B1)."""
    net = zoo.network(zoo.GATED, 12)
    net.save(tmp_path)
    again = ProgressiveNetwork.load(tmp_path, builder(zoo.GATED))
    assert len(again) == 12
    assert again.digests() == net.digests()


def test_sources_and_adapters_of_single_columns_are_kept(tmp_path: Path) -> None:
    net, x = zoo.network(zoo.MLP, 2), zoo.MLP.example()
    net.add_column(zoo.MLP.build(4), x, sources=[1], adapter=LinearAdapter(zero_init=False))
    net.add_column(zoo.MLP.build(5), x, sources=[], sites=["4"])
    net.save(tmp_path)
    again = load(tmp_path)
    assert [again.column(k).sources for k in range(4)] == [(), (0,), (1,), ()]
    assert [again.column(k).adapter for k in range(4)] == [None, zoo.RANDOM, LinearAdapter(zero_init=False), None]
    assert again.digests() == net.digests()


def test_an_empty_network_and_tied_weights_and_precision(tmp_path: Path) -> None:
    ProgressiveNetwork(LinearAdapter()).save(tmp_path / "empty")
    empty = ProgressiveNetwork.load(tmp_path / "empty", builder(zoo.MLP))
    assert (len(empty), empty.input_shape, empty.adapter) == (0, None, LinearAdapter())

    def tied(_: int) -> nn.Module:
        module = zoo.mlp(6, (6, 6))
        module[2].weight = module[0].weight
        return module.double()

    net = ProgressiveNetwork(zoo.RANDOM)
    for k in range(2):
        net.add_column(tied(k), zoo.MLP.example().double())
    net.save(tmp_path / "tied")
    again = ProgressiveNetwork.load(tmp_path / "tied", tied)
    assert again.digests() == net.digests()
    assert again.column(1).backbone[2].weight is again.column(1).backbone[0].weight  # type: ignore[index]


def test_a_module_is_filled_wholly_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "module.safetensors"
    saved = zoo.GATED.build(seed=1)
    with torch.no_grad():
        saved.get_buffer("gate").mul_(2)
    save_module(saved, path)
    other = nn.ModuleDict(dict(zoo.GATED.build(seed=2).named_children()))
    before = snapshot(other)
    with pytest.raises(CheckpointError, match=re.escape("found missing [], unexpected ['gate'].")):
        load_module(other, path)
    assert_same_tensors(before, snapshot(other))
    wide = zoo.GATED.build(5, seed=2)  # only the last layer has another shape
    before = snapshot(wide)
    with pytest.raises(
        CheckpointError, match=re.escape("required torch.float32 (5, 8) for 'fc2.weight', found torch.fl")
    ):
        load_module(wide, path)
    assert_same_tensors(before, snapshot(wide))
    same = zoo.GATED.build(seed=2)
    load_module(same, path)
    assert_same_tensors(snapshot(saved), snapshot(same))  # the buffer that state_dict leaves out with them
    assert all(parameter.requires_grad for parameter in same.parameters())


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match=r"weights-[0-9a-f]{16}\.safetensors: could not be written"):
        zoo.network(zoo.MLP, 1).save(tmp_path / "file")
