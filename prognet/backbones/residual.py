"""ResNet-18 for small images (He et al. 2016, 1512.03385; stem as in its section 4.2 and in GEM, 1706.08840)."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from prognet.backbones.checks import image_of, require_whole, scaled
from prognet.backbones.describe import BackboneSpecification

SMALLEST = 8  # three of the four stages halve the sides


class Block(nn.Module):
    """The basic block: two 3 x 3 convolutions and a shortcut, (B, n, H, W) -> (B, m, H / stride, W / stride)."""

    def __init__(self, incoming: int, outgoing: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _convolution(incoming, outgoing, 3, stride)
        self.bn1 = nn.BatchNorm2d(outgoing)
        self.conv2 = _convolution(outgoing, outgoing, 3)
        self.bn2 = nn.BatchNorm2d(outgoing)
        self.relu = nn.ReLU()
        self.downsample: nn.Module = nn.Identity()
        if stride != 1 or incoming != outgoing:
            self.downsample = nn.Sequential(_convolution(incoming, outgoing, 1, stride), nn.BatchNorm2d(outgoing))

    def forward(self, x: Tensor) -> Tensor:
        """The block's output, after the last ReLU."""
        residual = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        y: Tensor = self.relu(residual + self.downsample(x))
        return y


class ResNet(nn.Module):
    """The network; its parts carry torchvision's names, so weights of equal shape can be exchanged.

    Args:
        incoming: channels of the images.
        channels: channels of the four stages.
        n_classes: number of logits.
        strides: of the stem and of the four stages.
    """

    def __init__(
        self,
        incoming: int,
        channels: tuple[int, int, int, int],
        n_classes: int,
        strides: tuple[int, int, int, int, int] = (1, 1, 2, 2, 2),
    ) -> None:
        super().__init__()
        first, second, third, last = channels
        self.conv1 = _convolution(incoming, first, 3, strides[0])
        self.bn1 = nn.BatchNorm2d(first)
        self.relu = nn.ReLU()
        self.layer1 = _stage(first, first, strides[1])
        self.layer2 = _stage(first, second, strides[2])
        self.layer3 = _stage(second, third, strides[3])
        self.layer4 = _stage(third, last, strides[4])
        self.avgpool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(last, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_classes) of the images x (B, incoming, H, W)."""
        y: Tensor = self.fc(self.flatten(self.avgpool(self.features(x))))
        return y

    def features(self, x: Tensor) -> Tensor:
        """The feature map (B, last, H / 8, W / 8) of the images x (B, incoming, H, W)."""
        x = self.relu(self.bn1(self.conv1(x)))  # (B, first, H, W)
        y: Tensor = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return y


@dataclass(frozen=True)
class ResNet18(BackboneSpecification):
    """What `resnet18` returns."""

    name: ClassVar[str] = "resnet18"

    channels: int

    def __post_init__(self) -> None:
        require_whole("channels", self.channels)

    def __call__(self, input_shape: Sequence[int], n_classes: int, width: float = 1.0) -> ResNet:
        incoming, _, _ = image_of(input_shape, n_classes, SMALLEST)
        # Each stage is rounded for itself: steps of parameters over `width` are then finer.
        first, second, third, last = (scaled(self.channels * factor, width) for factor in (1, 2, 4, 8))
        return ResNet(incoming, (first, second, third, last), n_classes)


def resnet18(channels: int = 64) -> ResNet18:
    """ResNet-18 with the stem for small images: a 3 x 3 convolution of stride 1 and no max-pool.

    Args:
        channels: channels of the first of the four stages, doubled at each further one; 20 is GEM's reduced ResNet-18.

    Raises:
        ConfigError: when `channels` is no whole number above 0.
    """
    return ResNet18(channels)


def _stage(incoming: int, outgoing: int, stride: int) -> nn.Sequential:
    return nn.Sequential(Block(incoming, outgoing, stride), Block(outgoing, outgoing, 1))


def _convolution(incoming: int, outgoing: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    convolution = nn.Conv2d(incoming, outgoing, kernel, stride, padding=kernel // 2, bias=False)
    nn.init.kaiming_normal_(convolution.weight, mode="fan_out", nonlinearity="relu")
    return convolution
