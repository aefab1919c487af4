"""Batches that hold several tasks, as Avalanche makes them: every sample goes through the network of its own task."""

import torch
from torch import Tensor
from torch.nn import functional

from prognet.training import Predict

MASK = -1000.0
"""Logit of a unit that is none of the task's own: its probability is exactly zero, and so is its gradient."""


def route(predict: Predict, x: Tensor, task_labels: Tensor | int) -> Tensor:
    """The outputs of a batch whose samples may belong to several tasks.

    The labels are brought to the host at once, the only wait for the device; a batch of one task is not taken apart.

    Args:
        predict: the outputs of one task: (inputs (b, *input_shape), task label) -> (b, n_outputs of the task).
        x: inputs, (B, *input_shape).
        task_labels: the label of every sample (B,), or one label for all of them.

    Returns:
        Outputs (B, the largest n_outputs of any task in the batch); units that a task does not have are `MASK`.
    """
    if isinstance(task_labels, int):
        return predict(x, task_labels)
    rows: dict[int, list[int]] = {}
    for row, label in enumerate(task_labels.tolist()):
        rows.setdefault(label, []).append(row)
    if len(rows) == 1:
        return predict(x, next(iter(rows)))
    order = torch.tensor([row for own in rows.values() for row in own], device=x.device)  # (B,) grouped by task
    parts = torch.split(x[order], [len(own) for own in rows.values()])
    outputs = [predict(part, label) for label, part in zip(rows, parts, strict=True)]
    width = max(output.shape[1] for output in outputs)
    padded = [functional.pad(output, (0, width - output.shape[1]), value=MASK) for output in outputs]
    return torch.cat(padded)[torch.argsort(order)]


def cross_entropy(output: Tensor, target: Tensor, smoothing: float) -> Tensor:
    """The mean cross-entropy; label smoothing spreads over the units of a sample's own task, not over masked ones.

    Args:
        output: logits (B, C), `MASK` where a task has no unit.
        target: classes (B,).
        smoothing: mass that is spread.
    """
    if not smoothing:
        return functional.cross_entropy(output, target)
    log_p, own = output.log_softmax(dim=1), output > MASK / 2  # (B, C)
    hit = log_p.gather(1, target.unsqueeze(1)).squeeze(1)  # (B,)
    spread = log_p.masked_fill(~own, 0.0).sum(dim=1) / own.sum(dim=1)  # (B,)
    return -((1 - smoothing) * hit + smoothing * spread).mean()
