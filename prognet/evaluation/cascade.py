"""Detect, crop, classify: two networks in a row, to be compared with one that finds and names objects at once."""

from dataclasses import replace

import torch
from torch import Tensor

from prognet.errors import ConfigError
from prognet.streams.boxes import NO_BOX, Boxes, Detection
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from prognet.training import Predict, Session, evaluating, outputs_of

_LEAST = 0.05
"""The score from which on a box is cropped."""


def cascade_stream(task: Task) -> Stream:
    """What the two networks of a cascade learn: where objects are, of whatever class, and which class a crop shows.

    Args:
        task: a detection of images (C, S, S); the crops are those of its own boxes, enlarged to the size of its images.

    Returns:
        A stream of two tasks: a detection with the one class `object`, and a classification.

    Raises:
        ConfigError: when the task is no detection.
    """
    objective = _detection_of(task)
    anywhere, named = [], []
    for samples in (task.train, task.val, task.test):
        y = samples.y.clone()
        y[..., 0] = y[..., 0].clamp(max=0)
        anywhere.append(Samples(samples.x, y))
        named.append(_crops_of(task, samples))
    found = replace(
        task,
        label=0,
        head=0,
        classes=("object",),
        objective=replace(objective, n_classes=1),
        train=anywhere[0],
        val=anywhere[1],
        test=anywhere[2],
    )
    classified = replace(
        task, label=1, head=1, objective=Classification(task.n_classes), train=named[0], val=named[1], test=named[2]
    )
    return Stream([found, classified], name=f"cascade of {task.name}")


def cascade_metrics(
    predict: Predict, stream: Stream, task: Task, session: Session, owner: torch.nn.Module
) -> dict[str, float]:
    """The metrics of the detection that a cascade makes on the test split.

    The score of a box is that of the detector times the probability of its class.

    Args:
        predict: of what has learned the two tasks of `stream`.
        stream: of `cascade_stream`.
        task: the detection that it was made from.
        session: device and batch size.
        owner: what `predict` computes with; put into evaluation mode for the moment.
    """
    objective, size = _detection_of(task), session.measurement.evaluation_batch_size
    detector = stream[0].objective
    assert isinstance(detector, Detection)
    found: list[Boxes] = []
    with evaluating(owner):
        dense = outputs_of(predict, stream[0], stream[0].test, session.device, size)
        x = task.normalisation(task.test.x.to(session.device))
        for image, seen in zip(x, detector.decode(dense, _LEAST), strict=True):
            if not len(seen.boxes):
                found.append(seen)
                continue
            logits = torch.cat([predict(part, 1) for part in torch.split(_crop(image[None], [seen.boxes]), size)])
            sure, label = logits.softmax(dim=1).max(dim=1)
            order = (seen.scores * sure).argsort(descending=True)
            found.append(Boxes(seen.boxes[order], label[order], (seen.scores * sure)[order]))
    return objective.judge(found, task.test.y)


def _crops_of(task: Task, samples: Samples) -> Samples:
    """The objects of a split and their classes, as bytes or in the type of the images."""
    rows = [one[one[:, 0] != NO_BOX] for one in samples.y]
    if not rows:  # a task may have no validation split
        return Samples(samples.x, torch.empty(0, dtype=torch.long))
    crops = _crop(samples.x.float(), [one[:, 1:] for one in rows])
    x = crops.round().to(torch.uint8) if samples.x.dtype == torch.uint8 else crops.to(samples.x.dtype)
    return Samples(x, torch.cat([one[:, 0] for one in rows]).long())


def _crop(x: Tensor, boxes: list[Tensor]) -> Tensor:
    """What the boxes of each image show, (n, C, S, S), enlarged to the size of the images (B, C, S, S)."""
    from torchvision.ops import roi_align

    crops: Tensor = roi_align(x, boxes, output_size=(x.shape[-2], x.shape[-1]), sampling_ratio=1, aligned=True)
    return crops


def _detection_of(task: Task) -> Detection:
    if not isinstance(task.objective, Detection):
        raise ConfigError(
            f"task {task.label} ({task.name!r}): required a detection, found {type(task.objective).__name__}; a "
            "cascade finds objects first."
        )
    return task.objective
