"""What a run leaves behind: plain numbers, exact to read back, without torch.

A run is one strategy on one stream with one seed. Its central value is the accuracy matrix R of shape (steps, T):
`R[i, j]` is the accuracy, or another primary metric, on task j after step i of the schedule, NaN before it is learned.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from prognet.documents import record_from
from prognet.errors import JSONValueError, RunFolderError
from prognet.files import read_json, write_json
from prognet.files import to_json as to_json
from prognet.inference import GateRecord
from prognet.recorded import check_result

if TYPE_CHECKING:
    import pandas

SCHEMA, VERSION = "prognet.result", 4
RESULT_FILE = "result.json"
PRIMARY_METRIC = "accuracy"

Floats = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True)
class TaskSummary:
    """One task of the stream, without its data."""

    label: int
    """Position in the stream, counted from 0."""
    name: str
    """For people, e.g. `"0 1"` for the classes or `"rotated 45"`."""
    n_classes: int
    input_shape: tuple[int, ...]
    """Shape of one sample."""
    head: int
    """The output head that the task uses: its own label, or 0 for all tasks of a shared head."""
    n_train: int
    n_val: int
    n_test: int
    primary: str = PRIMARY_METRIC
    """The metric of this task that R holds."""
    chance: float | None = None
    """That metric for a prediction that does not look at its input; None for 1 / n_classes."""
    objective: Mapping[str, Any] | None = None
    """What the task asks for, as JSON values; None for a classification."""

    @property
    def guessed(self) -> float:
        """The primary metric of a prediction that does not look at its input."""
        return 1 / self.n_classes if self.chance is None else self.chance


@dataclass(frozen=True, kw_only=True, slots=True)
class LearningCurve:
    """Accuracy on one task while it is being learned."""

    step: int
    """Step of the schedule, counted from 0."""
    task: int
    """Task label."""
    updates: tuple[int, ...]
    """Mini-batches seen when the accuracy was measured; begins with 0, before the first update."""
    accuracy: tuple[float, ...]
    """Test accuracy at these updates, in [0, 1], on the first `Measurement.curve_samples` test samples."""
    validation: tuple[float, ...] = ()
    """Loss on the validation split after each epoch."""
    joint: bool = False
    """Whether other tasks were learned in the same updates; then the curve is not comparable with one task's own."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StepCost:
    """What one step of the schedule cost, and how large the learner was after it."""

    parameters: int
    """All parameters that the learner holds after the step."""
    trainable: int
    """Parameters that the step trained."""
    added: int
    """Parameters that the step added: for a progressive network, the new column with its adapters."""
    stored_bytes: int
    """Bytes of all parameters and buffers after the step, and of what else the learner keeps for later tasks."""
    updates: int
    """Mini-batches of training."""
    samples: int
    """Training samples seen, with repetitions."""
    training_flops: float
    """Operations of all forward and backward passes of training: of the first batch of a fit, times samples."""
    forward_flops: tuple[float, ...]
    """Operations to predict one sample of each task, NaN for a task not learned yet; length T."""
    feature_flops: float
    """Those of `training_flops` that went into features of frozen columns, which are computed once."""
    seconds: float
    """Wall time of learning, without evaluation."""
    feature_seconds: float
    """That part of `seconds`."""
    evaluation_seconds: float
    """Wall time of evaluating the accuracy matrix's row and the learning curves."""
    peak_memory: int
    """Bytes: on CUDA the peak of the allocator during the step, elsewhere the peak of the process so far."""
    gradient_norm: float
    """The mean length of the gradients that updates follow, where losses of tasks are weighted; NaN elsewhere."""


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """Everything that was recorded of one run; equal to what is read back from its folder.

    `accuracy` is the matrix R of shape (steps, T) in [0, 1], NaN for tasks not learned yet.
    """

    strategy: str
    """Name of the strategy, e.g. `"progressive"`."""
    seed: int
    """Seed of initialisation and data order."""
    order: int
    """Seed of the stream: class order, task order, validation split."""
    stream: str
    """Name of the stream, e.g. `"split-digits"`."""
    tasks: tuple[TaskSummary, ...]
    schedule: tuple[tuple[int, ...], ...]
    """The task labels learned together in each step: `((0,), (1,))` sequential, `((0, 1),)` joint."""
    metrics: Mapping[str, Floats]
    """Matrices of shape (steps, T) by name, such as accuracy and cross_entropy (nats); NaN where a task has none."""
    curves: tuple[LearningCurve, ...]
    costs: tuple[StepCost, ...]
    """One for each step."""
    digests: tuple[Mapping[str, str], ...]
    """After each step, the SHA-256 of every frozen part, by its name, e.g. `"column 0"`."""
    choices: tuple[Mapping[str, Any], ...] = ()
    """What the strategy decided from data in each step, e.g. the sources of a column, as JSON values."""
    gates: Mapping[str, GateRecord] = field(default_factory=dict)
    """By name of each gate that was measured: the accuracy without task labels, and which tasks it chose."""
    config: Mapping[str, Any]
    """The whole configuration of the run, as JSON values."""
    environment: Mapping[str, Any]
    """Versions, device and execution choices, as JSON values."""
    files: Mapping[str, str] = field(default_factory=dict)
    """The SHA-256 of every file of tensors that was stored with the run, by its name; empty where none was."""
    learner: Any = field(default=None, compare=False, repr=False)
    """The strategy as it was trained, for further use; None for a result read from a folder."""

    @property
    def accuracy(self) -> Floats:
        """R: (steps, T), accuracy, or the primary metric, on task j after step i; NaN where it was not learned yet."""
        unmeasured = np.full((len(self.schedule), self.n_tasks), np.nan)
        return np.stack([self.metrics.get(t.primary, unmeasured)[:, t.label] for t in self.tasks], axis=1)

    @property
    def n_tasks(self) -> int:
        """T, the number of tasks of the stream."""
        return len(self.tasks)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RunResult):
            return NotImplemented
        return result_to_json(self) == result_to_json(other)

    __hash__ = None  # type: ignore[assignment]  # holds arrays

    def save(self, folder: Path) -> Path:
        """Writes `result.json` into `folder`, atomically, and returns its path.

        Raises:
            RunFolderError: when it cannot be written.
        """
        path = Path(folder) / RESULT_FILE
        write_json(path, SCHEMA, VERSION, result_to_json(self))
        return path

    @staticmethod
    def load(path: Path) -> "RunResult":
        """Reads one `result.json`.

        Raises:
            RunFolderError: when it is missing, damaged, or of another schema version.
        """
        path = Path(path)
        remedy = f"remove the folder {path.parent} and run the same command again"
        try:
            return result_from_json(read_json(path, SCHEMA, VERSION, remedy=remedy))
        except JSONValueError as error:
            raise RunFolderError(f"{path}: {error}; {remedy}.") from error


