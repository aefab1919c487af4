"""A vision transformer for small images.

As in Dosovitskiy et al. 2021 (2010.11929), in the size Ti of Touvron et al. 2021 (2012.12877), without class token.

Shapes: B samples, N patches, D features of a patch, H heads.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from prognet.backbones.checks import image_of, require_rate, require_whole, scaled
from prognet.backbones.describe import BackboneSpecification
from prognet.errors import ConfigError


class Patches(nn.Module):
    """Images (B, C, height, width) -> patches with their learned positions (B, N, D)."""

    def __init__(self, channels: int, patch: int, patches: int, dim: int) -> None:
        super().__init__()
        self.projection = nn.Conv2d(channels, dim, kernel_size=patch, stride=patch)
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(patches, dim), std=0.02))

    def forward(self, x: Tensor) -> Tensor:
        """The features of every patch, row by row."""
        patches: Tensor = self.projection(x).flatten(2).transpose(1, 2)  # (B, N, D)
        return patches + self.positions


class Attention(nn.Module):
    """Multi-head self-attention, (B, N, D) -> (B, N, D); every Linear is called, so each may be a site."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim)
        self.out = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        """Every patch, read by every other one."""
        q, k, v = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)  # 3 times (B, H, N, D / H)
        read = scaled_dot_product_attention(q, k, v)
        y: Tensor = self.out(read.transpose(1, 2).flatten(2))  # (B, N, D)
        return y


class Block(nn.Module):
    """The pre-norm block, (B, N, D) -> (B, N, D)."""

    def __init__(self, dim: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(dim)
        self.attention = Attention(dim, heads)
        self.norm2 = nn.LayerNorm(dim)
        self.mlp = nn.Sequential(nn.Linear(dim, hidden), nn.GELU(), nn.Linear(hidden, dim))
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """The residual stream after the block."""
        x = x + self.dropout(self.attention(self.norm1(x)))
        y: Tensor = x + self.dropout(self.mlp(self.norm2(x)))
        return y


class VisionTransformer(nn.Module):
    """The network: patches, blocks, norm, mean over the patches, head."""

    def __init__(self, patches: Patches, blocks: nn.Sequential, dim: int, n_classes: int) -> None:
        super().__init__()
        self.patches = patches
        self.blocks = blocks
        self.norm = nn.LayerNorm(dim)
        self.head = nn.Linear(dim, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (B, n_classes) of the images x (B, C, height, width)."""
        read = self.norm(self.blocks(self.patches(x)))  # (B, N, D)
        y: Tensor = self.head(read.mean(dim=1))
        return y


@dataclass(frozen=True)
class ViTTiny(BackboneSpecification):
    """What `vit_tiny` returns."""

    name: ClassVar[str] = "vit_tiny"

    patch: int | None
    dim: int
    depth: int
    heads: int
    dropout: float

    def __post_init__(self) -> None:
        for argument in ("dim", "depth", "heads"):
            require_whole(argument, getattr(self, argument))
        if self.patch is not None:
            require_whole("patch", self.patch)
        require_rate("dropout", self.dropout)
        if self.dim % self.heads:
            raise ConfigError(
                f"dim: required a multiple of heads ({self.heads}), found {self.dim}; take "
                f"{self.heads * scaled(self.dim, 1 / self.heads)}."
            )

    def __call__(self, input_shape: Sequence[int], n_classes: int, width: float = 1.0) -> VisionTransformer:
        channels, height, breadth = image_of(input_shape, n_classes, smallest=1)
        patch = self._patch_for(height, breadth)
        dim = self.heads * scaled(self.dim // self.heads, width)
        patches = Patches(channels, patch, (height // patch) * (breadth // patch), dim)
        blocks = nn.Sequential(*(Block(dim, self.heads, 4 * dim, self.dropout) for _ in range(self.depth)))
        return VisionTransformer(patches, blocks, dim, n_classes)

    def _patch_for(self, height: int, breadth: int) -> int:
        patch = self.patch if self.patch is not None else 2 if max(height, breadth) <= 16 else 4
        if height % patch or breadth % patch:
            raise ConfigError(
                f"patch: required a size that divides the sides of the image, {height} x {breadth}, found {patch}; "
                "give vit_tiny another patch, or pad the images."
            )
        return patch


def vit_tiny(
    patch: int | None = None, dim: int = 192, depth: int = 12, heads: int = 3, dropout: float = 0.0
) -> ViTTiny:
    """A pre-norm vision transformer of size Ti for small images; its head reads the mean over the patches.

    Args:
        patch: side of a patch in pixels; None takes 2 for images up to 16 pixels, and 4 for larger ones.
        dim: features of a patch, a multiple of `heads`.
        depth: number of blocks.
        heads: attention heads of each block.
        dropout: rate after the attention and after the MLP of each block.

    Raises:
        ConfigError: when a value is out of its range.
    """
    return ViTTiny(patch, dim, depth, heads, dropout)
