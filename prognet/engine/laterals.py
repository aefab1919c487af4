"""Laterals: the modules that adapters build. Each has two halves.

`prepare` brings what the sources handed over to one tensor; it has no parameters, so that for frozen sources its result
is the same in every update and can be kept. `forward` does the rest, which learns.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

_POOLS: dict[int, Callable[[Tensor, Any], Tensor]] = {
    1: functional.adaptive_avg_pool1d,
    2: functional.adaptive_avg_pool2d,
    3: functional.adaptive_avg_pool3d,
}
_CONVOLUTIONS: dict[int, Callable[..., Tensor]] = {1: functional.conv1d, 2: functional.conv2d, 3: functional.conv3d}


class Align(nn.Module):
    """Brings the sources to the size at which they are joined, and joins them by feature.

    Tokens are normed, each source by a LayerNorm of its own; positions are pooled where they differ; for a vector
    nothing but the features is left. Scale and shift of the norms learn; they commute with the mean over positions, and
    are applied after it.
    """

    def __init__(
        self,
        sizes: Sequence[int],
        spatial: tuple[int, ...] = (),
        flatten: bool = False,
        norms: Sequence[nn.Module] = (),
    ) -> None:
        """
        Args:
            sizes: the features of each source.
            spatial: the positions at which sources are joined; empty for those that they have.
            flatten: whether one position is left, and is to go.
            norms: a LayerNorm for each source; without them, features stand in dimension 1.
        """
        super().__init__()
        self.sizes, self.spatial, self.flatten = tuple(sizes), spatial, flatten
        self.norms = nn.ModuleList(norms)
        self.dim = -1 if norms and not flatten else 1

    def forward(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        """One tensor (B, *in_shape) per source, or what `prepare` made of them -> all of them joined.

        Returns:
            (B, features, *positions), for tokens (B, *positions, features), for a vector (B, features).
        """
        z = self.join(sources)
        if not self.norms:
            return z
        weight, bias = self.scale_and_shift()
        return z * weight + bias

    def join(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        """The same without scale and shift."""
        return sources if isinstance(sources, Tensor) else self.prepare(sources)

    def scale_and_shift(self) -> tuple[Tensor, Tensor]:
        """What the norms learn, (features,) each."""
        return (
            torch.cat([norm.weight for norm in self.norms]),  # type: ignore[misc]
            torch.cat([norm.bias for norm in self.norms]),  # type: ignore[misc]
        )

    def prepare(self, sources: Sequence[Tensor]) -> Tensor:
        """All that is no matter of parameters: one tensor (B, *in_shape) per source -> one tensor."""
        if self.norms:
            sources = [_normed(h, norm) for h, norm in zip(sources, self.norms, strict=True)]
        if self.spatial:
            sources = [self._pooled(h) for h in sources]
        return sources[0] if len(sources) == 1 else torch.cat(list(sources), self.dim)

    def _pooled(self, h: Tensor) -> Tensor:
        if self.norms:
            h = h.movedim(-1, 1)  # (B, D, *positions)
        if tuple(h.shape[2:]) != self.spatial:
            h = _POOLS[len(self.spatial)](h, self.spatial)
        if self.flatten:
            return h.flatten(1)
        return h.movedim(1, -1) if self.norms else h

    def extra_repr(self) -> str:
        return f"sizes={self.sizes}, spatial={self.spatial}, flatten={self.flatten}"


class Lateral(nn.Module, ABC):
    """A lateral connection in two halves."""

    @abstractmethod
    def prepare(self, sources: Sequence[Tensor]) -> Tensor:
        """The half without parameters: one tensor (B, *in_shape) per source -> one tensor (B, ...)."""

    @abstractmethod
    def forward(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        """One tensor (B, *in_shape) per source, or what `prepare` made of them -> (B, *out_shape)."""


class LinearLateral(Lateral):
    """a = U concat_j h_j, which is sum_j U_j h_j."""

    def __init__(self, align: Align, U: nn.Module) -> None:
        super().__init__()
        self.align, self.U = align, U

    def prepare(self, sources: Sequence[Tensor]) -> Tensor:
        return self.align.prepare(sources)

    def forward(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        out: Tensor = self.U(self.align(sources))
        return out


class MLPLateral(Lateral):
    """a = U relu(V concat_j(alpha_j h_j) + c).

    It is computed as U relu(V' concat_j h_j + c'), with alpha and what the norms learn multiplied into V' and c':
    weights are smaller than batches, and no gradient with respect to what frozen columns said is needed.
    """

    def __init__(self, align: Align, V: nn.Module, U: nn.Module, alpha: float) -> None:
        super().__init__()
        self.align, self.V, self.U = align, V, U
        self.alpha = nn.Parameter(torch.full((len(align.sizes),), float(alpha)))

    def prepare(self, sources: Sequence[Tensor]) -> Tensor:
        return self.align.prepare(sources)

    def forward(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        z = self.align.join(sources)  # (B, features, *positions), tokens (B, *positions, features)
        V, c = self._scaled()
        hidden = functional.linear(z, V, c) if V.ndim == 2 else _CONVOLUTIONS[V.ndim - 2](z, V, c)
        out: Tensor = self.U(torch.relu(hidden))
        return out

    def _scaled(self) -> tuple[Tensor, Tensor]:
        """V' (hidden, features, *1) and c' (hidden,)."""
        V, c = self.V.weight, self.V.bias
        assert isinstance(V, Tensor) and isinstance(c, Tensor)
        scale = _repeated(self.alpha, self.align.sizes)  # (features,)
        if self.align.norms:
            weight, bias = self.align.scale_and_shift()
            c = c + V @ (scale * bias)
            scale = scale * weight
        return V * scale.view(-1, *[1] * (V.ndim - 2)), c


def _normed(h: Tensor, norm: nn.Module) -> Tensor:
    """LayerNorm over the last dimension, without scale and shift."""
    assert isinstance(norm, nn.LayerNorm)
    return functional.layer_norm(h, norm.normalized_shape, None, None, norm.eps)


def _repeated(values: Tensor, counts: Sequence[int]) -> Tensor:
    """Each value as often as it is counted, without asking the device for anything."""
    if len(set(counts)) == 1:
        return values.unsqueeze(1).expand(-1, counts[0]).reshape(-1)
    return torch.cat([value.expand(count) for value, count in zip(values.unbind(), counts, strict=True)])
