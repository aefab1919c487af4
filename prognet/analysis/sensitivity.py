"""How much each column contributes to the output of one column, site by site.

Average Fisher Sensitivity (AFS, section 3) and Average Perturbation Sensitivity (APS, appendix A) of Rusu et al. 2016
(arXiv 1606.04671), for classifiers. A representation is what a site receives in one column; it is looked at in units of
its own standard deviation per feature. Both are shares: over the columns they sum to one at every site.

The two are tied to each other: noise of relative variance s^2 on a representation moves the prediction by an expected
Kullback-Leibler divergence of s^2 / 2 times its Fisher trace, to second order. So AFS is APS for small noise.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from prognet.analysis.places import Moments, Place, features_first, forward_with, places_of
from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError
from prognet.results import Floats
from prognet.seeds import derive_seed
from prognet.training import evaluating

_LARGEST, _STEPS = 1e4, 33
"""The relative noise variances that APS tries: from 1 / `_LARGEST` to `_LARGEST`, evenly in the logarithm."""


@dataclass(frozen=True, eq=False)
class Sensitivity:
    """The share of each column in the output of one column."""

    sites: tuple[str, ...]
    columns: tuple[int, ...]
    """The columns that are read, and last the column itself."""
    shares: Floats
    """(sites, columns) in [0, 1]; each row sums to one, or is NaN where no column has an influence at all."""


def average_fisher_sensitivity(
    network: ProgressiveNetwork, column: int, x: Tensor, *, by_feature: bool = False, batch_size: int = 256
) -> Sensitivity:
    """AFS: each column's share of the Fisher information of its normalised representation.

    By default the share is one of traces: F(k) / sum_k' F(k') with F(k) = E[sum_u Var(h_u) (d log p(y|x) / d h_u)^2], y
    drawn from the prediction itself: the expectation over y is exact, that over x is the mean over the samples. The
    features of an image are its channels; squares are summed over pixels.

    Args:
        network: the network; it is left as it is.
        column: the column whose output is looked at, a classifier's logits.
        x: inputs (B, *input_shape), at least two.
        by_feature: the paper's formula to the letter: shares feature by feature, averaged over the features on which
            the output depends. It compares features by their index, so columns must be equally wide.
        batch_size: inputs that are looked at in one pass.

    Raises:
        ConfigError: when there is no such column, too few inputs, or unequal widths with `by_feature`.
    """
    _check(network, column, x)
    found = _fisher(network, column, x, batch_size)
    if not by_feature:
        return _shares(network, column, {place: float(values.sum()) for place, values in found.items()})
    return _shares(network, column, _feature_shares(found))


def average_perturbation_sensitivity(
    network: ProgressiveNetwork,
    column: int,
    x: Tensor,
    y: Tensor,
    *,
    drop: float = 0.5,
    repeats: int = 10,
    seed: int = 0,
    batch_size: int = 256,
) -> Sensitivity:
    """APS: each column's share of the precision 1 / s^2 of the Gaussian noise that costs `drop` of the performance.

    Performance is (accuracy - chance) / (accuracy without noise - chance); chance is one over the number of outputs.
    The noise variance is relative to the variance of each feature. The critical one is found by bisection, so the
    performance is taken to fall with the noise. A representation that no noise harms has precision 0.

    Args:
        network: the network; it is left as it is.
        column: the column whose output is looked at, a classifier's logits.
        x: inputs (B, *input_shape), at least two.
        y: their classes, (B,).
        drop: the share of the performance that is lost, in (0, 1).
        repeats: fresh samples of the noise at every strength.
        seed: of the noise.
        batch_size: inputs that are looked at in one pass.

    Raises:
        ConfigError: when there is no such column, too few inputs, or no better accuracy than chance to lose.
    """
    _check(network, column, x)
    if not 0 < drop < 1:
        raise ConfigError(f"drop: required a number between 0 and 1, found {drop!r}.")
    with evaluating(network):
        noise = _Noise(network, column, x, y, repeats, seed, batch_size)
        places = places_of(network, column)
        found = {place: critical_precision(partial(noise.performance, place), 1 - drop) for place in places}
    return _shares(network, column, found)


def fisher_traces(
    network: ProgressiveNetwork, column: int, x: Tensor, batch_size: int = 256
) -> dict[tuple[str, int], float]:
    """The Fisher trace of every representation, by (site, column)."""
    return {place: float(values.sum()) for place, values in _fisher(network, column, x, batch_size).items()}


def _fisher(network: ProgressiveNetwork, column: int, x: Tensor, batch_size: int) -> dict[Place, Tensor]:
    """Var(h_u) E[(d log p / d h_u)^2] of every feature of every representation, (F,), by (site, column)."""
    places = places_of(network, column)
    moments = {place: Moments() for place in places}
    totals: dict[Place, Tensor] = {}
    with evaluating(network), torch.enable_grad():
        for part in torch.split(x, batch_size):
            for place, (h, squares) in _squared_gradients(network, column, part).items():
                moments[place].add(features_first(h, places[place]))
                summed = features_first(squares, places[place]).sum(dim=1)  # (F,)
                totals[place] = totals[place] + summed if place in totals else summed
    return {place: moments[place].variance * total / len(x) for place, total in totals.items()}


def _squared_gradients(network: ProgressiveNetwork, column: int, x: Tensor) -> dict[Place, tuple[Tensor, Tensor]]:
    """By (site, column): what the site received, and E_y[(d log p(y|x) / d h)^2] in the same shape (B, *in_shape)."""
    seen: dict[Place, Tensor] = {}
    leaves: dict[Place, Tensor] = {}

    def with_leaf(h: Tensor, place: Place) -> Tensor:
        seen[place] = h.detach()
        leaves[place] = torch.zeros_like(h, requires_grad=True)  # d y / d leaf is d y / d h
        return h + leaves[place]

    places = places_of(network, column)
    logits = forward_with(network, column, x, {place: partial(with_leaf, place=place) for place in places})
    log_p = logits.log_softmax(dim=1)  # (B, C)
    p = log_p.detach().exp()
    tensors = [leaves[place] for place in places]
    squares = [torch.zeros_like(tensor) for tensor in tensors]
    for c in range(log_p.shape[1]):
        gradients = torch.autograd.grad(log_p[:, c].sum(), tensors, retain_graph=True, materialize_grads=True)
        for square, g in zip(squares, gradients, strict=True):
            square += p[:, c].view(-1, *[1] * (g.ndim - 1)) * g.square()
    return {place: (seen[place], square) for place, square in zip(places, squares, strict=True)}


class _Noise:
    """What is left of the performance of a column under noise on one representation; used in evaluation mode."""

    def __init__(
        self, network: ProgressiveNetwork, column: int, x: Tensor, y: Tensor, repeats: int, seed: int, batch_size: int
    ) -> None:
        self._network, self._column, self._repeats, self._seed = network, column, repeats, seed
        self._batches = list(zip(torch.split(x, batch_size), torch.split(y, batch_size), strict=True))
        self._n = len(x)
        self._generator = torch.Generator(x.device)
        self._deviations = self._measured()
        self._chance = 1.0 / int(network(x[:1], column=column).shape[1])
        self._clean = self._accuracy({})
        if self._clean <= self._chance:
            raise ConfigError(
                f"y: required labels that the column predicts better than chance, found {self._clean:.3f}."
            )

    def performance(self, place: Place, s2: float) -> float:
        """(accuracy - chance) / (accuracy without noise - chance) under noise of relative variance s2."""
        self._generator.manual_seed(derive_seed(self._seed, *place))  # the same noise at every strength, but for s2
        edits = {place: lambda h: h + s2**0.5 * self._deviations[place] * self._normal(h)}
        noised = sum(self._accuracy(edits) for _ in range(self._repeats)) / self._repeats
        return (noised - self._chance) / (self._clean - self._chance)

    def _accuracy(self, edits: Mapping[Place, Callable[[Tensor], Tensor]]) -> float:
        hits = [(forward_with(self._network, self._column, x, edits).argmax(1) == y).sum() for x, y in self._batches]
        return int(torch.stack(hits).sum()) / self._n

    def _normal(self, h: Tensor) -> Tensor:
        return torch.randn(h.shape, generator=self._generator, device=h.device, dtype=h.dtype)

    def _measured(self) -> dict[Place, Tensor]:
        """The standard deviation of every feature, in a shape that multiplies what the site receives."""
        places = places_of(self._network, self._column)
        moments = {place: Moments() for place in places}

        def note(h: Tensor, place: Place) -> Tensor:
            moments[place].add(features_first(h, places[place]))
            return h

        for x, _ in self._batches:
            forward_with(self._network, self._column, x, {place: partial(note, place=place) for place in places})
        return {
            place: moments[place].variance.sqrt().view(-1, *[1] * (len(site.in_shape) - 1))
            if site.channels == "first"
            else moments[place].variance.sqrt()
            for place, site in places.items()
        }


def critical_precision(performance: Callable[[float], float], kept: float) -> float:
    """1 / s^2 where the performance falls to `kept`, interpolated between two strengths; 0 if it never does.

    Args:
        performance: of the relative noise variance s^2; taken to fall with it.
        kept: the performance that is looked for.
    """
    strengths = [float(s2) for s2 in np.geomspace(1 / _LARGEST, _LARGEST, _STEPS)]
    low, high = 0, len(strengths) - 1
    before, after = performance(strengths[low]), performance(strengths[high])
    if after > kept:
        return 0.0
    if before <= kept:
        return 1.0 / strengths[low]
    while high - low > 1:
        middle = (low + high) // 2
        found = performance(strengths[middle])
        low, before, high, after = (low, before, middle, found) if found <= kept else (middle, found, high, after)
    part = (before - kept) / (before - after)
    return 1.0 / float(strengths[low] * (strengths[high] / strengths[low]) ** part)


def _feature_shares(found: Mapping[Place, Tensor]) -> dict[Place, float]:
    """The mean over features of each column's share, feature by feature."""
    shares: dict[Place, float] = {}
    for site in dict.fromkeys(name for name, _ in found):
        rows = {index: values for (name, index), values in found.items() if name == site}
        widths = {len(values) for values in rows.values()}
        if len(widths) > 1:
            raise ConfigError(
                f"by_feature: required columns of one width at site {site!r}, found {sorted(widths)} features; "
                "leave it out to compare traces."
            )
        table = torch.stack(list(rows.values()))  # (columns, F)
        table = table[:, table.sum(dim=0) > 0]
        parts = (table / table.sum(dim=0)).sum(dim=1)  # (columns,); no feature leaves zeros
        shares |= {(site, index): float(part) for index, part in zip(rows, parts, strict=True)}
    return shares


def _shares(network: ProgressiveNetwork, column: int, values: Mapping[Place, float]) -> Sensitivity:
    sites = tuple(site.name for site in network.column(column).sites)
    columns = network.closure([column])
    table = np.array([[values.get((site, index), 0.0) for index in columns] for site in sites])
    totals = table.sum(axis=1, keepdims=True)
    return Sensitivity(sites, columns, np.divide(table, totals, out=np.full_like(table, np.nan), where=totals > 0))


def _check(network: ProgressiveNetwork, column: int, x: Tensor) -> None:
    network.column(column)
    if len(x) < 2:
        raise ConfigError(f"x: required at least two inputs, found {len(x)}; a variance needs more than one.")
