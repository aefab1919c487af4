"""Seconds of a run and hours of a grid: counts times rates that a few measured steps give."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields

import numpy as np

from prognet.capacity.counting import Capacity
from prognet.capacity.work import require
from prognet.results import Floats

FILES_OF_A_RUN = 3
"""`result.json`, the tensors and the proof; gates that learn add one."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Rates:
    """Seconds for each unit of a run's counts, on one machine; `fit_rates` finds them."""

    operation: float
    """Seconds of a floating point operation."""
    update: float
    """Seconds of an update beside its operations."""
    call: float
    """Seconds of calling one frozen column on one batch, beside its operations."""
    column: float
    """Seconds of a step for every column that there is: modules are walked through, tensors named and recorded."""
    byte: float
    """Seconds of a byte of tensors, which every step hashes several times and writes once."""
    step: float
    """Seconds of a step whatever its size."""

    def seconds(self, capacity: Capacity) -> Floats:
        """Seconds of each step, (K,): learning, evaluating, proving and storing together."""
        found: Floats = capacity.counts() @ np.array(astuple(self))
        return found


@dataclass(frozen=True, kw_only=True, slots=True)
class GridCapacity:
    """What a grid of runs needs."""

    hours: float
    """At least: the seconds of all runs over the workers, or those of the longest run if that is more."""
    kept_bytes: float
    """Of tensors that stay on disk when all runs are finished."""
    written_bytes: float
    """Of tensors that are written on the way."""
    files: int
    """That stay."""


def fit_rates(measured: Sequence[tuple[Capacity, Mapping[int, float]]]) -> Rates:
    """The rates with which measured seconds are met best: non-negative least squares of their relative errors.

    Args:
        measured: for each run what was counted, and the seconds of some of its steps, by task.

    Raises:
        ConfigError: when no step was measured.
    """
    from scipy.optimize import nnls

    seconds = np.array([second for _, steps in measured for second in steps.values()])
    require(len(seconds) > 0, "measured", "the seconds of at least one step", measured)
    counts = np.concatenate([found.counts()[list(steps)] for found, steps in measured]) / seconds[:, None]
    scale = np.maximum(counts.max(axis=0), np.finfo(np.float64).tiny)
    found = nnls(counts / scale, np.ones(len(seconds)))[0] / scale
    return Rates(**{rate.name: float(value) for rate, value in zip(fields(Rates), found, strict=True)})


def grid_capacity(runs: Sequence[tuple[int, Capacity]], rates: Rates, jobs: int = 1) -> GridCapacity:
    """What a grid needs: so many runs of each kind, on `jobs` workers that each take one run at a time.

    Args:
        runs: for each strategy or setting the number of its runs (seeds times orders), and what one needs.
        rates: of one worker.
        jobs: workers of all nodes together.

    Raises:
        ConfigError: when there is no run or no worker.
    """
    require(jobs >= 1, "jobs", "at least 1 worker", jobs)
    require(len(runs) > 0 and all(count >= 1 for count, _ in runs), "runs", "at least one of each", runs)
    each = [(count, float(rates.seconds(one).sum()), one) for count, one in runs]
    total, longest = sum(count * seconds for count, seconds, _ in each), max(seconds for _, seconds, _ in each)
    return GridCapacity(
        hours=max(total / jobs, longest) / 3600,
        kept_bytes=float(sum(count * one.stored_bytes[-1] for count, _, one in each)),
        written_bytes=float(sum(count * one.written_bytes[-1] for count, _, one in each)),
        files=FILES_OF_A_RUN * sum(count for count, _, _ in each),
    )
