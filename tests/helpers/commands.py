"""Command lines and comparisons that take no time, and what a folder holds afterwards."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, final

import numpy as np

from prognet.errors import PrognetError
from prognet.evaluation.observer import Observer
from prognet.seeds import derive_seed

QUICK: Mapping[str, Any] = {
    "epochs": 1,
    "batch_size": 32,
    "lca_updates": 1,
    "curve_points": 0,
    "seeds": 1,
    "device": "cpu",
    "threads": 1,
}
REQUIRED = "required"
OWN_BACKBONE = """
from torch import nn

def build(input_shape, n_classes):
    return nn.Sequential(nn.Flatten(), nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, n_classes))
"""


def options(**changes: Any) -> list[str]:
    """The options of a quick run; `changes` replace or add some, a list becomes several words."""
    words = []
    for name, value in {**QUICK, **changes}.items():
        values = value if isinstance(value, list | tuple) else [value]
        words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def save_arrays(path: Path, n_tasks: int = 2, shape: Sequence[int] = (6,), **changes: Any) -> Path:
    """An .npz file for `from-npz`: two classes a task, 24 training and 8 test samples; `changes` replace arrays."""
    random = np.random.default_rng(derive_seed(0, "arrays"))
    arrays: dict[str, Any] = {}
    for task in range(n_tasks):
        centres = random.standard_normal((2, *shape))
        for split, n in (("train", 24), ("test", 8)):
            y = np.arange(n) % 2
            arrays[f"x_{split}_{task}"] = (centres[y] + random.standard_normal((n, *shape))).astype(np.float32)
            arrays[f"y_{split}_{task}"] = y
    np.savez(path, **{**arrays, **changes})
    return path


def content(folder: Path, pattern: str = "*") -> dict[str, tuple[bytes, int]]:
    """The bytes and the time of change of every file below the folder, by its name there."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns)
        for path in sorted(folder.rglob(pattern))
        if path.is_file()
    }


def defaults_of_builder(builder: Callable[..., Any]) -> dict[str, Any]:
    """The parameters that a user may choose, with their defaults; seed and draw are an experiment's order and seed."""
    parameters = inspect.signature(builder).parameters.values()
    return {
        item.name: REQUIRED if item.default is item.empty else item.default
        for item in parameters
        if item.name not in ("seed", "draw")
    }


@final
class Recorder(Observer):
    """An observer that notes every call, and does something else with those that it is told to."""

    def __init__(self, at: int | None = None, do: Callable[[], None] = lambda: None) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self._at, self._do = at, do

    def begin(self, updates: int) -> None:
        self.calls.append(("begin", updates))

    def start(self, what: str, updates: int) -> None:
        self.calls.append(("start", what, updates))

    def advance(self, updates: int) -> None:
        self.calls.append(("advance", updates))
        if len(self.named("advance")) == self._at:
            self._do()

    def end(self, what: str, error: PrognetError | None) -> None:
        self.calls.append(("end", what, error))

    def named(self, name: str) -> list[tuple[Any, ...]]:
        """The arguments of every call of this name."""
        return [call[1:] for call in self.calls if call[0] == name]

    @property
    def updates(self) -> int:
        """All updates that were done."""
        return sum(updates for (updates,) in self.named("advance"))