class Results(Sequence[RunResult]):
    """The finished runs of a folder, sorted by strategy, order and seed; `frame` has one row per run, step and task."""

    def __init__(self, runs: Sequence[RunResult]) -> None:
        self._runs = tuple(runs)

    def __len__(self) -> int:
        return len(self._runs)

    def __getitem__(self, index: Any) -> Any:
        return self._runs[index]

    def __repr__(self) -> str:
        return f"Results({len(self)} runs of {', '.join(self.strategies) or 'nothing'})"

    @property
    def strategies(self) -> tuple[str, ...]:
        """Names of the strategies, in the order of their first run."""
        return tuple(dict.fromkeys(run.strategy for run in self._runs))

    @property
    def frame(self) -> "pandas.DataFrame":
        """One row per (strategy, order, seed, step, task), with a column per metric."""
        import pandas

        rows = [
            {
                "strategy": run.strategy,
                "order": run.order,
                "seed": run.seed,
                "step": step,
                "task": task.label,
                "task_name": task.name,
                **{name: matrix[step, task.label] for name, matrix in run.metrics.items()},
            }
            for run in self._runs
            for step in range(len(run.schedule))
            for task in run.tasks
        ]
        return pandas.DataFrame(rows)


def load_results(folder: str | Path) -> Results:
    """Every finished run below `folder`.

    Raises:
        RunFolderError: when there is no finished run, or one cannot be read: a mean over the others would be another
            number.
    """
    return readable_results(folder, strict=True)[0]


def readable_results(folder: str | Path, *, strict: bool = False) -> tuple[Results, Mapping[str, str]]:
    """The finished runs below `folder` that can be read, and by folder of each other one why it cannot.

    Args:
        folder: of the runs.
        strict: refuses a folder with a run that cannot be read.

    Raises:
        RunFolderError: when there is no finished run, or none that can be read.
    """
    found: list[RunResult] = []
    damaged: dict[str, str] = {}
    for path in sorted(Path(folder).rglob(RESULT_FILE)):
        try:
            found.append(RunResult.load(path))
        except RunFolderError as error:
            if strict:
                raise
            damaged[str(path.parent.relative_to(folder))] = str(error)
    if not found:
        reasons = "none that can be read: " + " ".join(damaged.values()) if damaged else "none"
        raise RunFolderError(
            f"folder: required at least one finished run below {folder}, found {reasons}; name the folder that "
            "`prognet run` wrote to."
        )
    return Results(sorted(found, key=lambda run: (run.strategy, run.order, run.seed))), damaged


def result_to_json(result: RunResult) -> dict[str, Any]:
    """The result as JSON values: arrays as lists, NaN as null, infinities as text.

    Raises:
        JSONValueError: when the configuration or the environment holds a value without such a form.
    """
    plain = {item.name: getattr(result, item.name) for item in fields(result) if item.name != "learner"}
    plain["tasks"] = [asdict(task) for task in result.tasks]
    plain["curves"] = [asdict(curve) for curve in result.curves]
    plain["costs"] = [asdict(cost) for cost in result.costs]
    plain["gates"] = {name: asdict(record) for name, record in result.gates.items()}
    return {key: to_json(value) for key, value in plain.items()}


def result_from_json(document: Mapping[str, Any]) -> RunResult:
    """The inverse of `result_to_json`, bit for bit.

    Raises:
        JSONValueError: when a field is missing, unknown, of another type, or does not fit the others.
    """
    result = record_from(RunResult, document, given={"learner": None})
    check_result(result)
    return result
