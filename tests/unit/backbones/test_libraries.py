"""Networks of torchvision and timm by name: what is built, what is refused, and weights from a file."""

import builtins
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from prognet import backbones
from prognet.backbones import accepts_width, describe_backbone, timm, torchvision
from prognet.backbones.libraries import Timm, Torchvision
from prognet.engine import MLPAdapter, ProgressiveNetwork, probe
from prognet.errors import CheckpointError, ConfigError, PrognetError, UnknownNameError

HAS_TIMM = pytest.mark.skipif("not __import__('importlib.util').util.find_spec('timm')", reason="timm is not installed")
MOBILE = "mobilenet_v3_small"
SHUFFLE = "shufflenet_v2_x0_5"

Specification = Torchvision | Timm


def specifications() -> list[Any]:
    makers: list[Any] = [
        pytest.param(lambda: torchvision(SHUFFLE), id="torchvision"),
        pytest.param(lambda: torchvision(MOBILE, {"width_mult": 0.25, "dropout": 0.5}), id="torchvision with options"),
        pytest.param(lambda: timm("test_resnet"), id="timm", marks=HAS_TIMM),
        pytest.param(lambda: timm("test_vit", {"depth": 2, "drop_rate": 0.1}), id="timm with options", marks=HAS_TIMM),
    ]
    return makers


every = pytest.mark.parametrize("make", specifications())


@every
@pytest.mark.parametrize("shape", [(3, 32, 32), (1, 32, 32), (5, 64, 64)], ids=str)
def test_logits_for_images_of_any_channels(make: Callable[[], Specification], shape: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    network = make()(shape, 7)
    y = network(torch.randn(4, *shape))
    assert y.shape == (4, 7)
    assert y.isfinite().all()
    assert probe(network, torch.zeros(2, *shape)).sites


@every
def test_a_specification_is_a_value_from_which_a_run_is_rebuilt(make: Callable[[], Specification]) -> None:
    first = make()
    described = json.loads(json.dumps(describe_backbone(first)))
    again = getattr(backbones, described["name"])(**described["arguments"])
    for same in (again, pickle.loads(pickle.dumps(first))):
        assert same == first
        assert hash(same) == hash(first)
    assert describe_backbone(again) == described
    networks = []
    for backbone in (first, again):
        torch.manual_seed(3)
        networks.append(backbone((3, 32, 32), 2).state_dict())
    assert all(torch.equal(networks[0][name], networks[1][name]) for name in networks[0])


def test_a_description_says_model_options_and_weights() -> None:
    backbone = torchvision("vit_b_16", {"dropout": 0.1, "attention_dropout": 0})
    assert describe_backbone(backbone) == {
        "name": "torchvision",
        "arguments": {"model": "vit_b_16", "options": {"attention_dropout": 0, "dropout": 0.1}, "weights": None},
    }
    assert not accepts_width(backbone)


def test_torchvisions_own_function_builds_the_same() -> None:
    from torchvision.models import shufflenet_v2_x0_5

    torch.manual_seed(5)
    expected = shufflenet_v2_x0_5(num_classes=4).state_dict()
    torch.manual_seed(5)
    found = torchvision(SHUFFLE)((3, 32, 32), 4).state_dict()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@HAS_TIMM
def test_timms_own_function_builds_the_same() -> None:
    from timm import create_model

    sizes: dict[str, dict[str, Any]] = {"test_resnet": {}, "test_vit": {"img_size": (32, 48)}}
    for model, size in sizes.items():
        torch.manual_seed(5)
        expected = create_model(model, num_classes=4, in_chans=1, **size).state_dict()
        torch.manual_seed(5)
        found = timm(model)((1, 32, 48), 4).state_dict()
        assert found.keys() == expected.keys()
        assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_the_stem_alone_is_another_for_other_channels() -> None:
    torch.manual_seed(0)
    plain, grey = (torchvision(SHUFFLE)((channels, 32, 32), 4) for channels in (3, 1))
    shapes = [{name: tuple(tensor.shape) for name, tensor in net.state_dict().items()} for net in (plain, grey)]
    assert shapes[0].keys() == shapes[1].keys()
    assert {name for name in shapes[0] if shapes[0][name] != shapes[1][name]} == {"conv1.0.weight"}
    assert shapes[1]["conv1.0.weight"] == (24, 1, 3, 3)
    stem = grey.get_submodule("conv1.0")
    assert isinstance(stem, nn.Conv2d)
    assert (stem.stride, stem.padding, stem.bias) == ((2, 2), (1, 1), None)


def test_vision_transformers_are_told_the_size_of_the_images() -> None:
    network = torchvision("vit_b_32", {"image_size": 64})((3, 64, 64), 2)
    assert network.get_parameter("encoder.pos_embedding").shape[1] == 1 + 4
    with pytest.raises(ConfigError) as caught:
        torchvision("vit_b_32")((3, 33, 33), 2)
    assert str(caught.value) == (
        "options: required arguments of torchvision's vit_b_32 that fit the images, found {} (Input shape indivisible "
        "by patch size!)."
    )


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: torchvision("resnet19"), UnknownNameError, "model: 'resnet19' is not known; did you mean 'resnet1"),
        (
            lambda: torchvision(SHUFFLE, {"widths": 2})((3, 32, 32), 2),
            ConfigError,
            "options: required arguments of torchvision's shufflenet_v2_x0_5 that fit the images, found {'widths': 2}",
        ),
        (lambda: torchvision(SHUFFLE, {"norm_layer": nn.BatchNorm2d}), ConfigError, "required plain values by name"),
        (
            lambda: torchvision(SHUFFLE, {"block": {"a": 1}}),
            ConfigError,
            "options: required numbers, texts and sequences, found {'a': 1}; use a function instead.",
        ),
        (lambda: torchvision(SHUFFLE)((64,), 2), ConfigError, "input_shape: required an image"),
        (lambda: torchvision(SHUFFLE)((3, 32, 32), 0), ConfigError, "n_classes: required a whole number"),
    ],
)
def test_what_torchvision_cannot_build_is_refused(
    call: Callable[[], object], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        call()
    assert message in str(caught.value)
    assert isinstance(caught.value, PrognetError)


@HAS_TIMM
def test_what_timm_cannot_build_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="model: 'resnet18x' is not known; did you mean 'resnet18"):
        timm("resnet18x")
    with pytest.raises(
        ConfigError, match="options: required arguments of timm's test_resnet that fit the images, found"
    ):
        timm("test_resnet", {"img_size": 32})((3, 32, 32), 2)


