"""The plain convolutional network."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import nn

from prognet.backbones.checks import image_of, require_units, scaled
from prognet.backbones.describe import BackboneSpecification


@dataclass(frozen=True)
class CNN(BackboneSpecification):
    """What `cnn` returns."""

    name: ClassVar[str] = "cnn"

    channels: tuple[int, ...]
    batch_norm: bool

    def __post_init__(self) -> None:
        require_units("channels", self.channels)

    def __call__(self, input_shape: Sequence[int], n_classes: int, width: float = 1.0) -> nn.Sequential:
        smallest = 2 ** (len(self.channels) - 1)  # every stage but the first halves the sides
        incoming, _, _ = image_of(input_shape, n_classes, smallest)
        layers: list[nn.Module] = []
        for stage, outgoing in enumerate(scaled(channels, width) for channels in self.channels):
            if stage > 0:
                layers.append(nn.MaxPool2d(2))  # (B, C, H, W) -> (B, C, H // 2, W // 2)
            layers.append(nn.Conv2d(incoming, outgoing, kernel_size=3, padding=1))
            if self.batch_norm:
                layers.append(nn.BatchNorm2d(outgoing))
            layers.append(nn.ReLU())
            incoming = outgoing
        head = nn.Linear(incoming, n_classes)
        return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head)  # (B, n_classes)


def cnn(channels: Sequence[int] = (32, 64, 128), batch_norm: bool = False) -> CNN:
    """A plain convolutional network for images.

    One flat `nn.Sequential`: for each stage a 3 x 3 convolution, the optional BatchNorm and ReLU, with a 2 x 2 max-pool
    between stages; then the average over all positions and the Linear head.

    Args:
        channels: output channels of each stage, one stage at least; k stages need sides of at least 2^(k-1) pixels.
        batch_norm: whether each convolution is followed by BatchNorm.

    Raises:
        ConfigError: when `channels` is empty or holds what is no number of channels.
    """
    require_units("channels", channels)
    return CNN(tuple(channels), batch_norm)
