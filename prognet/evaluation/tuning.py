"""Hyper-parameters, chosen on validation data with one seeded budget for every strategy.

Every strategy is tried with the same settings on the first tasks of a stream, or on another stream altogether. A
setting's score is the average accuracy over the *validation* splits, after the last of these tasks or of each when it
has been learned; no test sample is ever looked at.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal

import numpy as np

from prognet.config import Execution, Measurement, Training
from prognet.errors import ConfigError, DivergedError
from prognet.evaluation.checks import check_comparable, require_distinct
from prognet.evaluation.comparing import updates_of
from prognet.evaluation.harness import run
from prognet.evaluation.observer import Observer, Silence
from prognet.metrics import average_accuracy, learning_accuracy
from prognet.results import Floats, to_json
from prognet.seeds import derive_seed
from prognet.strategies import Strategy
from prognet.streams.stream import Stream
from prognet.tuned import Choice, Tuned

JudgeName = Literal["average", "learning"]
_JUDGES: Mapping[JudgeName, Callable[[Floats], float]] = MappingProxyType(
    {"average": average_accuracy, "learning": learning_accuracy}
)
_RATES = (1e-4, 3e-2)
_DECAYS = (0.0, 1e-5, 1e-4, 1e-3)


def tune(
    strategies: Sequence[Strategy],
    stream: Stream,
    *,
    training: Training,
    trials: int = 12,
    seeds: Sequence[int] = (0,),
    judged_by: JudgeName = "average",
    measurement: Measurement | None = None,
    execution: Execution | None = None,
    device: str = "auto",
    threads: int | None = None,
    observer: Observer | None = None,
) -> Tuned:
    """Tries `trials` settings with every strategy and keeps the best one for each.

    Args:
        strategies: what is tuned.
        stream: the tasks to tune on, with validation splits; they should not be part of the score that is published.
        training: the first setting, and the values of everything that is not searched: lr and weight decay are.
        trials: how many settings.
        seeds: each setting is run with each of these.
        judged_by: `"average"`, the accuracy on all tasks at the end, or `"learning"`, on each when it has been learned.
        measurement: what is measured; learning curves are not.
        execution: how it is computed.
        device: where to train.
        threads: CPU threads; None for torch's own choice.
        observer: is told how it goes.

    Raises:
        ConfigError: when a task has no validation split, there is no trial, or a strategy diverges in all of them.
    """
    check_comparable(strategies)
    settings = list(draw_trials(training, trials))
    judge = Judge(
        stream=validation_stream(stream),
        judged_by=judged_by,
        seeds=seeds,
        measurement=measurement or Measurement(),
        execution=execution,
        device=device,
        threads=threads,
        observer=observer or Silence(),
    )
    judge.begin([(strategy, setting) for strategy in strategies for setting in settings])
    choices = {
        strategy.name: _best(
            strategy.name,
            settings,
            [judge.score(strategy, setting, index) for index, setting in enumerate(settings)],
        )
        for strategy in strategies
    }
    described = {"name": stream.name, "arguments": stream.arguments, "order": stream.seed, "tasks": len(stream)}
    return Tuned(to_json(described), list(seeds), settings, choices, chosen_by(judged_by))


@dataclass(frozen=True, kw_only=True)
class Judge:
    """Says how good a strategy is with a setting.

    Raises:
        ConfigError: when there is no seed, or one is there twice.
    """

    stream: Stream
    """As `validation_stream` makes it, with the validation samples in the test splits."""
    judged_by: JudgeName = "average"
    seeds: Sequence[int] = (0,)
    """A setting is run with each of these."""
    measurement: Measurement = field(default_factory=Measurement)
    """What is measured; learning curves are not."""
    execution: Execution | None = None
    device: str = "auto"
    threads: int | None = None
    observer: Observer = field(default_factory=Silence)
    """Is told how it goes."""

    def __post_init__(self) -> None:
        require_distinct("seeds", self.seeds)

    def begin(self, trials: Sequence[tuple[Strategy, Training]]) -> None:
        """Tells the observer how much all of these will take."""
        updates = sum(updates_of(strategy, self.stream, training) for strategy, training in trials)
        self.observer.begin(len(self.seeds) * updates)

    def score(self, strategy: Strategy, training: Training, trial: int) -> float:
        """The accuracy by which the setting is judged, mean over seeds; NaN where it diverges with one of them.

        Args:
            strategy: what is judged; it is left as it is.
            training: the setting.
            trial: its number.
        """
        updates, values = updates_of(strategy, self.stream, training), []
        for seed in self.seeds:
            what = f"{strategy.name}, trial {trial}, seed {seed}"
            self.observer.start(what, updates)
            values.append(self._accuracy(strategy, training, seed))
            self.observer.end(what, None)
        return float(np.mean(values))

    def _accuracy(self, strategy: Strategy, training: Training, seed: int) -> float:
        try:
            result = run(
                strategy,
                self.stream,
                training=training,
                measurement=replace(self.measurement, lca_updates=0, curve_points=0, gates=()),
                execution=self.execution,
                seed=seed,
                device=self.device,
                threads=self.threads,
                advance=self.observer.advance,
            )
        except DivergedError:
            return float("nan")
        return _JUDGES[self.judged_by](result.accuracy)


def draw_trials(training: Training, trials: int) -> Iterator[Training]:
    """The settings: the given one, then random ones that depend on nothing but their number.

    Raises:
        ConfigError: when there are none.
    """
    if trials < 1:
        raise ConfigError(f"trials: required at least 1, found {trials}.")
    yield training
    generator = np.random.default_rng(derive_seed(0, "tune"))
    low, high = np.log(_RATES)
    for _ in range(trials - 1):
        rate = float(np.exp(generator.uniform(low, high)))
        yield replace(training, lr=rate, weight_decay=float(generator.choice(_DECAYS)))


def validation_stream(stream: Stream) -> Stream:
    """The stream with the validation splits in the place of the test splits.

    Raises:
        ConfigError: when a task has none.
    """
    for task in stream:
        if not len(task.val):
            raise ConfigError(f"stream: required a validation split in every task, found none in task {task.label}.")
    return stream.having([replace(task, test=task.val) for task in stream])


def chosen_by(judge: JudgeName) -> str:
    """What a search that is judged so is chosen by, in words."""
    return f"{judge} validation accuracy"


def _best(name: str, settings: Sequence[Training], scores: Sequence[float]) -> Choice:
    if np.isnan(scores).all():
        raise ConfigError(
            f"strategies: required a setting in which {name} does not diverge, found none of {len(scores)}."
        )
    best = int(np.nanargmax(scores))
    return Choice(settings[best], scores[best], scores)
