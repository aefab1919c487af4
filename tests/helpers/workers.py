"""Strategies for runs in other processes, which find them here, and what they leave in a folder of notes."""

import os
import warnings
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from prognet.errors import DivergedError, UnwritableError
from prognet.strategies import Independent
from prognet.streams.task import Task
from tests.helpers.runs import PLAIN


class Troubled(Independent):
    """Does something each time before it learns a task; building its networks without training does not count."""

    def __init__(self, name: str, trouble: Callable[[int, int], None]) -> None:
        super().__init__(PLAIN)
        self.name = name
        self._trouble = trouble

    def learn(self, tasks: Sequence[Task]) -> None:
        session = self.current_session()
        if session.training.epochs:
            self._trouble(session.seed, tasks[0].label)
        super().learn(tasks)


def die(notes: Path, times: int, seed: int, label: int) -> None:
    """Ends the process in the second task of seed 1, as a kill does, this number of times."""
    if (seed, label) == (1, 1) and len(list(notes.iterdir())) < times:
        (notes / f"{os.getpid()}-{len(list(notes.iterdir()))}").touch()
        os._exit(9)


def diverge(seed: int, label: int) -> None:
    """Fails in the second task of seed 1."""
    if (seed, label) == (1, 1):
        raise DivergedError("lr: required a smaller one, found this.")


def warn(seed: int, label: int) -> None:
    """Warns in every task."""
    warnings.warn("columns: required fewer, found these.", UserWarning, stacklevel=2)


def fill_the_disk(seed: int, label: int) -> None:
    """Finds no space in the second task of seed 1."""
    if (seed, label) == (1, 1):
        raise UnwritableError("state.safetensors: could not be written (no space left).")


def note_process(notes: Path, seed: int, label: int) -> None:
    """Leaves the number of the process."""
    (notes / str(os.getpid())).touch()


def dying(notes: Path, times: int) -> Troubled:
    """A strategy whose process dies."""
    return Troubled("dying", partial(die, notes, times))
