"""An independent transcription of equations 1 and 2 of Rusu et al. 2016 (arXiv 1606.04671): plain functions of tensors.

Nothing of prognet is imported here. Layers are counted from 0; h[j][i] is what layer i of column j receives, and the
layer 0, which receives the raw input, has no lateral:

    h_i^(k) = f( W_i h_{i-1}^(k) + b_i + a_i )
    a_i = sum_j U_i^(k:j) h_{i-1}^(j)                              (1)
    a_i = U_i relu( V_i concat_j alpha_j h_{i-1}^(j) + c_i )       (2)

The form of a layer (dense, image, tokens) is a pair of functions: how sources are brought to one size, and how a matrix
is applied to features. Products are written with einsum, pooling and normalisation by their definition.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import ceil

import torch
from torch import Tensor

Layer = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Lateral:
    """Where V is None equation 1 (one U per source), else equation 2 (one U)."""

    U: tuple[Tensor, ...]
    V: Tensor | None = None
    c: Tensor | None = None
    alpha: Tensor | None = None
    align: Callable[[int, Tensor], Tensor] = lambda source, h: h
    """(which source, what it received) -> the same at the size where the sources are joined."""
    expand: Callable[[Tensor, Tensor], Tensor] | None = None
    """(U, z) -> U z, where it is not the pointwise product."""
    axis: int = 1
    """Where the features stand."""

    def __call__(self, sources: Sequence[Tensor]) -> Tensor:
        """a_i of the sources' h_{i-1}."""
        expand = self.expand or (lambda U, z: pointwise(U, z, self.axis))
        aligned = [self.align(j, h) for j, h in enumerate(sources)]
        if self.V is None:
            return torch.stack([expand(U, h) for U, h in zip(self.U, aligned, strict=True)]).sum(0)
        assert self.alpha is not None and self.c is not None
        z = torch.cat([self.alpha[j] * h for j, h in enumerate(aligned)], self.axis)
        return expand(self.U[0], torch.relu(pointwise(self.V, z, self.axis, self.c)))


@dataclass(frozen=True)
class ReferenceColumn:
    """One column: its layers as functions, what follows each of them, and its laterals (None: there is none)."""

    layers: tuple[Layer, ...]
    after: tuple[Layer, ...]
    laterals: tuple[Lateral | None, ...]
    sources: tuple[int, ...] = ()


def outputs(columns: Sequence[ReferenceColumn], x: Tensor) -> list[Tensor]:
    """The output of every column on x; every column reads what the earlier ones receive, laterals included."""
    received: list[list[Tensor]] = []
    found = []
    for column in columns:
        h, own = x, []
        for i, (layer, after, lateral) in enumerate(zip(column.layers, column.after, column.laterals, strict=True)):
            own.append(h)
            y = layer(h)
            if lateral is not None:
                y = y + lateral([received[j][i] for j in column.sources])
            h = after(y)
        received.append(own)
        found.append(h)
    return found


def dense(W: Tensor, b: Tensor) -> Layer:
    """W h + b on vectors (B, n), or on tokens (B, N, n)."""
    return lambda h: pointwise(W, h, h.ndim - 1, b)


def convolution(W: Tensor, b: Tensor, stride: int, padding: int) -> Layer:
    """The convolution of images (B, C, H, W) with W (C_out, C_in, k, k)."""
    return lambda h: windows(W, h, stride, padding) + b[:, None, None]


def windows(W: Tensor, h: Tensor, stride: int, padding: int) -> Tensor:
    """The sum over every window of the padded image, without bias."""
    k = W.shape[-1]
    padded = torch.nn.functional.pad(h, (padding,) * 4)
    patches = padded.unfold(2, k, stride).unfold(3, k, stride)  # (B, C, H', W', k, k)
    return torch.einsum("bchwij,ocij->bohw", patches, W)


def pointwise(W: Tensor, h: Tensor, axis: int, b: Tensor | None = None) -> Tensor:
    """W over the features of h, which stand at `axis`; the same at every position."""
    out = torch.einsum("of,...f->...o", W, h.movedim(axis, -1))
    return (out if b is None else out + b).movedim(-1, axis)


def pooled(h: Tensor, height: int, width: int) -> Tensor:
    """Average pooling to (height, width): cell i is the mean of the rows from floor(i H / h) to ceil((i+1) H / h)."""
    rows, columns = _bins(h.shape[2], height), _bins(h.shape[3], width)
    cells = [torch.stack([h[:, :, r, c].mean((2, 3)) for c in columns], -1) for r in rows]
    return torch.stack(cells, -2)


def layer_norm(h: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Tensor:
    """Every token with mean 0 and variance 1, then scaled and shifted."""
    centred = h - h.mean(-1, keepdim=True)
    return centred / torch.sqrt((centred**2).mean(-1, keepdim=True) + eps) * weight + bias


def batch_norm(mean: Tensor, variance: Tensor, weight: Tensor, bias: Tensor, eps: float = 1e-5) -> Layer:
    """B of evaluation mode, on images."""
    scale = weight / torch.sqrt(variance + eps)
    return lambda h: (h - mean[:, None, None]) * scale[:, None, None] + bias[:, None, None]


def _bins(size: int, parts: int) -> list[slice]:
    return [slice(i * size // parts, ceil((i + 1) * size / parts)) for i in range(parts)]
