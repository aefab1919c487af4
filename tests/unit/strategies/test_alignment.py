"""Alignment of features: nothing at weight 0, its formula above, and a source that stays or moves as it was told."""

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prognet.backbones import cnn
from prognet.config import Training
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.evaluation.proof import verify
from prognet.seeds import derive_seed
from prognet.strategies import FeatureAlignment, Independent, describe_strategy, strategy_from
from prognet.training import Penalised
from tests.helpers.plain import assert_equal_numbers, numbers_of, plain_batches, plain_network, plain_orders
from tests.helpers.runs import NORMED, PLAIN, TRAINING, assert_same_tensors, learn_all, quick_run, tensors, with_session
from tests.helpers.streams import make_stream

STREAM = make_stream((5, 3))


def network_of(strategy: Any, label: int) -> list[nn.Module]:
    shared = strategy.networks[str(label)]
    return [shared.trunk, shared.head_for(label)]


@pytest.mark.parametrize("backbone", [NORMED, cnn(channels=(3, 4), batch_norm=True)], ids=["mlp", "cnn"])
def test_without_weight_it_is_independent_bit_for_bit(backbone: Any) -> None:
    stream = make_stream()
    found = quick_run(FeatureAlignment(backbone, weight=0.0), stream)
    plain = quick_run(Independent(backbone), stream)
    for label in range(3):
        assert_equal_numbers(network_of(found.learner, label), [plain.learner.columns.network.column(label).backbone])
    assert found.curves == plain.curves
    assert [cost.trainable for cost in found.costs] == [cost.trainable for cost in plain.costs]


def test_jointly_without_weight_every_network_learns_as_if_alone() -> None:
    # batches hold a share of each task, and its loss counts by its share: written once more for every network apart
    stream = make_stream((5, 3), (32, 32))
    found = learn_all(FeatureAlignment(PLAIN, weight=0.0, source="joint"), stream, Training(epochs=1, batch_size=64))
    for task in stream:
        network = plain_network(PLAIN, task)
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        (cross_entropy(network(task.train.x), task.train.y) / 2).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        for ours, theirs in zip(numbers_of(network_of(found, task.label)), numbers_of([network]), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=2e-6)


def test_a_frozen_source_stays_bit_for_bit_and_nothing_is_forgotten() -> None:
    stream = make_stream()
    strategy = FeatureAlignment(NORMED, weight=0.1)
    with_session(strategy).learn([stream[0]])
    before = tensors(strategy.networks["0"])
    assert any("running_mean" in name for name in before)
    assert not any(parameter.requires_grad for parameter in strategy.parameters())
    for task in stream[1:]:
        strategy.learn([task])
        assert_same_tensors(tensors(strategy.networks["0"]), before)
    result = quick_run(FeatureAlignment(NORMED, weight=0.1), stream)
    for label in range(3):
        assert (result.accuracy[label:, label] == result.accuracy[label, label]).all()
    assert [list(digests) for digests in result.digests] == [
        [f"network {label}" for label in range(step + 1)] for step in range(3)
    ]


