"""How the tasks of a stored run are related and how their classes lie in its columns, written beside it."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from prognet.analysed import ANALYSIS_FILE, Look, read_analysis
from prognet.analysis.geometry import column_geometry
from prognet.config import Execution, Measurement
from prognet.documents import record_from
from prognet.evaluation.gains import Gains, measure_gains
from prognet.evaluation.looking import drawn
from prognet.evaluation.observer import Observer
from prognet.evaluation.relating import relate, related, spread
from prognet.related import (
    GEOMETRY_FILE,
    RELATEDNESS_FILE,
    RunGeometry,
    RunRelatedness,
    TaskGeometry,
    read_geometry,
    read_relatedness,
    write_geometry,
    write_relatedness,
)
from prognet.results import RunResult
from prognet.seeds import derive_seed
from prognet.strategies import Strategy
from prognet.strategies.columns import TaskColumns
from prognet.streams.stream import Stream
from prognet.training import Session
from prognet.tuned import training_from


def described(place: Path, look: Look, digests: Mapping[str, str]) -> bool:
    """Whether both files of a run are there, made with these settings of the run as it is.

    Raises:
        RunFolderError: when one of them is damaged.
    """
    wanted = dict(digests)
    if not ((place / RELATEDNESS_FILE).exists() and (place / GEOMETRY_FILE).exists()):
        return False
    pairs, classes = read_relatedness(place), read_geometry(place)
    return (
        dict(pairs.settings) == asdict(look.pairs)
        and dict(classes.settings) == _of_classes(look)
        and dict(pairs.digests) == dict(classes.digests) == wanted
    )


def check_records(place: Path) -> None:
    """Reads what an analysis left beside a run.

    Raises:
        RunFolderError: when one of its files is damaged.
    """
    readers: Mapping[str, Callable[[Path], object]] = {
        ANALYSIS_FILE: read_analysis,
        RELATEDNESS_FILE: read_relatedness,
        GEOMETRY_FILE: read_geometry,
    }
    for name, read in readers.items():
        if (place / name).exists():
            read(place)


def gains_to_measure(result: RunResult, look: Look) -> int:
    """The columns that are trained for the gains of one run, at most."""
    return result.n_tasks * (result.n_tasks + 1) // 2 - 1 if look.pairs.gains else 0


def record_tasks(
    place: Path, result: RunResult, learner: Strategy, stream: Stream, look: Look, observer: Observer
) -> None:
    """Writes both files of one run, unless they are there; nothing where it has no two classifications.

    Tasks of other kinds are left out: NaN where they are one of a pair.

    Args:
        place: the folder of the run.
        result: the run.
        learner: the strategy as it was trained, with a `TaskColumns` as its `columns`.
        stream: its stream.
        look: how it is looked at.
        observer: told 1 for every column that is trained.

    Raises:
        ConfigError: when a column cannot be looked at.
        UnwritableError: when nothing can be written.
    """
    columns = learner.columns
    assert isinstance(columns, TaskColumns)
    tasks, digests, n = related(list(stream)), dict(result.digests[-1]), len(stream)
    if not tasks or described(place, look, digests) or set(columns.column_of) != set(range(n)):
        return
    network, sources, device = columns.network, columns.column_of, next(columns.parameters()).device
    belongs: dict[str, Any] = {"strategy": result.strategy, "order": result.order, "seed": result.seed}
    found = relate(network, sources, tasks, learner.backbone, look.pairs, seed=result.seed, batch_size=look.batch_size)
    found = spread(found, [task.label for task in tasks], n)
    gains = Gains(np.full(n, np.nan), np.full((n, n), np.nan))
    if look.pairs.gains:
        session = Session(
            training=training_from(result.config.get("training"), "config.training"),
            measurement=Measurement(),
            execution=record_from(Execution, result.config.get("execution"), "config.execution", partial=True),
            seed=result.seed,
            device=device,
        )
        sites = getattr(learner, "sites", None)
        known = measure_gains(network, sources, tasks, learner.backbone, session, sites=sites, advance=observer.advance)
        size = len(known.alone)  # up to the last task that was learned once more
        gains.alone[:size], gains.accuracy[:size, :size] = known.alone, known.accuracy
    write_relatedness(
        place,
        RunRelatedness(
            **belongs,
            settings=asdict(look.pairs),
            digests=digests,
            samples=found.samples,
            values=found.values,
            shuffled=found.shuffled,
            gain=gains.gain,
            alone=gains.alone,
        ),
    )
    shapes = tuple(_shape(columns, stream, task.label, look, result.seed) for task in tasks)
    write_geometry(place, RunGeometry(**belongs, settings=_of_classes(look), digests=digests, tasks=shapes))


def _shape(columns: TaskColumns, stream: Stream, label: int, look: Look, seed: int) -> TaskGeometry:
    """The classes of one task in its own column, on test samples."""
    task, device = stream[label], next(columns.parameters()).device
    x, y = drawn(task, task.test, look.samples, seed, "geometry", device)
    found = column_geometry(
        columns.network,
        columns.column_of[label],
        x,
        y,
        task.n_classes,
        seed=derive_seed(seed, label, "geometry control"),
        batch_size=look.batch_size,
    )
    return TaskGeometry(
        task=label,
        sites=found.sites,
        within=np.array([site.within for site in found.classes]),
        between=np.array([site.between for site in found.classes]),
        nc1=np.array([site.nc1 for site in found.classes]),
        separation=np.array([site.separation for site in found.classes]),
        shuffled=np.array([site.ratio for site in found.shuffled]),
    )


def _of_classes(look: Look) -> dict[str, Any]:
    return {"samples": look.samples}
