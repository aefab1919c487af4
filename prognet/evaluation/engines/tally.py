"""How many updates every worker has done: a file of numbers, into which each writes its own."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np

NOT_BEGUN = -1
_DTYPE = np.dtype(np.int64)


def begin_tally(path: Path, places: int) -> None:
    """Makes a tally for this number of units, none of them begun."""
    path.write_bytes(np.full(places, NOT_BEGUN, _DTYPE).tobytes())


def counter_at(path: Path, place: int) -> Callable[[int], None]:
    """What a worker tells its updates: the number at a place of the tally grows by them, from zero.

    A worker that is killed harms nobody, since there is no lock, and every place has one writer.
    """
    done = 0

    def write() -> None:
        file = os.open(path, os.O_WRONLY)
        try:
            os.pwrite(file, np.array([done], _DTYPE).tobytes(), place * _DTYPE.itemsize)
        finally:
            os.close(file)

    def advance(updates: int) -> None:
        nonlocal done
        done += updates
        write()

    write()
    return advance


def read_tally(path: Path) -> list[int]:
    """The updates of every unit, NOT_BEGUN where no worker has begun it."""
    return [int(number) for number in np.fromfile(path, _DTYPE)]
