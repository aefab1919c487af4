"""Columns of real architectures: what is promised of every column, for every member of the zoo."""

import functools
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from prognet.backbones import torchvision
from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork, Sites, probe
from prognet.engine.size import adapter_parameters, count_parameters
from prognet.errors import SiteError
from tests.helpers import models, zoo
from tests.helpers.asserts import (
    Optimizer,
    assert_every_lateral_learns,
    assert_no_forgetting,
    assert_only_last_column_learns,
    assert_same_tensors,
    learn,
    snapshot,
)
from tests.helpers.models import settled

BATCH = 8

DEFAULT = (*zoo.ZOO, *models.SMALL, *models.TIMM)
SLOW = [pytest.param(kind, marks=pytest.mark.slow) for kind in models.FULL]


@pytest.mark.parametrize("kind", [*DEFAULT, *SLOW], ids=lambda kind: kind.name)
def test_three_columns_of_every_member_keep_the_promise(kind: zoo.Kind) -> None:
    """BatchNorm and dropout in training mode, momentum and weight decay over all parameters of the network, and yet
    the bits of all old logits and tensors stay; every adapter parameter has a gradient and an effect.
    """
    models.require(kind)
    x, net = kind.example(BATCH), ProgressiveNetwork(kind.adapter)
    found = probe(kind.build(), x)
    assert found.sites
    assert not found.skipped
    assert not kind.sites or tuple(site.name for site in found.sites) == kind.sites
    net.add_column(kind.build(2), x)
    learn(net, 0, x, sgd(kind.lr))
    net.freeze()
    for k in (1, 2):
        old = {j: snapshot(net.column(j)) for j in range(k)}
        assert_no_forgetting(net, range(k), x, functools.partial(add_and_learn, net, kind, k))
        for j, before in old.items():
            assert_same_tensors(before, snapshot(net.column(j)))
        if k == 1:
            net.freeze()
    assert_only_last_column_learns(net, x, sgd(kind.lr))
    assert_every_lateral_learns(net, x, sgd(kind.lr))
    assert_every_lateral_has_an_effect(net, x)


def sgd(lr: float = 0.001) -> Optimizer:
    """Momentum and weight decay, over whatever parameters it is given."""
    return functools.partial(torch.optim.SGD, lr=lr, momentum=0.9, weight_decay=0.01)


def add_and_learn(net: ProgressiveNetwork, kind: zoo.Kind, k: int) -> None:
    """One more column, a few steps in which it changes, and a look at it."""
    x = kind.example(BATCH)
    assert net.add_column(kind.build(2 + k, seed=k), x) == k
    learn(net, k, kind.example(BATCH, seed=k), sgd(kind.lr))
    with torch.no_grad():
        assert net.eval()(x, k).isfinite().all()


def assert_every_lateral_has_an_effect(net: ProgressiveNetwork, x: torch.Tensor) -> None:
    """Every parameter of the last column's adapters moves its output."""
    column = net.eval().column(len(net) - 1)
    with torch.no_grad():
        seen = net.activations(x, column.sources)
        past = [seen[j] for j in column.sources]
        before, _ = column(x, past)
        for name, parameter in column.adapters.named_parameters():
            kept = parameter.clone()
            parameter.add_(torch.linspace(0.3, 0.7, parameter.numel()).view_as(parameter))
            after, _ = column(x, past)
            parameter.copy_(kept)
            assert not torch.equal(before, after), name


class Residual(nn.Module):
    """A small residual network of any width and depth, with the names of torchvision's."""

    def __init__(self, width: int, depth: int, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, width, 3, padding=1)
        self.layer1 = nn.Sequential(*(zoo.ResidualBlock(width, width, 1) for _ in range(depth)))
        self.layer2 = nn.Sequential(zoo.ResidualBlock(width, 2 * width, 2))
        self.fc = nn.Linear(2 * width, n_classes)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.fc(self.layer2(self.layer1(self.stem(x))).mean((2, 3)))  # type: ignore[no-any-return]


def test_columns_may_differ_in_width_depth_and_adapter() -> None:
    """As long as the names of the sites are there in every source: each reads what it can."""
    x, net = torch.randn(BATCH, 3, 8, 8, generator=torch.Generator().manual_seed(0)), ProgressiveNetwork()
    torch.manual_seed(0)
    common = ["layer?.0", "fc"]
    net.add_column(Residual(6, 3, 2), x)
    net.add_column(Residual(4, 1, 5), x, common, adapter=LinearAdapter(zero_init=False))
    net.add_column(Residual(7, 2, 3), x, common, adapter=MLPAdapter(hidden=2, zero_init=False))
    assert [site.name for site in net.column(0).sites] == ["layer1.0", "layer1.1", "layer1.2", "layer2.0", "fc"]
    assert [[site.in_shape[0] for site in net.column(k).sites] for k in (1, 2)] == [[4, 4, 8], [7, 7, 14]]
    for k in (1, 2):
        assert list(net.column(k).adapters) == ["layer1/0", "layer2/0", "fc"]
    V = net.column(2).adapters["layer2/0"].get_submodule("V").get_parameter("weight")
    assert tuple(V.shape) == (2, 6 + 4, 1, 1)
    assert_no_forgetting(net, [0, 1], x, lambda: learn(net, 2, x, sgd()))
    assert_every_lateral_learns(net, x, sgd())
    assert_every_lateral_has_an_effect(net, x)


