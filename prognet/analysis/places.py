"""Where the analysis looks: what the sites of a column receive, there and in every column that it reads."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Literal

import torch
from torch import Tensor

from prognet.engine import ProgressiveNetwork, Site
from prognet.engine.sites import edited
from prognet.training import evaluating

Features = Literal["pooled", "flattened"]
"""How an image or a token sequence becomes one vector a sample: the mean of each feature over pixels or tokens, or all
of them side by side. Pooled vectors can be compared whatever the sizes, and say nothing about where in the image
something is; flattened ones say where, and count every pixel as a feature. Vectors are taken as they are."""

Place = tuple[str, int]
"""(site, column)."""


def forward_with(
    network: ProgressiveNetwork, column: int, x: Tensor, edits: Mapping[Place, Callable[[Tensor], Tensor]]
) -> Tensor:
    """The output of a column while what is received at some places is replaced by a function of it."""
    with ExitStack() as stack:
        for (name, index), edit in edits.items():
            stack.enter_context(edited(network.column(index).backbone, {name: edit}))
        y: Tensor = network(x, column=column)
    return y


def places_of(network: ProgressiveNetwork, column: int) -> dict[Place, Site]:
    """Every (site, column) that takes part in the output of `column`, with the site as it is in that column."""
    names = [site.name for site in network.column(column).sites]
    return {
        (site.name, index): site
        for index in network.closure([column])
        for site in network.column(index).sites
        if site.name in names
    }


def features_first(h: Tensor, site: Site) -> Tensor:
    """(B, *in_shape) -> (features, everything else): samples, and pixels or tokens."""
    return h.movedim(1 if site.channels == "first" else -1, 0).flatten(1)


def received_vectors(
    network: ProgressiveNetwork,
    columns: Sequence[int],
    names: Sequence[str],
    x: Tensor,
    features: Features,
    batch_size: int,
) -> dict[Place, Tensor]:
    """What the sites of these names receive in several columns on x (N, *input_shape): vectors (N, F) by place."""
    sites = {index: {site.name: site for site in network.column(index).sites} for index in columns}
    parts: dict[Place, list[Tensor]] = {}
    with evaluating(network):
        for part in torch.split(x, batch_size):
            for index, received in network.activations(part, columns).items():
                for name in [name for name in names if name in sites.get(index, {})]:
                    vectors = _vectors(received[name], sites[index][name], features)  # (b, F)
                    parts.setdefault((name, index), []).append(vectors)
    return {place: torch.cat(vectors) for place, vectors in parts.items()}


def _vectors(h: Tensor, site: Site, features: Features) -> Tensor:
    """(B, *in_shape) -> (B, F)."""
    if features == "flattened":
        return h.flatten(1)
    values = features_first(h, site)  # (F, B * pixels)
    pooled: Tensor = values.reshape(len(values), len(h), -1).mean(dim=2).T
    return pooled


class Moments:
    """Mean and variance of every feature over batches, merged as in Chan, Golub & LeVeque 1979."""

    def __init__(self) -> None:
        self._count, self._mean, self._squares = 0, torch.zeros(()), torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Adds (F, n) values."""
        n, mean = values.shape[1], values.mean(dim=1)
        squares = (values - mean[:, None]).square().sum(dim=1)
        if not self._count:
            self._count, self._mean, self._squares = n, mean, squares
            return
        total, shift = self._count + n, mean - self._mean
        self._squares = self._squares + squares + shift.square() * (self._count * n / total)
        self._mean, self._count = self._mean + shift * (n / total), total

    @property
    def variance(self) -> Tensor:
        """(F,), without Bessel's correction."""
        return self._squares / self._count
