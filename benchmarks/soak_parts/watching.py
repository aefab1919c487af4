"""A progressive network that writes down, after every task, what the process holds and what the task took."""

import ctypes
import gc
import json
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from prognet import Progressive
from prognet.strategies.base import Backbone
from prognet.strategies.sources import Sources
from prognet.streams.task import Task

PARTS = ("learning", "evaluating", "proving", "storing")
"""Of a step: from its first sample to a trained column; R's row; digests; recorded outputs and files."""


class Book:
    """Lines of JSON in a file, one for every finished step; a copy of it is the same book."""

    def __init__(self, path: Path, folder: Path) -> None:
        self.path, self.folder = path, folder
        self._clock, self._taken, self._step = (0.0, 0.0), dict.fromkeys(PARTS, (0.0, 0.0)), -1

    def __deepcopy__(self, memo: Mapping[int, Any]) -> "Book":
        return self

    def begin(self, step: int) -> None:
        """The step before has been stored, and this one begins."""
        self.end()
        self._step = step
        self._clock = now()

    def mark(self, part: str) -> None:
        """A part of the step has ended."""
        before, self._clock = self._clock, now()
        self._taken[part] = (self._clock[0] - before[0], self._clock[1] - before[1])

    def end(self) -> None:
        """Writes down the step that has been stored last, if this process has done one."""
        if self._step < 0:
            return
        self.mark("storing")
        line = {
            "step": self._step,
            "cpu": {part: taken[0] for part, taken in self._taken.items()},
            "wall": {part: taken[1] for part, taken in self._taken.items()},
            **held(),
            **on_disk(self.folder),
        }
        with self.path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        self._step = -1


class Watched(Progressive):
    """`Progressive` with a book."""

    def __init__(self, backbone: Backbone, book: Book, sources: Sources | None, name: str) -> None:
        super().__init__(backbone, sources=sources, name=name)
        self.book = book

    def learn(self, tasks: Sequence[Task]) -> None:
        session = self.current_session()
        if session.training.epochs == 0:  # a stored run that is rebuilt
            return super().learn(tasks)
        self.book.begin(session.step)
        super().learn(tasks)
        return self.book.mark("learning")

    def frozen_digests(self) -> Mapping[str, str]:
        self.book.mark("evaluating")
        digests = super().frozen_digests()
        self.book.mark("proving")
        return digests


def now() -> tuple[float, float]:
    """Processor seconds of the process, and seconds of the clock."""
    return time.process_time(), time.perf_counter()


def held() -> dict[str, int]:
    """What the process holds when all that is not needed has been given back."""
    gc.collect()
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
    found = {
        "resident": int(Path("/proc/self/statm").read_text().split()[1]) * 4096,
        "handles": len(list(Path("/proc/self/fd").iterdir())) - 1,  # the one that lists them
        "threads": len(list(Path("/proc/self/task").iterdir())),
        "objects": len(gc.get_objects()),
    }
    return found | ({"cuda": torch.cuda.memory_allocated()} if torch.cuda.is_available() else {})


def on_disk(folder: Path) -> dict[str, int]:
    """Bytes of a run's folder: tensors, proof, documents; and the number of files."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    kinds = {"state": "state-*.safetensors", "proof": "proof-*.safetensors", "documents": "*.json"}
    sizes = {
        f"{kind}_bytes": sum(path.stat().st_size for path in files if path.match(form)) for kind, form in kinds.items()
    }
    return sizes | {"files": len(files)}
