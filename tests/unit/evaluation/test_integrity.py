"""Looking changes nothing, and what changes although it is frozen is found."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch

from prognet.engine.digest import tensors_of
from prognet.errors import FrozenColumnError, UnlearnedTaskError
from prognet.evaluation.stepping import evaluate
from prognet.strategies import FineTune, Progressive
from prognet.streams.task import Task
from tests.helpers.runs import (
    KINDS,
    NORMED,
    PLAIN,
    assert_same_tensors,
    make_session,
    modes,
    quick_run,
    tensors,
)
from tests.helpers.streams import make_stream


def seen_of(matrix: Any) -> list[list[bool]]:
    return [[value == value for value in row] for row in matrix]


@pytest.mark.parametrize("kind", KINDS)
def test_evaluating_changes_nothing(kind: str) -> None:
    stream = make_stream()
    learner = quick_run(KINDS[kind](NORMED), stream).learner.train()
    numbers, mode, text = tensors(learner), modes(learner), repr(learner)
    state = torch.get_rng_state()
    first = evaluate(learner, stream, [0, 1, 2], make_session())
    second = evaluate(learner, stream, [0, 1, 2], make_session())
    assert first == second
    assert_same_tensors(tensors(learner), numbers)
    assert modes(learner) == mode
    assert repr(learner) == text
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None or kind.startswith(("fine", "multi")) for parameter in learner.parameters())


def test_only_the_tasks_that_are_named_are_evaluated() -> None:
    stream = make_stream()
    learner = quick_run(FineTune(PLAIN), stream).learner
    rows = evaluate(learner, stream, [1], make_session())
    assert seen_of([rows["accuracy"]]) == [[False, True, False]]


class Eager(Progressive):
    """Looks at every task it can, as often as it can, before and after it learns, and in training mode too."""

    def __init__(self) -> None:
        super().__init__(NORMED)
        self.refused = 0

    def learn(self, tasks: Sequence[Task]) -> None:
        self.look(tasks)
        super().learn(tasks)
        self.look(tasks)

    def look(self, tasks: Sequence[Task]) -> None:
        """Predicts the tasks 0 to 2."""
        for label in range(3):
            try:
                with torch.no_grad():
                    self.predict(tasks[0].test.x, label)
            except UnlearnedTaskError:
                self.refused += 1


def test_looking_early_and_often_changes_nothing() -> None:
    stream = make_stream()
    eager, patient = quick_run(Eager(), stream), quick_run(Progressive(NORMED), stream)
    assert eager.learner.refused == 3 + 2 + 2 + 1 + 1
    assert np.array_equal(eager.accuracy, patient.accuracy, equal_nan=True)
    assert eager.curves == patient.curves
    assert eager.digests == patient.digests
    assert [cost.trainable for cost in eager.costs] == [cost.trainable for cost in patient.costs]


class Meddling(Progressive):
    """Writes into a part of column 0 that is frozen, while it learns task 1."""

    def __init__(self, name: str) -> None:
        super().__init__(NORMED, name="meddling")
        self.part = name

    def learn(self, tasks: Sequence[Task]) -> None:
        super().learn(tasks)
        if tasks[0].label == 1:
            with torch.no_grad():
                dict(tensors_of(self.columns.network.column(0)))[self.part].view(-1)[0] += 1


@pytest.mark.parametrize("part", ["backbone.1.weight", "backbone.9.bias", "backbone.2.running_mean"])
def test_a_frozen_part_that_changes_is_found(part: str) -> None:
    stream = make_stream()
    with pytest.raises(FrozenColumnError) as caught:
        quick_run(Meddling(part), stream)
    digest = quick_run(Progressive(NORMED), stream).digests[0]["column 0"]
    message = f"meddling: required column 0 to stay as it was frozen, digest {digest}, found "
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("after step 1; something wrote into a frozen part.")


class Forgetful(FineTune):
    """Claims something frozen, and then no longer."""

    def frozen_digests(self) -> dict[str, str]:
        return {"trunk": "0"} if len(self.records) == 1 else {}


def test_a_frozen_part_that_goes_missing_is_found() -> None:
    with pytest.raises(FrozenColumnError, match="required trunk to stay as it was frozen, digest 0, found None after"):
        quick_run(Forgetful(PLAIN), make_stream())
