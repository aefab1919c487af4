"""Backbones: frozen descriptions of networks, each called with (input_shape, n_classes) to build one.

    backbone = mlp(hidden=(100, 100))
    network = backbone((1, 28, 28), 10)  # a fresh nn.Module: (B, 1, 28, 28) -> logits (B, 10)

A function of one's own, `(input_shape, n_classes) -> nn.Module` with an optional `width=1.0`, is equally a backbone.
"""

from prognet.backbones.convolutional import cnn
from prognet.backbones.dense import mlp
from prognet.backbones.describe import Backbone, BackboneSpecification, accepts, accepts_width, describe_backbone
from prognet.backbones.detection import detection_resnet18
from prognet.backbones.from_file import with_weights
from prognet.backbones.libraries import timm, torchvision
from prognet.backbones.residual import resnet18
from prognet.backbones.transformer import vit_tiny

__all__ = [
    "Backbone",
    "BackboneSpecification",
    "accepts",
    "accepts_width",
    "cnn",
    "describe_backbone",
    "detection_resnet18",
    "mlp",
    "resnet18",
    "timm",
    "torchvision",
    "vit_tiny",
    "with_weights",
]