RESNET18_BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]


@pytest.mark.parametrize(
    ("sites", "expected"),
    [
        (["layer[2-4]"], ["layer2", "layer3", "layer4"]),
        (["layer[2-4].*", "fc"], [*RESNET18_BLOCKS[2:], "fc"]),
        (["layer?.*.conv2"], [f"{block}.conv2" for block in RESNET18_BLOCKS]),
        ("blocks", [*RESNET18_BLOCKS, "fc"]),
        (None, [*RESNET18_BLOCKS, "fc"]),
    ],
    ids=str,
)
def test_sites_of_resnet18_by_glob_and_granularity(sites: Sites, expected: list[str]) -> None:
    from torchvision.models import resnet18

    found = probe(resnet18(num_classes=3), torch.zeros(2, 3, 32, 32), sites)
    assert [site.name for site in found.sites] == expected


@pytest.mark.parametrize(
    ("model", "layers", "leaves", "share"),
    [("resnet18", 21, 20, 0.66), ("efficientnet_b0", 82, 81, 27.2), ("vit_b_16", 38, 25, 6.3), ("swin_t", 53, 28, 6.5)],
)
def test_leaves_and_what_their_laterals_cost(model: str, layers: int, leaves: int, share: float) -> None:
    """Fused attention reads the weights of its layers and never calls them: those are listed. With four sources and
    the full hidden width leaf laterals outweigh a modern network many times, those of its blocks hardly.
    """
    network, x = torchvision(model)((3, 32, 32), 10), torch.zeros(2, 3, 32, 32)
    assert sum(isinstance(part, nn.Linear | nn.Conv2d) for part in network.modules()) == layers
    found = probe(network, x, "leaves")
    assert len(found.sites) == leaves
    assert len(found.skipped) == layers - leaves - 1  # the first layer reads the raw input
    assert set(found.skipped.values()) <= {"it is never called in a forward pass"}
    shares = {
        kind: adapter_parameters(MLPAdapter(), [[site] * 4 for site in sites], sites) / count_parameters(network)
        for kind, sites in (("leaves", found.sites), ("blocks", probe(network, x).sites))
    }
    assert shares["leaves"] == pytest.approx(share, rel=0.01)
    assert shares["blocks"] < 2.2 and shares["blocks"] < shares["leaves"] / 2


def test_a_bypassed_layer_is_refused_only_where_it_is_named() -> None:
    network, x = torchvision("vit_b_16", {"image_size": 16})((3, 16, 16), 3), torch.zeros(2, 3, 16, 16)
    name = "encoder.layers.encoder_layer_0.self_attention.out_proj"
    assert name in probe(network, x, "leaves").skipped
    with pytest.raises(SiteError, match=f"site '{name}': it is never called in a forward pass; choose another site"):
        probe(network, x, [name])


def test_leaves_of_resnet18_count_the_downsample_convolutions() -> None:
    """They read the very tensor that the first convolution of their block reads: it is kept once."""
    from torchvision.models import resnet18

    x, net = torch.zeros(2, 3, 32, 32), ProgressiveNetwork()
    net.add_column(resnet18(num_classes=3), x, "leaves")
    seen = net.activations(x, [0])[0]
    assert len(seen) == 20  # of 21 layers the first reads the raw input
    sites = {site.name: site for site in net.column(0).sites}
    parts = {name: adapter_parameters(MLPAdapter(), [[site] * 4], [site]) for name, site in sites.items()}
    shortcuts = sum(number for name, number in parts.items() if "downsample" in name)
    assert shortcuts / sum(parts.values()) == pytest.approx(0.07, abs=0.002)
    for stage in (2, 3, 4):
        assert seen[f"layer{stage}.0.conv1"] is seen[f"layer{stage}.0.downsample.0"]


def test_a_pretrained_network_is_column_0(tmp_path: Path) -> None:
    """Its trunk frozen, its own head trained or not: it is read like any other column, and keeps its bits."""
    x, path = (
        torch.randn(BATCH, 3, 32, 32, generator=torch.Generator().manual_seed(0)),
        tmp_path / "weights.safetensors",
    )
    source = settled(torchvision("mobilenet_v3_small")((3, 32, 32), 7), x)
    save_file(source.state_dict(), path)
    pretrained = torchvision("mobilenet_v3_small", weights=path)((3, 32, 32), 4)
    expected = {name: tensor.clone() for name, tensor in source.state_dict().items() if "classifier.3" not in name}
    pretrained.requires_grad_(False)
    pretrained.get_submodule("classifier.3").requires_grad_(True)
    net = ProgressiveNetwork(MLPAdapter(hidden=0.25))
    net.add_column(pretrained, x)
    assert [site.name for site in net.column(0).sites][-1] == "classifier.3"
    assert len(net.column(0).sites) == 14  # frozen parameters hide no site
    learn(net, 0, x, sgd())
    net.freeze()
    own = dict(net.column(0).backbone.named_parameters())
    assert all(torch.equal(own[name], expected[name]) for name in own if "classifier.3" not in name)
    net.add_column(torchvision("mobilenet_v3_small")((3, 32, 32), 3), x)
    assert_no_forgetting(net, [0], x, lambda: learn(net, 1, x, sgd()))
    assert_every_lateral_learns(net, x, sgd())
