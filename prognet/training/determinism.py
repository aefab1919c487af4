"""What lies outside of a run and could decide its bits: random generators, and kernels that add up in any order.

prognet draws from torch's generators only. A backbone, a transform or an adapter of somebody else may draw from those
of Python or NumPy as well, so these begin at the same numbers, too, and are given back as they were.
"""

import os
import random
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from prognet.config import Execution
from prognet.errors import ConfigError, DeterminismError

WORKSPACE = "CUBLAS_WORKSPACE_CONFIG"
WORKSPACES = (":4096:8", ":16:8")
"""The two settings of NVIDIA's library of products under which it gives the same bits; the first one is the faster."""
_NAMED = re.compile(r"^(\S+) does not have a deterministic implementation")


@dataclass(frozen=True, slots=True, eq=False)
class RandomStates:
    """Where all generators stand that have no owner: those of torch, Python and NumPy."""

    torch_cpu: Tensor
    torch_cuda: tuple[Tensor, ...]
    python: Any
    numpy: Any


def random_states() -> RandomStates:
    """Where they stand now."""
    cuda = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else ()
    return RandomStates(torch.get_rng_state(), tuple(cuda), random.getstate(), np.random.get_state())


def set_random_states(states: RandomStates) -> None:
    """Lets them go on from where they stood."""
    torch.set_rng_state(states.torch_cpu)
    torch.cuda.set_rng_state_all(states.torch_cuda)
    random.setstate(states.python)
    np.random.set_state(states.numpy)


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Within the block every generator without an owner starts from `seed`; afterwards all are as they were before.

    These are torch's, on the CPU and on the device, Python's `random`, and the global one of NumPy. A generator that
    somebody made without a seed, such as `numpy.random.default_rng()`, is not among them.

    Args:
        seed: a 63-bit number, as `derive_seed` makes it; NumPy takes 32 bits of it.
        device: on which the block computes.
    """
    python, legacy = random.getstate(), np.random.get_state()
    try:
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            torch.manual_seed(seed)
            random.seed(seed)
            np.random.seed(seed % 2**32)
            yield
    finally:
        random.setstate(python)
        np.random.set_state(legacy)


@contextmanager
def deterministic(execution: Execution, device: torch.device) -> Iterator[None]:
    """Within the block, where it is asked for, torch takes kernels that give the same bits every time, or none.

    Args:
        execution: whether.
        device: on which the block computes.

    Raises:
        ConfigError: when CUDA has been started without what this needs.
        DeterminismError: when the block needs an operation that has no such kernel; the message names it.
    """
    if not execution.deterministic:
        yield
        return
    if device.type == "cuda":
        prepare_products()
    was_enabled, only_warned = (
        torch.are_deterministic_algorithms_enabled(),
        torch.is_deterministic_algorithms_warn_only_enabled(),
    )
    tf32 = torch.backends.cudnn.allow_tf32
    torch.use_deterministic_algorithms(True)
    try:
        with torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32):
            yield
    except RuntimeError as error:
        if (named := _NAMED.match(str(error))) is None:
            raise
        raise DeterminismError(
            f"deterministic: required operations that give the same bits every time on {device.type}, found "
            f"{named[1]}, for which torch has no such kernel there; use another operation in the backbone or the loss, "
            "or deterministic=False (--no-deterministic)."
        ) from error
    finally:
        torch.use_deterministic_algorithms(was_enabled, warn_only=only_warned)


def prepare_products() -> None:
    """Sets what CUDA's library of products reads when it is started, so that it gives the same bits every time.

    It stays set for this process and those that it starts, since the library has read it by then.

    Raises:
        ConfigError: when CUDA has been started without it in this process, or with another setting.
    """
    found = os.environ.get(WORKSPACE)
    if found in WORKSPACES or not torch.cuda.is_available():
        return
    started = torch.cuda.is_initialized()  # type: ignore[no-untyped-call]
    if found is not None or started:
        state = "CUDA started without it" if found is None else repr(found)
        raise ConfigError(
            f"deterministic: required {WORKSPACE}={WORKSPACES[0]} (or {WORKSPACES[1]}) before CUDA is started, found "
            f"{state}; set it in the environment of the program, or ask for the first run before anything is put on "
            "the GPU."
        )
    os.environ[WORKSPACE] = WORKSPACES[0]
