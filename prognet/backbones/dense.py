"""The multilayer perceptron."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import ClassVar, Literal

from torch import nn

from prognet.backbones.checks import features_of, require_rate, require_units, scaled
from prognet.backbones.describe import BackboneSpecification
from prognet.errors import unknown_name

Activation = Literal["relu", "gelu", "silu", "tanh"]

ACTIVATIONS = MappingProxyType({"relu": nn.ReLU, "gelu": nn.GELU, "silu": nn.SiLU, "tanh": nn.Tanh})


@dataclass(frozen=True)
class MLP(BackboneSpecification):
    """What `mlp` returns."""

    name: ClassVar[str] = "mlp"

    hidden: tuple[int, ...]
    activation: Activation
    batch_norm: bool
    dropout: float

    def __post_init__(self) -> None:
        require_units("hidden", self.hidden)
        require_rate("dropout", self.dropout)
        if self.activation not in tuple(ACTIVATIONS):
            raise unknown_name("activation", self.activation, ACTIVATIONS)

    def __call__(self, input_shape: Sequence[int], n_classes: int, width: float = 1.0) -> nn.Sequential:
        features = features_of(input_shape, n_classes)
        layers: list[nn.Module] = [nn.Flatten()]  # (B, *input_shape) -> (B, features)
        for units in (scaled(units, width) for units in self.hidden):
            layers.append(nn.Linear(features, units))
            if self.batch_norm:
                layers.append(nn.BatchNorm1d(units))
            layers.append(ACTIVATIONS[self.activation]())
            if self.dropout:
                layers.append(nn.Dropout(self.dropout))
            features = units
        return nn.Sequential(*layers, nn.Linear(features, n_classes))


def mlp(
    hidden: Sequence[int] = (100, 100),
    activation: Activation = "relu",
    batch_norm: bool = False,
    dropout: float = 0.0,
) -> MLP:
    """A multilayer perceptron for samples of any shape.

    One flat `nn.Sequential`: Flatten, then for each hidden layer Linear, the optional BatchNorm, the activation and the
    optional Dropout, and at the end the Linear head.

    Args:
        hidden: units of each hidden layer, one at least.
        activation: `"relu"`, `"gelu"`, `"silu"` or `"tanh"`.
        batch_norm: whether each hidden Linear is followed by BatchNorm.
        dropout: rate of the Dropout after each activation; 0 builds none.

    Raises:
        ConfigError: when `hidden` is empty or holds what is no number of units, or `dropout` is not in [0, 1).
        UnknownNameError: when the activation is not known.
    """
    require_units("hidden", hidden)
    return MLP(tuple(hidden), activation, batch_norm, dropout)
