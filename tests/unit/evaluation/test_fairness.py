"""The comparison is fair: the same batches, the same budget, and zero adapters make no difference at all."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import cnn, resnet18, vit_tiny
from prognet.config import Training
from prognet.engine import MLPAdapter
from prognet.engine.sites import Site
from prognet.metrics import forgetting
from prognet.results import RunResult
from prognet.strategies import FineTune, Independent, MultiTask, Strategy
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training.batches import Batch
from prognet.training.loop import Run
from tests.helpers.plain import assert_equal_numbers, assert_other_numbers
from tests.helpers.runs import (
    FROZEN,
    KINDS,
    NORMED,
    PLAIN,
    SEQUENTIAL,
    TRAINING,
    ZeroAdapter,
    from_scratch,
    network_of,
    quick_run,
)
from tests.helpers.streams import make_stream

Batches = list[Mapping[int, Tensor]]


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> Batches:
    """Every batch of inputs that a strategy is given to learn from, in order."""
    batches: Batches = []
    original = Run._backward

    def noting(run: Run, batch: Batch, size: int) -> Tensor:
        batches.append({label: part.x.clone() for label, part in batch.items()})
        return original(run, batch, size)

    monkeypatch.setattr(Run, "_backward", noting)
    return batches


def batches_of(seen: Batches, strategy: Strategy, stream: Stream, seed: int = 0) -> Batches:
    seen.clear()
    quick_run(strategy, stream, seed=seed)
    return list(seen)


def assert_same_batches(found: Batches, required: Batches) -> None:
    assert len(found) == len(required) > 0
    for ours, theirs in zip(found, required, strict=True):
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[label], theirs[label]) for label in theirs)


class StandIn(Strategy):
    """Learns nothing, and keeps what it is given; it stands in for a strategy of any name."""

    def __init__(self, name: str) -> None:
        super().__init__(PLAIN, name)
        self.network: nn.Module = nn.Identity()
        self.given: list[Tensor] = []

    def learn(self, tasks: Sequence[Task]) -> None:
        self.network = self.build(tasks[0])

        def forward(inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
            self.given += [x.clone() for x in inputs.values()]
            return {label: self.network(x) for label, x in inputs.items()}

        self.fit(self.network, tasks, forward)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        out: Tensor = self.network(x)
        return out


def test_a_recording_strategy_sees_the_same_whatever_it_stands_in_for(seen: Batches) -> None:
    stream = make_stream((2, 2))
    given = [quick_run(StandIn(name), stream).learner.given for name in ("progressive", "finetune", "anything")]
    assert len(given[0]) == 12
    for other in given[1:]:
        assert all(torch.equal(a, b) for a, b in zip(given[0], other, strict=True))
    required = batches_of(seen, Independent(PLAIN), stream)
    assert_same_batches([{0 if index < 6 else 1: x} for index, x in enumerate(given[0])], required)


@pytest.mark.parametrize("kind", SEQUENTIAL)
@pytest.mark.parametrize("backbone", [PLAIN, NORMED], ids=["plain", "normed"])
def test_every_sequential_strategy_sees_the_same_batches(kind: str, backbone: Any, seen: Batches) -> None:
    stream = make_stream()
    required = batches_of(seen, Independent(PLAIN), stream)
    assert len(required) == 3 * 2 * 3
    assert_same_batches(batches_of(seen, KINDS[kind](backbone), stream), required)


def test_another_seed_gives_other_batches(seen: Batches) -> None:
    stream = make_stream((2,))
    first, second = (batches_of(seen, Independent(PLAIN), stream, seed) for seed in (0, 1))
    assert not torch.equal(first[0][0], second[0][0])


@pytest.mark.parametrize("sampling", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("heads", ["per-task", "shared"])
def test_joint_learning_has_the_budget_of_the_single_tasks(sampling: float, heads: Any) -> None:
    stream = make_stream((3, 3, 3), [10, 40, 21], heads=heads)
    single = quick_run(FineTune(PLAIN), stream).costs
    (joint,) = quick_run(MultiTask(PLAIN, sampling=sampling), stream).costs
    assert joint.samples == sum(cost.samples for cost in single) == 2 * (10 + 40 + 21)
    assert joint.updates == 2 * 5  # ceil(71 / 16), while the single tasks take 1 + 3 + 2 an epoch
    cumulative = quick_run(MultiTask(PLAIN, sampling=sampling, schedule="cumulative"), stream).costs
    assert [cost.samples for cost in cumulative] == [2 * 10, 2 * 50, 2 * 71]


def test_a_balanced_joint_epoch_sees_each_task_as_often(seen: Batches) -> None:
    batches = batches_of(seen, MultiTask(PLAIN), make_stream((3, 3, 3), [10, 40, 21]))
    per_task = [sum(len(batch[label]) for batch in batches if label in batch) for label in range(3)]
    assert per_task == [48, 48, 46]  # two epochs of 71 = 24 + 24 + 23


def test_a_proportional_joint_epoch_sees_each_sample_as_often(seen: Batches) -> None:
    batches = batches_of(seen, MultiTask(PLAIN, sampling=1.0), make_stream((3, 3, 3), [10, 40, 21]))
    assert [sum(len(batch[label]) for batch in batches if label in batch) for label in range(3)] == [20, 80, 42]


@pytest.mark.parametrize("kind", ["multitask", "multitask-cumulative"])
def test_joint_batches_do_not_depend_on_the_network(kind: str, seen: Batches) -> None:
    stream = make_stream()
    required = batches_of(seen, KINDS[kind](PLAIN), stream)
    assert_same_batches(batches_of(seen, KINDS[kind](NORMED), stream), required)


@dataclass(frozen=True, kw_only=True)
class StuckAdapter(MLPAdapter):
    """Equation 2 with its U = 0 held there: random V, and no learning."""

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        return super().build(senders, site).requires_grad_(False)


EXACT: dict[str, tuple[Any, Training]] = {
    "mlp": (PLAIN, TRAINING),
    "mlp, norm, dropout": (NORMED, TRAINING),
    "clipped, decayed": (NORMED, Training(epochs=2, batch_size=16, lr=0.01, weight_decay=0.1, clip_norm=0.1)),
    "stopped early": (NORMED, Training(epochs=8, batch_size=16, lr=0.3, patience=1)),
    "cnn": (cnn(channels=(3, 4), batch_norm=True), TRAINING),
    "resnet18": (resnet18(channels=2), TRAINING),
    "vit": (vit_tiny(patch=4, dim=6, depth=2, heads=3, dropout=0.2), TRAINING),
}


@pytest.mark.parametrize("adapter", [ZeroAdapter(), StuckAdapter()], ids=["zeros", "stuck"])
@pytest.mark.parametrize("name", EXACT)
def test_zero_adapters_are_the_independent_network_bit_for_bit(name: str, adapter: Any) -> None:
    backbone, training = EXACT[name]
    stream = make_stream(shape=(1, 8, 8))
    progressive = quick_run(from_scratch(backbone, adapter=adapter), stream, training=training)
    independent = quick_run(Independent(backbone), stream, training=training)
    for metric, matrix in independent.metrics.items():
        assert np.array_equal(progressive.metrics[metric], matrix, equal_nan=True)
    assert progressive.curves == independent.curves
    for label in range(3):
        assert_equal_numbers(network_of(progressive.learner, label), network_of(independent.learner, label))


def test_adapters_that_learn_do_make_a_difference() -> None:
    stream = make_stream()
    progressive, independent = quick_run(from_scratch(NORMED), stream), quick_run(Independent(NORMED), stream)
    assert progressive.curves[0] == independent.curves[0]
    assert progressive.curves[1].accuracy[0] == independent.curves[1].accuracy[0]  # U = 0 at the start
    for label in (1, 2):
        (ours,), (theirs,) = (network_of(result.learner, label) for result in (progressive, independent))
        assert_other_numbers(ours, theirs)


def digests_by_name(result: RunResult) -> dict[str, set[str]]:
    """Every digest that was ever recorded of each frozen part."""
    names = {name for digests in result.digests for name in digests}
    return {name: {digests[name] for digests in result.digests if name in digests} for name in names}


@pytest.mark.parametrize("kind", FROZEN)
@pytest.mark.parametrize(
    "training",
    [TRAINING, Training(epochs=2, batch_size=16, lr=0.1, optimiser="sgd", momentum=0.9, weight_decay=0.1)],
    ids=["adam", "sgd"],
)
def test_what_is_frozen_is_never_forgotten(kind: str, training: Training) -> None:
    result = quick_run(KINDS[kind](NORMED), make_stream(), training=training)
    assert forgetting(result.accuracy) == 0.0
    for matrix in result.metrics.values():
        for label in range(3):
            assert len(set(matrix[label:, label])) == 1  # every metric, to the last bit
    kept = digests_by_name(result)
    assert len(kept) == len(result.digests[-1])
    assert all(len(digests) == 1 for digests in kept.values())
    assert [len(digests) for digests in result.digests] == ([1, 3, 5] if kind == "progressive-random" else [1, 2, 3])


@pytest.mark.parametrize("kind", FROZEN)
def test_outputs_for_learned_tasks_stay_the_same_bits(kind: str) -> None:
    stream = make_stream()
    early, late = (quick_run(KINDS[kind](NORMED), part).learner for part in (stream.first(1), stream))
    x = stream[0].test.x
    for learner in (early, late):
        learner.train()  # a frozen column ignores it
    with torch.no_grad():
        assert torch.equal(early.predict(x, 0), late.predict(x, 0))


def test_fine_tuning_does_forget() -> None:
    training = Training(epochs=20, batch_size=16, lr=0.01)
    result = quick_run(FineTune(PLAIN), make_stream((5, 5, 5), heads="shared"), training=training)
    assert forgetting(result.accuracy) > 0.2
