"""The backbone for classifications and detections: one trunk, two kinds of heads, sites in the trunk only."""

import pytest
import torch
from torch import nn

from prognet.backbones import accepts, accepts_width, detection_resnet18, mlp, resnet18
from prognet.backbones.detection import BoxGrid, DetectionHead, DetectionResNet, PooledHead
from prognet.engine import ProgressiveNetwork, Sites, probe
from prognet.engine.head import OutputHead
from prognet.errors import ConfigError
from prognet.strategies.heads import SharedTrunk, split
from prognet.streams.boxes import Detection
from prognet.training import count_parameters, evaluating
from tests.helpers.streams import make_task

SHAPE = (1, 32, 24)
GRID = BoxGrid(stride=8, anchors=2)
SITES: tuple[Sites, ...] = (None, "blocks")
BLOCKS = [f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)]


def network(grid: BoxGrid | None = None, n_classes: int = 3) -> DetectionResNet:
    return detection_resnet18(channels=2)(SHAPE, n_classes, grid=grid)


def test_a_detection_predicts_classes_and_codes_for_every_anchor() -> None:
    assert network(GRID)(torch.zeros(5, *SHAPE)).shape == (5, 4 * 3 * 2, 3 + 4)
    assert network()(torch.zeros(5, *SHAPE)).shape == (5, 3)


def test_predictions_stand_where_their_anchors_are() -> None:
    """By rows, as anchors do: with a head that hands the map on, the logits are the map, row by row."""
    head, maps = DetectionHead(1, n_classes=1, anchors=1), torch.arange(6.0).view(1, 1, 2, 3)
    plain = nn.Conv2d(1, 1, kernel_size=1, bias=False)
    nn.init.ones_(plain.weight)
    head.retina.classification_head.conv, head.retina.classification_head.cls_logits = nn.Identity(), plain
    assert head(maps)[0, :, 0].tolist() == [0, 1, 2, 3, 4, 5]
    anchors = Detection(1, (16, 24), (8.0,), (1.0,)).anchors(torch.device("cpu"))
    centres = (anchors[:, :2] + anchors[:, 2:]) / 2
    assert centres.tolist() == [[8.0 * (place % 3), 8.0 * (place // 3)] for place in range(6)]


@pytest.mark.parametrize("grid", [None, GRID], ids=["classifier", "detector"])
def test_the_sites_are_the_blocks_and_the_head_is_the_output_layer(grid: BoxGrid | None) -> None:
    for sites in SITES:
        found = probe(network(grid), torch.zeros(2, *SHAPE), sites)
        assert [site.name for site in found.sites] == BLOCKS
        assert not any(site.output for site in found.sites)
        assert found.output_layer == "head"
    leaves = probe(network(grid), torch.zeros(2, *SHAPE), "leaves").sites
    assert leaves and all(site.name.startswith("layer") for site in leaves)


@pytest.mark.parametrize(("grid", "kind"), [(None, PooledHead), (GRID, DetectionHead)])
def test_a_network_is_split_at_its_head_exactly(grid: BoxGrid | None, kind: type[OutputHead]) -> None:
    net, x = network(grid), torch.rand(3, *SHAPE)
    with evaluating(net):
        whole = net(x)
    trunk, head = split(net, x)
    assert isinstance(head, kind)
    with evaluating(trunk), evaluating(head):
        assert torch.equal(head(trunk(x)), whole)


def test_both_kinds_share_one_trunk() -> None:
    shared = SharedTrunk()
    for label, grid in enumerate((None, GRID, None)):
        shared.add(make_task(label, 3, shape=SHAPE), network(grid), torch.zeros(2, *SHAPE))
    shared.eval()
    x = torch.rand(2, *SHAPE)
    assert [tuple(shared.predict(x, label).shape) for label in range(3)] == [(2, 3), (2, 24, 7), (2, 3)]
    assert count_parameters(shared) < 2 * count_parameters(network(GRID))


def test_columns_of_both_kinds_read_each_other() -> None:
    net = ProgressiveNetwork()
    for grid in (None, GRID, None):
        net.add_column(network(grid), example=torch.zeros(2, *SHAPE))
    assert net.column(2).sources == (0, 1)
    assert net(torch.rand(2, *SHAPE), column=1).shape == (2, 24, 7)


def test_only_this_backbone_takes_a_grid() -> None:
    assert accepts(detection_resnet18(), "grid") and accepts_width(detection_resnet18())
    assert not accepts(resnet18(), "grid") and not accepts(mlp(), "grid")


def test_a_grid_that_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"grid: required boxes every 8 pixels .* found every 4 and \[32, 24\]"):
        detection_resnet18(channels=2)(SHAPE, 3, grid=BoxGrid(4, 2))
    with pytest.raises(ConfigError, match=r"grid: required boxes every 8 pixels .* found every 8 and \[30, 24\]"):
        detection_resnet18(channels=2)((1, 30, 24), 3, grid=GRID)
    with pytest.raises(ConfigError, match="channels: required a whole number, at least 1, found 0"):
        detection_resnet18(channels=0)
