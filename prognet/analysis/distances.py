"""How far the samples of two tasks lie from each other, in whatever space they are given: pixels or features."""

import torch
from torch import Tensor

from prognet.errors import ConfigError

_CLOSE = 1e-12
_MANY = 1500  # torch's quantile takes 16 million numbers at most


def class_means(x: Tensor, y: Tensor, n_classes: int) -> Tensor:
    """The mean of every class, (C, D), in double precision on the CPU; NaN for a class without samples.

    Args:
        x: samples (n, ...), flattened to (n, D).
        y: classes (n,), in [0, n_classes).
        n_classes: C.

    Raises:
        ConfigError: when the shapes do not fit, or a class is out of range.
    """
    flat, y = x.detach().flatten(1).cpu().double(), y.cpu()
    if y.shape != flat.shape[:1] or not len(y) or int(y.min()) < 0 or int(y.max()) >= n_classes:
        raise ConfigError(
            f"y: required classes ({len(flat)},) in [0, {n_classes}), found shape {tuple(y.shape)} up to "
            f"{int(y.max()) if len(y) else 'nothing'}."
        )
    sums = flat.new_zeros(n_classes, flat.shape[1]).index_add_(0, y, flat)  # (C, D)
    return sums / torch.bincount(y, minlength=n_classes)[:, None]


def class_distances(means: Tensor) -> Tensor:
    """Euclidean distances between class means (C, D) -> (C, C); NaN for a class without samples."""
    return torch.cdist(means, means, compute_mode="donot_use_mm_for_euclid_dist")


def mean_distance(a: Tensor, b: Tensor) -> float:
    """The distance between the means of two samples, in units of the deviation of a sample from its own mean.

    Formula: |m_a - m_b| / sqrt((v_a + v_b) / 2), v the mean squared distance of a sample from its mean. It is blind to
    anything but the means: MMD is not.

    Args:
        a: samples (n, ...), flattened.
        b: samples (m, ...) with as many features.

    Returns:
        At least 0; 0 where both means are the same; infinite where nothing else varies.

    Raises:
        ConfigError: when the shapes do not fit.
    """
    x, z = _both(a, b, 1)
    spread = (x.var(0, correction=0).sum() + z.var(0, correction=0).sum()) / 2
    gap = (x.mean(0) - z.mean(0)).norm()
    return float(gap / spread.sqrt()) if float(gap) > _CLOSE else 0.0


def class_mean_distance(a: Tensor, y_a: Tensor, b: Tensor, y_b: Tensor) -> float:
    """How far the classes of one task lie from the nearest class of another, in units of their own deviation.

    Formula: mean over the classes c of b of min_k |m_c - m_k| / sqrt(w_b), k the classes of a, w_b the mean squared
    distance of a sample of b from the mean of its class. The names of the classes play no part.

    Args:
        a: samples of the source task (n, ...), flattened.
        y_a: their classes (n,).
        b: samples of the target task (m, ...) with as many features.
        y_b: their classes (m,).

    Returns:
        At least 0; infinite where the classes of b are points.

    Raises:
        ConfigError: when the shapes do not fit.
    """
    x, z = _both(a, b, 1)
    means_a = class_means(x, y_a, int(y_a.max()) + 1)
    means_b = class_means(z, y_b, int(y_b.max()) + 1)
    within = (z - means_b[y_b.cpu()]).square().sum(1).mean()
    known_a, known_b = means_a[~means_a.isnan().any(1)], means_b[~means_b.isnan().any(1)]
    nearest = torch.cdist(known_b, known_a, compute_mode="donot_use_mm_for_euclid_dist").min(1).values  # (C_b,)
    gap = nearest.mean()
    return float(gap / within.sqrt()) if float(gap) > _CLOSE else 0.0


def median_bandwidth(a: Tensor, b: Tensor) -> float:
    """The median heuristic: the median distance between two different samples of the two sets taken together.

    Of each set the first 1500 samples are taken, if there are more.

    Raises:
        ConfigError: when the shapes do not fit.
    """
    x, z = _both(a, b, 1)
    return float(torch.pdist(torch.cat([x[:_MANY], z[:_MANY]])).quantile(0.5))


def mmd(a: Tensor, b: Tensor, bandwidth: float | None = None) -> float:
    """The squared maximum mean discrepancy between two sets of samples, by its unbiased estimator.

    Formula: mean_{i != j} k(a_i, a_j) + mean_{i != j} k(b_i, b_j) - 2 mean_{i, j} k(a_i, b_j), with the Gaussian kernel
    k(u, v) = exp(-|u - v|^2 / (2 s^2)) (Gretton et al. 2012, lemma 6). Two samples of one distribution give zero on
    average, and often less; no root is taken for that reason.

    Args:
        a: samples (n, ...), flattened; at least two.
        b: samples (m, ...) with as many features; at least two.
        bandwidth: s; by default `median_bandwidth` of both.

    Returns:
        At most 2; 0 where all samples are the same.

    Raises:
        ConfigError: when the shapes do not fit, there are too few samples, or the bandwidth is not above 0.
    """
    x, z = _both(a, b, 2)
    if bandwidth is not None and not bandwidth > 0:
        raise ConfigError(f"bandwidth: required a number above 0, found {bandwidth!r}.")
    s = median_bandwidth(x, z) if bandwidth is None else bandwidth
    if s == 0:
        s = 1.0
    n, m = len(x), len(z)
    within_a, within_b = _kernel_sum(x, x, s) - n, _kernel_sum(z, z, s) - m
    return within_a / (n * (n - 1)) + within_b / (m * (m - 1)) - 2 * _kernel_sum(x, z, s) / (n * m)


def _kernel_sum(x: Tensor, z: Tensor, s: float) -> float:
    squared = torch.cdist(x, z, compute_mode="donot_use_mm_for_euclid_dist").square()
    return float((-squared / (2 * s * s)).exp().sum())


def _both(a: Tensor, b: Tensor, least: int) -> tuple[Tensor, Tensor]:
    x, z = (side.detach().flatten(1).cpu().double() for side in (a, b))  # few samples, and not every device has doubles
    if x.shape[1] != z.shape[1]:
        raise ConfigError(f"b: required samples of {x.shape[1]} features, found {z.shape[1]}.")
    if min(len(x), len(z)) < least:
        raise ConfigError(f"b: required at least {least} samples on both sides, found {len(x)} and {len(z)}.")
    return x, z
