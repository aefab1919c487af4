"""From values per (order, seed) to a mean and its interval: orders are averaged in a seed, the seed is the unit."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prognet.report.grid import Key
from prognet.results import Floats
from prognet.statistics import Interval, t_interval


@dataclass(frozen=True, eq=False)
class Band:
    """An array of means over seeds with their 95 % intervals; all three have the same shape.

    Where a value is undefined or infinite in any run all three are NaN; with one seed only the bounds are.
    """

    mean: Floats
    low: Floats
    high: Floats
    n: int
    """Number of seeds."""

    def at(self, *index: int) -> Interval:
        """The interval of one entry."""
        return Interval(float(self.mean[index]), float(self.low[index]), float(self.high[index]), self.n)


def per_seed(values: Mapping[Key, Floats]) -> Floats:
    """The mean over the orders of each seed: shape (seeds, ...), seeds sorted."""
    seeds = sorted({seed for _, seed in values})
    return np.stack([np.mean([value for (_, s), value in values.items() if s == seed], axis=0) for seed in seeds])


def interval(values: Mapping[Key, float]) -> Interval:
    """Mean and Student t 95 % interval over seeds of one number per run."""
    return t_interval(per_seed({key: np.asarray(value, dtype=np.float64) for key, value in values.items()}))


def band(values: Mapping[Key, Floats]) -> Band:
    """Mean and Student t 95 % interval over seeds of every entry of arrays of one shape."""
    seeds = per_seed(values)
    seeds[np.isinf(seeds)] = np.nan  # of an infinite distance there is neither mean nor spread
    entries = [t_interval(column) for column in seeds.reshape(len(seeds), -1).T]
    mean, low, high = (
        np.array([getattr(entry, name) for entry in entries], dtype=np.float64).reshape(seeds.shape[1:])
        for name in ("mean", "low", "high")
    )
    return Band(mean, low, high, len(seeds))
