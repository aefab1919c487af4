"""Relatedness and geometry without networks: numbers from which it is known what the report has to show."""

import numpy as np

from prognet.related import PAIR_KEYS, PAIR_MEASURES, RunGeometry, RunRelatedness, TaskGeometry
from prognet.results import Floats, RunResult

SITES = ("2", "4")


def make_relatedness(run: RunResult, *, gains: bool = True) -> RunRelatedness:
    """Every measure ranks the pairs as the gain does, which falls with the distance; the controls rank them reversed.

    The gain is a tenth over the distance, plus a hundredth a seed.
    """
    n = run.n_tasks
    distance = np.subtract.outer(-np.arange(n), -np.arange(n)).astype(np.float64)  # target minus source
    above = distance > 0
    near: Floats = np.where(above, 1 / np.where(above, distance, 1), np.nan)
    gain = 0.1 * near + 0.01 * run.seed
    undefined = np.full((n, n), np.nan)
    signs = {measure.key: measure.sign for measure in PAIR_MEASURES}
    return RunRelatedness(
        strategy=run.strategy,
        order=run.order,
        seed=run.seed,
        settings={"pair_samples": 100, "gains": gains},
        digests=run.digests[-1],
        samples=(100,) * n,
        values={key: signs[key] * near for key in PAIR_KEYS},
        shuffled={key: -signs[key] * near for key in PAIR_KEYS},
        gain=gain if gains else undefined,
        alone=np.array([np.nan, *[0.6] * (n - 1)]) if gains else np.full(n, np.nan),
    )


def make_geometry(run: RunResult) -> RunGeometry:
    """within / between is 2 at the first site and 1 at the second, plus a tenth a seed; 9 with permuted labels."""
    return RunGeometry(
        strategy=run.strategy,
        order=run.order,
        seed=run.seed,
        settings={"samples": 100},
        digests=run.digests[-1],
        tasks=tuple(
            TaskGeometry(
                task=task,
                sites=SITES,
                within=np.array([2.0, 1.0]) + 0.1 * run.seed,
                between=np.ones(2),
                nc1=np.array([0.5, 0.25]),
                separation=np.array([1.0, 2.0]),
                shuffled=np.full(2, 9.0),
            )
            for task in range(run.n_tasks)
        ),
    )
