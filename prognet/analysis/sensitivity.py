"""How much each column contributes to the output of one column, site by site.

Average Fisher Sensitivity (AFS, section 3) and Average Perturbation Sensitivity (APS, appendix A) of Rusu et al. 2016
(arXiv 1606.04671), for classifiers. A representation is what a site receives in one column; it is looked at in units of
its own standard deviation per feature. Both are shares: over the columns they sum to one at every site.

The two are tied to each other: noise of relative variance s^2 on a representation moves the prediction by an expected
Kullback-Leibler divergence of s^2 / 2 times its Fisher trace, to second order. So AFS is APS for small noise.
"""

from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from prognet.engine import ProgressiveNetwork, Site
from prognet.engine.sites import edited
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


def average_fisher_sensitivity(network: ProgressiveNetwork, column: int, x: Tensor) -> Sensitivity:
    """AFS: each column's share of the trace of the Fisher matrix of its normalised representation.

    The trace is E[sum_u Var(h_u) (d log p(y|x) / d h_u)^2], with y drawn from the prediction itself: the expectation
    over y is exact, that over x is the mean over the batch. The features of an image are its channels; squares are
    summed over pixels.

    Args:
        network: the network; it is left as it is.
        column: the column whose output is looked at, a classifier's logits.
        x: inputs (B, *input_shape), at least two.

    Raises:
        ConfigError: when there is no such column, or too few inputs.
    """
    _check(network, column, x)
    return _shares(network, column, lambda: fisher_traces(network, column, x))


def average_perturbation_sensitivity(
    network: ProgressiveNetwork,
    column: int,
    x: Tensor,
    y: Tensor,
    *,
    drop: float = 0.5,
    repeats: int = 10,
    seed: int = 0,
) -> Sensitivity:
    """APS: each column's share of the precision 1 / s^2 of the Gaussian noise that costs `drop` of the performance.

    Performance is (accuracy - chance) / (accuracy without noise - chance); chance is one over the number of outputs.
    The noise variance is relative to the variance of each feature. A representation that no noise harms has
    precision 0.

    Args:
        network: the network; it is left as it is.
        column: the column whose output is looked at, a classifier's logits.
        x: inputs (B, *input_shape), at least two.
        y: their classes, (B,).
        drop: the share of the performance that is lost, in (0, 1).
        repeats: fresh samples of the noise at every strength.
        seed: of the noise.

    Raises:
        ConfigError: when there is no such column, too few inputs, or no better accuracy than chance to lose.
    """
    _check(network, column, x)
    if not 0 < drop < 1:
        raise ConfigError(f"drop: required a number between 0 and 1, found {drop!r}.")
    return _shares(network, column, lambda: _precisions(network, column, x, y, 1 - drop, repeats, seed))


def fisher_traces(network: ProgressiveNetwork, column: int, x: Tensor) -> dict[tuple[str, int], float]:
    """The Fisher trace of every representation, by (site, column)."""
    places = _places(network, column)
    leaves: dict[tuple[str, int], Tensor] = {}
    seen: dict[tuple[str, int], Tensor] = {}

    def with_leaf(place: tuple[str, int]) -> Callable[[Tensor], Tensor]:
        def edit(h: Tensor) -> Tensor:
            seen[place] = h.detach()
            leaves[place] = torch.zeros_like(h, requires_grad=True)  # d y / d leaf is d y / d h
            return h + leaves[place]

        return edit

    with evaluating(network), torch.enable_grad():
        logits = _forward(network, column, x, {place: with_leaf(place) for place in places})
        log_p = logits.log_softmax(dim=1)  # (B, C)
        p = log_p.detach().exp()
        tensors = [leaves[place] for place in places]
        squares = [torch.zeros_like(tensor) for tensor in tensors]
        for c in range(log_p.shape[1]):
            gradients = torch.autograd.grad(log_p[:, c].sum(), tensors, retain_graph=True, materialize_grads=True)
            for square, g in zip(squares, gradients, strict=True):
                square += p[:, c].view(-1, *[1] * (g.ndim - 1)) * g.square()
    return {
        place: float((_variance(seen[place], places[place]) * square).sum() / len(x))
        for place, square in zip(places, squares, strict=True)
    }


