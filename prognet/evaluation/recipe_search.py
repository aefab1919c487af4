"""The fields of a recipe of fine-tuning, chosen on validation data with a seeded budget.

It is the search of `prognet.evaluation.tuning` with a recipe beside every training: trial k has the training of trial k
there, so that a recipe has no more tries at the learning rate than any other strategy with as many trials.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from prognet.config import Execution, Training
from prognet.documents import record_from
from prognet.errors import ConfigError, JSONValueError, RunFolderError
from prognet.evaluation.observer import Observer, Silence
from prognet.evaluation.tuning import Judge, JudgeName, chosen_by, draw_trials, validation_stream
from prognet.files import read_json, to_json, write_json
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone
from prognet.strategies.finetune import FineTune
from prognet.strategies.finetune_recipe import FineTuning
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from prognet.tuned import SEARCHED, Choice, training_from

SCHEMA, VERSION = "prognet.recipe", 1
_TRIES = 100

SPACE: Mapping[str, Sequence[Any]] = MappingProxyType(
    {
        "rate": (1.0, 0.3, 0.1),
        "decay": (1.0, 0.75, 0.5),
        "unfreeze_every": (None, 1, 3),
        "reinit": (0, 1),
        "l2_sp": (0.0, 1e-3, 1e-2, 1e-1),
        "head_l2": (0.0, 1e-3, 1e-2),
        "dropout": (0.0, 0.2),
        "smoothing": (0.0, 0.1),
    }
)
"""Fields of a trunk that learns, and the values that are tried."""


@dataclass(frozen=True, slots=True)
class RecipeSearch:
    """A finished search."""

    recipe: FineTuning
    """The best one."""
    training: Training
    """The training that it was tried with."""
    score: float
    """Average or learning accuracy on the validation splits, in [0, 1], mean over seeds."""
    trials: Sequence[tuple[FineTuning, Training]]
    scores: Sequence[float]
    """The score of every trial; NaN where training diverged."""
    seeds: Sequence[int]
    space: Mapping[str, Sequence[Any]]
    judged_by: JudgeName = "average"

    def summary(self) -> str:
        """One line for people: what the recipe changes, its training and its score."""
        base = asdict(FineTuning())
        changed = [f"{name}={value}" for name, value in asdict(self.recipe).items() if value != base[name]]
        described = Choice(self.training, self.score, self.scores).describe()
        return f"{SEARCHED}: {' '.join([*changed, described])}"

    def describe(self) -> dict[str, Any]:
        """All of it as JSON values, the budget first."""
        described: dict[str, Any] = to_json(
            {
                "budget": {
                    "trials": len(self.trials),
                    "seeds": list(self.seeds),
                    "chosen_by": chosen_by(self.judged_by),
                },
                "space": {name: list(values) for name, values in self.space.items()},
                "recipe": asdict(self.recipe),
                "training": asdict(self.training),
                "score": self.score,
                "trials": [
                    {"recipe": asdict(recipe), "training": asdict(training), "score": score}
                    for (recipe, training), score in zip(self.trials, self.scores, strict=True)
                ],
            }
        )
        return described

    def save(self, path: str | Path) -> None:
        """Writes `describe()` into a file.

        Raises:
            RunFolderError: when it cannot be written.
        """
        write_json(Path(path), SCHEMA, VERSION, self.describe(), sealed=False)  # it may be edited


def read_recipe(path: str | Path) -> tuple[FineTuning, Training]:
    """The recipe that a search chose, and its training, from the file that `RecipeSearch.save` wrote.

    Raises:
        RunFolderError: when the file is missing, damaged or of another version.
    """
    remedy = "mend the field, or search again"
    document = read_json(Path(path), SCHEMA, VERSION, sealed=False, remedy=remedy)
    try:
        recipe = record_from(FineTuning, document.get("recipe"), "recipe", partial=True)
        return recipe, training_from(document.get("training"))
    except (JSONValueError, ConfigError) as error:
        raise RunFolderError(f"{path}: {str(error).rstrip('.')}; {remedy}.") from error


def search_recipe(
    backbone: Backbone,
    stream: Stream,
    *,
    training: Training,
    recipe: FineTuning | None = None,
    space: Mapping[str, Sequence[Any]] = SPACE,
    trials: int = 12,
    seeds: Sequence[int] = (0,),
    judged_by: JudgeName = "average",
    execution: Execution | None = None,
    device: str = "auto",
    threads: int | None = None,
    observer: Observer | None = None,
) -> RecipeSearch:
    """Tries `trials` recipes of `FineTune`, each with a training of its own, and keeps the best.

    Args:
        backbone: makes the network.
        stream: the tasks to search on, with validation splits; no test sample is looked at.
        training: the first training, and the values of everything but lr and weight decay.
        recipe: the first recipe, and the values of all fields that are not searched; by default `FineTuning()`.
        space: by field, the values that are drawn from, all alike; combinations that are no recipe are drawn again.
            `smoothing` is left out where not every task is a classification.
        trials: how many, the first one included.
        seeds: each trial is run with each of these.
        judged_by: `"average"`, the accuracy on all tasks at the end, or `"learning"`, on each when it has been learned:
            the first asks for what forgets little, the second for what learns new tasks well.
        execution: how it is computed.
        device: where to train.
        threads: CPU threads; None for torch's own choice.
        observer: is told how it goes.

    Raises:
        ConfigError: when there is no trial, no validation split, no recipe in the space, or all trials diverge.
    """
    settings = draw_trials(training, trials)
    base = recipe if recipe is not None else FineTuning()
    if not all(isinstance(task.objective, Classification) for task in stream):
        space = {name: values for name, values in space.items() if name != "smoothing"}
    tried = list(zip(draw_recipes(base, space, trials), settings, strict=True))
    judge = Judge(
        stream=validation_stream(stream),
        judged_by=judged_by,
        seeds=seeds,
        execution=execution,
        device=device,
        threads=threads,
        observer=observer or Silence(),
    )
    strategies = [FineTune(backbone, recipe=one, name=SEARCHED) for one, _ in tried]
    judge.begin([(strategy, setting) for strategy, (_, setting) in zip(strategies, tried, strict=True)])
    scores = [judge.score(strategies[index], setting, index) for index, (_, setting) in enumerate(tried)]
    if np.isnan(scores).all():
        raise ConfigError(f"training: required a trial that does not diverge, found none of {trials}.")
    best = int(np.nanargmax(scores))
    return RecipeSearch(*tried[best], scores[best], tried, scores, tuple(seeds), space, judged_by)


def draw_recipes(recipe: FineTuning, space: Mapping[str, Sequence[Any]], count: int) -> Iterator[FineTuning]:
    """The given recipe, then random ones that depend on their number and the space alone.

    Raises:
        ConfigError: when the space has a field that recipes do not have, or next to no combination that is one.
    """
    unknown = sorted(set(space) - set(asdict(recipe)))
    if unknown:
        raise ConfigError(f"space: required fields of a recipe, found {unknown}.")
    yield recipe
    generator = np.random.default_rng(derive_seed(0, "recipes"))
    for _ in range(count - 1):
        yield _drawn(recipe, space, generator)


def _drawn(recipe: FineTuning, space: Mapping[str, Sequence[Any]], generator: np.random.Generator) -> FineTuning:
    problem: ConfigError | None = None
    for _ in range(_TRIES):
        values = {name: choices[int(generator.integers(len(choices)))] for name, choices in space.items()}
        try:
            return replace(recipe, **values)
        except ConfigError as error:
            problem = error
    raise ConfigError(f"space: required combinations that are recipes, found none in {_TRIES} draws; {problem}")
