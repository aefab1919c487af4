"""Where a run takes place: the device and the versions, as values that are stored with the results."""

import platform
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy
import torch

from prognet.backbones.checks import require_whole
from prognet.errors import ConfigError
from prognet.training.determinism import prepare_products
from prognet.version import __version__


def resolve_device(device: str, is_deterministic: bool = False) -> torch.device:
    """The device of a name; `"auto"` is CUDA where there is one, else Apple's MPS, else the CPU.

    Args:
        device: its name.
        is_deterministic: whether it is to compute the same bits every time, which CUDA has to know before it starts.

    Raises:
        ConfigError: when there is no such device on this machine, or CUDA was started too early.
    """
    if is_deterministic and device.startswith(("auto", "cuda")):
        prepare_products()
    if device == "auto":
        if torch.cuda.is_available():
            return torch.device("cuda", torch.cuda.current_device())
        return torch.device("mps" if torch.backends.mps.is_available() else "cpu")
    try:
        found = torch.device(device)
        torch.zeros(1, device=found).cpu()  # the meta device, for one, has nothing to read
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(
            f"device: required 'auto' or a device of this machine, found {device!r} ({reason})."
        ) from error
    return torch.device("cuda", torch.cuda.current_device()) if device == "cuda" else found


def resolve_threads(threads: int | None) -> int:
    """The number of CPU threads of a run: what is asked for, or torch's own choice.

    Raises:
        ConfigError: when it is not a number of threads.
    """
    if threads is None:
        return torch.get_num_threads()
    require_whole("threads", threads)
    return threads


def describe_environment(device: torch.device, threads: int) -> dict[str, Any]:
    """Versions, device and execution choices, as JSON values."""
    return {
        "prognet": __version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
        "device": device.type,
        "device_name": _name_of(device),
        "threads": threads,
        "platform": f"{platform.system()} {platform.machine()}",
        "dtype": "float32",
        "capability": torch.backends.cpu.get_cpu_capability(),
        **_cuda(device),
    }


def _cuda(device: torch.device) -> dict[str, Any]:
    """The versions on which the bits of CUDA depend."""
    if device.type != "cuda":
        return {}
    cudnn = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    return {"cuda": torch.version.cuda, "cudnn": cudnn}


def _name_of(device: torch.device) -> str:
    """The model of a device; a GPU of another machine is not known here."""
    if device.type != "cuda":
        return platform.machine()
    return torch.cuda.get_device_name(device) if torch.cuda.is_available() else "of another machine"


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Within the block torch computes with this number of CPU threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
