"""What a method gains or loses against learning every task alone, relative to it, and where it is worse for sure."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from prognet.errors import ConfigError
from prognet.metrics.arguments import mean
from prognet.results import Floats
from prognet.statistics import PairedDifference, holm, paired_difference


@dataclass(frozen=True, slots=True)
class TaskTransfer:
    """One task: a method minus the reference, paired by seed."""

    difference: PairedDifference
    """In the unit of the metric, positive where the method is better."""
    adjusted: float
    """Holm's p over all tasks of the call."""

    @property
    def negative(self) -> bool:
        """Whether the interval lies below zero: the method is worse than learning the task alone."""
        return self.difference.interval.high < 0

    @property
    def positive(self) -> bool:
        """Whether the interval lies above zero."""
        return self.difference.interval.low > 0


def relative_gains(values: ArrayLike, reference: ArrayLike, higher_is_better: Sequence[bool] | None = None) -> Floats:
    """(T,): for each task what the method gains on the reference, as a share of the reference.

    Formula: s_i (M_i - S_i) / S_i, s_i = 1 where higher is better, else -1. Unit: ratio, 0 for no difference; NaN
    for a reference of 0.

    Args:
        values: M, (T,), a metric of the method on each task; each task may have a metric of its own.
        reference: S, (T,), the same of single-task models.
        higher_is_better: for each task; None for all.

    Raises:
        ConfigError: when the lengths differ.
    """
    M, S, signs = _row(values, "values"), _row(reference, "reference"), _signs(higher_is_better, values)
    if len(S) != len(M):
        raise ConfigError(f"reference: required {len(M)} values, one for each task, found {len(S)}.")
    return np.divide(signs * (M - S), S, out=np.full_like(M, np.nan), where=S != 0)


def delta_m(values: ArrayLike, reference: ArrayLike, higher_is_better: Sequence[bool] | None = None) -> float:
    """Delta_m: the mean over tasks of `relative_gains`.

    Formula: (1/T) sum_i s_i (M_i - S_i) / S_i (Maninis et al. 2019; Vandenhende et al. 2021, eq. 1). Unit: ratio; NaN
    when one task is undefined. Tasks on which the reference is poor weigh more than others: look at each as well.

    Args:
        values: M, (T,), as in `relative_gains`.
        reference: S, (T,).
        higher_is_better: for each task; None for all.

    Raises:
        ConfigError: when the lengths differ.
    """
    return mean(relative_gains(values, reference, higher_is_better))


def negative_transfer(
    values: ArrayLike,
    reference: ArrayLike,
    higher_is_better: Sequence[bool] | None = None,
    confidence: float = 0.95,
) -> tuple[TaskTransfer, ...]:
    """For each task the difference to learning it alone, with its interval: below zero is negative transfer.

    Formula: s_i (M_i - S_i) per seed; mean and Student t interval over seeds, and Holm's p over the tasks. A task is
    called harmed where its own interval lies below zero; of T tasks without any effect, each is so with 2.5 %.

    Args:
        values: M, (seeds, T), of the method.
        reference: S, (seeds, T), of single-task models with the same seeds.
        higher_is_better: for each task; None for all.
        confidence: coverage of each interval, in (0, 1).

    Raises:
        ConfigError: when the shapes differ.
    """
    M, S = np.array(values, dtype=np.float64), np.array(reference, dtype=np.float64)
    if M.ndim != 2 or M.shape != S.shape or not M.size:
        raise ConfigError(f"reference: required shape (seeds, T) as values {M.shape}, found {S.shape}.")
    signs = _signs(higher_is_better, M[0])
    found = [
        paired_difference(sign * own, sign * other, confidence)
        for sign, own, other in zip(signs, M.T, S.T, strict=True)
    ]
    adjusted = holm([difference.p_value for difference in found])
    return tuple(TaskTransfer(difference, float(p)) for difference, p in zip(found, adjusted, strict=True))


def _row(values: ArrayLike, name: str) -> Floats:
    row = np.array(values, dtype=np.float64)
    if row.ndim != 1 or not row.size:
        raise ConfigError(f"{name}: required one value for each task, found shape {row.shape}.")
    return row


def _signs(higher_is_better: Sequence[bool] | None, values: ArrayLike) -> Floats:
    n = len(np.asarray(values))
    if higher_is_better is None:
        return np.ones(n)
    if len(higher_is_better) != n:
        raise ConfigError(f"higher_is_better: required {n} answers, one for each task, found {len(higher_is_better)}.")
    return np.where(np.asarray(higher_is_better, dtype=bool), 1.0, -1.0)
