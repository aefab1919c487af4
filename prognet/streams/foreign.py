"""The way back: any Avalanche benchmark with task labels as a stream."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from prognet.config import Heads
from prognet.errors import StreamError
from prognet.streams.labels import as_labels, check_same_classes, localise
from prognet.streams.parts import Settings, make_task
from prognet.streams.split import task_name
from prognet.streams.stream import Stream
from prognet.streams.task import Normalisation, Samples, Task

_BATCH = 512


def from_avalanche(
    benchmark: Any,
    *,
    name: str = "from-avalanche",
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
) -> Stream:
    """A stream with the samples of an Avalanche benchmark, one task for each training experience.

    Every experience goes once through a loader, with its evaluation transforms; labels are made local to the task. If
    the benchmark has a stream `valid`, it is the validation split; otherwise a part of each training experience is.
    `stream.benchmark` is the benchmark given, so `task.experience` still has the samples that were held out, and the
    labels that the benchmark gave.

    Args:
        benchmark: an Avalanche benchmark with `train_stream` and `test_stream`.
        name: what the stream is called.
        seed: seed of the validation split.
        validation: fraction of each task's training samples that is held out where there is no stream `valid`.
        heads: an output head for each task, which needs a task label of its own in each experience, or one that all
            share, which needs none.

    Raises:
        ConfigError: when an argument is out of its range.
        StreamError: when task labels are absent, repeated or mixed, when an experience has no test experience, or when
            the samples are no tensors.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    train = list(benchmark.train_stream)
    labels = [_task_label(experience, "train", heads) for experience in train]
    if heads == "per-task":
        _check_task_labels(labels)
    parts = {"test": _matching(benchmark.test_stream, labels, "test", heads)}
    valid = getattr(benchmark, "valid_stream", None)
    if valid is not None:
        parts["valid"] = _matching(valid, labels, "valid", heads)
    tasks = [
        _task(position, experience, {part: items[position] for part, items in parts.items()}, settings)
        for position, experience in enumerate(train)
    ]
    check_same_classes(tasks, heads)
    arguments = {"name": name, "validation": validation, "heads": heads}
    return Stream(tasks, name=name, heads=heads, seed=seed, arguments=arguments, benchmark=benchmark)


def _task_label(experience: Any, stream: str, heads: Heads) -> int:
    given = getattr(experience, "task_labels", None)
    if given is None and heads == "per-task":
        raise StreamError(
            f"benchmark.{stream}_stream[{experience.current_experience}]: required task labels, found none; make the "
            "benchmark with avalanche.benchmarks.with_task_labels where its datasets have them, with "
            'task_incremental_benchmark where they do not, or use heads="shared" for one head.'
        )
    labels = sorted({int(label) for label in given}) if given is not None else [0]  # Avalanche's own for no label
    if len(labels) != 1:
        raise StreamError(
            f"benchmark.{stream}_stream[{experience.current_experience}]: required one task label, found {labels}; "
            "make a benchmark in which every experience holds one task."
        )
    return labels[0]


def _check_task_labels(labels: Sequence[int]) -> None:
    if len(set(labels)) == len(labels):
        return
    if len(set(labels)) == 1:
        raise StreamError(
            f"benchmark: required a task label of its own for each of {len(labels)} experiences, found "
            f"label {labels[0]} for all: without task labels every experience would go into one and the same column. "
            'Make the benchmark with return_task_id=True (or task_labels), or use heads="shared" for one head.'
        )
    raise StreamError(
        f"benchmark: required a task label of its own for each experience, found {list(labels)}; "
        "join the experiences of one task, or give each its own label."
    )


def _matching(stream: Any, labels: Sequence[int], name: str, heads: Heads) -> list[Any]:
    """The experience of `stream` that belongs to each training experience: by task label, or by place."""
    experiences = list(stream)
    if heads == "shared" and len(experiences) == len(labels):
        return experiences
    by_label = {_task_label(experience, name, heads): experience for experience in experiences}
    if heads == "shared" or not set(labels) <= set(by_label) or len(by_label) != len(experiences):
        raise StreamError(
            f"benchmark.{name}_stream: required one experience for each of the {len(labels)} training experiences, "
            f"found {len(experiences)} with task labels {sorted(by_label)}; make a test set for each task."
        )
    return [by_label[label] for label in labels]


def _task(position: int, experience: Any, parts: Mapping[str, Any], settings: Settings) -> Task:
    x, labels = _read(experience, f"benchmark.train_stream[{position}]")
    read = {part: _read(other, f"benchmark.{part}_stream[{position}]") for part, other in parts.items()}
    raw = [as_labels(y, f"benchmark.{part}_stream[{position}]") for part, (_, y) in read.items()]
    where = f"benchmark, experience {position}"
    classes, (y, *others) = localise(as_labels(labels, f"benchmark.train_stream[{position}]"), raw, where)
    samples = {part: Samples(read[part][0], local) for part, local in zip(read, others, strict=True)}
    name = task_name(list(classes))
    train, test, val = Samples(x, y), samples["test"], samples.get("valid")
    return make_task(position, name, classes, train, test, settings, Normalisation(), val)


def _read(experience: Any, where: str) -> tuple[Tensor, Tensor]:
    """All samples of an experience, (N, *input_shape), and their labels (N,), in the order of its dataset."""
    dataset = experience.dataset.eval()
    collate = getattr(dataset, "collate_fn", None)
    try:
        batches = list(DataLoader(dataset, batch_size=_BATCH, shuffle=False, collate_fn=collate))
        return torch.cat([batch[0] for batch in batches]), torch.cat([batch[1] for batch in batches])
    except (TypeError, RuntimeError, AttributeError, IndexError) as error:
        raise StreamError(
            f"{where}: required samples (x, y, ...) that are tensors of one shape, found something else ({error}); "
            "give the benchmark an evaluation transform such as ToTensor, with a resize if sizes differ."
        ) from error
