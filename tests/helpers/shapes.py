"""Streams whose tasks have inputs of several shapes, and streams of one shape that hold the same tasks."""

from collections.abc import Sequence
from dataclasses import replace

import torch

from prognet.streams.stream import Stream
from prognet.streams.task import Normalisation, Samples, Task
from tests.helpers.streams import make_task

GREY, COLOUR = (1, 4, 4), (2, 6, 6)
SHAPES = (GREY, COLOUR, GREY, COLOUR)
CLASSES = (2, 3, 4, 2)
NORMALISATION = Normalisation((0.5, 0.4), (0.2, 0.3))


def mixed_stream(shapes: Sequence[tuple[int, ...]] = SHAPES, classes: Sequence[int] = CLASSES) -> Stream:
    """Grey images of floating point numbers, and larger ones of two colours in bytes with a normalisation."""
    return Stream([one_task(label, shapes[label], n) for label, n in enumerate(classes)], name="mixed")


def alike(shape: tuple[int, ...]) -> Stream:
    """A stream of one shape in which those tasks of `mixed_stream` that have it stand at their places."""
    return mixed_stream([shape] * len(CLASSES))


def one_task(label: int, shape: tuple[int, ...], n_classes: int) -> Task:
    """A task that depends on its label, shape and number of classes alone."""
    task = make_task(label, n_classes, 48, shape=shape)
    if shape != COLOUR:
        return task
    train, val, test = (_in_bytes(samples) for samples in (task.train, task.val, task.test))
    return replace(task, train=train, val=val, test=test, normalisation=NORMALISATION)


def _in_bytes(samples: Samples) -> Samples:
    return Samples((samples.x * 40 + 128).clamp(0, 255).to(torch.uint8), samples.y)
