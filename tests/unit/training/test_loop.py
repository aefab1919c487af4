from collections.abc import Callable
from dataclasses import replace
from math import cos, pi
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import SGD, Adam, AdamW, RMSprop

from prognet.config import Measurement, Training
from prognet.errors import DivergedError
from prognet.strategies.multitask import FixedWeights
from prognet.streams.task import Task
from prognet.training import FitRecord, Procedure, fit
from tests.helpers.plain import (
    Factor,
    MakeOptimiser,
    assert_equal_numbers,
    assert_other_numbers,
    plain_batches,
    plain_network,
    plain_orders,
    plain_training,
)
from tests.helpers.runs import NORMED, PLAIN, TRAINING, assert_same_tensors, make_session, tensors
from tests.helpers.streams import make_stream, make_task


def flat(update: int, updates: int) -> float:
    return 1.0


def line(update: int, updates: int) -> float:
    return 1 - update / updates


def half_cosine(update: int, updates: int) -> float:
    return (1 + cos(pi * update / updates)) / 2


RECIPES: dict[str, tuple[dict[str, Any], MakeOptimiser, Factor]] = {
    "adam": ({}, lambda p: Adam(p, lr=0.01, fused=True), flat),
    "adamw, linear, decay": (
        {"optimiser": "adamw", "weight_decay": 0.1, "schedule": "linear"},
        lambda p: AdamW(p, lr=0.01, weight_decay=0.1, fused=True),
        line,
    ),
    "sgd, momentum, decay, clipping, cosine": (
        {"optimiser": "sgd", "momentum": 0.9, "weight_decay": 0.01, "clip_norm": 0.5, "schedule": "cosine"},
        lambda p: SGD(p, lr=0.01, momentum=0.9, weight_decay=0.01, fused=True),
        half_cosine,
    ),
    "rmsprop, momentum": (
        {"optimiser": "rmsprop", "momentum": 0.5},
        lambda p: RMSprop(p, lr=0.01, momentum=0.5),
        flat,
    ),
    "adam, smoothing": ({"label_smoothing": 0.2}, lambda p: Adam(p, lr=0.01, fused=True), flat),
}


def fit_alone(network: nn.Module, task: Task, training: Training = TRAINING, **changes: Any) -> FitRecord:
    """Trains a network on one task; `changes` are arguments of `make_session`."""
    session = make_session(training, **changes)
    return fit(network, lambda inputs: {k: network(x) for k, x in inputs.items()}, _predict(network), [task], session)


def _predict(network: nn.Module) -> Callable[[Tensor, int], Tensor]:
    return lambda x, label: network(x)


@pytest.mark.parametrize("backbone", [PLAIN, NORMED], ids=["plain", "normed"])
@pytest.mark.parametrize("recipe", RECIPES)
def test_training_is_the_plain_loop_bit_for_bit(recipe: str, backbone: Any) -> None:
    words, make_optimiser, factor = RECIPES[recipe]
    training = Training(epochs=3, batch_size=16, lr=0.01, **words)
    task = make_task(0, 5)
    ours, theirs = plain_network(backbone, task), plain_network(backbone, task)
    fit_alone(ours, task, training)
    plain_training(theirs, task, training, make_optimiser, factor=factor)
    assert_equal_numbers([ours], [theirs])
    assert_other_numbers(ours, plain_network(backbone, task))


def test_clipping_binds_in_the_recipe_above() -> None:
    task = make_task(0, 5)
    networks = [plain_network(PLAIN, task) for _ in range(2)]
    for network, clip_norm in zip(networks, [0.5, None], strict=True):
        fit_alone(network, task, Training(epochs=1, batch_size=16, lr=0.01, optimiser="sgd", clip_norm=clip_norm))
    assert_other_numbers(networks[0], networks[1])


def test_the_record_counts_what_was_done() -> None:
    task = make_task(0, 2)
    network = plain_network(PLAIN, task)
    record = fit_alone(network, task)
    # 40 samples in ceil(40 / 16) = 3 batches, two epochs; 16*8 + 8 + 8*6 + 6 + 6*2 + 2 parameters
    assert (record.updates, record.samples, record.trainable) == (6, 80, 204)
    assert record.seconds > 0
    assert record.measuring_seconds > 0


def test_only_parameters_with_a_gradient_are_trained() -> None:
    task = make_task(0, 2)
    network = plain_network(PLAIN, task)
    network[1].requires_grad_(False)  # type: ignore[index]
    before = tensors(network)
    record = fit_alone(network, task, Training(epochs=2, batch_size=16, optimiser="adamw", weight_decay=0.5))
    after = tensors(network)
    assert record.trainable == 204 - (16 * 8 + 8)
    assert [name for name in before if torch.equal(before[name], after[name])] == ["1.weight", "1.bias"]


def test_a_network_is_in_evaluation_mode_afterwards() -> None:
    task = make_task(0, 2)
    for epochs in (0, 1):
        network = plain_network(NORMED, task)
        fit_alone(network, task, Training(epochs=epochs))
        assert not any(part.training for part in network.modules())


