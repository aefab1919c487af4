"""Several processes that share a run, with the environment of torchrun; and what each of them says.

They are forked from a server that has imported what they need, since that takes longer than most of their work.
"""

import faulthandler
import multiprocessing
import os
import socket
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from time import monotonic
from typing import Any

import torch

LONGEST = 120
"""Seconds after which processes that wait for each other are given up."""
_IMPORTED = [
    "torch._dynamo",
    "sklearn.metrics",
    "prognet.evaluation",
    "prognet.strategies",
    "tests.helpers.shared_runs",
]


@dataclass(frozen=True)
class Ended:
    """How one of the processes ended."""

    code: int | None
    """Its exit code; None for one that had to be given up."""
    value: Any
    """What its work returned; None where it did not come so far."""
    said: str
    """What it wrote to its standard error."""


def together(work: Callable[..., Any], *arguments: Any, count: int = 2) -> list[Ended]:
    """Lets some processes do the same work together.

    Args:
        work: a function of a module; what it returns is saved with torch.
        arguments: its arguments.
        count: how many processes.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_IMPORTED)
    with TemporaryDirectory() as folder:
        places, port = [Path(folder) / str(index) for index in range(count)], str(free_port())
        children = []
        for index, place in enumerate(places):
            variables = as_torchrun(index, count, port)
            children.append(context.Process(target=_carry_out, args=(work, arguments, variables, place), daemon=True))
            children[-1].start()
        end = monotonic() + LONGEST
        for child in children:
            child.join(max(0, end - monotonic()))
        for child in children:
            child.kill()
        return [
            Ended(child.exitcode, _loaded(place), place.with_suffix(".txt").read_text())
            for child, place in zip(children, places, strict=True)
        ]


def values(ended: Sequence[Ended]) -> list[Any]:
    """What each process returned, which all must have done."""
    assert all(one.code == 0 for one in ended), "\n".join(one.said for one in ended)
    return [one.value for one in ended]


def as_torchrun(index: int, count: int, port: str) -> dict[str, str]:
    """The variables that torchrun gives to one of its processes."""
    return {
        "RANK": str(index),
        "LOCAL_RANK": str(index),
        "WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": port,
        "OMP_NUM_THREADS": "1",
    }


def free_port() -> int:
    """A port that nobody listens to."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


def _carry_out(work: Callable[..., Any], arguments: Sequence[Any], variables: Mapping[str, str], place: Path) -> None:
    sys.stderr = place.with_suffix(".txt").open("w", buffering=1)
    os.environ.update(variables)
    faulthandler.dump_traceback_later(LONGEST - 10, file=sys.stderr)  # where it waits in vain
    torch.set_num_threads(1)
    warnings.simplefilter("error")
    try:
        torch.save(work(*arguments), place)
    except BaseException:
        traceback.print_exc()
        os._exit(1)  # at once, as a program ends that is not waited for


def _loaded(place: Path) -> Any:
    return torch.load(place, weights_only=False) if place.exists() else None
