"""Optimisers and learning-rate schedules, from the words of `Training`."""

from collections.abc import Callable, Sequence
from math import cos, pi

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from prognet.config import Schedule, Training

_FUSED_DEVICES = ("cpu", "cuda")


def make_optimiser(parameters: Sequence[nn.Parameter], training: Training) -> Optimizer:
    """A fresh optimiser over `parameters`, in its fused form where torch has one."""
    lr, decay = training.lr, training.weight_decay
    fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for p in parameters)
    match training.optimiser:
        case "adam":
            return Adam(parameters, lr=lr, weight_decay=decay, fused=fused)
        case "adamw":
            return AdamW(parameters, lr=lr, weight_decay=decay, fused=fused)
        case "sgd":
            return SGD(parameters, lr=lr, momentum=training.momentum, weight_decay=decay, fused=fused)
        case "rmsprop":
            return RMSprop(parameters, lr=lr, momentum=training.momentum, weight_decay=decay)


def make_schedule(optimiser: Optimizer, schedule: Schedule, updates: int) -> LambdaLR:
    """The learning rate over `updates` updates, as a factor of the one at the start."""
    factors: dict[Schedule, Callable[[int], float]] = {
        "constant": lambda update: 1.0,
        "cosine": lambda update: (1 + cos(pi * update / updates)) / 2,
        "linear": lambda update: 1 - update / updates,
    }
    return LambdaLR(optimiser, factors[schedule])
