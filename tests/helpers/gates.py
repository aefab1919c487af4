"""Streams on which it is known what a gate must choose, and records of gates without any run."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from prognet.inference import GateRecord
from prognet.results import Results, RunResult
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task


def written_stream(
    rows: Sequence[Sequence[tuple[Sequence[float], int]]],
    classes: Sequence[Sequence[str]] = (("a", "b"), ("c", "d", "e")),
) -> Stream:
    """Two tasks whose test inputs are the logits that `read_logits` answers: of task 0, then of task 1.

    Args:
        rows: for each task its test samples, (logits of both tasks, true class).
        classes: names of the classes of each task.
    """
    tasks = []
    for label, (samples, names) in enumerate(zip(rows, classes, strict=True)):
        x = torch.tensor([logits for logits, _ in samples], dtype=torch.float32)  # (N, 5)
        test = Samples(x, torch.tensor([target for _, target in samples]))
        train = Samples(x.clone(), torch.zeros(len(x), dtype=torch.int64))
        tasks.append(
            Task(
                label=label,
                name=f"written {label}",
                classes=tuple(names),
                train=train,
                val=Samples(x[:0], test.y[:0]),
                test=test,
                objective=Classification(len(names)),
                head=label,
            )
        )
    return Stream(tasks, name="written")


def read_logits(x: Tensor, task_label: int) -> Tensor:
    """The logits that stand in the input."""
    first, second = x[:, :2], x[:, 2:]
    return second if task_label else first


def apart(distance: float = 4.0, n_tasks: int = 3, names: Sequence[str] | None = None) -> Stream:
    """Tasks of two classes, whose inputs are patterns in a part of the input of their own: (N, 4 per task).

    In the part of its own task a sample is `distance` or minus that in all values, by class, and about 0 elsewhere.
    """
    tasks = []
    for label in range(n_tasks):
        random = torch.Generator().manual_seed(label)
        parts = []
        for n in (60, 4, 30):
            y = torch.arange(n) % 2
            x = 0.1 * torch.randn(n, 4 * n_tasks, generator=random)
            x[:, 4 * label : 4 * label + 4] += distance * (2.0 * y[:, None] - 1)
            parts.append(Samples(x, y))
        train, val, test = parts
        classes = tuple(names or (f"{label} low", f"{label} high"))
        tasks.append(
            Task(
                label=label,
                name=f"part {label}",
                classes=classes,
                train=train,
                val=val,
                test=test,
                objective=Classification(2),
                head=label,
            )
        )
    return Stream(tasks, name="apart")


def part_of(x: Tensor, task_label: int) -> Tensor:
    """(B,): the mean of a task's own part of inputs of `apart`."""
    return x[:, 4 * task_label : 4 * task_label + 4].mean(dim=1)


def record(
    rows: Sequence[Sequence[float] | None],
    confusion: Sequence[Sequence[int]],
    parameters: int = 0,
    shared: bool = False,
) -> GateRecord:
    """A record with this accuracy after each step (None: not measured) and one confusion for all measured steps."""
    counts = np.array(confusion, dtype=np.int64)
    return GateRecord(
        accuracy=np.array([[np.nan] * len(counts) if row is None else row for row in rows], dtype=np.float64),
        confusion=tuple(None if row is None else counts for row in rows),
        parameters=tuple(parameters for _ in rows),
        shared_names=shared,
    )


def with_gates(results: Sequence[RunResult], shared: bool = False) -> Results:
    """The runs with two gates: one that chooses a neighbour for some samples, more with each seed, one always right."""
    return Results([replace(run, gates=_gates(run, shared)) for run in results])


def _gates(run: RunResult, shared: bool) -> dict[str, GateRecord]:
    steps, n_tasks = run.accuracy.shape
    wrong = 10 + 10 * run.seed + 5 * (run.strategy == "finetune")  # of 100
    confusion = (100 - wrong) * np.eye(n_tasks, dtype=np.int64) + wrong * np.roll(np.eye(n_tasks, dtype=np.int64), 1, 1)
    unmeasured: list[Sequence[float] | None] = [None] * (steps - 1)
    last = run.accuracy[-1]
    return {
        "confidence": record([*unmeasured, (last - wrong / 100).tolist()], confusion.tolist(), 0, shared),
        "autoencoder": record([*unmeasured, last.tolist()], (100 * np.eye(n_tasks, dtype=int)).tolist(), 700, shared),
    }
