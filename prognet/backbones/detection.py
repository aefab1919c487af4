"""What a network that detects objects predicts, and one that does so: ResNet-18 with the head of RetinaNet."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor, nn

from prognet.backbones.checks import image_of, require_whole, scaled
from prognet.backbones.describe import BackboneSpecification
from prognet.backbones.residual import SMALLEST, ResNet
from prognet.engine.head import OutputHead
from prognet.errors import ConfigError

STRIDE = 8
"""Pixels between the positions of the trunk's feature map."""
STRIDES = (2, 1, 2, 2, 1)
"""Of the stem and the four stages."""


@dataclass(frozen=True, slots=True)
class BoxGrid:
    """Where boxes are predicted: `anchors` of them around every position of a feature map, one each `stride` pixels.

    The output of a network is then (B, H W anchors, n_classes + 4): for each anchor, positions by rows, the logits of
    the classes and the four numbers that move it (Lin et al. 2017, 1708.02002).
    """

    stride: int
    anchors: int


class PooledHead(OutputHead):
    """The head of a classifier on feature maps: the average over all positions and the Linear layer of ResNet-18.

    Args:
        network: whose parts they are.
    """

    def __init__(self, network: ResNet) -> None:
        super().__init__()
        self.avgpool, self.flatten, self.fc = network.avgpool, network.flatten, network.fc

    def forward(self, maps: Tensor) -> Tensor:
        """Logits (B, n_classes) of feature maps (B, C, H, W)."""
        y: Tensor = self.fc(self.flatten(self.avgpool(maps)))
        return y


class DetectionHead(OutputHead):
    """torchvision's head of RetinaNet on one feature map, with group norm as in torchvision's second version of it.

    Args:
        channels: of the map.
        n_classes: kinds of objects.
        anchors: boxes around each position.
    """

    def __init__(self, channels: int, n_classes: int, anchors: int) -> None:
        from torchvision.models.detection.retinanet import RetinaNetHead

        super().__init__()
        # one group fits any number of channels
        self.retina = RetinaNetHead(channels, anchors, n_classes, norm_layer=partial(nn.GroupNorm, 1))

    def forward(self, maps: Tensor) -> Tensor:
        """Dense predictions (B, H W anchors, n_classes + 4) from a feature map (B, C, H, W)."""
        found = self.retina([maps])
        return torch.cat([found["cls_logits"], found["bbox_regression"]], dim=-1)


class DetectionResNet(ResNet):
    """ResNet-18 whose head reads the feature map, so that classifiers and detectors can share the rest.

    The stem has stride 2, which saves most of the operations, and the last stage stride 1, so the map is as fine as
    that of `resnet18`.

    Args:
        incoming: channels of the images.
        channels: channels of the four stages.
        n_classes: number of logits, or kinds of objects.
        grid: where boxes are predicted; None for a classifier.
    """

    def __init__(
        self, incoming: int, channels: tuple[int, int, int, int], n_classes: int, grid: BoxGrid | None
    ) -> None:
        super().__init__(incoming, channels, n_classes, STRIDES)
        head = PooledHead(self) if grid is None else DetectionHead(channels[-1], n_classes, grid.anchors)
        del self.avgpool, self.flatten, self.fc
        self.head: OutputHead = head

    def forward(self, x: Tensor) -> Tensor:
        """What the head makes of the images x (B, incoming, H, W)."""
        y: Tensor = self.head(self.features(x))
        return y


@dataclass(frozen=True)
class DetectionResNet18(BackboneSpecification):
    """What `detection_resnet18` returns."""

    name: ClassVar[str] = "detection_resnet18"

    channels: int

    def __post_init__(self) -> None:
        require_whole("channels", self.channels)

    def __call__(
        self, input_shape: Sequence[int], n_classes: int, width: float = 1.0, grid: BoxGrid | None = None
    ) -> DetectionResNet:
        incoming, *sides = image_of(input_shape, n_classes, SMALLEST)
        if grid is not None and (grid.stride != STRIDE or any(side % STRIDE for side in sides)):
            raise ConfigError(
                f"grid: required boxes every {STRIDE} pixels and sides that are multiples of it, found every "
                f"{grid.stride} and {sides}; make the images and the task so."
            )
        first, second, third, last = (scaled(self.channels * factor, width) for factor in (1, 2, 4, 8))
        return DetectionResNet(incoming, (first, second, third, last), n_classes, grid)


def detection_resnet18(channels: int = 16) -> DetectionResNet18:
    """ResNet-18 for small images, for streams with detections in them: each head reads the last feature map.

    The sites are the blocks of the trunk. The head of a classification is the average over all positions and a Linear
    layer, that of a detection torchvision's head of RetinaNet.

    Args:
        channels: channels of the first of the four stages, doubled at each further one.

    Raises:
        ConfigError: when `channels` is no whole number above 0.
    """
    return DetectionResNet18(channels)
