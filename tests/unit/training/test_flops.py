"""Operations, counted by hand: 2 for every multiply-and-add."""

import pytest
import torch
from torch import nn

from prognet.config import Training
from prognet.evaluation.harness import run
from prognet.strategies import (
    FineTune,
    FineTuning,
    HeadOnly,
    Independent,
    LastSources,
    MultiTask,
    Progressive,
    PruneLaterals,
    Strategy,
    TopSources,
)
from prognet.training import counting_flops
from tests.helpers.plain import plain_network
from tests.helpers.runs import PLAIN, from_scratch, quick_run
from tests.helpers.streams import make_stream, make_task

STREAM = make_stream((2, 5))
TRUNK = 2 * (16 * 8 + 8 * 6)
FIRST = 2 * 16 * 8
"""The first layer; its input needs no gradient."""


def forward_of(n_classes: int) -> int:
    return TRUNK + 2 * 6 * n_classes


def training_of(forward: int) -> int:
    """Forward, gradients of all weights and of all inputs but the first layer's."""
    return 3 * forward - FIRST


def costs(strategy: Strategy) -> list[tuple[list[float], float]]:
    """For each step the operations of predicting a sample of each task so far, and of training on one sample."""
    result = quick_run(strategy, STREAM)
    return [
        ([flops for flops in cost.forward_flops if flops == flops], cost.training_flops / cost.samples)
        for cost in result.costs
    ]


def test_a_forward_pass() -> None:
    network = plain_network(PLAIN, make_task(0, 2))
    with counting_flops() as counter:
        network(torch.zeros(5, 1, 4, 4))
    assert counter.get_total_flops() == 5 * forward_of(2) == 5 * 376


def test_an_independent_network() -> None:
    assert costs(Independent(PLAIN)) == [
        ([forward_of(2)], training_of(forward_of(2))),
        ([forward_of(2), forward_of(5)], training_of(forward_of(5))),
    ]


def test_fine_tuning() -> None:
    assert costs(FineTune(PLAIN)) == costs(Independent(PLAIN))


def test_a_head_alone_has_no_backward_pass_through_the_trunk() -> None:
    head = 2 * 6 * 5
    assert costs(HeadOnly(PLAIN))[1] == ([forward_of(2), forward_of(5)], TRUNK + 2 * head)


def test_a_second_column_runs_the_frozen_one_once_and_forward_only() -> None:
    # equation 2 at both sites: V 8 -> 8 and U 8 -> 6, then V 6 -> 6 and U 6 -> 5; alpha is multiplied into V, so what V
    # reads needs no gradient, and its product is one of two; the first column runs once in two epochs
    V, U = 2 * (8 * 8 + 6 * 6), 2 * (8 * 6 + 6 * 5)
    second = forward_of(2) + forward_of(5) + V + U
    trained = forward_of(2) / 2 + training_of(forward_of(5)) + 2 * V + 3 * U
    assert costs(from_scratch(PLAIN)) == [
        ([forward_of(2)], training_of(forward_of(2))),
        ([forward_of(2), second], trained),
    ]


def test_multi_task_training_runs_the_trunk_once_for_all_tasks() -> None:
    (cost,) = quick_run(MultiTask(PLAIN), STREAM).costs
    # five batches of 16 an epoch, 8 of each task: a sample costs the trunk and the mean of the two heads
    assert cost.training_flops == cost.samples * (3 * (TRUNK + 2 * 6 * (2 + 5) / 2) - FIRST)
    assert cost.forward_flops == (forward_of(2), forward_of(5))


def test_they_grow_with_the_epochs() -> None:
    once, twice = (
        run(Independent(PLAIN), STREAM, training=Training(epochs=epochs, batch_size=16), device="cpu").costs[0]
        for epochs in (1, 2)
    )
    assert 2 * once.training_flops == twice.training_flops


def test_fused_attention_is_counted_as_in_training() -> None:
    layer = nn.TransformerEncoderLayer(8, 2, dim_feedforward=16, dropout=0.0, batch_first=True)
    x = torch.zeros(2, 3, 8)
    counts = []
    for mode in (True, False):
        layer.train(mode)
        with torch.no_grad(), counting_flops() as counter:
            layer(x)
        counts.append(counter.get_total_flops())
    # per sample: 3 tokens through 8 -> 24, 8 -> 8, 8 -> 16 and 16 -> 8, and two products of 3 x 3 over 8 features
    assert counts == [2 * 2 * (3 * (192 + 64 + 128 + 128) + 2 * 3 * 3 * 8)] * 2


def test_the_fast_path_is_back_afterwards() -> None:
    with pytest.raises(KeyboardInterrupt), counting_flops():
        assert not torch.backends.mha.get_fastpath_enabled()
        raise KeyboardInterrupt
    assert torch.backends.mha.get_fastpath_enabled()


def test_what_begins_to_learn_later_costs_from_then_on() -> None:
    # 3 passes: the head alone, then the upper layer with it, then all; forward always whole
    training = Training(epochs=3, batch_size=10)
    strategy = FineTune(PLAIN, recipe=FineTuning(unfreeze_every=1))
    cost = run(strategy, STREAM, training=training, device="cpu").costs[1]
    head, upper, lower = 2 * 6 * 5, 2 * 8 * 6, 2 * 16 * 8
    forward = lower + upper + head
    per_pass = [forward + head, forward + 2 * head + upper, forward + 2 * head + 2 * upper + lower]
    assert cost.training_flops == len(STREAM[1].train) * sum(per_pass)


def test_choosing_and_pruning_are_part_of_learning() -> None:
    stream = make_stream((2, 3, 4))
    for chosen, plain in (
        (Progressive(PLAIN, sources=TopSources(1, by="logme")), Progressive(PLAIN, sources=LastSources(1))),
        (Progressive(PLAIN, prune=PruneLaterals(drop=0)), Progressive(PLAIN)),
    ):
        found, other = (quick_run(strategy, stream).costs[1] for strategy in (chosen, plain))
        assert found.trainable == other.trainable  # before pruning the second column has the same laterals in both
        assert found.training_flops > other.training_flops
        assert found.updates == other.updates
