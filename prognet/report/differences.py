"""Differences between strategies, paired by seed, with the correction for having made many of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np

from prognet.report.estimates import per_seed
from prognet.report.grid import PROGRESSIVE, REFERENCES, Key
from prognet.statistics import Interval, PairedDifference, holm, paired_difference


@dataclass(frozen=True)
class Difference:
    """One strategy minus another, over the (order, seed) cells that both have."""

    strategy: str
    reference: str
    interval: Interval
    """Mean difference over seeds with its Student t 95 % interval, not corrected for the number of comparisons."""
    p_value: float
    """Of the paired t test; NaN with one seed or where a value is undefined."""
    adjusted: float
    """The p value after Holm's correction over all comparisons of the same table."""


def pairs(names: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """What is compared: each strategy with each reference, and progressive with every other; each pair once."""
    wanted = [(name, reference) for reference in REFERENCES for name in names if reference in names]
    wanted += [(PROGRESSIVE, name) for name in names if PROGRESSIVE in names]
    kept: list[tuple[str, str]] = []
    for pair in wanted:
        if pair[0] != pair[1] and pair not in kept and pair[::-1] not in kept:
            kept.append(pair)
    return tuple(kept)


def differences(values: Mapping[str, Mapping[Key, float]]) -> tuple[Difference, ...]:
    """All comparisons of one measure.

    Args:
        values: by strategy, then by (order, seed), in the order of the report's rows.
    """
    found = {pair: paired(values[pair[0]], values[pair[1]]) for pair in pairs(tuple(values))}
    adjusted = holm([difference.p_value for difference in found.values()])
    return tuple(
        Difference(*pair, difference.interval, difference.p_value, float(corrected))
        for (pair, difference), corrected in zip(found.items(), adjusted, strict=True)
    )


def paired(own: Mapping[Key, float], reference: Mapping[Key, float]) -> PairedDifference:
    """One strategy minus another over the (order, seed) cells that both have; orders are averaged in a seed."""
    shared = [key for key in own if key in reference]
    if not shared:
        return PairedDifference(Interval(nan, nan, nan, 0), nan, 0)
    a, b = (per_seed({key: np.asarray(values[key], dtype=np.float64) for key in shared}) for values in (own, reference))
    return paired_difference(a, b)
