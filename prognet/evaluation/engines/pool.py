"""Processes of this machine that carry out units, and end with the program, however that ends."""

import os
import signal
import threading
import warnings
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass, replace
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import final

import torch

from prognet.evaluation.engines.shipping import stream_in, unpacked
from prognet.evaluation.engines.tally import counter_at
from prognet.evaluation.work import Report, Unit, carry_out_unit


@dataclass(frozen=True, slots=True)
class Errand:
    """A unit, and all that a worker needs for it."""

    plan: bytes
    unit: Unit
    streams: tuple[Path, ...]
    """The folder of the stream of each of its runs."""
    device: str
    tally: Path
    place: int
    """Where in the tally its updates are counted."""


@final
class Pool:
    """Some workers, which are ended when the block is left with work undone."""

    def __init__(self, workers: int) -> None:
        """
        Args:
            workers: how many.
        """
        self._executor, self._leash = _leashed(workers)
        self._sent: list[Future[Report]] = []

    def __enter__(self) -> "Pool":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not all(future.done() for future in self._sent):
            self._leash.close()  # at once, in the middle of their work
        self._executor.shutdown(wait=True, cancel_futures=True)
        self._leash.close()

    def send(self, errand: Errand) -> "Future[Report]":
        """Gives an errand to a worker that is free, or to the next one that is.

        Returns:
            The report to come; in it `BrokenProcessPool` where a worker has died.
        """
        try:
            future = self._executor.submit(run_errand, errand)
        except BrokenProcessPool as error:  # one has died a moment ago
            future = Future()
            future.set_exception(error)
        self._sent.append(future)
        return future


@contextmanager
def worker_processes(count: int) -> Iterator[ProcessPoolExecutor]:
    """Processes for work of any kind, as in benchmarks, that end with the program, however that ends.

    An error that leaves the block ends them at once, in the middle of their work.
    """
    executor, leash = _leashed(count)
    try:
        yield executor
    except BaseException:
        leash.close()
        raise
    finally:
        executor.shutdown(wait=True, cancel_futures=True)
        leash.close()


def run_errand(errand: Errand) -> Report:
    """Carries out a unit in a worker.

    Raises:
        ConfigError: when the worker does not find the code of a strategy.
        UnwritableError: when a disk is full.
    """
    plan = unpacked(errand.plan).at(torch.device(errand.device))
    streams = [stream_in(folder) for folder in errand.streams]
    with warnings.catch_warnings(record=True) as caught:
        report = carry_out_unit(plan, errand.unit, streams, counter_at(errand.tally, errand.place))
    told = dict.fromkeys((str(warning.message), warning.category) for warning in caught)
    return replace(report, warnings=tuple(told))


def _leashed(count: int) -> tuple[ProcessPoolExecutor, Connection]:
    """Worker processes, and what ends them when it is closed."""
    context = get_context("spawn")
    theirs, ours = context.Pipe(duplex=False)
    return ProcessPoolExecutor(count, context, initializer=_begin, initargs=(theirs,)), ours


def _begin(leash: Connection) -> None:
    """Prepares a worker: it leaves Ctrl-C to the program, and ends when the other end of the leash is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with, args=(leash,), daemon=True).start()


def _end_with(leash: Connection) -> None:
    leash.poll(None)  # nothing is ever sent: it returns when the program closes its end or is no more
    os._exit(1)
