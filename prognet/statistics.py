"""Uncertainty: intervals over seeds, paired differences, intervals over test samples, many comparisons.

The unit of an experiment is the seed. Over a handful of seeds only Student's t interval keeps its promise (a bootstrap
over 5 seeds covers 83 % instead of 95 %); `bootstrap_interval` is for the many samples of a test set.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import sqrt

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prognet.errors import ConfigError
from prognet.results import Floats
from prognet.seeds import derive_seed

RESAMPLES = 9999
_CELLS_AT_ONCE = 2**20
_ROUNDING = 64 * np.finfo(np.float64).eps
_UNDERFLOW = 1e-150  # the square of a smaller spread is zero, or close to it


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean with its confidence interval [low, high] from n values; the limits are NaN for n = 1."""

    mean: float
    low: float
    high: float
    n: int

    @property
    def half_width(self) -> float:
        """Half the length of the interval, in the unit of the values."""
        return (self.high - self.low) / 2

    def __str__(self) -> str:
        if np.isnan(self.half_width):
            return f"{self.mean:z.3f}"
        return f"{self.mean:z.3f} ± {self.half_width:z.3f}"


@dataclass(frozen=True, slots=True)
class PairedDifference:
    """The mean of a - b over n pairs, its interval, and the two-sided p value of "no difference"."""

    interval: Interval
    p_value: float
    n: int


def t_interval(values: ArrayLike, confidence: float = 0.95) -> Interval:
    """Student's t interval of a mean, for values that are independent and about normal: one for each seed.

    Formula: m ± t_{n-1, (1+confidence)/2} s / sqrt(n), s with n-1 degrees of freedom. The limits may lie beyond 0 or 1.

    Args:
        values: (n,), one value a seed; a NaN makes mean and limits NaN.
        confidence: coverage, in (0, 1).

    Returns:
        The interval; limits NaN for n = 1, width exactly zero when all values are equal.

    Raises:
        ConfigError: when there is no value, one is infinite, or the confidence is out of range.
    """
    from scipy.stats import t

    sample, level = _sample(values, "values"), _confidence(confidence)
    n = len(sample)
    trivial = _without_spread(sample)
    if trivial is not None:
        return trivial
    centre = float(sample.mean())
    half = float(t.ppf((1 + level) / 2, n - 1) * sample.std(ddof=1) / sqrt(n))
    return Interval(centre, centre - half, centre + half, n)


def paired_difference(a: ArrayLike, b: ArrayLike, confidence: float = 0.95) -> PairedDifference:
    """The mean difference a - b of two strategies, paired by seed, with t interval and paired t test.

    Args:
        a: (n,), values of one strategy, one a seed.
        b: (n,), values of the other for the same seeds in the same order.
        confidence: coverage of the interval, in (0, 1).

    Returns:
        The difference. p is NaN for n = 1 or a NaN among the values. Differences that are all equal, but for the
        rounding of a - b, have an interval of width zero, and the limit of p: 1 when they are zero, otherwise 0.

    Raises:
        ConfigError: when the lengths differ, there is no value, one is infinite, or the confidence is out of range.
    """
    from scipy.stats import ttest_rel

    first, second = _sample(a, "a"), _sample(b, "b")
    if len(first) != len(second):
        raise ConfigError(f"b: required {len(first)} values, paired with those of a, found {len(second)}.")
    difference = first - second
    n = len(difference)
    if n == 1 or np.isnan(difference).any():
        return PairedDifference(t_interval(difference, confidence), float("nan"), n)
    rounding = max(_ROUNDING * np.abs([first, second]).max(), _UNDERFLOW)
    if np.ptp(difference) <= rounding:
        interval = t_interval(np.full(n, difference.mean()), confidence)
        return PairedDifference(interval, 1.0 if abs(interval.mean) <= rounding else 0.0, n)
    return PairedDifference(t_interval(difference, confidence), float(ttest_rel(first, second).pvalue), n)


def bootstrap_interval(values_per_test_sample: ArrayLike, seed: int, confidence: float = 0.95) -> Interval:
    """Percentile bootstrap interval of a mean over test samples, e.g. of 0/1 for wrong and right predictions.

    It says how far the finite test set moves the accuracy of *one* trained model, and nothing about other seeds: over a
    handful of values it is far too narrow, use `t_interval` there. 9999 resamples (`scipy.stats.bootstrap`).

    Args:
        values_per_test_sample: (n,), one value a test sample; a NaN makes mean and limits NaN.
        seed: seed of the resampling.
        confidence: coverage, in (0, 1).

    Returns:
        The interval; limits NaN for n = 1, width exactly zero when all values are equal.

    Raises:
        ConfigError: when there is no value, one is infinite, or the confidence is out of range.
    """
    from scipy.stats import bootstrap

    sample, level = _sample(values_per_test_sample, "values_per_test_sample"), _confidence(confidence)
    trivial = _without_spread(sample)
    if trivial is not None:
        return trivial
    limits = bootstrap(
        (sample,),
        np.mean,
        n_resamples=RESAMPLES,
        batch=max(1, _CELLS_AT_ONCE // len(sample)),
        confidence_level=level,
        method="percentile",
        rng=np.random.default_rng(derive_seed(seed, "bootstrap")),
    ).confidence_interval
    return Interval(float(sample.mean()), float(limits.low), float(limits.high), len(sample))


def holm(p_values: Sequence[float] | NDArray[np.float64]) -> Floats:
    """p values adjusted for their number, so that those below 0.05 hold together at 5 % (family-wise error rate).

    Formula: with p_(1) <= ... <= p_(m), adjusted p_(i) = max_{j<=i} min(1, (m-j+1) p_(j)) (Holm 1979).

    Args:
        p_values: (m,), in [0, 1]; a NaN stays NaN and does not count among the m.

    Returns:
        (m,), in the order given.

    Raises:
        ConfigError: when one is neither in [0, 1] nor NaN.
    """
    values = np.array(p_values, dtype=np.float64).reshape(-1)
    if np.any((values < 0) | (values > 1)):
        raise ConfigError(f"p_values: required numbers in [0, 1] or NaN, found {list(p_values)}.")
    tested = np.flatnonzero(~np.isnan(values))
    ranked = tested[np.argsort(values[tested], kind="stable")]
    factors = np.arange(len(ranked), 0, -1)
    adjusted = np.full_like(values, np.nan)
    adjusted[ranked] = np.maximum.accumulate(np.minimum(1.0, factors * values[ranked]))
    return adjusted


def _without_spread(sample: Floats) -> Interval | None:
    """The interval of a sample that needs no computing: one value, a NaN, or nothing but equal values."""
    n, first = len(sample), float(sample[0])
    if n == 1:
        return Interval(first, float("nan"), float("nan"), n)
    if np.isnan(sample).any():
        return Interval(float("nan"), float("nan"), float("nan"), n)
    return Interval(first, first, first, n) if np.all(sample == first) else None


def _sample(values: ArrayLike, name: str) -> Floats:
    try:
        sample = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: required numbers, found {values!r} ({error}).") from error
    if sample.ndim != 1 or len(sample) == 0:
        raise ConfigError(f"{name}: required at least one value in one dimension, found shape {sample.shape}.")
    if np.isinf(sample).any():
        raise ConfigError(f"{name}: required finite numbers or NaN, found {sample[np.isinf(sample)][0]}.")
    return sample


def _confidence(confidence: float) -> float:
    if not 0 < confidence < 1:
        raise ConfigError(f"confidence: required a number strictly between 0 and 1, found {confidence!r}.")
    return float(confidence)
