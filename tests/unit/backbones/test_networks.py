"""What every backbone of the package keeps: it is a value, it builds fresh networks, and they can be columns."""

import json
import pickle
from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from prognet import backbones
from prognet.backbones import Backbone, BackboneSpecification, cnn, mlp, resnet18, vit_tiny
from prognet.engine.probe import probe
from prognet.errors import ConfigError

SPECIFICATIONS = (
    mlp(hidden=(9, 7)),
    mlp(hidden=[5], activation="gelu", batch_norm=True, dropout=0.1),
    cnn(channels=(4, 6, 8)),
    cnn(channels=(4, 6), batch_norm=True),
    resnet18(channels=3),
    vit_tiny(dim=12, depth=2, heads=3, dropout=0.1),
)
SHAPES = ((1, 8, 8), (1, 28, 28), (3, 32, 32))

every_backbone = pytest.mark.parametrize("backbone", SPECIFICATIONS, ids=repr)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


@every_backbone
@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("width", [0.5, 1.0, 1.7])
def test_logits_for_every_image_size(backbone: Backbone, shape: tuple[int, ...], width: float) -> None:
    torch.manual_seed(0)
    network = backbone(shape, 5, width=width)
    x = torch.rand(3, *shape)
    y = network(x)
    assert y.shape == (3, 5)
    assert torch.isfinite(y).all()


@every_backbone
def test_every_parameter_learns(backbone: BackboneSpecification) -> None:
    torch.manual_seed(0)
    network = backbone((1, 8, 8), 3)
    network(torch.randn(4, 1, 8, 8)).square().sum().backward()
    silent = [
        name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()
    ]
    assert not silent


@every_backbone
def test_every_call_builds_a_network_of_its_own(backbone: BackboneSpecification) -> None:
    first, second = backbone((1, 8, 8), 3), backbone((1, 8, 8), 3)
    assert not {id(parameter) for parameter in first.parameters()} & {
        id(parameter) for parameter in second.parameters()
    }
    weights = [name for name, parameter in first.named_parameters() if parameter.ndim > 1]
    assert all(not torch.equal(first.get_parameter(name), second.get_parameter(name)) for name in weights)


@every_backbone
def test_one_seed_gives_one_network(backbone: BackboneSpecification) -> None:
    states = []
    for _ in range(2):
        torch.manual_seed(3)
        states.append(backbone((1, 8, 8), 3).state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@every_backbone
def test_a_backbone_is_a_value(backbone: BackboneSpecification) -> None:
    make: Callable[..., BackboneSpecification] = getattr(backbones, backbone.name)
    again = make(**json.loads(json.dumps(backbone.arguments)))
    for same in (again, deepcopy(backbone), pickle.loads(pickle.dumps(backbone))):
        assert same == backbone
        assert hash(same) == hash(backbone)
    assert len(set(SPECIFICATIONS)) == len(SPECIFICATIONS)


@every_backbone
def test_a_backbone_cannot_be_changed(backbone: BackboneSpecification) -> None:
    with pytest.raises(AttributeError, match="cannot assign to field"):
        setattr(backbone, next(iter(backbone.arguments)), 1)


@every_backbone
def test_width_is_one_by_default_and_parameters_never_decrease_with_it(backbone: Backbone) -> None:
    counts = [parameters(backbone((1, 8, 8), 3, width)) for width in (0.01, 0.5, 1.0, 1.2, 1.5, 2.0, 3.0)]
    assert counts == sorted(counts)
    assert counts[0] < counts[2] < counts[-1]
    assert counts[2] == parameters(backbone((1, 8, 8), 3))


@pytest.mark.parametrize(
    ("backbone", "sites"),
    [
        (mlp(hidden=(9, 7)), ["3", "5"]),
        (cnn(channels=(4, 6)), ["3", "7"]),
        (resnet18(channels=3), [*(f"layer{stage}.{block}" for stage in (1, 2, 3, 4) for block in (0, 1)), "fc"]),
        (vit_tiny(dim=12, depth=2), ["blocks.0", "blocks.1", "head"]),
    ],
    ids=repr,
)
def test_default_sites(backbone: BackboneSpecification, sites: list[str]) -> None:
    found = probe(backbone((1, 8, 8), 3), torch.zeros(2, 1, 8, 8))
    assert [site.name for site in found.sites] == sites
    assert not found.skipped
    assert found.output_layer == sites[-1]


@every_backbone
def test_every_layer_but_those_that_read_the_input_can_be_a_site(backbone: BackboneSpecification) -> None:
    network = backbone((1, 8, 8), 3)
    layers = [name for name, module in network.named_modules() if isinstance(module, nn.Linear | nn.Conv2d)]
    assert [site.name for site in probe(network, torch.zeros(2, 1, 8, 8), layers[1:]).sites] == layers[1:]


@every_backbone
@pytest.mark.parametrize("width", [0, -1.0, float("inf"), float("nan")])
def test_a_width_is_a_finite_number_above_zero(backbone: Backbone, width: float) -> None:
    with pytest.raises(ConfigError, match=f"width: required a finite number above 0, found {width!r}."):
        backbone((1, 8, 8), 3, width)


@every_backbone
@pytest.mark.parametrize(
    ("shape", "n_classes", "message"),
    [
        ((1, 8, 8), 0, "n_classes: required a whole number, at least 1, found 0."),
        ((1, 8, 8), 2.0, "n_classes: required a whole number, at least 1, found 2.0."),
        ((), 2, "input_shape: required the shape of one sample, found (); give e.g. (64,) or (1, 28, 28)."),
        ((1, 0, 8), 2, "input_shape: required a whole number, at least 1, found 0."),
    ],
)
def test_impossible_shapes_are_refused(
    backbone: BackboneSpecification, shape: Any, n_classes: Any, message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        backbone(shape, n_classes)
    assert str(caught.value) == message


@pytest.mark.parametrize("backbone", SPECIFICATIONS[2:], ids=repr)
@pytest.mark.parametrize("shape", [(64,), (8, 8), (2, 1, 8, 8)])
def test_networks_for_images_ask_for_images(backbone: BackboneSpecification, shape: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError) as caught:
        backbone(shape, 2)
    assert str(caught.value) == (
        f"input_shape: required an image (channels, height, width), found {shape}; reshape the samples, or use "
        "prognet.backbones.mlp, which takes any shape."
    )


@pytest.mark.parametrize(
    ("backbone", "shape", "smallest"), [(cnn(channels=(4,) * 4), (1, 9, 7), 8), (resnet18(), (3, 7, 32), 8)], ids=repr
)
def test_images_that_are_too_small_are_refused(
    backbone: BackboneSpecification, shape: tuple[int, ...], smallest: int
) -> None:
    with pytest.raises(ConfigError) as caught:
        backbone(shape, 2)
    assert str(caught.value) == (
        f"input_shape: required sides of at least {smallest} pixels, found {shape[1]} x {shape[2]}; enlarge the "
        "images, or use a backbone that shrinks them less."
    )
