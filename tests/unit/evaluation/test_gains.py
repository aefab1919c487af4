"""Measured gains: the task with one earlier column, minus the task alone; everything else is the same."""

from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import torch

from prognet.config import Training
from prognet.evaluation.gains import Gains, measure_gains
from prognet.strategies import Independent, Progressive
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from tests.helpers.asserts import assert_network_unchanged
from tests.helpers.runs import PLAIN, ZeroAdapter, from_scratch, make_session, quick_run
from tests.helpers.streams import make_samples, make_task

TRAINING = Training(epochs=20, batch_size=8, lr=0.01)


def stream() -> Stream:
    """The last of three tasks has the patterns of the first, and few samples; the second is another one."""
    tasks = [make_task(label, 4, 64) for label in range(3)]
    few, test = make_samples(0, "more", 8, 4), make_samples(0, "other", 60, 4)
    return Stream([*tasks[:2], replace(tasks[2], train=few, test=test)], name="related")


@cache
def learned() -> Independent:
    learner: Independent = quick_run(Independent(PLAIN), stream(), training=TRAINING).learner
    return learner


def gains_of(learner: Independent, **changes: object) -> Gains:
    columns = learner.columns
    arguments = {"session": make_session(TRAINING), **changes}
    return measure_gains(columns.network, columns.column_of, list(stream()), PLAIN, **arguments)  # type: ignore[arg-type]


def test_a_column_that_hears_nothing_gains_exactly_nothing() -> None:
    found = gains_of(learned(), adapter=ZeroAdapter())
    above = np.triu_indices(3, 1)
    assert (found.gain[above] == 0).all()
    assert np.isnan(found.gain[np.tril_indices(3)]).all()
    assert np.isnan(found.alone[0])


def test_alone_is_the_independent_network_of_a_run() -> None:
    result = quick_run(Independent(PLAIN), stream(), training=TRAINING)
    found = gains_of(result.learner)
    assert found.alone[1:].tolist() == np.diagonal(result.accuracy)[1:].tolist()
    for label, column in found.columns.items():
        expected = result.learner.columns.network.column(label)
        for (name, one), (_, other) in zip(column.named_parameters(), expected.named_parameters(), strict=True):
            assert torch.equal(one, other), name


def test_with_a_source_is_the_progressive_network_of_two_tasks() -> None:
    pair = Stream([task for task in stream() if task.label < 2], name="pair")
    run = quick_run(from_scratch(PLAIN), pair, training=TRAINING)
    learner = learned()
    assert gains_of(learner).accuracy[0, 1] == run.accuracy[1, 1]


def test_the_related_source_is_worth_most() -> None:
    found = [gains_of(learned(), session=make_session(TRAINING, seed=seed)).gain[:, 2] for seed in range(3)]
    mean = np.mean(found, axis=0)
    assert mean[0] > 0.02
    assert mean[0] > mean[1]


def test_the_network_stays_as_it_is_and_every_column_is_told() -> None:
    learner, told = learned(), list[int]()
    assert_network_unchanged(learner.columns.network, lambda: gains_of(learner, advance=told.append))
    assert told == [1] * 5  # two alone, three pairs
    again = gains_of(learner)
    np.testing.assert_array_equal(again.gain, gains_of(learner).gain)


def test_sources_that_read_sources_are_run_with_them() -> None:
    learner: Progressive = quick_run(from_scratch(PLAIN), stream(), training=TRAINING).learner
    columns = learner.columns
    found = measure_gains(columns.network, columns.column_of, list(stream()), PLAIN, make_session(TRAINING))
    assert not np.isnan(found.gain[np.triu_indices(3, 1)]).any()


def test_the_test_split_decides_nothing() -> None:
    learner = learned()
    columns, tasks = learner.columns, list(stream())

    def alone(last: Task) -> Gains:
        return measure_gains(columns.network, columns.column_of, [*tasks[:2], last], PLAIN, make_session(TRAINING))

    other = replace(tasks[2], test=Samples(tasks[2].test.x, tasks[2].test.y.flip(0)))
    one, two = alone(tasks[2]), alone(other)
    assert one.alone[2] != two.alone[2]
    pairs = zip(one.columns[2].parameters(), two.columns[2].parameters(), strict=True)
    assert all(torch.equal(a, b) for a, b in pairs)
    assert one.alone[1] == pytest.approx(two.alone[1])
