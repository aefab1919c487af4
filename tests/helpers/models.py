"""Members of the zoo that come from libraries, or read sound and text; built small, and in full size."""

from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet import backbones
from prognet.engine import MLPAdapter
from tests.helpers.zoo import GRUBlock, Kind

NARROW = MLPAdapter(hidden=0.0625)
"""For networks whose blocks are wide: with the full hidden width the adapters would outweigh them."""


class SqueezeExcite(nn.Module):
    """A block whose channels are scaled by a gate on their means, with BatchNorm, dropout and a shortcut."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv, self.norm, self.drop = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.Dropout(0.1)
        self.gate = nn.Sequential(nn.Linear(width, 2), nn.ReLU(), nn.Linear(2, width), nn.Sigmoid())

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(self.conv(x))
        return functional.relu(x + self.drop(h * self.gate(h.mean((2, 3)))[:, :, None, None]))


class Squeezed(nn.Module):
    """A stem, squeeze-excite blocks, mean, head."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, padding=1)
        self.blocks = nn.ModuleList([SqueezeExcite(6), SqueezeExcite(6)])
        self.head = nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean((2, 3)))  # type: ignore[no-any-return]


class Branched(nn.Module):
    """One stem that two branches read; their features are joined before the head."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.branches = nn.ModuleDict({"narrow": nn.Conv2d(6, 3, 1), "broad": nn.Conv2d(6, 4, 3, padding=1)})
        self.head = nn.Linear(7, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x)
        joined = torch.cat([torch.relu(branch(h)) for branch in self.branches.values()], 1)
        return self.head(joined.mean((2, 3)))  # type: ignore[no-any-return]


class WaveBlock(nn.Module):
    """A strided convolution over time behind a GroupNorm, (B, C, T) -> (B, 2 C, T / 2)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm, self.conv = nn.GroupNorm(2, width), nn.Conv1d(width, 2 * width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return functional.gelu(self.conv(self.norm(x)))


class Waves(nn.Module):
    """A one-dimensional convolutional network on sound (B, 1, T)."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(1, 4, 5, padding=2)
        self.blocks = nn.Sequential(WaveBlock(4), WaveBlock(8))
        self.head = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.stem(x)).mean(2))  # type: ignore[no-any-return]


class ConformerBlock(nn.Module):
    """Attention, then a convolution over time inside a transposition, (B, T, D) -> (B, T, D)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, dropout=0.1, batch_first=True)
        self.conv = nn.Conv1d(width, width, 3, padding=1, groups=width)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm1(x)
        x = x + self.attention(h, h, h, need_weights=False)[0]
        return x + functional.silu(self.conv(self.norm2(x).transpose(1, 2))).transpose(1, 2)


