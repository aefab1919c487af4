"""Counting operations."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from time import perf_counter

import torch
from torch.utils.flop_counter import FlopCounterMode

from prognet.training.session import FitRecord, synchronise


@contextmanager
def counting_flops() -> Iterator[FlopCounterMode]:
    """Counts the floating point operations within the block, those of fused attention included."""
    fast_path = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)  # the fused path hides its operations from the counter
    try:
        with FlopCounterMode(display=False) as counter:
            yield counter
    finally:
        torch.backends.mha.set_fastpath_enabled(fast_path)


@contextmanager
def booking(note: Callable[[FitRecord], None], device: torch.device) -> Iterator[None]:
    """Notes the time and the operations of the block as part of learning, where something is decided, not trained."""
    synchronise(device)
    started = perf_counter()
    with counting_flops() as counter:
        yield
    synchronise(device)
    note(record_of_looking(counter.get_total_flops(), perf_counter() - started))


def record_of_looking(flops: float, seconds: float) -> FitRecord:
    """The record of what was computed without an update."""
    return FitRecord(
        curves=(), trainable=0, updates=0, samples=0, flops=float(flops), seconds=seconds, measuring_seconds=0.0
    )
