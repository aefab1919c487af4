"""Low-rank adapters: a frozen network learns another task through small additions to its weights.

    W' = W + (alpha / rank) B A,   A (rank, in), B (out, rank) = 0 at the start

for every Linear and convolution (Hu et al. 2021, arXiv 2106.09685; the kernel of a convolution counts as a matrix with
one row an output channel). No code of the network changes: the sums are handed to `torch.func.functional_call`.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn
from torch.func import functional_call

from prognet.errors import ConfigError

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


class LowRank(nn.Module):
    """The additions to one network, which is not part of this module and is never written to but by `merge`."""

    def __init__(self, network: nn.Module, rank: int, alpha: float = 1.0) -> None:
        """Additions that are exactly nothing: A is drawn as torch draws the weights of a layer, B is 0.

        Args:
            network: the network; its Linear layers and convolutions get one addition each.
            rank: inner width; at most the smaller side of a weight is of use.
            alpha: the additions are multiplied by alpha / rank.

        Raises:
            ConfigError: when there is no such layer.
        """
        super().__init__()
        self.scale = alpha / rank
        weights = {f"{name}.weight": part.weight for name, part in network.named_modules() if isinstance(part, _LAYERS)}
        if not weights:
            raise ConfigError("rank: required a trunk with Linear layers or convolutions, found none; leave it out.")
        self.names = tuple(weights)
        self.A = nn.ParameterList([w.new_empty(rank, prod(w.shape[1:])) for w in weights.values()])
        self.B = nn.ParameterList([w.new_zeros(len(w), rank) for w in weights.values()])
        for a in self.A:
            nn.init.kaiming_uniform_(a, a=5**0.5)

    def weights(self, network: nn.Module) -> Mapping[str, Tensor]:
        """The weights W' of the network's layers, by name."""
        own = {name: network.get_parameter(name) for name in self.names}
        return {
            name: w + self.scale * (b @ a).view_as(w)
            for (name, w), a, b in zip(own.items(), self.A, self.B, strict=True)
        }

    def forward(self, network: nn.Module, x: Tensor) -> Tensor:
        """What the network says with these weights, for inputs (B, *input_shape)."""
        out: Tensor = functional_call(network, dict(self.weights(network)), (x,))
        return out

    @torch.no_grad()
    def merge(self, network: nn.Module) -> None:
        """Writes the weights into the network, which then says by itself what `forward` said, bit for bit."""
        for name, weight in self.weights(network).items():
            network.get_parameter(name).copy_(weight)