def test_no_epochs_change_nothing() -> None:
    task = make_task(0, 2)
    network = plain_network(NORMED, task)
    before = tensors(network)
    record = fit_alone(network, task, Training(epochs=0))
    assert_same_tensors(tensors(network), before)
    assert (record.curves, record.updates, record.samples, record.flops) == ((), 0, 0, 0.0)


def test_the_global_generator_is_left_as_it_was() -> None:
    task = make_task(0, 2)
    network = plain_network(NORMED, task)
    state = torch.get_rng_state()
    fit_alone(network, task)
    assert torch.equal(torch.get_rng_state(), state)


def test_the_global_generator_decides_nothing() -> None:
    task = make_task(0, 2)
    networks = [plain_network(NORMED, task) for _ in range(2)]
    for seed, network in enumerate(networks):
        torch.manual_seed(seed)
        fit_alone(network, task)
    assert_equal_numbers([networks[0]], [networks[1]])


def test_progress_is_told_once_an_epoch() -> None:
    told: list[int] = []
    task = make_task(0, 2)
    network = plain_network(PLAIN, task)
    session = replace(make_session(Training(epochs=3, batch_size=16)), advance=told.append)
    fit(network, lambda inputs: {0: network(inputs[0])}, _predict(network), [task], session)
    assert told == [3, 3, 3]


class NaNAt(nn.Module):
    """A network whose output is not a number in the n-th update, counted from 0."""

    def __init__(self, network: nn.Module, update: int) -> None:
        super().__init__()
        self.network, self.update, self.calls = network, update, 0

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.network(x)
        if self.training:
            self.calls += 1
        return out * float("nan") if self.training and self.calls == self.update + 1 else out


def test_a_loss_that_is_no_number_names_task_and_update() -> None:
    task = make_task(4, 2)
    network = NaNAt(plain_network(PLAIN, task), update=4)
    with pytest.raises(DivergedError) as caught:
        fit_alone(network, task, Training(epochs=2, batch_size=16, lr=0.5))
    assert str(caught.value) == (
        "training of tasks [4]: required a finite loss, found nan at update 4 of 6; use a smaller lr than 0.5, or "
        "clip_norm."
    )


def test_an_infinite_loss_is_found_too() -> None:
    task = make_task(0, 2)
    network = plain_network(PLAIN, task)
    with pytest.raises(DivergedError, match=r"found (nan|inf) at update 1 of 6; use a smaller lr than 1e\+30"):
        fit_alone(network, task, Training(epochs=2, batch_size=16, lr=1e30, optimiser="sgd"))


def test_the_loss_of_a_joint_batch_is_the_weighted_mean_over_its_samples() -> None:
    stream = make_stream((2, 5), [10, 40])
    heads = nn.ModuleList([nn.Linear(16, 2), nn.Linear(16, 5)])
    plain = nn.ModuleList([nn.Linear(16, 2), nn.Linear(16, 5)])
    plain.load_state_dict(heads.state_dict())

    def forward(inputs: Any) -> dict[int, Tensor]:
        return {label: heads[label](x.flatten(1)) for label, x in inputs.items()}

    training = Training(epochs=1, batch_size=50, lr=0.5, optimiser="sgd", label_smoothing=0.1)
    session = make_session(training, Measurement(lca_updates=0, curve_points=0))
    procedure = Procedure(weighting=FixedWeights(weights=[1, 0.25]).start)
    fit(heads, forward, lambda x, label: heads[label](x.flatten(1)), list(stream), session, 1.0, procedure=procedure)

    sums = []
    for task, head, weight in zip(stream, plain, [1.0, 0.25], strict=True):
        (order,) = plain_orders(task, 1)
        (chosen,) = plain_batches(order, 50)
        logits = head(task.train.x[chosen].flatten(1))
        sums.append(weight * cross_entropy(logits, task.train.y[chosen], reduction="sum", label_smoothing=0.1))
    (sum(sums) / 50).backward()  # type: ignore[union-attr]
    with torch.no_grad():
        for parameter in plain.parameters():
            assert parameter.grad is not None
            parameter.sub_(0.5 * parameter.grad)
    for found, required in zip(heads.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(found, required, atol=1e-7)


def test_label_smoothing_spreads_over_the_classes_of_the_task_alone() -> None:
    # Two classes of equal logits: target 0.9 and 0.1, so the gradient of the logits is -0.4 and 0.4. With the mass
    # spread over five classes instead, the right one would have 0.84.
    task = make_task(0, 2, n_train=1)
    head = nn.Linear(16, 2)
    nn.init.zeros_(head.weight)
    nn.init.zeros_(head.bias)
    network = nn.Sequential(nn.Flatten(), head)
    fit_alone(network, task, Training(epochs=1, batch_size=1, lr=1.0, optimiser="sgd", label_smoothing=0.2))
    assert head.bias.tolist() == pytest.approx([0.4, -0.4])
