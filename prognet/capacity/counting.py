"""What one run needs, task by task: counts that do not depend on any machine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from prognet.capacity.work import ColumnCosts, Workload
from prognet.results import Floats

MIB = 2**20
PROBES = 64
"""Inputs on which every frozen column is run after every step, for the proof."""
START_SAMPLES = 4000
"""Training samples that a start looks at, at most."""
_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, kw_only=True, slots=True)
class Capacity:
    """What a run needs, task by task; arrays of length K, exact but where a line says otherwise."""

    parameters: Floats
    """Of the whole network after task k: the sum of its columns. With all sources K²/2 · each + ..., a square; with at
    most m it is linear from task m on."""
    stored_bytes: Floats
    """Of all tensors after task k: in memory, and the data of the file that step k writes."""
    written_bytes: Floats
    """Of tensors by all steps up to k. Every step writes the whole network, so it is the sum of `stored_bytes`: one
    power of K more than those."""
    trained: Floats
    """Parameters of column k; Adam and the gradients need three times as many numbers while it learns. Parameters of
    an output lateral that is solved, not trained, are among them."""
    feature_bytes: Floats
    """Of the tables that are kept while task k is learned: training, validation and learning curve, as far as
    `Execution(feature_memory=...)` lets them."""
    training_flops: Floats
    """Operations of learning task k, with tables and with features for what is solved or compared, as a run counts
    them: without those of `measuring_flops`, and of the ridge regressions themselves."""
    measuring_flops: Floats
    """Operations of the learning curve, of validation and of the proof that no column has changed; about."""
    prediction_flops: Floats
    """Operations a sample to predict task k: those of all columns that are run for it."""
    evaluation_flops: Floats
    """Operations of evaluating all tasks up to k on their test samples, after task k: (k + 1) tasks, each with its
    columns. Over K tasks that are K²/2 evaluations, each of up to K columns of up to K sources."""
    calls: Floats
    """Frozen columns that step k calls, batch by batch: for tables, evaluation and proof."""
    updates: Floats
    """Of learning task k."""

    def counts(self) -> Floats:
        """What seconds are made of, (K, 6), in the order of the fields of `Rates`."""
        operations = self.training_flops + self.measuring_flops + self.evaluation_flops
        columns = np.arange(1, len(self.updates) + 1, dtype=np.float64)
        return np.stack(
            [operations, self.updates, self.calls, columns, self.stored_bytes, np.ones_like(columns)], axis=1
        )


def run_capacity(costs: ColumnCosts, work: Workload) -> Capacity:
    """What a run needs, from what its columns need.

    With S_k = s_0 + ... + s_k, the sources of all columns up to k, and each of a column's numbers as
    `alone + joint + s * each`, the network after task k has

        (k + 1) * alone + k * joint + S_k * each,   S_k = k (k + 1) / 2 for all sources,
                                                    S_k = m (m + 1) / 2 + m (k - m) for k > m.

    Where `closure` bounds the columns of a prediction to c, the c latest are counted, which are the dearest: an upper
    bound.

    Args:
        costs: what one column needs.
        work: how many of them, and on how many samples.
    """
    k = np.arange(work.tasks, dtype=np.float64)
    most = work.tasks if work.sources is None else work.sources
    sources = np.minimum(k, most)
    behind = np.where(sources > 0, k if work.closure is None else np.minimum(k, work.closure), 0.0)
    stored = np.cumsum(costs.stored_bytes.of(sources))
    forward = costs.forward_flops.of(sources)
    before = _last(forward, behind)
    tables, kept = _tables(costs.feature_values.of(sources), work)
    batch, curve = work.measurement.evaluation_batch_size, work.curve
    looked_at = min(work.train, START_SAMPLES) * (
        work.compares_trunks * np.where(k > 0, (k + 1) * costs.forward_flops.alone, 0.0) + work.solves_output * before
    )
    measured = work.points * curve + work.training.epochs * work.validation
    batches = sum(-(-rows // batch) for rows in (curve, work.validation))
    return Capacity(
        parameters=np.cumsum(costs.parameters.of(sources)),
        stored_bytes=stored,
        written_bytes=np.cumsum(stored),
        trained=costs.parameters.of(sources),
        feature_bytes=tables,
        training_flops=work.seen * costs.update_flops.of(sources)
        + np.where(kept, work.train, work.seen) * before
        + looked_at,
        measuring_flops=measured * forward + (curve + work.validation) * before + PROBES * np.cumsum(forward),
        prediction_flops=before + forward,
        evaluation_flops=work.test * np.cumsum(before + forward),
        calls=(np.where(kept, -(-work.train // batch), work.updates) + batches) * behind
        + -(-work.test // batch) * np.cumsum(behind + 1)
        + k
        + 1,
        updates=np.full(work.tasks, float(work.updates)),
    )


def _last(values: Floats, counts: Floats) -> Floats:
    """For each place k the sum of the `counts[k]` values before it, (K,)."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    k = np.arange(len(values))
    found: Floats = sums[k] - sums[k - counts.astype(np.int64)]
    return found


def _tables(values: Floats, work: Workload) -> tuple[Floats, NDArray[np.bool_]]:
    """Bytes of all tables that are kept, (K,), and whether that of the training samples is among them, (K,).

    As in training: a table is made where it fits into what is left of the memory, that of the training samples first.
    """
    row = values * _BYTES[work.execution.feature_precision]
    room = np.full(work.tasks, float(work.execution.feature_memory * MIB))
    again = work.updates >= -(-work.train // work.training.batch_size) and not work.training.augment
    kept: list[Floats] = []
    for rows in (work.train if again else 0, work.curve, work.validation):
        table = np.where(rows * row <= room, rows * row, 0.0)
        room -= table
        kept.append(table)
    return sum(kept, np.zeros(work.tasks)), kept[0] > 0
