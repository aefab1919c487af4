from dataclasses import replace
from math import isnan

import pytest
import torch
from torch import nn

from prognet.config import Training
from prognet.streams.task import Samples, Task
from prognet.training import FitRecord, fit
from tests.helpers.plain import assert_equal_numbers, plain_accuracy, plain_loss, plain_network, plain_training
from tests.helpers.runs import NORMED, make_session
from tests.helpers.streams import make_task

History = tuple[Task, list[float], list[dict[str, torch.Tensor]]]

EPOCHS, PATIENCE = 12, 3
TRAINING = Training(epochs=EPOCHS, batch_size=16, lr=0.3, patience=PATIENCE)


def train(task: Task, training: Training = TRAINING) -> tuple[nn.Module, FitRecord]:
    network = plain_network(NORMED, task)
    record = fit(
        network,
        lambda inputs: {task.label: network(inputs[task.label])},
        lambda x, label: network(x),
        [task],
        make_session(training),
    )
    return network, record


def other_samples(task: Task, n: int) -> Samples:
    return make_task(7, task.n_classes, n_val=n).val


@pytest.fixture(scope="module")
def history() -> History:
    """A task, and what plain training without early stopping gives: validation losses and states after every epoch."""
    task = make_task(0, 5)
    network = plain_network(NORMED, task)
    states = plain_training(network, task, TRAINING, lambda p: torch.optim.Adam(p, lr=0.3, fused=True))
    losses = []
    for state in states:
        network.load_state_dict(state)
        losses.append(plain_loss(network, task.val))
    return task, losses, states


def stop_of(losses: list[float]) -> tuple[int, int]:
    """(best epoch, last epoch) of early stopping, by the definition."""
    best = 0
    for epoch, loss in enumerate(losses):
        if loss < losses[best]:
            best = epoch
        if epoch - best == PATIENCE:
            return best, epoch
    return best, len(losses) - 1


def test_the_example_stops_early_and_not_at_its_best(history: History) -> None:
    best, last = stop_of(history[1])
    assert 0 < best < last < EPOCHS - 1


def test_it_stops_after_the_patience_and_restores_the_best_state(
    history: History,
) -> None:
    task, losses, states = history
    best, last = stop_of(losses)
    network, record = train(task)
    required = plain_network(NORMED, task)
    required.load_state_dict(states[best])
    assert_equal_numbers([network], [required])  # BatchNorm's statistics included
    assert record.updates == 3 * (last + 1)
    assert record.samples == 40 * (last + 1)
    assert record.curves[0].validation == pytest.approx(losses[: last + 1], abs=1e-6)


def test_the_curve_describes_the_training_up_to_its_stop(
    history: History,
) -> None:
    task, losses, states = history
    _, last = stop_of(losses)
    _, record = train(task)
    network = plain_network(NORMED, task)
    network.load_state_dict(states[last])
    seen = Samples(task.test.x, task.test.y)
    curve = train_with_all_test_samples(task)
    assert record.curves[0].updates[-1] == 3 * (last + 1)
    assert list(record.curves[0].updates) == sorted(set(record.curves[0].updates))
    assert curve[-1] == plain_accuracy(network, seen)


def train_with_all_test_samples(task: Task) -> tuple[float, ...]:
    network = plain_network(NORMED, task)
    session = make_session(TRAINING)
    session = replace(session, measurement=replace(session.measurement, curve_samples=1000))
    record = fit(network, lambda inputs: {0: network(inputs[0])}, lambda x, label: network(x), [task], session)
    return record.curves[0].accuracy


def test_without_patience_the_last_state_stays() -> None:
    task = make_task(0, 5)
    training = Training(epochs=4, batch_size=16, lr=0.3)
    network, record = train(task, training)
    required = plain_network(NORMED, task)
    plain_training(required, task, training, lambda p: torch.optim.Adam(p, lr=0.3, fused=True))
    assert_equal_numbers([network], [required])
    assert len(record.curves[0].validation) == 4


def test_the_test_split_decides_nothing() -> None:
    task = make_task(0, 5)
    networks = [train(task)[0], train(replace(task, test=other_samples(task, 25)))[0]]
    assert_equal_numbers([networks[0]], [networks[1]])


def test_the_validation_split_decides_when_to_stop() -> None:
    task = make_task(0, 5)
    records = [train(task)[1], train(replace(task, val=other_samples(task, 8)))[1]]
    assert records[0].curves[0].validation != records[1].curves[0].validation
    assert records[0].updates != records[1].updates


def test_without_a_validation_split_its_loss_is_unknown() -> None:
    _, record = train(make_task(0, 2, n_val=0), Training(epochs=2, batch_size=16))
    assert len(record.curves[0].validation) == 2
    assert all(isnan(loss) for loss in record.curves[0].validation)
