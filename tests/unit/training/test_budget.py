"""Budgets, counted by hand: three tasks of 10, 40 and 21 samples in batches of at most 16."""

from math import cos, isnan, pi
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.functional import cross_entropy

from prognet.config import Measurement, Training
from prognet.results import LearningCurve
from prognet.streams.task import Task
from prognet.training import FitRecord, fit
from prognet.training.batches import Sampling
from prognet.training.budget import Budget, budget_of
from tests.helpers.plain import (
    assert_equal_numbers,
    assert_other_numbers,
    plain_batches,
    plain_network,
    plain_orders,
    plain_training,
)
from tests.helpers.runs import PLAIN, make_session
from tests.helpers.streams import make_stream, make_task

TASKS = list(make_stream((2, 5, 3), [10, 40, 21]))
SEVEN = Training(updates=7, batch_size=16)
FIRST = Training(updates=7, first_updates=9, batch_size=16, first_batch_size=4)


def train(training: Training, tasks: list[Task], sampling: Sampling = 0.0) -> tuple[nn.Module, FitRecord]:
    network = plain_network(PLAIN, tasks[0])
    session = make_session(training, Measurement(lca_updates=2, curve_points=2, curve_samples=20))
    record = fit(
        network,
        lambda inputs: {label: network(x) for label, x in inputs.items()},
        lambda x, label: network(x),
        tasks,
        session,
        sampling,
    )
    return network, record


@pytest.mark.parametrize(
    ("training", "label", "required"),
    [
        (Training(epochs=5, batch_size=16), 0, Budget([10], 1, 1, 5)),
        (Training(epochs=5, batch_size=16), 1, Budget([40], 3, 3, 15)),
        (SEVEN, 0, Budget([10], 1, 1, 7)),
        (SEVEN, 1, Budget([40], 3, 3, 7)),  # two passes and a third of one
        (FIRST, 0, Budget([10], 3, 3, 9)),  # 4, 3 and 3 samples
        (FIRST, 1, Budget([40], 3, 3, 7)),
        (Training(epochs=2, first_updates=9, batch_size=16), 0, Budget([10], 1, 1, 9)),
        (Training(epochs=2, first_updates=9, batch_size=16), 1, Budget([40], 3, 3, 6)),
        (Training(epochs=0), 1, Budget([40], 1, 1, 0)),
    ],
)
def test_the_budget_of_a_task_alone(training: Training, label: int, required: Budget) -> None:
    assert budget_of(training, [TASKS[label]]) == required


@pytest.mark.parametrize(
    ("training", "sampling", "required"),
    [
        (Training(epochs=4, batch_size=16), 0.0, Budget([24, 24, 23], 5, 5, 20)),
        (Training(epochs=4, batch_size=16), 1.0, Budget([10, 40, 21], 5, 5, 20)),
        # alone: 7 * 10; 2 * 40 and the first third, 13; 3 * 21 and the first half, 10; in all 236 = 14 * 16 + 12,
        # shared out as 10 : 40 : 21
        (SEVEN, 1.0, Budget([33, 133, 70], 15, 5, 15)),
        (SEVEN, 0.0, Budget([79, 79, 78], 15, 5, 15)),
        (FIRST, 1.0, Budget([28, 110, 58], 13, 5, 13)),  # 9 batches are three passes over 10; 196 in all
        (Training(epochs=2, first_updates=9, batch_size=16), 1.0, Budget([30, 119, 63], 14, 5, 14)),
        (Training(epochs=4, batch_size=16, first_batch_size=1), 1.0, Budget([10, 40, 21], 5, 5, 20)),
    ],
)
def test_the_budget_of_tasks_together(training: Training, sampling: Sampling, required: Budget) -> None:
    assert budget_of(training, TASKS, sampling) == required


