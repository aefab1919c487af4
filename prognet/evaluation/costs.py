"""What a step cost, and how large the learner is."""

import sys
from collections.abc import Sequence

import torch
from torch import nn

from prognet.engine.digest import tensors_of
from prognet.strategies.base import Strategy, example_of
from prognet.streams.task import Task
from prognet.training import counting_flops, evaluating


def stored_bytes(module: nn.Module) -> int:
    """Bytes of all parameters and buffers of a module."""
    return sum(tensor.numel() * tensor.element_size() for _, tensor in tensors_of(module))


def forward_flops(
    strategy: Strategy, tasks: Sequence[Task], counted: Sequence[int], before: Sequence[float], device: torch.device
) -> tuple[float, ...]:
    """Floating point operations to predict one sample of each task.

    Args:
        strategy: after a step.
        tasks: all tasks of the stream.
        counted: labels of the tasks for which they are counted.
        before: those of all tasks after the step before, which are taken over for the other tasks; NaN for a task that
            was not learned.
        device: where the strategy computes.
    """
    return tuple(_flops_of(strategy, task, device) if task.label in counted else before[task.label] for task in tasks)


def _flops_of(strategy: Strategy, task: Task, device: torch.device) -> float:
    x = example_of(task).to(device)
    with evaluating(strategy), counting_flops() as counter:
        strategy.predict(x, task.label)
    return float(counter.get_total_flops() / len(x))


def reset_peak_memory(device: torch.device) -> None:
    """Begins a new measurement of `peak_memory`, where the device allows it."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)


def peak_memory(device: torch.device) -> int:
    """Bytes: on CUDA the allocator's peak since the last reset, elsewhere the peak of the process; 0 where unknown."""
    if device.type == "cuda":
        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return 0
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # kilobytes on Linux
