"""Features of frozen columns, computed once: a table with a row for every sample of a split.

Frozen columns say the same of the same input in every update. What they hand over to the column that learns is
therefore computed once a task, in batches for evaluation, and kept on the device as long as the memory allows.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from prognet.engine.prepared import Prepared
from prognet.streams.task import Samples, Task
from prognet.training.flops import counting_flops
from prognet.training.session import Session

MIB = 2**20


@dataclass(frozen=True, slots=True)
class Reading:
    """How the module that learns reads frozen columns."""

    prepare: Callable[[Tensor], Prepared]
    """Inputs (b, *input_shape) -> what the frozen columns hand over on them."""
    predict: Callable[[Tensor, Prepared], Tensor]
    """Inputs and what was handed over on them -> outputs (b, n_outputs)."""


@dataclass(frozen=True, slots=True, eq=False)
class FeatureTable:
    """What frozen columns hand over on the samples of a split, in their order."""

    rows: Prepared
    flops: float
    """Operations of making it."""

    def take(self, chosen: Tensor | slice) -> Prepared:
        """The rows of some samples, in single precision."""
        if isinstance(chosen, slice):
            return self.rows.map(lambda h: h[chosen].float())
        return self.rows.map(lambda h: h.index_select(0, chosen).float())  # several times as fast as h[chosen]


class Shelf:
    """Makes tables, as long as all of them together fit into the memory that is allowed."""

    def __init__(self, reading: Reading, session: Session) -> None:
        self._reading, self._device = reading, session.device
        self._dtype: torch.dtype = getattr(torch, session.execution.feature_precision)
        self._batch_size = session.measurement.evaluation_batch_size
        self._room = session.execution.feature_memory * MIB

    def table_of(self, task: Task, samples: Samples) -> FeatureTable | None:
        """The table of a split; None where it has no room, or where there is nothing to keep.

        Args:
            task: the task, for its normalisation.
            samples: the split.
        """
        if not self._room or not len(samples):
            return None
        with torch.no_grad():
            with counting_flops() as counter:
                first = self._prepare(task, samples, 0)
            size = len(samples) * sum(h[0].numel() for h in first.tensors) * self._dtype.itemsize
            if not 0 < size <= self._room:
                return None
            self._room -= size
            rows = first.map(lambda h: h.new_empty(len(samples), *h.shape[1:], dtype=self._dtype))
            for start in range(0, len(samples), self._batch_size):
                part = self._prepare(task, samples, start) if start else first
                for table, new in zip(rows.tensors, part.tensors, strict=True):
                    table[start : start + len(new)] = new
        return FeatureTable(rows, counter.get_total_flops() * len(samples) / len(first.tensors[0]))

    def _prepare(self, task: Task, samples: Samples, start: int) -> Prepared:
        x = samples.x[start : start + self._batch_size].to(self._device, copy=True)
        return self._reading.prepare(task.normalisation(x))
