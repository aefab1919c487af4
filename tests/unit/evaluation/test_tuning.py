from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prognet.config import Measurement, Training
from prognet.errors import ConfigError, DivergedError
from prognet.evaluation.harness import run
from prognet.evaluation.tuning import draw_trials, tune, validation_stream
from prognet.metrics import average_accuracy
from prognet.strategies import FineTune, Independent, Progressive, Strategy
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.tuned import Tuned, read_tuned, write_tuned
from tests.helpers.commands import Recorder
from tests.helpers.data import blobs, with_split
from tests.helpers.runs import PLAIN, quick_run
from tests.helpers.streams import make_stream

TRAINING = Training(epochs=2, batch_size=16, lr=0.01)


def search(strategies: Sequence[Strategy] = (), stream: Stream | None = None, **changes: Any) -> Tuned:
    arguments = {"training": TRAINING, "trials": 3, "device": "cpu", **changes}
    return tune(strategies or [FineTune(PLAIN), Progressive(PLAIN)], stream or blobs((2, 3)), **arguments)


def test_the_first_trial_is_the_given_training_and_the_others_change_what_is_searched() -> None:
    trials = list(draw_trials(TRAINING, 50))
    assert trials[0] == TRAINING
    assert len(set(trials)) == 50
    for trial in trials[1:]:
        assert replace(trial, lr=TRAINING.lr, weight_decay=TRAINING.weight_decay) == TRAINING
        assert 1e-4 <= trial.lr <= 3e-2
        assert trial.weight_decay in (0.0, 1e-5, 1e-4, 1e-3)
    rates = np.log10([trial.lr for trial in trials[1:]])
    assert rates.min() < -3.5
    assert rates.max() > -1.8  # the decades are all visited: uniform in the logarithm
    assert 0.2 < np.mean(rates < -3) < 0.6  # log(1e-3 / 1e-4) / log(3e-2 / 1e-4) = 0.40
    assert len({trial.weight_decay for trial in trials[1:]}) == 4


def test_trials_depend_on_their_number_alone() -> None:
    assert list(draw_trials(TRAINING, 5)) == list(draw_trials(TRAINING, 50))[:5]
    other = list(draw_trials(replace(TRAINING, lr=0.5, epochs=7), 5))
    assert [trial.lr for trial in other[1:]] == [trial.lr for trial in list(draw_trials(TRAINING, 5))[1:]]


def test_every_strategy_gets_the_same_trials_and_seeds(monkeypatch: pytest.MonkeyPatch) -> None:
    ran: list[tuple[str, Training, int]] = []

    def noting(strategy: Strategy, stream: Stream, **arguments: Any) -> Any:
        ran.append((strategy.name, arguments["training"], arguments["seed"]))
        return run(strategy, stream, **arguments)

    monkeypatch.setattr("prognet.evaluation.tuning.run", noting)
    found = search(seeds=(4, 1))
    assert ran == [
        (name, trial, seed) for name in ("finetune", "progressive") for trial in found.trials for seed in (4, 1)
    ]
    assert (len(found.trials), found.seeds) == (3, [4, 1])


def test_a_score_is_the_average_accuracy_on_the_validation_splits() -> None:
    found = search([FineTune(PLAIN)], seeds=(4, 1))
    judged = [replace(task, test=task.val) for task in blobs((2, 3))]
    stream = Stream(judged, name="blobs", seed=0)
    for trial, score in zip(found.trials, found.choices["finetune"].scores, strict=True):
        runs = [quick_run(FineTune(PLAIN), stream, training=trial, seed=seed) for seed in (4, 1)]
        assert score == np.mean([average_accuracy(run.accuracy) for run in runs])


def test_what_is_learned_can_be_judged_in_the_place_of_what_is_kept() -> None:
    found = search([FineTune(PLAIN)], trials=2, judged_by="learning")
    stream = Stream([replace(task, test=task.val) for task in blobs((2, 3))], name="blobs", seed=0)
    for trial, score in zip(found.trials, found.choices["finetune"].scores, strict=True):
        matrix = quick_run(FineTune(PLAIN), stream, training=trial).accuracy
        assert score == (matrix[0, 0] + matrix[1, 1]) / 2
    assert found.chosen_by == "learning validation accuracy"
    assert search([FineTune(PLAIN)], trials=1).chosen_by == "average validation accuracy"


def test_the_best_trial_is_chosen_for_each_strategy() -> None:
    found = search(trials=5)
    for choice in found.choices.values():
        assert choice.score == max(choice.scores)
        assert choice.training == found.trials[list(choice.scores).index(choice.score)]
    assert found.choices["finetune"].scores != found.choices["progressive"].scores


def test_a_search_is_reproducible() -> None:
    assert search() == search()
    assert search() != search(seeds=(5,))


def test_the_test_split_is_never_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = blobs((2, 3))
    changed = [
        with_split(task, "test", x=torch.full_like(task.test.x, 9.0), y=torch.zeros_like(task.test.y))
        for task in stream
    ]
    other = Stream(changed, name=stream.name, seed=stream.seed, arguments=stream.arguments)
    assert search(stream=other, trials=2) == search(stream=stream, trials=2)
    judged = [with_split(task, "val", y=(task.val.y + 1) % task.n_classes) for task in stream]
    assert search(stream=Stream(judged, name="blobs", seed=0), trials=2).choices != search(trials=2).choices


