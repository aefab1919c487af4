"""How the columns of a run are looked at, what was found, and the file beside the run in which it is kept."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, TypeVar

from prognet.documents import record_from, require, shaped
from prognet.errors import ConfigError, JSONValueError, RunFolderError
from prognet.files import read_json, write_json
from prognet.ranges import POSITIVE, require_number
from prognet.results import Floats, to_json

ANALYSIS_FILE = "analysis.json"
SCHEMA, VERSION = "prognet.analysis", 2
ANALYSE_AGAIN = "remove the file and run `prognet analyse` again"
Found = TypeVar("Found")
_MOST = 100_000


@dataclass(frozen=True, kw_only=True)
class Pairs:
    """How pairs of tasks are looked at.

    Raises:
        ConfigError: when a number is out of its range.
    """

    pair_samples: int = 400
    """Training samples of each task by which pairs of tasks are related; seeded."""
    tag_steps: int = 100
    """Steps on the network that all tasks share, on the way of which gradient cosine and TAG are averaged."""
    tag_lr: float = 0.1
    """The rate of these steps."""
    gains: bool = False
    """Measure what each earlier column is worth to each task: T (T + 1) / 2 - 1 columns are trained a run."""

    def __post_init__(self) -> None:
        for name, least in (("pair_samples", 4), ("tag_steps", 1)):
            _require_whole(name, getattr(self, name), least)
        require_number("tag_lr", self.tag_lr, POSITIVE)
        _require_truth("gains", self.gains)


@dataclass(frozen=True, kw_only=True)
class Look:
    """How columns are looked at.

    Raises:
        ConfigError: when a number is out of its range.
    """

    columns: Literal["all", "last"] = "all"
    """The columns of all tasks, or that of the last one."""
    samples: int = 500
    """Test samples that are looked at, and training samples for the means of the ablation; seeded, of each task."""
    repeats: int = 3
    """Fresh noise at every strength of APS."""
    replacement: Literal["mean", "zero"] = "mean"
    """What stands in for a source: its training mean, or zero."""
    recalibrate: bool = False
    """Measure the BatchNorm statistics of the column anew after each cut."""
    batch_size: int = 256
    """Samples that are looked at in one pass."""
    pairs: Pairs = field(default_factory=Pairs)
    """How pairs of tasks are looked at."""

    @property
    def of_columns(self) -> dict[str, Any]:
        """The settings on which an `analysis.json` depends, as JSON values."""
        return {name: value for name, value in asdict(self).items() if name != "pairs"}

    def __post_init__(self) -> None:
        for name, least in (("samples", 4), ("repeats", 1), ("batch_size", 2)):
            _require_whole(name, getattr(self, name), least)
        for name, words in (("columns", ("all", "last")), ("replacement", ("mean", "zero"))):
            if getattr(self, name) not in words:
                raise ConfigError(f"{name}: required one of {words}, found {getattr(self, name)!r}.")
        _require_truth("recalibrate", self.recalibrate)
        if not isinstance(self.pairs, Pairs):
            raise ConfigError(f"pairs: required a Pairs(), found {self.pairs!r}.")


def _require_whole(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        raise ConfigError(f"{name}: required a whole number, at least {least}, found {value!r}.")


def _require_truth(name: str, value: object) -> None:
    if not isinstance(value, bool):
        raise ConfigError(f"{name}: required True or False, found {value!r}.")


@dataclass(frozen=True, eq=False, kw_only=True)
class ColumnAnalysis:
    """One column, and the columns that take part in its output. Shares and accuracies lie in [0, 1]."""

    task: int
    """Label of the task that the column learned."""
    sites: tuple[str, ...]
    columns: tuple[int, ...]
    """The columns that take part, directly or through others, and last the column itself."""
    accuracy: float
    """Of the column on the test samples that were looked at."""
    fisher: Floats
    """AFS, (sites, columns)."""
    perturbation: Floats
    """APS, (sites, columns); NaN throughout for a column that is no better than chance."""
    loss: Floats
    """(sites, columns): accuracy lost without the lateral; NaN where the column is not read directly."""
    source_loss: Floats
    """(columns,): accuracy lost without all laterals from one column."""
    total_loss: float
    """Accuracy lost without any lateral."""
    similarity: Floats
    """(sites, columns): debiased CKA with the column itself; NaN where a column lacks the site."""


@dataclass(frozen=True, eq=False, kw_only=True)
class RunAnalysis:
    """Every analysed column of one run."""

    strategy: str
    order: int
    seed: int
    settings: Mapping[str, Any]
    """With which it was made, as JSON values."""
    digests: Mapping[str, str]
    """Of the run's frozen parts, by which the analysis belongs to it."""
    columns: tuple[ColumnAnalysis, ...]
    """In the order of the tasks."""

    @property
    def last(self) -> ColumnAnalysis:
        """The column of the last task."""
        return self.columns[-1]


def write_analysis(folder: Path, analysis: RunAnalysis) -> Path:
    """Writes `analysis.json` into the folder of a run, atomically, and returns its path.

    Raises:
        RunFolderError: when it cannot be written.
    """
    path = folder / ANALYSIS_FILE
    write_json(path, SCHEMA, VERSION, to_json(asdict(analysis)))
    return path


def read_analysis(folder: Path) -> RunAnalysis:
    """Reads what `write_analysis` wrote.

    Raises:
        RunFolderError: when it is missing, damaged or of another version.
    """
    return read_found(folder / ANALYSIS_FILE, SCHEMA, VERSION, RunAnalysis, _fitted)


def read_found(path: Path, schema: str, version: int, kind: type[Found], fitted: Callable[[Found], Found]) -> Found:
    """Reads what an analysis of a run has written beside it.

    Args:
        path: of the file.
        schema: of the document.
        version: of the schema.
        kind: what the document holds.
        fitted: checks that its values fit together, and gives arrays their shapes.

    Raises:
        RunFolderError: when it is missing, damaged or of another version.
    """
    try:
        return fitted(record_from(kind, read_json(path, schema, version, remedy=ANALYSE_AGAIN)))
    except JSONValueError as error:
        raise RunFolderError(f"{path}: {error}; {ANALYSE_AGAIN}.") from error


def _fitted(analysis: RunAnalysis) -> RunAnalysis:
    require(bool(analysis.columns), "columns", "at least one column", 0)
    return replace(analysis, columns=tuple(map(_shaped, analysis.columns)))


def _shaped(column: ColumnAnalysis) -> ColumnAnalysis:
    """The same column, with arrays of the shapes that its sites and columns give them."""
    where = f"columns.{column.task}"
    require(0 <= column.task < _MOST, f"{where}.task", "a label of a task", column.task)
    require(bool(column.columns), f"{where}.columns", "at least one column", column.columns)
    known = all(0 <= index < _MOST for index in column.columns) and len(set(column.columns)) == len(column.columns)
    require(known, f"{where}.columns", "different indices of columns", column.columns)
    cells, row = (len(column.sites), len(column.columns)), (len(column.columns),)
    shapes = {"fisher": cells, "perturbation": cells, "loss": cells, "similarity": cells, "source_loss": row}
    arrays = {name: shaped(getattr(column, name), shape, f"{where}.{name}") for name, shape in shapes.items()}
    return replace(column, **arrays)  # type: ignore[arg-type]  # each is an array
