"""Analyses without networks: numbers from which it is known what the report has to show."""

import numpy as np

from prognet.analysed import ColumnAnalysis, RunAnalysis
from prognet.results import Floats, RunResult

SITES = ("2", "4")


def make_column(task: int, columns: tuple[int, ...], shift: float = 0.0) -> ColumnAnalysis:
    """The own column has half of the output, the sources share the rest; each costs a tenth per place, plus `shift`."""
    n = len(columns) - 1
    share = np.array([0.5 / n] * n + [0.5]) if n else np.ones(1)
    cost = np.array([0.1 * (place + 1) + shift for place in range(n)] + [np.nan])
    both: Floats = np.stack([share, share])
    return ColumnAnalysis(
        task=task,
        sites=SITES,
        columns=columns,
        accuracy=0.9 + shift,
        fisher=both,
        perturbation=both[:, ::-1].copy(),
        loss=np.stack([0.4 * cost, cost]),
        source_loss=cost,
        total_loss=0.4 + shift,
        similarity=np.stack([np.full(n + 1, 0.25), np.full(n + 1, 0.75)]),
    )


def make_analysis(run: RunResult, **settings: object) -> RunAnalysis:
    """Of a progressive run whose column k reads all before it; seeds differ by a hundredth in what they lose."""
    return RunAnalysis(
        strategy=run.strategy,
        order=run.order,
        seed=run.seed,
        settings={"samples": 100, "replacement": "mean", **settings},
        digests=run.digests[-1],
        columns=tuple(make_column(task, tuple(range(task + 1)), 0.01 * run.seed) for task in range(run.n_tasks)),
    )
