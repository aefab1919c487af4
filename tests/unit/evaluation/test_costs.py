from itertools import count
from math import isnan, nan

import pytest
import torch
from torch import nn

from prognet.evaluation.costs import forward_flops, peak_memory, reset_peak_memory, stored_bytes
from prognet.strategies import FineTune, HeadOnly, Independent, MultiTask, Progressive, Strategy
from prognet.training import count_parameters, loop
from tests.helpers.runs import NORMED, PLAIN, modes, quick_run
from tests.helpers.streams import make_stream

CPU = torch.device("cpu")
TRUNK = 16 * 8 + 8 + 8 * 6 + 6
HEADS = [6 * 2 + 2, 6 * 5 + 5, 6 * 3 + 3]


def table(strategy: Strategy) -> list[tuple[int, int, int]]:
    """(all, added, trained) parameters of every step."""
    costs = quick_run(strategy, make_stream()).costs
    return [(cost.parameters, cost.added, cost.trainable) for cost in costs]


def test_fine_tuning_by_hand() -> None:
    a, b, c = HEADS
    assert table(FineTune(PLAIN)) == [
        (TRUNK + a, TRUNK + a, TRUNK + a),
        (TRUNK + a + b, b, TRUNK + b),
        (TRUNK + a + b + c, c, TRUNK + c),
    ]


def test_a_head_alone_by_hand() -> None:
    a, b, c = HEADS
    assert table(HeadOnly(PLAIN)) == [
        (TRUNK + a, TRUNK + a, TRUNK + a),
        (TRUNK + a + b, b, b),
        (TRUNK + a + b + c, c, c),
    ]


def test_multi_task_by_hand() -> None:
    a, b, c = HEADS
    whole = TRUNK + a + b + c
    assert table(MultiTask(PLAIN)) == [(whole, whole, whole)]
    assert table(MultiTask(PLAIN, schedule="cumulative")) == [
        (TRUNK + a, TRUNK + a, TRUNK + a),
        (TRUNK + a + b, b, TRUNK + a + b),
        (whole, c, whole),
    ]


def test_independent_by_hand() -> None:
    own = [TRUNK + head for head in HEADS]
    assert table(Independent(PLAIN)) == [(sum(own[: k + 1]), own[k], own[k]) for k in range(3)]


def test_updates_and_samples_by_hand() -> None:
    costs = quick_run(Independent(PLAIN), make_stream((2, 2), [40, 21])).costs
    # two epochs of ceil(40 / 16) = 3 and ceil(21 / 16) = 2 batches
    assert [(cost.updates, cost.samples) for cost in costs] == [(6, 80), (4, 42)]


def test_bytes_are_those_of_parameters_and_buffers() -> None:
    # 8 + 6 units of BatchNorm: weight, bias, mean and variance of 4 bytes each, and a count of 8 bytes a layer
    (cost,) = quick_run(FineTune(NORMED), make_stream((2,))).costs
    assert cost.parameters == TRUNK + HEADS[0] + 2 * 14
    assert cost.stored_bytes == 4 * cost.parameters + 4 * 2 * 14 + 8 * 2


def test_buffers_that_are_not_saved_count_too() -> None:
    module = nn.Linear(3, 2)
    module.register_buffer("hidden", torch.zeros(5, dtype=torch.float64), persistent=False)
    assert stored_bytes(module) == 4 * 8 + 8 * 5
    assert count_parameters(module) == 8


def test_a_parameter_used_twice_counts_once() -> None:
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, layer)) == 12
    assert stored_bytes(nn.Sequential(layer, layer)) == 4 * 12


def test_counting_operations_changes_nothing() -> None:
    stream = make_stream()
    learner = quick_run(Progressive(NORMED), stream).learner.train()
    mode, digests = modes(learner), dict(learner.frozen_digests())
    flops = forward_flops(learner, stream, [0, 2], [1.0, nan, 1.0], CPU)
    assert [isnan(value) for value in flops] == [False, True, False]
    assert flops[2] > flops[0] > 1.0
    assert forward_flops(learner, stream, [2], [7.0, nan, nan], CPU)[0] == 7.0
    assert modes(learner) == mode
    assert learner.frozen_digests() == digests


def test_times_and_memory_are_measured() -> None:
    for cost in quick_run(Progressive(PLAIN), make_stream()).costs:
        assert cost.seconds > 0
        assert cost.evaluation_seconds > 0
        assert cost.peak_memory > 10_000_000  # bytes, not kilobytes: torch alone takes more


def test_the_time_of_measuring_is_not_that_of_learning(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = count()
    monkeypatch.setattr(loop, "perf_counter", lambda: float(next(ticks)))
    (cost,) = quick_run(FineTune(PLAIN), make_stream((2,))).costs
    # the clock is read at the start and at the end, and twice around each of 5 curve points and 2 validations, each of
    # which takes one tick: 15 ticks lie between start and end, 7 of them within a measurement
    assert cost.seconds == 15 - 7


def test_peak_memory_does_not_shrink_on_the_cpu() -> None:
    before = peak_memory(CPU)
    reset_peak_memory(CPU)
    assert peak_memory(CPU) >= before
