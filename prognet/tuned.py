"""What a search for hyper-parameters chose, and the file in which it is kept."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prognet.config import Training
from prognet.errors import ConfigError, RunFolderError
from prognet.files import read_json, write_json
from prognet.results import to_json

SCHEMA, VERSION = "prognet.tuned", 1


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
    write_json(path, SCHEMA, VERSION, to_json(content))


def read_tuned(path: Path) -> dict[str, Training]:
    """The training that was chosen for each strategy, by name.

    Raises:
        RunFolderError: when the file is missing, damaged or of another version.
    """
    document = read_json(path, SCHEMA, VERSION)
    try:
        return {name: training_from(choice["training"]) for name, choice in document["strategies"].items()}
    except (KeyError, TypeError, AttributeError, ConfigError) as error:
        raise RunFolderError(
            f"{path}: required the choices of a search, found {type(error).__name__}: {error}."
        ) from error


def training_from(document: Mapping[str, Any]) -> Training:
    """The settings that were written as JSON, which knows no tuples."""
    return Training(**{**document, "augment": tuple(document.get("augment", ()))})
