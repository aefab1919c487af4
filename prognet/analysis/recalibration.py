"""Statistics of BatchNorm layers, measured anew: what a column needs when something before a norm has changed.

A lateral joins in front of a norm. Once it is pruned, the running mean and variance of that norm describe a network
that is no more, and the column can lose far more than the lateral was worth.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


def norms_of(module: nn.Module) -> list[_BatchNorm]:
    """The BatchNorm layers of a module that keep running statistics."""
    return [part for part in module.modules() if isinstance(part, _BatchNorm) and part.running_mean is not None]


def recalibrate(module: nn.Module, passes: Callable[[], object]) -> int:
    """Replaces the running statistics of the module's BatchNorm layers by those of some forward passes.

    Each layer takes the plain mean of its batch statistics over the passes. All other parts stay in their mode, so that
    no dropout is at work in a frozen column. A frozen column can be recalibrated as well: its digest changes then, and
    it counts as written into until `seal` is called on it.

    Args:
        module: a column, or any module; modes and momenta are as before afterwards.
        passes: runs the forward passes, on training inputs in batches of two samples or more.

    Returns:
        The number of layers, 0 where there was nothing to do; then `passes` is not called.
    """
    norms = norms_of(module)
    before = [(norm.training, norm.momentum) for norm in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.training, norm.momentum = True, None  # None: the mean over all batches, not the latest ones
        if norms:
            with torch.no_grad():
                passes()
    finally:
        for norm, (mode, momentum) in zip(norms, before, strict=True):
            norm.training, norm.momentum = mode, momentum
    return len(norms)


@contextmanager
def recalibrated(module: nn.Module, passes: Callable[[], object]) -> Iterator[int]:
    """`recalibrate` for the length of the block; the statistics are what they were afterwards, bit for bit."""
    buffers = [buffer for norm in norms_of(module) for buffer in norm.buffers()]
    before = [buffer.clone() for buffer in buffers]
    try:
        yield recalibrate(module, passes)
    finally:
        with torch.no_grad():
            for buffer, value in zip(buffers, before, strict=True):
                buffer.copy_(value)
