"""Learning curves as bands over seeds."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from prognet.report.estimates import Band, band
from prognet.report.grid import Key
from prognet.report.measures import own_curve
from prognet.results import LearningCurve, RunResult


@dataclass(frozen=True, eq=False)
class CurveBand:
    """Accuracy on one task over the updates at which every run measured it."""

    updates: tuple[int, ...]
    accuracy: Band
    """Same length as `updates`."""


def curve_bands(cells: Mapping[Key, RunResult]) -> dict[int, CurveBand]:
    """By task label: the band of each task that every run learned in updates of its own."""
    n_tasks = next(iter(cells.values())).n_tasks
    curves = {task: {key: own_curve(run, task) for key, run in cells.items()} for task in range(n_tasks)}
    whole = {task: {key: curve for key, curve in found.items() if curve is not None} for task, found in curves.items()}
    return {task: _curve_band(found) for task, found in whole.items() if len(found) == len(cells)}


def _curve_band(curves: Mapping[Key, LearningCurve]) -> CurveBand:
    # early stopping ends runs at different updates: the band covers those that all of them reached
    updates = tuple(sorted(set.intersection(*(set(curve.updates) for curve in curves.values()))))
    points = {key: dict(zip(curve.updates, curve.accuracy, strict=True)) for key, curve in curves.items()}
    return CurveBand(updates, band({key: np.array([found[u] for u in updates]) for key, found in points.items()}))