def test_without_timm_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def missing(name: str, *arguments: Any, **named: Any) -> Any:
        if name == "timm":
            raise ModuleNotFoundError("No module named 'timm'")
        return real(name, *arguments, **named)

    monkeypatch.setattr(builtins, "__import__", missing)
    with pytest.raises(ConfigError) as caught:
        timm("resnet18")
    assert str(caught.value) == (
        "backbone: required the library timm, found none (No module named 'timm'); pip install 'prognet[timm]'."
    )
    assert torchvision(SHUFFLE)((3, 32, 32), 2) is not None


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The weights of a network for seven classes."""
    path = tmp_path_factory.mktemp("weights") / "seven.safetensors"
    torch.manual_seed(11)
    save_file(torchvision(SHUFFLE)((3, 32, 32), 7).state_dict(), path)
    return path


def test_weights_come_from_a_file_and_the_head_fits_the_task(weights: Path) -> None:
    saved = load_file(weights)
    for n_classes, fresh in ((7, set()), (4, {"fc.weight", "fc.bias"})):
        own = torchvision(SHUFFLE, weights=weights)((3, 32, 32), n_classes).state_dict()
        same = {name for name in own if own[name].shape == saved[name].shape and torch.equal(own[name], saved[name])}
        assert own.keys() - same == fresh
    assert torchvision(SHUFFLE, weights=weights).arguments["weights"] == str(weights)


def test_weights_start_every_column(weights: Path) -> None:
    """Two columns from one file: the same trunk, heads of their own tasks."""
    net, x = ProgressiveNetwork(MLPAdapter(hidden=0.25)), torch.zeros(2, 3, 32, 32)
    backbone = torchvision(SHUFFLE, weights=weights)
    for n_classes in (3, 5):
        net.add_column(backbone(x.shape[1:], n_classes), x)
    first, second = (dict(net.column(k).backbone.named_parameters()) for k in (0, 1))
    assert all(torch.equal(first[name], second[name]) for name in first if not name.startswith("fc"))
    assert [net(x, k).shape for k in (0, 1)] == [(2, 3), (2, 5)]


def test_weights_that_do_not_fit_are_refused_and_nothing_is_loaded(weights: Path, tmp_path: Path) -> None:
    (tmp_path / "pickle.pth").write_bytes(b"")
    torch.save({"a": torch.zeros(1)}, tmp_path / "pickle.pth")
    cases = [
        (torchvision(MOBILE, weights=weights), (3, 32, 32), "weights: required the tensors of the network in "),
        (torchvision(SHUFFLE, weights=weights), (1, 32, 32), "weights: required (24, 1, 3, 3) for 'conv1.0.weight', "),
        (torchvision(SHUFFLE, weights=tmp_path / "none"), (3, 32, 32), "weights: required a file that can be read, "),
        (torchvision(SHUFFLE, weights=tmp_path / "pickle.pth"), (3, 32, 32), "weights: required a safetensors file, "),
    ]
    for backbone, shape, message in cases:
        with pytest.raises(CheckpointError) as caught:
            backbone(shape, 7)
        assert str(caught.value).startswith(message)
