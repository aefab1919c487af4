"""What each backbone is made of, against independent descriptions of it."""

from math import sqrt
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import cnn, mlp, resnet18, vit_tiny
from prognet.backbones.transformer import Attention
from prognet.errors import ConfigError, UnknownNameError


def layers(network: nn.Module) -> list[str]:
    return [type(layer).__name__ for layer in network]  # type: ignore[attr-defined]  # a Sequential


def test_mlp_is_a_flat_sequence() -> None:
    plain = mlp(hidden=(9, 7))((1, 8, 8), 3)
    assert type(plain) is nn.Sequential
    assert layers(plain) == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert [tuple(layer.weight.shape) for layer in plain if isinstance(layer, nn.Linear)] == [(9, 64), (7, 9), (3, 7)]
    full = mlp(hidden=[9], activation="tanh", batch_norm=True, dropout=0.25)((5,), 3)
    assert layers(full) == ["Flatten", "Linear", "BatchNorm1d", "Tanh", "Dropout", "Linear"]
    assert full[4].p == 0.25


def test_mlp_takes_samples_of_any_shape() -> None:
    for shape in ((6,), (2, 3), (1, 2, 3, 1)):
        assert mlp(hidden=(4,))(shape, 2)(torch.zeros(5, *shape)).shape == (5, 2)


def test_mlp_scales_its_hidden_layers_only() -> None:
    wide = mlp(hidden=(10, 3))((4,), 2, width=1.5)
    shapes = [tuple(layer.weight.shape) for layer in wide if isinstance(layer, nn.Linear)]
    assert shapes == [(15, 4), (4, 15), (2, 4)]  # 10 * 1.5 = 15; 3 * 1.5 = 4.5, rounded to even


def test_cnn_is_a_flat_sequence_that_halves_the_sides_between_stages() -> None:
    network = cnn(channels=(4, 6, 8), batch_norm=True)((3, 28, 28), 5)
    assert type(network) is nn.Sequential
    stage = ["Conv2d", "BatchNorm2d", "ReLU"]
    head = ["AdaptiveAvgPool2d", "Flatten", "Linear"]
    assert layers(network) == [*stage, "MaxPool2d", *stage, "MaxPool2d", *stage, *head]
    x, shapes = torch.zeros(2, 3, 28, 28), []
    for layer in network:
        x = layer(x)
        shapes.append(tuple(x.shape[1:]))
    assert shapes[2::4] == [(4, 28, 28), (6, 14, 14), (8, 7, 7)]
    assert "BatchNorm2d" not in layers(cnn(channels=(4,))((3, 28, 28), 5))


@pytest.mark.parametrize("training", [False, True])
def test_resnet18_is_torchvisions_with_another_stem(training: bool) -> None:
    from torchvision.models import resnet18 as reference

    torch.manual_seed(0)
    oracle = reference(num_classes=7)
    oracle.conv1, oracle.maxpool = nn.Conv2d(3, 64, 3, padding=1, bias=False), nn.Identity()
    network = resnet18()((3, 32, 32), 7)
    network.load_state_dict(oracle.state_dict())  # strict: the same names and the same shapes
    x = torch.randn(2, 3, 32, 32)
    assert torch.equal(network.train(training)(x), oracle.train(training)(x))


def test_resnet18_begins_like_torchvisions() -> None:
    """He's initialisation over the fan-out: variance 2 / (128 * 9), within 5 standard errors of 128 * 64 * 9 draws."""
    torch.manual_seed(0)
    weight = resnet18()((3, 32, 32), 7).get_parameter("layer2.0.conv1.weight")
    expected = 2 / (128 * 9)
    assert abs(weight.var().item() - expected) < 5 * expected * sqrt(2 / weight.numel())


def test_gems_reduced_resnet18_has_its_published_size() -> None:
    """nf = 20, 3 x 32 x 32, 100 classes: 1.1 million parameters (1706.08840); exactly by the sum below."""
    convolutions = 3 * 9 * 20 + 4 * 20 * 20 * 9  # stem and first stage
    for n, m in ((20, 40), (40, 80), (80, 160)):
        convolutions += n * m * 9 + 3 * m * m * 9 + n * m  # four 3 x 3, one of them from n, and the 1 x 1 shortcut
    norms = 2 * (20 + 4 * 20 + 5 * (40 + 80 + 160))
    head = 160 * 100 + 100
    network = resnet18(channels=20)((3, 32, 32), 100)
    assert sum(parameter.numel() for parameter in network.parameters()) == convolutions + norms + head


