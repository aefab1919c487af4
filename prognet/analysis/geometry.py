"""How the classes of a task lie in the features of a column: within-class and between-class variance, site by site.

With M_c the mean of class c, M the mean of the class means, and every class counted alike:

    within   tr S_W,  S_W = mean_c mean_{i in c} (h_i - M_c)(h_i - M_c)'
    between  tr S_B,  S_B = mean_c (M_c - M)(M_c - M)'

`within / between` is the inverse of Fisher's ratio of traces; it falls towards zero where classes shrink to points.
NC1 = tr(S_W S_B^+) / C is the collapse of variability in Papyan, Han & Donoho 2020 (arXiv 2008.08186): the same, seen
only in the directions in which the means differ. Both have no unit.

Means of few samples differ by chance: with n samples a class and nothing to tell C classes apart, within / between is
about (n - 1) C / (C - 1) and not infinite. The control, labels permuted, is that value for the features at hand.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from prognet.analysis.distances import class_distances, class_means
from prognet.analysis.places import Features, received_vectors
from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError
from prognet.results import Floats

_RANK = 1e-6
"""Of the largest eigenvalue of S_B: what lies below it is no direction between classes."""


@dataclass(frozen=True, eq=False)
class ClassGeometry:
    """Of one set of features. Classes without samples are left out of every mean."""

    means: Floats
    """(C, D); NaN for a class without samples."""
    distances: Floats
    """(C, C): between the means, Euclidean."""
    within: float
    """tr S_W."""
    between: float
    """tr S_B."""
    nc1: float
    """tr(S_W S_B^+) / C; NaN where all means are the same."""

    @property
    def ratio(self) -> float:
        """within / between: 0 where classes are points, NaN where all means are the same."""
        return self.within / self.between if self.between > 0 else float("nan")

    @property
    def separation(self) -> float:
        """The mean distance between two classes, in units of sqrt(within).

        Infinite where classes are points, NaN where all means are the same.
        """
        pairs = self.distances[np.triu_indices(len(self.distances), 1)]
        known = pairs[~np.isnan(pairs)]
        if not known.any():
            return float("nan")
        return float(known.mean() / np.sqrt(self.within)) if self.within > 0 else float("inf")


@dataclass(frozen=True, eq=False)
class ColumnGeometry:
    """Of what every site of a column receives, with the control beside it."""

    sites: tuple[str, ...]
    classes: tuple[ClassGeometry, ...]
    """One a site."""
    shuffled: tuple[ClassGeometry, ...]
    """The same with permuted labels."""


def class_geometry(features: Tensor, y: Tensor, n_classes: int) -> ClassGeometry:
    """Where the classes lie in one set of features.

    Args:
        features: (N, D), or (N, ...), flattened; finite.
        y: classes (N,), in [0, n_classes).
        n_classes: C.

    Raises:
        ConfigError: when the shapes do not fit, or a feature is not finite.
    """
    h, y = features.detach().flatten(1).cpu().double(), y.cpu()  # (N, D); not every device has doubles
    if not h.isfinite().all():
        raise ConfigError("features: required finite numbers, found inf or nan; look at what the network makes of x.")
    means = class_means(h, y, n_classes)  # (C, D)
    counts = torch.bincount(y, minlength=n_classes)  # (C,)
    known = counts > 0
    n_known = int(known.sum())
    residuals = (h - means[y]) / (counts[y, None] * n_known).double().sqrt()  # (N, D): S_W is residuals' residuals
    centred = (means[known] - means[known].mean(0)) / n_known**0.5  # (K, D): S_B is centred' centred
    return ClassGeometry(
        means=means.numpy(),
        distances=class_distances(means).numpy(),
        within=float(residuals.square().sum()),
        between=float(centred.square().sum()),
        nc1=_collapse(residuals, centred) / n_known,
    )


def column_geometry(
    network: ProgressiveNetwork,
    column: int,
    x: Tensor,
    y: Tensor,
    n_classes: int,
    *,
    features: Features = "pooled",
    seed: int = 0,
    batch_size: int = 256,
) -> ColumnGeometry:
    """Where the classes of a task lie in what every site of a column receives.

    Args:
        network: the network; it is left as it is.
        column: the index of the column.
        x: inputs (N, *input_shape), on the device of the network.
        y: their classes (N,).
        n_classes: C.
        features: `"pooled"` or `"flattened"`, as in `column_similarity`.
        seed: of the permutation of the labels in the control.
        batch_size: inputs in a pass.

    Raises:
        ConfigError: when there is no such column, the shapes do not fit, or a feature is not finite.
    """
    names = [site.name for site in network.column(column).sites]
    found = received_vectors(network, [column], names, x, features, batch_size)
    vectors: Sequence[Tensor] = [found[name, column] for name in names]
    order = torch.randperm(len(y), generator=torch.Generator().manual_seed(seed)).to(y.device)
    return ColumnGeometry(
        tuple(names),
        tuple(class_geometry(h, y, n_classes) for h in vectors),
        tuple(class_geometry(h, y[order], n_classes) for h in vectors),
    )


def _collapse(residuals: Tensor, centred: Tensor) -> float:
    """tr(S_W S_B^+), from the factors: the directions between classes are as few as classes."""
    _, s, Vt = torch.linalg.svd(centred, full_matrices=False)
    kept = s.square() > _RANK * s.square().max()
    if not bool(kept.any()):
        return float("nan")
    along = residuals @ Vt[kept].T  # (N, R)
    return float((along.square().sum(0) / s[kept].square()).sum())
