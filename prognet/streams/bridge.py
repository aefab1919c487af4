"""The one place that imports Avalanche for streams, and makes its benchmarks from tensors."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import torch
from torch import Tensor

from prognet.config import Heads
from prognet.errors import StreamError
from prognet.streams.objectives import Classification
from prognet.streams.task import Normalisation, Samples, Task


def import_avalanche(module: str = "avalanche.benchmarks") -> Any:
    """A module of Avalanche, imported without the warnings of its dependencies.

    Avalanche imports packages that warn at import (no quadratic solver, deprecated names); they concern nobody here.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(module)


@dataclass(frozen=True, slots=True)
class SampleTransform:
    """The normalisation of every input shape, for the samples of Avalanche datasets, which come one by one:
    (*input_shape) -> the same."""

    normalisations: Mapping[tuple[int, ...], Normalisation]

    def __call__(self, x: Tensor) -> Tensor:
        return self.normalisations[tuple(x.shape)](x.unsqueeze(0)).squeeze(0)


def benchmark_of(tasks: Sequence[Task], heads: Heads) -> Any:
    """The tasks as an Avalanche benchmark with the streams `train`, `test` and, where every task has one, `valid`.

    The datasets are views of the tasks' tensors. Task labels are the tasks' labels; with one shared head all are 0,
    because Avalanche's multi-task modules make a head for every task label.

    Raises:
        StreamError: when a task is no classification.
    """
    for task in tasks:
        if not isinstance(task.objective, Classification):
            raise StreamError(
                f"task {task.label} ({task.name!r}): benchmark: required a classification, found "
                f"{type(task.objective).__name__}; Avalanche's benchmarks hold one whole number for each sample."
            )
    transform = _transform(tasks)
    streams: dict[str, Any] = {}
    if all(len(task.val) for task in tasks):
        streams = {
            "other_streams_tensors": {"valid": [_pair(task.val) for task in tasks]},
            "other_streams_transforms": {"valid": (transform, None)},
        }
    return import_avalanche().tensors_benchmark(
        train_tensors=[_pair(task.train) for task in tasks],
        test_tensors=[_pair(task.test) for task in tasks],
        task_labels=[0 if heads == "shared" else task.label for task in tasks],
        train_transform=transform,
        eval_transform=transform,
        **streams,
    )


def _pair(samples: Samples) -> list[Tensor]:
    return [samples.x, samples.y]


def _transform(tasks: Sequence[Task]) -> SampleTransform | None:
    plain = all(task.train.x.dtype == torch.float32 and task.normalisation == Normalisation() for task in tasks)
    return None if plain else SampleTransform({task.input_shape: task.normalisation for task in tasks})