@pytest.mark.parametrize("training", [SEVEN, FIRST])
@pytest.mark.parametrize("sampling", [0.0, 0.5, 1.0])
def test_together_they_see_what_they_see_alone(training: Training, sampling: Sampling) -> None:
    tasks = list(make_stream((2, 2, 2), [10, 40, 21], heads="shared"))
    alone = [train(training, [task])[1].samples for task in tasks]
    _, record = train(training, tasks, sampling)
    assert record.samples == sum(alone)
    assert record.updates == budget_of(training, tasks, sampling).updates


def test_tasks_without_samples_need_no_training() -> None:
    outlines = [task.outline() for task in TASKS]
    without = make_session(FIRST).without_training().training
    assert budget_of(without, outlines).updates == 0
    assert budget_of(without, outlines[:1], 1.0).updates == 0


@pytest.mark.parametrize("epochs", [0, 3])
def test_updates_of_whole_passes_are_epochs_bit_for_bit(epochs: int) -> None:
    task = make_task(1, 5)
    by_epochs, by_updates = plain_network(PLAIN, task), train(Training(epochs=epochs, updates=6, batch_size=16), [task])
    plain_training(by_epochs, task, Training(epochs=2, batch_size=16), lambda p: torch.optim.Adam(p, fused=True))
    assert_equal_numbers([by_updates[0]], [by_epochs])


def test_the_last_pass_is_cut_short_and_the_schedule_is_of_the_updates() -> None:
    task = make_task(1, 5)
    theirs = plain_network(PLAIN, task)
    batches = [chosen for order in plain_orders(task, 3) for chosen in plain_batches(order, 16)][:7]
    optimiser = torch.optim.Adam(theirs.parameters(), lr=0.01, fused=True)
    for update, chosen in enumerate(batches):
        optimiser.param_groups[0]["lr"] = 0.01 * (1 + cos(pi * update / 7)) / 2
        optimiser.zero_grad()
        cross_entropy(theirs(task.train.x[chosen]), task.train.y[chosen]).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    ours, record = train(Training(updates=7, batch_size=16, lr=0.01, schedule="cosine"), [task])
    assert_equal_numbers([ours], [theirs.eval()])
    assert (record.updates, record.samples) == (7, 40 + 40 + 13)
    assert record.curves[0].updates == (0, 1, 2, 4, 7)  # 2 + 5 // 2, 2 + 5
    assert len(record.curves[0].validation) == 3  # after two passes and at the end
    assert not any(isnan(loss) for loss in record.curves[0].validation)
    per_sample = train(Training(epochs=1, batch_size=16), [task])[1].flops / 40
    assert record.flops == pytest.approx(93 * per_sample)


def test_the_budget_of_the_first_task_is_no_others() -> None:
    first, later = make_task(0, 5), make_task(1, 5)
    assert train(FIRST, [first])[1].updates == 9
    networks = [train(training, [later])[0] for training in (SEVEN, FIRST)]
    assert_equal_numbers([networks[0]], [networks[1]])
    assert_other_numbers(*[train(training, [first])[0] for training in (SEVEN, FIRST)])


def test_progress_is_told_after_every_pass() -> None:
    told: list[int] = []
    network = plain_network(PLAIN, TASKS[1])
    session: Any = make_session(SEVEN)
    object.__setattr__(session, "advance", told.append)
    fit(network, lambda x: {1: network(x[1])}, lambda x, label: network(x), [TASKS[1]], session)
    assert told == [3, 3, 1]


def curve_of(patience: int) -> LearningCurve:
    training = Training(updates=100, batch_size=16, lr=0.3, patience=patience)
    return train(training, [make_task(0, 5)])[1].curves[0]


def test_early_stopping_counts_passes() -> None:
    curve = curve_of(2)
    losses = list(curve.validation)
    assert losses.index(min(losses)) == len(losses) - 3
    assert curve.updates[-1] == 3 * len(losses) < 100
    assert len(curve_of(4).validation) > len(losses)
