"""How the tasks of a run are related and how their classes lie in its columns: what was found, and its two files."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from prognet.analysed import read_found
from prognet.documents import require, shaped
from prognet.files import write_json
from prognet.results import Floats, to_json

RELATEDNESS_FILE, GEOMETRY_FILE = "relatedness.json", "geometry.json"
RELATEDNESS, GEOMETRY, VERSION = "prognet.relatedness", "prognet.geometry", 2


@dataclass(frozen=True)
class PairMeasure:
    """One cheap measure of how an earlier task is related to a later one."""

    key: str
    title: str
    sign: int
    """1 where a larger value says more related, -1 where it says less."""
    words: str


PAIR_MEASURES: tuple[PairMeasure, ...] = (
    PairMeasure("mean_distance", "distance of means", -1, "between the mean inputs, in deviations of an input"),
    PairMeasure("class_distance", "distance of class means", -1, "from a class to the nearest one of the earlier task"),
    PairMeasure("mmd", "MMD²", -1, "unbiased, Gaussian kernel with the median heuristic, on inputs"),
    PairMeasure("knn", "k-NN", 1, "leave-one-out accuracy of 3 neighbours on the earlier column's features"),
    PairMeasure("ridge", "ridge", 1, "minus the leave-one-out cross-entropy of a ridge regression on these features"),
    PairMeasure("leep", "LEEP", 1, "expected log-likelihood of the labels from the earlier column's outputs"),
    PairMeasure("nce", "NCE", 1, "minus the entropy of the labels given the class that the earlier column predicts"),
    PairMeasure("logme", "LogME", 1, "evidence of a linear regression on the features of the earlier column"),
    PairMeasure("hscore", "H-score", 1, "variance of these features between the classes, regularised"),
    PairMeasure("cka_labels", "CKA with labels", 1, "debiased linear CKA of these features with the labels"),
    PairMeasure(
        "cka", "CKA of columns", 1, "debiased linear CKA of these features with those of the task's own column"
    ),
    PairMeasure("cosine", "gradient cosine", 1, "of both tasks' gradients on a network that all tasks share"),
    PairMeasure("lookahead", "TAG", 1, "share of the loss that a step for the earlier task takes away there"),
)
PAIR_KEYS = tuple(measure.key for measure in PAIR_MEASURES)


@dataclass(frozen=True, eq=False, kw_only=True)
class RunRelatedness:
    """Between the tasks of one run. Matrices are (T, T): rows the earlier task, columns the later; NaN elsewhere."""

    strategy: str
    order: int
    seed: int
    settings: Mapping[str, Any]
    """With which it was made, as JSON values."""
    digests: Mapping[str, str]
    """Of the run's frozen parts, by which it belongs to it."""
    samples: tuple[int, ...]
    """(T,): training samples of each task that were looked at."""
    values: Mapping[str, Floats]
    """By the key of each measure."""
    shuffled: Mapping[str, Floats]
    """The same where there is nothing to be found: labels permuted, inputs of both tasks mixed."""
    gain: Floats
    """Measured: test accuracy of a column with the one earlier column as its source, minus that of a column alone."""
    alone: Floats
    """(T,): test accuracy of the column alone; NaN where no gain was measured."""


@dataclass(frozen=True, eq=False, kw_only=True)
class TaskGeometry:
    """The classes of one task in what the sites of its column receive; arrays (sites,)."""

    task: int
    sites: tuple[str, ...]
    within: Floats
    between: Floats
    nc1: Floats
    separation: Floats
    """Mean distance between two classes, in units of the deviation within a class."""
    shuffled: Floats
    """within / between with permuted labels."""

    @property
    def ratio(self) -> Floats:
        """within / between."""
        return np.divide(self.within, self.between, out=np.full_like(self.within, np.nan), where=self.between > 0)


@dataclass(frozen=True, eq=False, kw_only=True)
class RunGeometry:
    """Of every task of one run."""

    strategy: str
    order: int
    seed: int
    settings: Mapping[str, Any]
    digests: Mapping[str, str]
    tasks: tuple[TaskGeometry, ...]


Record = TypeVar("Record", RunRelatedness, RunGeometry)


def write_relatedness(folder: Path, found: RunRelatedness) -> Path:
    """Writes `relatedness.json` into the folder of a run, atomically, and returns its path.

    Raises:
        RunFolderError: when it cannot be written.
    """
    path = folder / RELATEDNESS_FILE
    write_json(path, RELATEDNESS, VERSION, to_json(asdict(found)))
    return path


def write_geometry(folder: Path, found: RunGeometry) -> Path:
    """Writes `geometry.json` into the folder of a run, atomically, and returns its path.

    Raises:
        RunFolderError: when it cannot be written.
    """
    path = folder / GEOMETRY_FILE
    write_json(path, GEOMETRY, VERSION, to_json(asdict(found)))
    return path


def read_relatedness(folder: Path) -> RunRelatedness:
    """Reads what `write_relatedness` wrote.

    Raises:
        RunFolderError: when it is missing, damaged or of another version.
    """
    return read_found(folder / RELATEDNESS_FILE, RELATEDNESS, VERSION, RunRelatedness, _fitted)


def read_geometry(folder: Path) -> RunGeometry:
    """Reads what `write_geometry` wrote.

    Raises:
        RunFolderError: when it is missing, damaged or of another version.
    """
    return read_found(folder / GEOMETRY_FILE, GEOMETRY, VERSION, RunGeometry, _fitted_geometry)


def _fitted(found: RunRelatedness) -> RunRelatedness:
    """The same record, with every measure that there is, in matrices (T, T)."""
    n = len(found.samples)
    for name in ("values", "shuffled"):
        keys = set(getattr(found, name))
        require(keys == set(PAIR_KEYS), name, f"the measures {sorted(PAIR_KEYS)}", sorted(keys))
    return replace(
        found,
        values={key: shaped(found.values[key], (n, n), f"values.{key}") for key in PAIR_KEYS},
        shuffled={key: shaped(found.shuffled[key], (n, n), f"shuffled.{key}") for key in PAIR_KEYS},
        gain=shaped(found.gain, (n, n), "gain"),
        alone=shaped(found.alone, (n,), "alone"),
    )


def _fitted_geometry(found: RunGeometry) -> RunGeometry:
    """The same record, with arrays (sites,)."""
    tasks, least = [], 0  # a task that is no classification is not there
    for place, task in enumerate(found.tasks):
        require(task.task >= least, f"tasks[{place}].task", f"a position of {least} or more", task.task)
        least = task.task + 1
        shape, names = (len(task.sites),), ("within", "between", "nc1", "separation", "shuffled")
        arrays = {name: shaped(getattr(task, name), shape, f"tasks[{place}].{name}") for name in names}
        tasks.append(replace(task, **arrays))  # type: ignore[arg-type]  # each is an array
    return replace(found, tasks=tuple(tasks))