def _precisions(
    network: ProgressiveNetwork, column: int, x: Tensor, y: Tensor, kept: float, repeats: int, seed: int
) -> dict[tuple[str, int], float]:
    """1 / s^2 for every representation, by (site, column)."""
    with evaluating(network):
        logits = network(x, column=column)
        chance = 1.0 / int(logits.shape[1])
        clean = float((logits.argmax(1) == y).double().mean())
        if clean <= chance:
            raise ConfigError(f"y: required labels that the column predicts better than chance, found {clean:.3f}.")

        def precision(place: tuple[str, int], site: Site) -> float:
            generator = torch.Generator(x.device)

            def edit(h: Tensor, s2: float) -> Tensor:
                noise = torch.randn(h.shape, generator=generator, device=h.device, dtype=h.dtype)
                return h + (s2 * _variance(h, site)).sqrt() * noise

            def performance(s2: float) -> float:
                generator.manual_seed(derive_seed(seed, *place))
                noisy = {place: partial(edit, s2=s2)}
                hits = [(_forward(network, column, x, noisy).argmax(1) == y).double().mean() for _ in range(repeats)]
                noised = float(torch.stack(hits).mean())
                return (noised - chance) / (clean - chance)

            return _critical_precision(performance, kept)

        return {place: precision(place, site) for place, site in _places(network, column).items()}


def _critical_precision(performance: Callable[[float], float], kept: float) -> float:
    """1 / s^2 where the performance falls to `kept`, interpolated between two tried strengths; 0 if it never does."""
    strengths = np.geomspace(1 / _LARGEST, _LARGEST, _STEPS)
    values = [(float(s2), performance(float(s2))) for s2 in strengths]
    for (weak, before), (strong, after) in pairwise(values):
        if after <= kept:
            part = 0.0 if before <= after else min(1.0, max(0.0, (before - kept) / (before - after)))
            return 1.0 / float(weak * (strong / weak) ** part)
    return 0.0


def _forward(
    network: ProgressiveNetwork, column: int, x: Tensor, edits: Mapping[tuple[str, int], Callable[[Tensor], Tensor]]
) -> Tensor:
    with ExitStack() as stack:
        for (name, index), edit in edits.items():
            stack.enter_context(edited(network.column(index).backbone, {name: edit}))
        y: Tensor = network(x, column=column)
    return y


def _places(network: ProgressiveNetwork, column: int) -> dict[tuple[str, int], Site]:
    """Every (site, column) that takes part in the output of `column`, with the site as it is in that column."""
    names = [site.name for site in network.column(column).sites]
    return {
        (site.name, index): site
        for index in network.closure([column])
        for site in network.column(index).sites
        if site.name in names
    }


def _shares(
    network: ProgressiveNetwork, column: int, measure: Callable[[], Mapping[tuple[str, int], float]]
) -> Sensitivity:
    values = measure()
    sites = tuple(site.name for site in network.column(column).sites)
    columns = network.closure([column])
    table = np.array([[values.get((site, index), 0.0) for index in columns] for site in sites])
    totals = table.sum(axis=1, keepdims=True)
    return Sensitivity(sites, columns, np.divide(table, totals, out=np.full_like(table, np.nan), where=totals > 0))


def _variance(h: Tensor, site: Site) -> Tensor:
    """The variance of each feature over the batch, and over pixels or tokens, in a shape that multiplies h."""
    feature = 1 if site.channels == "first" else h.ndim - 1
    others = [dimension for dimension in range(h.ndim) if dimension != feature]
    return h.var(dim=others, correction=0, keepdim=True)


def _check(network: ProgressiveNetwork, column: int, x: Tensor) -> None:
    network.column(column)
    if len(x) < 2:
        raise ConfigError(f"x: required at least two inputs, found {len(x)}; a variance needs more than one.")
