"""Networks of prognet that begin from a file: trained elsewhere, on a pretext, or by meta-learning."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

from torch import nn

from prognet.backbones.convolutional import cnn
from prognet.backbones.dense import mlp
from prognet.backbones.describe import BackboneSpecification
from prognet.backbones.pretrained import load_weights
from prognet.backbones.residual import resnet18
from prognet.backbones.transformer import vit_tiny
from prognet.errors import ConfigError, unknown_name

_MADE_HERE: Mapping[str, Callable[..., BackboneSpecification]] = MappingProxyType(
    {"cnn": cnn, "mlp": mlp, "resnet18": resnet18, "vit_tiny": vit_tiny}
)


@dataclass(frozen=True)
class WithWeights(BackboneSpecification):
    """What `with_weights` returns."""

    name: ClassVar[str] = "with_weights"

    backbone: BackboneSpecification
    weights: str | None

    def __call__(self, input_shape: Sequence[int], n_classes: int) -> nn.Module:
        network = self.backbone(input_shape, n_classes)
        if self.weights is not None:
            load_weights(network, self.weights, n_classes)
        return network

    @property
    def arguments(self) -> dict[str, Any]:
        inner = {"name": self.backbone.name, "arguments": self.backbone.arguments}
        return {"backbone": inner, "weights": self.weights}


def with_weights(
    backbone: BackboneSpecification | Mapping[str, Any] | str = "mlp", weights: str | Path | None = None
) -> WithWeights:
    """A backbone whose networks begin with the tensors of a file. It has no `width`.

    Args:
        backbone: `mlp(...)`, `cnn(...)`, `resnet18(...)` or `vit_tiny(...)`; also its name, or its description
            `{"name": ..., "arguments": ...}`.
        weights: a safetensors file with the `state_dict` of such a network; an output layer for another number of
            classes starts anew. None for random weights.

    Raises:
        ConfigError: when the backbone is none of these.
        UnknownNameError: when its name is none of theirs.
    """
    if isinstance(backbone, str):
        backbone = {"name": backbone}
    if isinstance(backbone, Mapping):
        name = str(backbone.get("name"))
        if name not in _MADE_HERE:
            raise unknown_name("backbone", name, _MADE_HERE)
        backbone = _MADE_HERE[name](**backbone.get("arguments", {}))
    _check_made_here(backbone)
    return WithWeights(backbone, None if weights is None else str(weights))


def _check_made_here(backbone: object) -> None:
    if not isinstance(backbone, BackboneSpecification) or backbone.name not in _MADE_HERE:
        raise ConfigError(
            f"backbone: required one of {sorted(_MADE_HERE)}, found {backbone!r}; torchvision and timm take weights "
            "themselves."
        )
