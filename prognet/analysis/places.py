"""Where the analysis looks: what the sites of a column receive, there and in every column that it reads."""

from collections.abc import Callable, Mapping
from contextlib import ExitStack

import torch
from torch import Tensor

from prognet.engine import ProgressiveNetwork, Site
from prognet.engine.sites import edited

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
