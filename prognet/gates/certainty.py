"""Gates that ask the networks themselves: the task whose output is the most certain. They learn nothing."""

from math import log
from typing import final

import torch
from torch import Tensor

from prognet.gates.base import Gate


@final
class ConfidenceGate(Gate):
    """Maximum softmax probability (Hendrycks & Gimpel 2017, arXiv 1610.02136), compared as it is between tasks.

    Of k equal logits it is 1 / k: between tasks with unlike numbers of classes those with few have an advantage.
    """

    def evidence(self, x: Tensor, outputs: Tensor, task_label: int) -> Tensor:
        """The logarithm of the largest softmax probability, (B,)."""
        ordered = outputs.double().sort(dim=1, descending=True).values  # (B, C)
        # by way of the rest: the probability itself is 1.0 for all logits that are far apart, and all tasks were equal
        rest = (ordered[:, 1:] - ordered[:, :1]).exp().sum(dim=1)  # (B,)
        return -torch.log1p(rest)


@final
class EntropyGate(Gate):
    """The lowest entropy of the softmax, H / log C with C the number of classes of the task.

    Divided by its largest value, so that tasks with unlike numbers of classes are compared on one scale, from 0 for
    certain to 1 for equal logits; with the same number of classes everywhere it is the order of H itself.
    """

    def evidence(self, x: Tensor, outputs: Tensor, task_label: int) -> Tensor:
        """The negative of the normalised entropy, (B,), in [-1, 0]; NaN for an output of one class."""
        logs = outputs.double().log_softmax(dim=1)  # (B, C)
        entropy = torch.special.entr(logs.exp()).sum(dim=1)  # (B,), nats
        most = log(outputs.shape[1])
        return -entropy / most if most else torch.full_like(entropy, torch.nan)