def test_the_validation_stream_has_the_validation_splits_for_test_splits() -> None:
    stream = make_stream((2, 2), heads="shared")
    found = validation_stream(stream)
    assert (found.name, found.heads, found.seed) == (stream.name, "shared", stream.seed)
    for task, old in zip(found, stream, strict=True):
        assert task.test is old.val
        assert (task.train, task.val) == (old.train, old.val)


def test_a_task_without_a_validation_split_is_refused() -> None:
    with pytest.raises(ConfigError, match="stream: required a validation split in every task, found none in task 0"):
        search(stream=make_stream((2, 2), n_val=0))


class Fragile(FineTune):
    """Diverges in all settings but one."""

    good: float

    def learn(self, tasks: Sequence[Task]) -> None:
        if self.current_session().training.lr != self.good:
            raise DivergedError("lr: required another, found this.")
        super().learn(tasks)


def test_a_trial_that_diverges_is_skipped() -> None:
    strategy = Fragile(PLAIN)
    Fragile.good = list(draw_trials(TRAINING, 3))[1].lr
    recorder = Recorder()
    choice = search([strategy], observer=recorder).choices["finetune"]
    assert np.isnan(choice.scores).tolist() == [True, False, True]
    assert choice.training == list(draw_trials(TRAINING, 3))[1]
    assert choice.score == choice.scores[1]
    assert len(recorder.named("start")) == len(recorder.named("end")) == 3


def test_one_seed_that_diverges_rules_the_trial_out() -> None:
    class Unlucky(FineTune):
        def learn(self, tasks: Sequence[Task]) -> None:
            session = self.current_session()
            if (session.training.lr, session.seed) == (TRAINING.lr, 1):
                raise DivergedError("seed: required another, found this.")
            super().learn(tasks)

    choice = search([Unlucky(PLAIN)], seeds=(0, 1)).choices["finetune"]
    assert np.isnan(choice.scores).tolist() == [True, False, False]


def test_a_strategy_that_always_diverges_is_refused() -> None:
    strategy = Fragile(PLAIN)
    Fragile.good = 7.0
    with pytest.raises(ConfigError) as caught:
        search([strategy])
    assert str(caught.value) == "strategies: required a setting in which finetune does not diverge, found none of 3."


def test_real_divergence_is_recognised() -> None:
    wild = Training(epochs=2, batch_size=16, optimiser="sgd", lr=1e9)
    choice = search([Independent(PLAIN)], training=wild).choices["independent"]
    assert np.isnan(choice.scores).tolist() == [True, False, False]


@pytest.mark.parametrize(
    ("strategies", "changes", "message"),
    [
        ([FineTune(PLAIN)], {"trials": 0}, "trials: required at least 1, found 0."),
        ([FineTune(PLAIN)], {"seeds": ()}, "seeds: required at least one, and none of them twice, found []."),
        ([FineTune(PLAIN)], {"seeds": (1, 1)}, "seeds: required at least one, and none of them twice, found [1, 1]."),
        (
            [FineTune(PLAIN), FineTune(PLAIN)],
            {},
            "strategies: required at least one, and none of them twice, found ['finetune', 'finetune'].",
        ),
    ],
)
def test_a_search_that_cannot_be_is_refused(strategies: Any, changes: dict[str, Any], message: str) -> None:
    recorder = Recorder()
    with pytest.raises(ConfigError) as caught:
        search(strategies, observer=recorder, **changes)
    assert str(caught.value) == message
    assert recorder.calls == []


def test_nothing_at_all_is_refused() -> None:
    with pytest.raises(ConfigError, match="strategies: required at least one"):
        tune([], blobs((2, 3)), training=TRAINING)


def test_everybody_is_told_how_it_goes() -> None:
    recorder = Recorder()
    search([FineTune(PLAIN)], trials=2, seeds=(0, 3), observer=recorder)
    one = 2 * (1 + 2)  # epochs times batches of at most 16 of 16 and 24 samples
    assert recorder.named("begin") == [(2 * 2 * one,)]
    assert recorder.named("start") == [
        (f"finetune, trial {trial}, seed {seed}", one) for trial in (0, 1) for seed in (0, 3)
    ]
    assert recorder.named("end") == [(what, None) for what, _ in recorder.named("start")]
    assert recorder.updates == 2 * 2 * one


def test_learning_curves_are_not_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    curves: list[int] = []

    def noting(*arguments: Any, **keywords: Any) -> Any:
        result = run(*arguments, **keywords)
        curves.extend(len(curve.updates) for curve in result.curves)
        return result

    monkeypatch.setattr("prognet.evaluation.tuning.run", noting)
    search([FineTune(PLAIN)], trials=1, measurement=Measurement(lca_updates=5, curve_points=9))
    assert curves == [2, 2]  # the beginning and the end


def test_a_search_is_written_and_read(tmp_path: Path) -> None:
    found = search()
    assert found.stream == {"name": "blobs", "arguments": {"class_counts": [2, 3]}, "order": 0, "tasks": 2}
    write_tuned(tmp_path / "tuned.json", found)
    assert read_tuned(tmp_path / "tuned.json") == {name: choice.training for name, choice in found.choices.items()}
