"""Networks of torchvision and timm by name, as backbones: with random weights, or with those of a local file.

Both libraries are imported when a specification is made, and nothing is ever downloaded.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, ClassVar

from torch import nn

from prognet.backbones.checks import image_of
from prognet.backbones.describe import BackboneSpecification
from prognet.backbones.pretrained import load_weights
from prognet.errors import ConfigError, unknown_name
from prognet.results import to_json

Options = tuple[tuple[str, Any], ...]
"""Arguments of a model's constructor, by name, as a value that has a hash."""


@dataclass(frozen=True)
class Torchvision(BackboneSpecification):
    """What `torchvision` returns."""

    name: ClassVar[str] = "torchvision"

    model: str
    options: Options
    weights: str | None

    def __post_init__(self) -> None:
        models = _torchvision_models()
        known = models.list_models(module=models)
        if self.model not in known:
            raise unknown_name("model", self.model, known)

    def __call__(self, input_shape: Sequence[int], n_classes: int) -> nn.Module:
        channels, height, _ = image_of(input_shape, n_classes, smallest=1)
        sized = {"image_size": height} if self.model.startswith("vit_") else {}
        arguments = {"num_classes": n_classes, **sized, **dict(self.options)}
        network = _made(self, lambda: _torchvision_models().get_model(self.model, weights=None, **arguments))
        if channels != 3:
            _replace_stem(network, channels)
        return _filled(self, network, n_classes)

    @property
    def arguments(self) -> dict[str, Any]:
        return _arguments(self)


@dataclass(frozen=True)
class Timm(BackboneSpecification):
    """What `timm` returns."""

    name: ClassVar[str] = "timm"

    model: str
    options: Options
    weights: str | None

    def __post_init__(self) -> None:
        library = _timm()
        if not library.is_model(self.model):
            raise unknown_name("model", self.model, library.list_models())

    def __call__(self, input_shape: Sequence[int], n_classes: int) -> nn.Module:
        channels, height, width = image_of(input_shape, n_classes, smallest=1)
        library = _timm()
        sized = {"img_size": (height, width)} if _is_bound_to_a_size(self.model) else {}
        arguments = {"num_classes": n_classes, "in_chans": channels, **sized, **dict(self.options)}
        network = _made(self, lambda: library.create_model(self.model, pretrained=False, **arguments))
        return _filled(self, network, n_classes)

    @property
    def arguments(self) -> dict[str, Any]:
        return _arguments(self)


def torchvision(
    model: str = "resnet18", options: Mapping[str, Any] | None = None, weights: str | Path | None = None
) -> Torchvision:
    """A classification network of torchvision by name, for images.

    The stem of a network for three channels is replaced where the images have another number of them. The images are
    those of the stream, so most models want some 32 pixels or more. It has no `width`.

    Args:
        model: a name of `torchvision.models.list_models(module=torchvision.models)`.
        options: further arguments of the model, plain values by name, such as `{"width_per_group": 32}`.
        weights: a safetensors file with the `state_dict` of that model; an output layer for another number of classes
            starts anew. None for random weights.

    Raises:
        ConfigError: when an option has no JSON form.
        UnknownNameError: when torchvision has no such model.
    """
    return Torchvision(model, _frozen(options), None if weights is None else str(weights))


def timm(model: str = "resnet18", options: Mapping[str, Any] | None = None, weights: str | Path | None = None) -> Timm:
    """A classification network of timm by name, for images; it needs the extra `timm`.

    The size and the channels of the images are told to the models that ask for them. It has no `width`.

    Args:
        model: a name of `timm.list_models()`.
        options: further arguments of the model, plain values by name, such as `{"drop_path_rate": 0.1}`.
        weights: a safetensors file with the `state_dict` of that model; an output layer for another number of classes
            starts anew. None for random weights.

    Raises:
        ConfigError: when timm is not installed, or an option has no JSON form.
        UnknownNameError: when timm has no such model.
    """
    return Timm(model, _frozen(options), None if weights is None else str(weights))


def _torchvision_models() -> ModuleType:
    from torchvision import models

    module: ModuleType = models
    return module


def _timm() -> ModuleType:
    try:
        import timm
    except ImportError as error:
        raise ConfigError(
            f"backbone: required the library timm, found none ({error}); pip install 'prognet[timm]'."
        ) from error
    return timm


def _is_bound_to_a_size(model: str) -> bool:
    from timm.models import get_pretrained_cfg

    settings = get_pretrained_cfg(model)
    return settings is not None and settings.fixed_input_size


def _made(backbone: Torchvision | Timm, build: Callable[[], nn.Module]) -> nn.Module:
    try:
        return build()
    except (TypeError, ValueError, AssertionError, RuntimeError) as error:
        raise ConfigError(
            f"options: required arguments of {backbone.name}'s {backbone.model} that fit the images, found "
            f"{dict(backbone.options)} ({error})."
        ) from error


def _replace_stem(network: nn.Module, channels: int) -> None:
    """Puts a fresh convolution from `channels` in the place of the first one, which reads three."""
    for name, old in network.named_modules():
        if isinstance(old, nn.Conv2d):
            stem = nn.Conv2d(
                channels,
                old.out_channels,
                old.kernel_size,  # type: ignore[arg-type]  # a tuple of two, as it is stored
                old.stride,  # type: ignore[arg-type]
                old.padding,  # type: ignore[arg-type]
                bias=old.bias is not None,
            )
            parent, _, attribute = name.rpartition(".")
            setattr(network.get_submodule(parent), attribute, stem)
            return


def _filled(backbone: Torchvision | Timm, network: nn.Module, n_classes: int) -> nn.Module:
    if backbone.weights is not None:
        load_weights(network, backbone.weights, n_classes)
    return network


def _arguments(backbone: Torchvision | Timm) -> dict[str, Any]:
    return {"model": backbone.model, "options": to_json(dict(backbone.options)), "weights": backbone.weights}


def _frozen(options: Mapping[str, Any] | None) -> Options:
    try:
        return tuple((name, _value(to_json(value))) for name, value in sorted((options or {}).items()))
    except TypeError as error:
        raise ConfigError(f"options: required plain values by name, found {options!r} ({error}).") from error


def _value(value: Any) -> Any:
    if isinstance(value, Mapping):
        raise ConfigError(f"options: required numbers, texts and sequences, found {value!r}; use a function instead.")
    return tuple(map(_value, value)) if isinstance(value, list) else value
