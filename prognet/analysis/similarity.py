"""How alike the representations of two columns are: linear CKA (Kornblith et al. 2019, arXiv 1905.00414).

CKA does not change when the features of either side are rotated, mirrored or scaled as a whole, so columns of unequal
width can be compared. It does change under other linear maps, and it says nothing about use: two columns may be alike
although neither reads the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from torch import Tensor

from prognet.analysis.places import Features, received_vectors
from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError
from prognet.results import Floats

_LEAST = 4
"""Samples below which the unbiased estimator is not defined."""


@dataclass(frozen=True, eq=False)
class Similarity:
    """The likeness of columns, pair by pair."""

    sites: tuple[str, ...]
    columns: tuple[int, ...]
    values: Floats
    """(sites, columns, columns), symmetric, 1 on the diagonal; NaN where a column lacks the site or never varies."""


def column_similarity(
    network: ProgressiveNetwork,
    columns: Sequence[int],
    x: Tensor,
    *,
    features: Features = "pooled",
    debiased: bool = False,
    batch_size: int = 256,
) -> Similarity:
    """CKA between what the sites of several columns receive on the same inputs, at every site of the last one.

    Args:
        network: the network; it is left as it is.
        columns: indices of the columns, in the order of the result.
        x: inputs (B, *input_shape); memory grows with the square of their number.
        features: `"pooled"` or `"flattened"`; see `Features`.
        debiased: whether the unbiased estimator is used; see `linear_cka`.
        batch_size: inputs that are looked at in one pass.

    Raises:
        ConfigError: when there is no such column, no column at all, or too few inputs.
    """
    if features not in ("pooled", "flattened"):
        raise ConfigError(f"features: required 'pooled' or 'flattened', found {features!r}.")
    if not columns:
        raise ConfigError("columns: required at least one, found none.")
    names = tuple(site.name for site in network.column(columns[-1]).sites)
    parts = received_vectors(network, columns, names, x, features, batch_size)
    found = {place: _gram(vectors, debiased) for place, vectors in parts.items()}
    values = [
        [[_alignment(found.get((name, one)), found.get((name, other))) for other in columns] for one in columns]
        for name in names
    ]
    return Similarity(names, tuple(columns), np.array(values, dtype=np.float64).reshape(-1, len(columns), len(columns)))


def linear_cka(a: Tensor, b: Tensor, *, debiased: bool = False) -> float:
    """CKA with a linear kernel: HSIC(K, L) / sqrt(HSIC(K, K) HSIC(L, L)), with K = a a' and L = b b'.

    The plain estimator of HSIC, |a'b|_F^2 of centred features, is biased upwards where features are many and samples
    few: two unrelated representations then look alike. The debiased one has the unbiased HSIC of Song et al. 2012 in
    its three places; it can fall below zero by chance.

    Args:
        a: features of one side, (B, F).
        b: features of the other side for the same samples, (B, G).
        debiased: whether the unbiased estimator is used; it needs four samples, the plain one two.

    Returns:
        In [0, 1], or in [-1, 1] where debiased; NaN where one side is the same for every sample, and where debiased
        also where all pairs of different samples are equally alike, as with labels of which no two are the same.

    Raises:
        ConfigError: when there are too few samples, or not as many on both sides.
    """
    if a.ndim != 2 or b.ndim != 2 or len(a) != len(b):
        raise ConfigError(f"b: required features (B, G) beside {tuple(a.shape)}, found {tuple(b.shape)}.")
    return _alignment(_gram(a, debiased), _gram(b, debiased))


def _gram(features: Tensor, debiased: bool) -> Tensor | None:
    """The centred kernel matrix (B, B), of norm 1; None where nothing varies. The inner product of two is their CKA."""
    n = len(features)
    least = _LEAST if debiased else 2
    if n < least:
        raise ConfigError(f"x: required at least {least} samples, found {n}; give more.")
    wide = features.detach().to(torch.float32 if features.device.type == "mps" else torch.float64)
    centred = wide - wide.mean(dim=0)
    if centred.abs().max() <= torch.finfo(features.dtype).eps * wide.abs().max():
        return None
    gram = centred @ centred.T  # (B, B)
    if debiased:  # U-centring (Szekely & Rizzo 2014): its inner product, over n (n - 3), is the unbiased HSIC
        gram.fill_diagonal_(0)
        before = gram.norm()
        sums = gram.sum(dim=0)
        gram = gram - (sums[:, None] + sums[None, :]) / (n - 2) + sums.sum() / ((n - 1) * (n - 2))
        gram.fill_diagonal_(0)
        if gram.norm() <= n * torch.finfo(wide.dtype).eps * before:  # nothing but what rounding has left
            return None
    unit: Tensor = gram / gram.norm()
    return unit


def _alignment(one: Tensor | None, other: Tensor | None) -> float:
    return nan if one is None or other is None else float((one * other).sum())
