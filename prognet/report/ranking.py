"""How well a measure of relatedness ranks what was gained: correlations over pairs, and the worth of a choice."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from prognet.related import PAIR_MEASURES, RunRelatedness
from prognet.report.estimates import interval
from prognet.report.grid import Key
from prognet.results import Floats
from prognet.statistics import Interval

LATEST, BEST = "the latest task", "the best of all"

_DIGITS = 12
"""Of a correlation: what lies beyond is rounding, and would be an interval where all seeds agree."""

Keyed = Mapping[Key, Floats]
"""A matrix (T, T) for each run."""


@dataclass(frozen=True)
class Ranking:
    """How one measure ranks the measured gain: computed in each run, then mean and interval over seeds."""

    title: str
    pairs: int
    targets: int
    """Tasks with at least two earlier ones to choose from."""
    weighted_tau: Interval
    """Over all pairs; the large gains weigh more (Vigna 2015)."""
    spearman: Interval
    spearman_shuffled: Interval
    """Of the control in place of the measure."""
    within: Interval
    """Kendall's tau among the sources of one target, mean over targets."""
    within_shuffled: Interval
    picked: Interval
    """Gain with the source that the measure names, minus the mean over all sources, mean over targets."""
    picked_shuffled: Interval


def rankings(records: Mapping[Key, RunRelatedness]) -> tuple[Ranking, ...]:
    """How each measure ranks the gain, then what the latest task and the best choice of all would give."""
    gains = {key: record.gain for key, record in records.items()}
    found = [
        _ranking(
            measure.title,
            {key: measure.sign * record.values[measure.key] for key, record in records.items()},
            {key: measure.sign * record.shuffled[measure.key] for key, record in records.items()},
            gains,
        )
        for measure in PAIR_MEASURES
    ]
    places = {
        key: np.repeat(np.arange(len(gain), dtype=np.float64)[:, None], len(gain), 1) for key, gain in gains.items()
    }
    nothing = {key: np.full_like(gain, np.nan) for key, gain in gains.items()}
    return (*found, _ranking(LATEST, places, nothing, gains), _ranking(BEST, gains, nothing, gains))


def weighted_tau(values: Floats, gains: Floats) -> float:
    """Kendall's tau with weights that fall with the rank; NaN below three pairs, or where one side never varies."""
    from scipy.stats import weightedtau

    one, other = _flat(values, gains)
    return float(weightedtau(one, other).statistic) if _varies(one, other) else float("nan")


def spearman(values: Floats, gains: Floats) -> float:
    """Spearman's rank correlation; NaN below three pairs, or where one side never varies."""
    from scipy.stats import spearmanr

    one, other = _flat(values, gains)
    if not _varies(one, other):
        return float("nan")
    return round(float(spearmanr(one, other).statistic), _DIGITS)


def within_targets(values: Floats, gains: Floats) -> float:
    """Mean over targets of Kendall's tau among their sources; a target whose sources are all alike counts as 0.

    Args:
        values: (T, T), larger is more related.
        gains: (T, T).
    """
    from scipy.stats import kendalltau

    found = []
    for one, other in _targets(values, gains):
        tau = kendalltau(one, other).statistic if np.ptp(one) > 0 and np.ptp(other) > 0 else 0.0
        found.append(float(tau))
    return float(np.mean(found)) if found else float("nan")


def picked_gain(values: Floats, gains: Floats) -> float:
    """Mean over targets: the gain with the source of the largest value, minus the mean over the target's sources."""
    found = [
        float(other[len(one) - 1 - int(np.argmax(one[::-1]))] - other.mean()) for one, other in _targets(values, gains)
    ]
    return float(np.mean(found)) if found else float("nan")


def _ranking(title: str, values: Keyed, shuffled: Keyed, gains: Keyed) -> Ranking:
    first = next(iter(gains.values()))

    def over(measure: Callable[[Floats, Floats], float], of: Keyed) -> Interval:
        return interval({key: measure(matrix, gains[key]) for key, matrix in of.items()})

    return Ranking(
        title,
        int(np.isfinite(first).sum()),
        len(_targets(first, first)),
        over(weighted_tau, values),
        over(spearman, values),
        over(spearman, shuffled),
        over(within_targets, values),
        over(within_targets, shuffled),
        over(picked_gain, values),
        over(picked_gain, shuffled),
    )


def _flat(values: Floats, gains: Floats) -> tuple[Floats, Floats]:
    """Over the pairs for which both are known."""
    known = ~np.isnan(values) & ~np.isnan(gains)
    return values[known], gains[known]


def _targets(values: Floats, gains: Floats) -> list[tuple[Floats, Floats]]:
    """For each target with at least two sources, their values and their gains."""
    every = [_flat(values[:, t], gains[:, t]) for t in range(values.shape[1])]
    return [(one, other) for one, other in every if len(one) > 1]


def _varies(values: Floats, gains: Floats) -> bool:
    return len(values) > 2 and bool(np.ptp(values) > 0) and bool(np.ptp(gains) > 0)
