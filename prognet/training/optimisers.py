"""Optimisers and learning-rate schedules, from the words of `Training`."""

from collections.abc import Callable, Sequence
from math import cos, pi
from typing import Any

from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop
from torch.optim.lr_scheduler import LambdaLR

from prognet.config import Schedule, Training
from prognet.errors import ConfigError
from prognet.training.procedure import RateGroup

_FUSED_DEVICES = ("cpu", "cuda")


def make_optimiser(
    parameters: Sequence[nn.Parameter], training: Training, groups: Sequence[RateGroup] = ()
) -> Optimizer:
    """A fresh optimiser over `parameters`, in its fused form where torch has one.

    Args:
        parameters: what is trained.
        training: the optimiser and its settings.
        groups: those of the parameters that have a rate of their own.
    """
    lr, decay = training.lr, training.weight_decay
    fused = all(p.device.type in _FUSED_DEVICES and p.is_floating_point() for p in parameters)
    trained = parameters if not groups else rate_groups(parameters, groups, lr)
    match training.optimiser:
        case "adam":
            return Adam(trained, lr=lr, weight_decay=decay, fused=fused)
        case "adamw":
            return AdamW(trained, lr=lr, weight_decay=decay, fused=fused)
        case "sgd":
            return SGD(trained, lr=lr, momentum=training.momentum, weight_decay=decay, fused=fused)
        case "rmsprop":
            return RMSprop(trained, lr=lr, momentum=training.momentum, weight_decay=decay)


def rate_groups(parameters: Sequence[nn.Parameter], groups: Sequence[RateGroup], lr: float) -> list[dict[str, Any]]:
    """The groups of an optimiser: those that have a rate of their own, as far as they are trained, then all others.

    Raises:
        ConfigError: when a parameter has two rates.
    """
    grouped = [id(parameter) for group in groups for parameter in group.parameters]
    if len({*grouped}) < len(grouped):
        raise ConfigError("groups: required every parameter in one group at most, found one in two of them.")
    trained, own = {id(parameter) for parameter in parameters}, {*grouped}
    found = [{"params": [p for p in group.parameters if id(p) in trained], "lr": lr * group.factor} for group in groups]
    rest = {"params": [parameter for parameter in parameters if id(parameter) not in own], "lr": lr}
    return [group for group in [*found, rest] if group["params"]]


def make_schedule(optimiser: Optimizer, schedule: Schedule, updates: int) -> LambdaLR:
    """The learning rate over `updates` updates, as a factor of the one at the start."""
    factors: dict[Schedule, Callable[[int], float]] = {
        "constant": lambda update: 1.0,
        "cosine": lambda update: (1 + cos(pi * update / updates)) / 2,
        "linear": lambda update: 1 - update / updates,
    }
    return LambdaLR(optimiser, factors[schedule])
