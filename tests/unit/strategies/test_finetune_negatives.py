"""Inputs of earlier tasks as one further class: which are kept, when they are added, and what is learned from them."""

from typing import Any

import pytest
import torch
from torch import Tensor

from prognet.config import Training
from prognet.errors import ConfigError
from prognet.strategies import FineTune, FineTuning
from prognet.strategies.finetune_negatives import KeptInputs
from prognet.strategies.finetune_objective import SoftClassification
from prognet.streams.task import Samples
from prognet.training import fit
from tests.helpers.runs import PLAIN, learn_all, quick_run, with_session
from tests.helpers.streams import make_byte_stream, make_stream, make_task

STREAM = make_stream((3, 4))


def rows(x: Tensor) -> set[bytes]:
    """Samples as things that can be looked up."""
    return {row.numpy().tobytes() for row in x}


def test_every_place_is_filled_from_the_first_task_and_shared_by_the_later_ones() -> None:
    tasks = [make_task(label, 2, 200) for label in range(4)]
    of = {row: task.label for task in tasks for row in rows(task.train.x)}
    kept = KeptInputs(2000, (1, 4, 4))
    for count, task in enumerate(tasks, start=1):
        kept.keep(task, seed=0)
        owners = [of[row.numpy().tobytes()] for row in kept.x]
        shares = [owners.count(label) / 2000 for label in range(count)]
        assert sum(shares) == 1
        assert shares == pytest.approx([1 / count] * count, abs=0.05)  # five deviations of a binomial share


def test_what_is_kept_depends_on_the_seed_alone() -> None:
    found = []
    for seed in (0, 0, 1):
        kept = KeptInputs(5, (1, 4, 4))
        kept.keep(make_task(0, 2), seed)
        found.append(kept.x.clone())
    assert torch.equal(found[0], found[1])
    assert not torch.equal(found[0], found[2])


def test_they_are_added_as_one_further_class_with_the_normalisation_of_the_task() -> None:
    first, second = make_byte_stream()
    kept = KeptInputs(3, first.input_shape)
    kept.keep(first, seed=0)
    assert rows((kept.x * 255).round().to(torch.uint8)) <= rows(first.train.x)
    task = kept.added_to(second)
    assert len(task.train) == len(second.train) + 3
    assert task.train.y.tolist() == [*second.train.y.tolist(), 2, 2, 2]
    assert torch.equal(task.normalisation(task.train.x[:-3]), second.normalisation(second.train.x))
    assert torch.equal(task.train.x[-3:], kept.x)
    assert (task.val, task.test) == (second.val, second.test)


def taught(recipe: FineTuning, monkeypatch: pytest.MonkeyPatch, stream: Any = STREAM) -> list[Any]:
    """The tasks that are handed to the training loop."""
    seen: list[Any] = []

    def noting(module: Any, forward: Any, predict: Any, tasks: Any, *others: Any, **more: Any) -> Any:
        seen.extend(tasks)
        return fit(module, forward, predict, tasks, *others, **more)

    monkeypatch.setattr("prognet.strategies.base.fit", noting)
    learn_all(FineTune(PLAIN, recipe=recipe), stream)
    return seen


def test_they_are_learned_with_tasks_that_are_short_of_data(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = taught(FineTuning(negatives=6, scarce=11), monkeypatch)  # 10 samples a class
    assert (len(first.train), len(second.train)) == (40, 46)
    assert isinstance(second.objective, SoftClassification)
    assert rows(second.train.x[-6:]) <= rows(STREAM[0].train.x)
    first, second = taught(FineTuning(negatives=6, scarce=10), monkeypatch)
    assert len(second.train) == 40
    assert second.objective == STREAM[1].objective


def test_a_model_that_learns_them_tells_them_from_its_own() -> None:
    strategy = FineTune(PLAIN, recipe=FineTuning(negatives=40))
    with_session(strategy, Training(epochs=30, batch_size=16, lr=0.02))
    for task in make_stream((2, 2)):
        strategy.learn([task])
    with torch.no_grad():
        own = strategy.predict(make_stream((2, 2))[1].test.x, 1).logsumexp(1)  # against a logit of 0
        other = strategy.predict(make_stream((2, 2))[0].test.x, 1).logsumexp(1)
    assert (own > 0).double().mean() > 0.9
    assert (other < 0).double().mean() > 0.9


def test_they_are_stored_with_the_run_and_predictions_keep_their_classes() -> None:
    result = quick_run(FineTune(PLAIN, recipe=FineTuning(negatives=6)), STREAM)
    assert result.learner.predict(STREAM[1].test.x, 1).shape == (30, 4)
    plain = quick_run(FineTune(PLAIN), STREAM)
    more = [ours.stored_bytes - theirs.stored_bytes for ours, theirs in zip(result.costs, plain.costs, strict=True)]
    assert more == [6 * 16 * 4] * 2


def test_tasks_of_another_shape_are_refused() -> None:
    kept = KeptInputs(3, (1, 4, 4))
    kept.keep(make_task(0, 2), seed=0)
    with pytest.raises(ConfigError, match=r"negatives: required inputs \(1, 4, 4\) in every task, found \(1, 5, 5\)"):
        kept.added_to(make_task(1, 2, shape=(1, 5, 5)))


def test_a_rebuilt_run_has_their_place() -> None:
    kept = KeptInputs(3, (1, 4, 4))
    kept.keep(make_task(0, 2).outline(), seed=0)
    assert kept.tasks == 1
    assert not kept.x.any()
    empty = make_task(1, 2).outline()
    assert isinstance(empty.train, Samples)
    assert kept.added_to(empty) is empty