def test_training_is_a_loop_written_by_hand() -> None:
    weight, training = 0.3, Training(epochs=2, batch_size=16, lr=0.05, optimiser="sgd")
    strategy = FeatureAlignment(PLAIN, weight=weight)
    with_session(strategy).learn([STREAM[0]])
    source, task = strategy.networks["0"].trunk, STREAM[1]
    network = plain_network(PLAIN, task)
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(0, 1, "projection"))
        phi = nn.Linear(6, 6)
    optimiser = torch.optim.SGD([*network.parameters(), *phi.parameters()], lr=0.05)
    for order in plain_orders(task, 2):
        for chosen in plain_batches(order, 16):
            x, y = task.train.x[chosen], task.train.y[chosen]
            optimiser.zero_grad()
            z = network[:-1](x)  # type: ignore[index]
            with torch.no_grad():
                z_source = source(x)  # type: ignore[operator]
            loss = cross_entropy(network(x), y) + weight * ((phi(z_source) - z) ** 2).sum() / len(x)
            loss.backward()
            optimiser.step()
    with_session(strategy, training).learn([task])
    for ours, theirs in zip(numbers_of(network_of(strategy, 1)), numbers_of([network]), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def captured(strategy: FeatureAlignment, tasks: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The forward pass of a training that is not carried out."""
    found: list[Any] = []
    monkeypatch.setattr(strategy, "fit", lambda module, tasks, forward, **_: found.append((module, forward)))
    with_session(strategy).learn(tasks)
    return found[-1]


def test_the_penalty_and_where_its_gradient_goes(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = FeatureAlignment(PLAIN, weight=0.5, source="joint")
    module, forward = captured(strategy, list(STREAM), monkeypatch)
    strategy.requires_grad_(True)
    inputs = {0: STREAM[0].train.x[:6], 1: STREAM[1].train.x[:2]}
    said = forward(inputs)
    assert isinstance(said, Penalised)
    phi = module[-1]
    source, target = strategy.networks["0"], strategy.networks["1"]
    assert isinstance(phi, nn.Linear)
    z_source, z_target = source.trunk(inputs[1]), target.trunk(inputs[1])  # type: ignore[operator]
    wanted = sum((phi(a) - b).square().sum() for a, b in zip(z_source, z_target, strict=True)) / 2 * 0.5 * 2 / 8
    assert isinstance(wanted, Tensor)
    torch.testing.assert_close(said.penalty, wanted)
    said.penalty.backward()  # type: ignore[no-untyped-call]
    for part in (phi, source.trunk, target.trunk):
        grads = [p.grad for p in part.parameters()]  # type: ignore[union-attr]
        assert all(grad is not None and grad.count_nonzero() for grad in grads)
    assert all(p.grad is None for label in "01" for p in strategy.networks[label].heads.parameters())  # type: ignore[union-attr]


def test_a_joint_source_moves_and_all_is_learned_in_one_step() -> None:
    plain, aligned = (
        quick_run(FeatureAlignment(PLAIN, weight=weight, source="joint"), STREAM) for weight in (0.0, 0.5)
    )
    assert plain.schedule == aligned.schedule == ((0, 1),)
    ours, theirs = tensors(aligned.learner.networks["0"]), tensors(plain.learner.networks["0"])
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


def test_alignment_brings_the_features_together() -> None:
    left = []
    for weight in (0.001, 1.0):
        strategy = learn_all(
            FeatureAlignment(PLAIN, weight=weight), STREAM, Training(epochs=20, batch_size=16, lr=0.01)
        )
        x = STREAM[1].train.x
        with torch.no_grad():
            z_source, z = (strategy.networks[label].trunk(x) for label in "01")  # type: ignore[index, union-attr]
            design = torch.cat([z_source, torch.ones(len(x), 1)], 1)
            rest = z - design @ torch.linalg.pinv(design) @ z
            left.append((rest.square().sum() / (z - z.mean(0)).square().sum()).item())
    assert left[1] < 0.7 * left[0]


@pytest.mark.parametrize(("which", "expected"), [("first", [0, 0]), ("previous", [0, 1])])
def test_the_source_is_the_first_network_or_the_one_before(
    which: Any, expected: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    strategy = FeatureAlignment(PLAIN, source_task=which)
    original = strategy._source_features

    def noting(label: int, x: Tensor) -> Tensor:
        asked.append(label)
        return original(label, x)

    monkeypatch.setattr(strategy, "_source_features", noting)
    learn_all(strategy, make_stream(), Training(epochs=1, batch_size=64))
    assert asked == expected


def test_a_run_is_rebuilt_and_verified(tmp_path: Any) -> None:
    strategy = FeatureAlignment(NORMED, weight=0.2, source_task="previous", name="mine")
    quick_run(strategy, STREAM, out=tmp_path)
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.parts) == (None, 2)
    described = json.loads(json.dumps(describe_strategy(strategy)))
    assert described["arguments"] == {"weight": 0.2, "source": "frozen", "source_task": "previous"}
    assert describe_strategy(strategy_from(described, NORMED)) == described


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"weight": -1.0}, "weight: required a finite number, at least 0, found -1.0."),
        ({"weight": "x"}, "weight: required a finite number, at least 0, found 'x'."),
        ({"source": "x"}, "source: required one of ('frozen', 'joint'), found 'x'."),
        ({"source_task": "x"}, "source_task: required one of ('first', 'previous'), found 'x'."),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FeatureAlignment(PLAIN, **arguments)
    assert str(caught.value) == message


def test_a_task_that_was_not_learned_is_refused() -> None:
    strategy = FeatureAlignment(PLAIN)
    with_session(strategy, TRAINING).learn([STREAM[0]])
    with pytest.raises(UnlearnedTaskError, match=r"task_label: required one of the learned tasks \[0\], found 1"):
        strategy.predict(STREAM[1].test.x, 1)
