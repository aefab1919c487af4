"""The runs of a comparison, aligned by order and seed, and checked before any number is made."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from prognet.errors import RunFolderError
from prognet.results import RunResult, to_json

Key = tuple[int, int]
"""(order, seed): what two runs share when they are compared."""

INDEPENDENT, WIDE, RANDOM = "independent", "independent-wide", "progressive-random"
PROGRESSIVE, JOINT, CUMULATIVE = "progressive", "multitask", "multitask-cumulative"
REFERENCES = (INDEPENDENT, WIDE)
"""What a learning accuracy is compared with to call the difference transfer."""

_ROWS = (
    PROGRESSIVE,
    "finetune",
    JOINT,
    INDEPENDENT,
    WIDE,
    RANDOM,
    "finetune-head",
    "progressive-linear",
    "progressive-paper",
    CUMULATIVE,
    "ewc",
    "lwf",
    "si",
    "mas",
    "replay",
    "agem",
)
_REMEDY = "report each comparison from a folder of its own."


@dataclass(frozen=True)
class Grid:
    """Every run by strategy and by (order, seed)."""

    stream: str
    n_tasks: int
    runs: Mapping[str, Mapping[Key, RunResult]]
    """In the order of the report's rows: strategies of the catalogue first, then others by name."""

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies, in the order of the report's rows."""
        return tuple(self.runs)

    @property
    def keys(self) -> tuple[Key, ...]:
        """Every (order, seed) of any strategy, sorted."""
        return tuple(sorted({key for cells in self.runs.values() for key in cells}))

    @property
    def orders(self) -> tuple[int, ...]:
        """The orders, sorted."""
        return tuple(sorted({order for order, _ in self.keys}))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds, sorted."""
        return tuple(sorted({seed for _, seed in self.keys}))

    @property
    def missing(self) -> tuple[tuple[str, int, int], ...]:
        """(strategy, order, seed) of every run that other strategies have and this one has not."""
        return tuple((name, *key) for name, cells in self.runs.items() for key in self.keys if key not in cells)

    @property
    def task_names(self) -> tuple[str | None, ...]:
        """The name of the task at each position; None where the orders differ."""
        runs = [run for cells in self.runs.values() for run in cells.values()]
        found = [{run.tasks[label].name for run in runs} for label in range(self.n_tasks)]
        return tuple(next(iter(names)) if len(names) == 1 else None for names in found)

    def first(self, strategy: str) -> RunResult:
        """The run of the lowest order and seed."""
        cells = self.runs[strategy]
        return cells[min(cells)]

    def peers(self, key: Key) -> dict[str, RunResult]:
        """The runs of all strategies with one order and seed, by strategy."""
        return {name: cells[key] for name, cells in self.runs.items() if key in cells}


def is_drawn(grid: Grid) -> bool:
    """Whether the training samples were drawn anew for every seed, so that seeds differ in their data as well."""
    draws = {(run.seed, run.config.get("draw")) for cells in grid.runs.values() for run in cells.values()}
    return len(draws) > 1 and all(seed == draw for seed, draw in draws)


def align(results: Sequence[RunResult]) -> Grid:
    """Puts runs side by side.

    Raises:
        RunFolderError: when there is no run, when the runs are of several streams, when one cell is there twice, or
            when runs of one strategy have other arguments or follow other schedules.
    """
    runs = tuple(results)
    if not runs:
        raise RunFolderError("results: required at least one finished run, found none; run `prognet run` first.")
    _require_one("stream", {run.stream for run in runs})
    _require_one("number of tasks", {str(run.n_tasks) for run in runs})
    found = {run.strategy for run in runs}
    names = [name for name in _ROWS if name in found] + sorted(found.difference(_ROWS))
    return Grid(runs[0].stream, runs[0].n_tasks, {name: _cells(name, runs) for name in names})


def _cells(name: str, runs: Sequence[RunResult]) -> dict[Key, RunResult]:
    own = [run for run in runs if run.strategy == name]
    _require_one(f"schedule of {name!r}", {str(run.schedule) for run in own})
    _require_one(f"set of arguments of {name!r}", {_text(run.config.get("strategy")) for run in own})
    cells = {(run.order, run.seed): run for run in own}
    if len(cells) < len(own):
        raise RunFolderError(
            f"results: required one run per strategy, order and seed, found {len(own)} runs of {name!r} for "
            f"{len(cells)} cells; {_REMEDY}"
        )
    return dict(sorted(cells.items()))


def _text(arguments: object) -> str:
    """JSON with sorted keys, so that equal values have one text."""
    return json.dumps(to_json(arguments), sort_keys=True)


def _require_one(what: str, found: set[str]) -> None:
    if len(found) > 1:
        raise RunFolderError(f"results: required one {what}, found {' and '.join(sorted(found))}; {_REMEDY}")
