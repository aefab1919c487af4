"""Processor seconds of one thread on the CPU, wall time around a synchronisation on CUDA."""

import os
import platform
import time
from collections.abc import Callable, Sequence
from itertools import pairwise
from statistics import median
from typing import Any

import torch


def now(device: torch.device) -> float:
    """Seconds on the clock of the device, which has done all that it was given."""
    if device.type == "cpu":
        return time.process_time()
    torch.cuda.synchronize(device)
    return time.perf_counter()


def timed(work: Callable[[], object], device: torch.device) -> float:
    """The seconds of some work."""
    started = now(device)
    work()
    return now(device) - started


def per_update(work: Callable[[int], object], device: torch.device, short: int = 100, long: int = 400) -> float:
    """Seconds of one update: what a long training takes more than a short one; both see every sample."""
    return (timed(lambda: work(long), device) - timed(lambda: work(short), device)) / (long - short)


def per_pass(train: Callable[[Callable[[int], None]], object], device: torch.device) -> float:
    """Seconds of one pass over the samples: the median of all but the first, in which things are compiled and tried.

    Args:
        train: trains, and tells its argument of the end of every pass.
        device: where.
    """
    moments: list[float] = []
    train(lambda updates: moments.append(now(device)))
    return median(after - before for before, after in pairwise(moments))


def seconds(pairs: Sequence[tuple[float, float]], names: tuple[str, str]) -> dict[str, float]:
    """The median seconds of both sides."""
    return {f"{name}_seconds": median(pair[side] for pair in pairs) for side, name in enumerate(names)}


def peak_rate(device: torch.device, dtype: torch.dtype, repeats: int = 7) -> float:
    """Operations a second in a product of large square matrices, the best of some: what the hardware can do."""
    n = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    return 2 * n**3 / min(timed(lambda: a @ b, device) for _ in range(repeats))


def machine(device: torch.device) -> dict[str, Any]:
    """Where it was measured."""
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return {
        "device": name,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "cuda": torch.version.cuda if device.type == "cuda" else None,
    }