def test_vit_attention_is_the_textbooks() -> None:
    torch.manual_seed(0)
    attention, dim, heads = Attention(dim=12, heads=3).double(), 12, 3
    x = torch.randn(2, 5, dim, dtype=torch.float64)
    oracle = nn.MultiheadAttention(dim, heads, batch_first=True, dtype=torch.float64)
    with torch.no_grad():
        for ours, theirs in zip(attention.parameters(), oracle.parameters(), strict=True):
            theirs.copy_(ours)  # qkv, then out: weight and bias
        expected, _ = oracle(x, x, x)
        assert torch.allclose(attention(x), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("shape", "patches"), [((1, 8, 8), 16), ((1, 16, 16), 64), ((1, 28, 28), 49), ((3, 32, 32), 64)]
)
def test_vit_chooses_its_patches(shape: tuple[int, ...], patches: int) -> None:
    network = vit_tiny(dim=12, depth=1)(shape, 3)
    assert network.get_parameter("patches.positions").shape == (patches, 12)
    assert vit_tiny(patch=shape[1], dim=12, depth=1)(shape, 3).get_parameter("patches.positions").shape == (1, 12)


def test_vit_knows_where_a_patch_was() -> None:
    """Without positions, a mean over patches could not tell an image from the same image with two patches exchanged."""
    torch.manual_seed(0)
    network = vit_tiny(dim=12, depth=1)((1, 8, 8), 3).eval()
    x = torch.randn(1, 1, 8, 8)
    exchanged = torch.cat([x[..., 2:4], x[..., :2], x[..., 4:]], dim=-1)
    with torch.no_grad():
        assert not torch.allclose(network(x), network(exchanged), atol=1e-6)
        network.get_parameter("patches.positions").zero_()
        assert torch.allclose(network(x), network(exchanged), atol=1e-6)


def test_vit_is_of_size_ti() -> None:
    """DeiT-Ti: 12 blocks of 12 D^2 + 13 D parameters with D = 192, next to patches, positions, norm and head."""
    dim, patches = 192, 64
    blocks = 12 * (12 * dim**2 + 13 * dim)  # qkv 3 D^2 + 3 D, out D^2 + D, MLP 8 D^2 + 5 D, two norms 4 D
    rest = (3 * 16 * dim + dim) + patches * dim + 2 * dim + (dim * 10 + 10)
    network = vit_tiny()((3, 32, 32), 10)
    assert sum(parameter.numel() for parameter in network.parameters()) == blocks + rest


def test_vit_widens_by_whole_heads() -> None:
    network = vit_tiny(dim=12, heads=3, depth=1)((1, 8, 8), 3, width=1.4)
    positions: Tensor = network.get_parameter("patches.positions")
    assert positions.shape[1] == 18  # 3 heads of 4 * 1.4 = 5.6, rounded to 6


@pytest.mark.parametrize("sides", [(9, 8), (8, 9)])
def test_vit_asks_for_patches_that_tile_the_image(sides: tuple[int, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        vit_tiny(patch=3)((1, *sides), 2)
    assert str(caught.value) == (
        f"patch: required a size that divides the sides of the image, {sides[0]} x {sides[1]}, found 3; give vit_tiny "
        "another patch, or pad the images."
    )


@pytest.mark.parametrize(
    ("make", "arguments", "message"),
    [
        (mlp, {"hidden": ()}, "hidden: required the units of at least one hidden layer, found none; give e.g. (64,)."),
        (mlp, {"hidden": (3, 0)}, "hidden: required a whole number, at least 1, found 0."),
        (mlp, {"hidden": (True,)}, "hidden: required a whole number, at least 1, found True."),
        (mlp, {"dropout": 1.0}, "dropout: required a number in [0, 1), found 1.0."),
        (
            cnn,
            {"channels": []},
            "channels: required the units of at least one hidden layer, found none; give e.g. (64,).",
        ),
        (cnn, {"channels": (2.5,)}, "channels: required a whole number, at least 1, found 2.5."),
        (resnet18, {"channels": 0}, "channels: required a whole number, at least 1, found 0."),
        (vit_tiny, {"patch": 0}, "patch: required a whole number, at least 1, found 0."),
        (vit_tiny, {"depth": 0}, "depth: required a whole number, at least 1, found 0."),
        (vit_tiny, {"heads": 0}, "heads: required a whole number, at least 1, found 0."),
        (vit_tiny, {"dropout": -0.1}, "dropout: required a number in [0, 1), found -0.1."),
        (vit_tiny, {"dim": 100, "heads": 3}, "dim: required a multiple of heads (3), found 100; take 99."),
    ],
)
def test_settings_out_of_range_are_refused_when_they_are_made(
    make: Any, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        make(**arguments)
    assert str(caught.value) == message


def test_an_unknown_activation_gets_a_suggestion() -> None:
    with pytest.raises(UnknownNameError, match=r"activation: 'rellu' is not known; did you mean 'relu'\?"):
        mlp(activation="rellu")  # type: ignore[arg-type]  # on purpose
