"""What is recorded of a gate: how well a learner did where no task label was given. Plain numbers, without torch."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True, eq=False)
class GateRecord:
    """One gate of one run, step by step; a step that was not measured has NaN and None."""

    accuracy: NDArray[np.float64]
    """(steps, T): accuracy on task j after step i without the label, in [0, 1]; NaN for tasks not learned yet. A
    prediction is right where the name of the predicted class, in the chosen task, is the name of the true class."""
    confusion: tuple[Counts | None, ...]
    """After each step (T, T): test samples of the true task (row) for which the gate chose a task (column)."""
    parameters: tuple[int, ...]
    """After each step, what the gate itself holds; no part of the learner's parameters."""
    shared_names: bool
    """Whether a class name occurs in several tasks, so that a prediction may be right in the wrong task."""

    @property
    def measured(self) -> tuple[int, ...]:
        """The steps that were measured, from 0."""
        return tuple(step for step, counts in enumerate(self.confusion) if counts is not None)

    def shares(self, step: int) -> NDArray[np.float64]:
        """(T, T): for each true task the share of its test samples by chosen task; NaN rows where there is nothing."""
        counts = self.confusion[step]
        if counts is None:
            return np.full((self.accuracy.shape[1],) * 2, np.nan)
        total = counts.sum(axis=1, keepdims=True).astype(np.float64)
        found: NDArray[np.float64] = np.divide(counts, total, out=np.full(counts.shape, np.nan), where=total > 0)
        return found
