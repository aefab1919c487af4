"""What a search for hyper-parameters chose, and the file in which it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prognet.config import Training
from prognet.documents import record_from, value_from
from prognet.errors import ConfigError, JSONValueError, RunFolderError
from prognet.files import read_json, write_json
from prognet.results import to_json

SCHEMA, VERSION = "prognet.tuned", 1
SEARCHED = "finetune-searched"
"""The name of the strategy that follows a recipe of fine-tuning which was searched."""
_REMEDY = "mend the field, or make the file with `prognet tune` again"


@dataclass(frozen=True, slots=True)
class Choice:
    """What was chosen for one strategy."""

    training: Training
    score: float
    """Average or learning accuracy on the validation splits, in [0, 1], mean over seeds."""
    scores: Sequence[float]
    """The score of every trial, in the order of `Tuned.trials`; NaN where training diverged."""

    def describe(self) -> str:
        """One line for people."""
        return f"lr={self.training.lr:.2e} weight_decay={self.training.weight_decay:g} validation={self.score:.4f}"


@dataclass(frozen=True, slots=True)
class Tuned:
    """A finished search: the same trials for every strategy."""

    stream: Mapping[str, Any]
    """Name, arguments, order and number of tasks of the stream that was searched on, as JSON values."""
    seeds: Sequence[int]
    trials: Sequence[Training]
    choices: Mapping[str, Choice]
    """By name of the strategy."""
    chosen_by: str = "average validation accuracy"
    """What the scores are."""


def write_tuned(path: Path, tuned: Tuned) -> None:
    """Writes a search into a file that `read_tuned` and `prognet run --tuned` read.

    Raises:
        RunFolderError: when it cannot be written.
    """
    content = {
        "stream": tuned.stream,
        "budget": {"trials": len(tuned.trials), "seeds": list(tuned.seeds), "chosen_by": tuned.chosen_by},
        "trials": [asdict(trial) for trial in tuned.trials],
        "strategies": {name: asdict(choice) for name, choice in tuned.choices.items()},
    }
    write_json(path, SCHEMA, VERSION, to_json(content), sealed=False)  # it may be edited, or written by hand


def read_tuned(path: Path) -> dict[str, Training]:
    """The training that was chosen for each strategy, by name.

    Raises:
        RunFolderError: when the file is missing, damaged or of another version.
    """
    document = read_json(path, SCHEMA, VERSION, sealed=False, remedy=_REMEDY)
    try:
        choices = value_from(Mapping[str, Mapping[str, Any]], document.get("strategies"), "strategies")
        return {
            name: training_from(choice.get("training"), f"strategies.{name}.training")
            for name, choice in choices.items()
        }
    except (JSONValueError, ConfigError) as error:
        raise RunFolderError(f"{path}: {str(error).rstrip('.')}; {_REMEDY}.") from error


def training_from(document: object, where: str = "training") -> Training:
    """The settings that were written as JSON; those that are absent have their default.

    Raises:
        JSONValueError: when a field is unknown or of another type; the message begins with its name.
        ConfigError: when a value is out of its range.
    """
    return record_from(Training, document, where, partial=True)
