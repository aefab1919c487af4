"""Pretexts: what they are made of, that labels play no part, and that they are booked."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from prognet.config import Training
from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.strategies import FineTune, FineTuning
from prognet.strategies.start_pretext import Reconstruction, learn_pretext, pretext_start, pretext_task
from prognet.streams.task import Samples
from tests.helpers.plain import plain_network
from tests.helpers.runs import NORMED, PLAIN, TRAINING, assert_same_tensors, make_session, quick_run, tensors
from tests.helpers.streams import make_byte_stream, make_samples, make_stream, make_task

TASK = make_task(0, 3)
KINDS = ("autoencoder", "rotation")


def trunk_after(kind: Any, task: Any = TASK, seed: int = 0, updates: int = 20, training: Training = TRAINING) -> Any:
    """A fresh trunk after its pretext, and what that cost."""
    trunk = plain_network(PLAIN, task)[:-1]  # type: ignore[index]
    recipe = FineTuning(pretext=kind, pretext_updates=updates)
    return trunk, learn_pretext(trunk, task, recipe, make_session(training, seed=seed))


def test_turns_are_those_of_images_by_hand() -> None:
    x = torch.arange(8.0).view(2, 1, 2, 2)
    task = pretext_task(replace(TASK, train=Samples(x, torch.zeros(2, dtype=torch.int64))), "rotation")
    assert task.train.x[::2].view(4, 4).tolist() == [[0, 1, 2, 3], [1, 3, 0, 2], [3, 2, 1, 0], [2, 0, 3, 1]]
    assert task.train.y.tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


def test_inputs_are_coded_as_the_network_sees_them() -> None:
    byte_task = make_byte_stream()[0]
    task = pretext_task(byte_task, "autoencoder")
    assert torch.equal(task.train.y, byte_task.normalisation(byte_task.train.x))
    output = torch.zeros(len(task.train), 32)
    assert Reconstruction().loss(output, task.train.y).item() == pytest.approx(task.train.y.square().mean().item())
    assert Reconstruction().metrics(output, task.train.y)["accuracy"] == pytest.approx(
        -task.train.y.square().mean().item()
    )


@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_other_splits_play_no_part(kind: Any) -> None:
    trunk, _ = trunk_after(kind)
    other = replace(TASK, train=Samples(TASK.train.x, 2 - TASK.train.y), val=TASK.test, test=TASK.val)
    assert_same_tensors(tensors(trunk_after(kind, other)[0]), tensors(trunk))
    fresh = tensors(plain_network(PLAIN, TASK)[:-1])  # type: ignore[index]
    assert not torch.equal(tensors(trunk)["1.weight"], fresh["1.weight"])


@pytest.mark.parametrize("kind", KINDS)
def test_it_depends_on_the_seed_and_draws_nothing_of_others(kind: Any) -> None:
    state = torch.get_rng_state()
    one, again, other = (tensors(trunk_after(kind, seed=seed)[0]) for seed in (0, 0, 1))
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_tensors(one, again)
    assert not torch.equal(one["1.weight"], other["1.weight"])


@pytest.mark.parametrize("kind", KINDS)
def test_what_is_learned_is_what_the_pretext_asks_for(kind: Any) -> None:
    def error_of_a_new_decoder(trunk: nn.Module) -> float:
        """The error of the best linear map from the features, by least squares."""
        task = pretext_task(TASK, kind)
        with torch.no_grad():
            features = torch.cat([trunk(task.train.x).flatten(1), torch.ones(len(task.train), 1)], 1)
        y = task.train.y.flatten(1) if kind == "autoencoder" else torch.eye(4)[task.train.y]
        return float((features @ torch.linalg.pinv(features) @ y - y).square().mean())

    training = replace(TRAINING, lr=0.02)
    trained = error_of_a_new_decoder(trunk_after(kind, updates=300, training=training)[0])
    fresh = error_of_a_new_decoder(plain_network(PLAIN, TASK)[:-1])  # type: ignore[index]
    assert trained < 0.8 * fresh


@pytest.mark.parametrize("kind", KINDS)
def test_its_budget_is_booked_with_the_first_task(kind: Any) -> None:
    stream = make_stream()
    plain = quick_run(FineTune(NORMED), stream)
    found = quick_run(FineTune(NORMED, recipe=FineTuning(pretext=kind, pretext_updates=7)), stream)
    more = [ours.updates - theirs.updates for ours, theirs in zip(found.costs, plain.costs, strict=True)]
    assert more == [7, 0, 0]
    assert found.costs[0].training_flops > plain.costs[0].training_flops
    assert [cost.trainable for cost in found.costs] == [cost.trainable for cost in plain.costs]
    assert [curve.task for curve in found.curves] == [0, 1, 2]
    assert trunk_after(kind)[1].samples > 0


def test_it_is_trained_alone_where_replicas_of_a_run_are_trained_together() -> None:
    def together(run: Any, source: Any) -> bool:
        raise AssertionError("a pretext has updates that other strategies do not have")

    trunk = plain_network(PLAIN, TASK)[:-1]  # type: ignore[index]
    session = replace(make_session(), train_together=together)
    learn_pretext(trunk, TASK, FineTuning(pretext="rotation", pretext_updates=2), session)


def test_a_frozen_trunk_is_what_the_pretext_has_left() -> None:
    recipe = FineTuning(pretext="autoencoder", pretext_updates=20, trunk="frozen")
    found = quick_run(FineTune(PLAIN, recipe=recipe), make_stream())
    task = make_stream()[0]
    assert_same_tensors(
        tensors(found.learner.shared.trunk), tensors(nn.Sequential(*trunk_after("autoencoder", task)[0], nn.Identity()))
    )
    assert list(found.digests[0]) == ["trunk"]


def test_inputs_that_cannot_be_turned_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"pretext: required square images .* found inputs \(7,\) in task 0"):
        pretext_task(make_task(0, 2, shape=(7,)), "rotation")


def test_nothing_is_learned_in_a_run_that_is_rebuilt() -> None:
    trunk = plain_network(PLAIN, TASK)[:-1]  # type: ignore[index]
    before = tensors(trunk)
    session = make_session().without_training()
    record = learn_pretext(trunk, TASK.outline(), FineTuning(pretext="rotation"), session)
    assert record.updates == 0
    assert_same_tensors(tensors(trunk), before)


def test_a_pool_of_ones_own_makes_a_start_for_any_strategy(tmp_path: Path) -> None:
    x = make_samples(7, "train", 30, 2).x
    recipe = FineTuning(pretext="autoencoder", pretext_updates=15)
    begun, record = pretext_start(PLAIN, x, recipe, tmp_path / "start.safetensors", training=TRAINING)
    assert record.updates == 15
    network = begun((1, 4, 4), 3)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, "backbone"))
        by_hand = PLAIN((1, 4, 4), 1)
    pool = replace(TASK, train=Samples(x, torch.zeros(30, dtype=torch.int64)))
    learn_pretext(by_hand[:-1], pool, recipe, make_session())
    for found, required in zip(network[:-1].parameters(), by_hand[:-1].parameters(), strict=True):  # type: ignore[index]
        assert torch.equal(found, required)
    result = quick_run(FineTune(begun, recipe=FineTuning(pretrained=True, trunk="frozen")), make_stream())
    assert torch.equal(tensors(result.learner.shared.trunk)["1.weight"], tensors(network)["1.weight"])
    with pytest.raises(ConfigError, match="recipe: required one with a pretext, found none"):
        pretext_start(PLAIN, x, FineTuning(), tmp_path / "other.safetensors")