class Conformer(nn.Module):
    """A transformer on sound: a convolution makes the tokens, blocks, mean over time, head."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv1d(2, 8, 4, stride=4)
        self.blocks = nn.ModuleList([ConformerBlock(8), ConformerBlock(8)])
        self.head = nn.Linear(8, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x).transpose(1, 2)  # (B, T / 4, D)
        for block in self.blocks:
            h = block(h)
        return self.head(h.mean(1))  # type: ignore[no-any-return]


class Reader(nn.Module):
    """A GRU on text: words as whole numbers (B, N), an embedding, recurrent blocks, a head on the last state."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 6)
        self.cells = nn.Sequential(GRUBlock(6, 8), nn.Dropout(0.1), GRUBlock(8, 7))
        self.head = nn.Linear(7, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.cells(self.words(x))[:, -1])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    """torch's own transformer encoder on text, which takes a faster path where nothing learns."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.words = nn.Embedding(11, 8)
        layer = nn.TransformerEncoderLayer(8, 2, 16, dropout=0.1, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(8, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.encoder(self.words(x)).mean(1))  # type: ignore[no-any-return]


def _resnet50(n_classes: int) -> nn.Module:
    from torchvision.models.resnet import Bottleneck, ResNet

    return ResNet(Bottleneck, [1, 1, 1, 1], num_classes=n_classes, width_per_group=2)  # type: ignore[no-any-return]


def _convnext(n_classes: int) -> nn.Module:
    from torchvision.models.convnext import CNBlockConfig, ConvNeXt

    stages = [CNBlockConfig(8, 12, 1), CNBlockConfig(12, None, 2)]
    return ConvNeXt(stages, stochastic_depth_prob=0.1, num_classes=n_classes)  # type: ignore[no-any-return]


def _efficientnet(n_classes: int) -> nn.Module:
    from torchvision.models.efficientnet import EfficientNet, MBConvConfig

    stages = [MBConvConfig(1, 3, 1, 8, 8, 1, 1.0, 1.0), MBConvConfig(4, 3, 2, 8, 12, 2, 1.0, 1.0)]
    return EfficientNet(stages, dropout=0.2, num_classes=n_classes)  # type: ignore[no-any-return]


def _densenet(n_classes: int) -> nn.Module:
    from torchvision.models import DenseNet

    return DenseNet(4, (2, 2), 8, drop_rate=0.1, num_classes=n_classes)  # type: ignore[no-any-return]


def _vit(n_classes: int) -> nn.Module:
    from torchvision.models import VisionTransformer

    return VisionTransformer(16, 8, 2, 2, 16, 32, dropout=0.1, num_classes=n_classes)  # type: ignore[no-any-return]


def _swin(n_classes: int) -> nn.Module:
    from torchvision.models import SwinTransformer

    return SwinTransformer([2, 2], 8, [2, 1], [2, 2], [2, 2], num_classes=n_classes)  # type: ignore[no-any-return]


def _timm(model: str, size: int, n_classes: int, **options: Any) -> nn.Module:
    return backbones.timm(model, options)((3, size, size), n_classes)


def _torchvision(model: str, size: int, n_classes: int) -> nn.Module:
    return settled(backbones.torchvision(model)((3, size, size), n_classes), torch.randn(16, 3, size, size))


def settled(network: nn.Module, x: Tensor) -> nn.Module:
    """The network with the BatchNorm statistics of x; with 0 and 1 a deep one overflows in evaluation mode."""
    norms = [part for part in network.modules() if isinstance(part, nn.BatchNorm2d)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
    with torch.no_grad():
        network.train()(x)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
    return network


def _mixer(n_classes: int) -> nn.Module:
    from timm.models.mlp_mixer import MlpMixer

    return MlpMixer(num_classes=n_classes, img_size=16, patch_size=8, num_blocks=2, embed_dim=16, drop_path_rate=0.1)


def _of_timm(name: str, model: str, sites: tuple[str, ...], size: int = 16, **options: Any) -> Kind:
    return Kind(f"timm_{name}", partial(_timm, model, size, **options), (3, size, size), sites)


SMALL = (
    Kind("squeeze_excite", Squeezed, (3, 6, 6), ("blocks.0", "blocks.1", "head")),
    Kind("branched", Branched, (3, 6, 6), ("branches.narrow", "branches.broad", "head")),
    Kind("waves", Waves, (1, 24), ("blocks.0", "blocks.1", "head")),
    Kind("conformer", Conformer, (2, 24), ("blocks.0", "blocks.1", "head")),
    Kind("reader", Reader, (5,), ("cells.0", "cells.2", "head"), vocabulary=11),
    Kind("encoder", Encoder, (5,), ("encoder.layers.0", "encoder.layers.1", "head"), vocabulary=11),
    Kind(
        "resnet50",
        _resnet50,
        (3, 32, 32),
        ("layer1.0", "layer2.0", "layer3.0", "layer4.0", "fc"),
        adapter=NARROW,
    ),
    Kind(
        "convnext",
        _convnext,
        (3, 16, 16),
        ("features.1.0", "features.2.1", "features.3.0", "features.3.1", "classifier.2"),
    ),
    Kind(
        "efficientnet",
        _efficientnet,
        (3, 16, 16),
        ("features.1.0", "features.2.0", "features.2.1", "features.3", "classifier.1"),
    ),
    Kind(
        "densenet",
        _densenet,
        (3, 32, 32),
        ("features.denseblock1", "features.transition1", "features.denseblock2", "classifier"),
    ),
    Kind(
        "vit",
        _vit,
        (3, 16, 16),
        ("encoder.layers.encoder_layer_0", "encoder.layers.encoder_layer_1", "heads.head"),
    ),
    Kind(
        "torchvision_swin", _swin, (3, 16, 16), ("features.1.0", "features.1.1", "features.2", "features.3.0", "head")
    ),
)
"""Every family, a few blocks each."""

TIMM = (
    _of_timm(
        "resnet",
        "seresnet18",
        ("layer1.0", "layer2.0", "layer3.0", "layer4.0", "fc"),
        layers=(1, 1, 1, 1),
        channels=(8, 8, 12, 16),
        stem_width=8,
    ),
    _of_timm(
        "vit",
        "vit_tiny_patch16_224",
        ("blocks.0", "blocks.1", "head"),
        patch_size=8,
        embed_dim=16,
        depth=2,
        num_heads=2,
        proj_drop_rate=0.1,
    ),
    Kind("timm_mixer", _mixer, (3, 16, 16), ("blocks.0", "blocks.1", "head")),
    _of_timm(
        "convnext",
        "convnext_atto",
        ("stages.0", "stages.1", "stages.2", "stages.3", "head.fc"),
        size=32,
        depths=(1, 1, 2, 1),
        dims=(8, 8, 12, 16),
    ),
    _of_timm(
        "swin",
        "swin_tiny_patch4_window7_224",
        ("layers.0", "layers.1", "head.fc"),
        patch_size=2,
        window_size=2,
        embed_dim=8,
        depths=(2, 2),
        num_heads=(1, 2),
    ),
)
"""The same of timm; its Swin has buffers that `state_dict` leaves out."""

# Fresh and on images so small, networks with BatchNorm move so far in a step that their statistics are left behind.
_NORMED = ("resnet18", "resnet50", "efficientnet_b0", "densenet121")
FULL = tuple(
    Kind(
        f"full_{model}",
        partial(_torchvision, model, 32),
        (3, 32, 32),
        adapter=NARROW,
        lr=1e-5 if model in _NORMED else 0.001,
    )
    for model in (*_NORMED, "convnext_tiny", "vit_b_16", "swin_t")
)
"""torchvision's networks as they are published, on small images."""


def require(kind: Kind) -> None:
    """Skips the test where the library of a member is not installed."""
    if kind.name.startswith("timm_") and find_spec("timm") is None:
        pytest.skip("timm is not installed: pip install 'prognet[timm]'")
