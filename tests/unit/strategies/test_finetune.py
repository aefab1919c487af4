from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

from prognet.backbones import cnn
from prognet.engine.digest import module_digest
from prognet.errors import SiteError
from prognet.strategies import FineTune, HeadOnly
from prognet.streams.task import Samples
from tests.helpers.plain import (
    assert_equal_numbers,
    assert_other_numbers,
    plain_accuracy,
    plain_network,
    plain_training,
)
from tests.helpers.runs import (
    KINDS,
    NORMED,
    PLAIN,
    TRAINING,
    assert_same_tensors,
    learn_all,
    network_of,
    quick_run,
    tensors,
    with_session,
)
from tests.helpers.streams import make_stream


@pytest.mark.parametrize(
    "backbone", [PLAIN, NORMED, cnn(channels=(3, 4), batch_norm=True)], ids=["plain", "normed", "cnn"]
)
@pytest.mark.parametrize("kind", KINDS)
def test_one_task_is_the_plain_network_in_the_plain_loop(kind: str, backbone: Any) -> None:
    stream = make_stream((5,))
    result = quick_run(KINDS[kind](backbone), stream)
    network = plain_network(backbone, stream[0])
    plain_training(network, stream[0], TRAINING, lambda p: Adam(p, lr=0.01, fused=True))
    assert_equal_numbers(network_of(result.learner, 0), [network])
    assert result.accuracy.tolist() == [[plain_accuracy(network, stream[0].test)]]


def test_the_second_task_goes_on_with_the_trunk_and_a_fresh_head() -> None:
    stream = make_stream((2, 5))
    trunk = plain_network(NORMED, stream[0])
    plain_training(trunk, stream[0], TRAINING, lambda p: Adam(p, lr=0.01, fused=True))
    trunk[-1] = plain_network(NORMED, stream[1])[-1]  # type: ignore[index, operator]
    plain_training(trunk, stream[1], TRAINING, lambda p: Adam(p, lr=0.01, fused=True))
    learner = learn_all(FineTune(NORMED), stream)
    assert_equal_numbers(network_of(learner, 1), [trunk])


def test_fine_tuning_trains_the_trunk_and_no_earlier_head() -> None:
    stream = make_stream()
    strategy = FineTune(NORMED)
    with_session(strategy).learn([stream[0]])
    head, trunk = tensors(strategy.shared.head_for(0)), module_digest(strategy.shared.parts_of(0)[0])
    strategy.learn([stream[1]])
    assert_same_tensors(tensors(strategy.shared.head_for(0)), head)
    assert module_digest(strategy.shared.parts_of(0)[0]) != trunk


def test_fine_tuning_freezes_nothing_and_so_claims_nothing() -> None:
    strategy = learn_all(FineTune(PLAIN), make_stream())
    assert strategy.frozen_digests() == {}
    assert all(parameter.requires_grad for parameter in strategy.parameters())


def test_a_shared_head_goes_on_learning() -> None:
    stream = make_stream((3, 3), heads="shared")
    strategy = FineTune(PLAIN)
    with_session(strategy).learn([stream[0]])
    before = tensors(strategy.shared.head_for(0))
    strategy.learn([stream[1]])
    assert not torch.equal(tensors(strategy.shared.head_for(1))["weight"], before["weight"])
    assert list(strategy.shared.heads) == ["0"]


class LogSoftmaxNet(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 2)

    def forward(self, x: Tensor) -> Tensor:
        return torch.log_softmax(self.layer(x.flatten(1)), dim=1)


@pytest.mark.parametrize("kind", ["finetune", "finetune-head", "multitask"])
def test_a_network_without_an_output_layer_is_refused(kind: str) -> None:
    with pytest.raises(SiteError, match="found none; end the network with its Linear or convolution layer"):
        quick_run(KINDS[kind](lambda input_shape, n_classes: LogSoftmaxNet()), make_stream((2,)))


def test_a_head_alone_leaves_the_trunk_as_the_first_task_left_it() -> None:
    stream = make_stream()
    strategy = HeadOnly(NORMED)
    with_session(strategy).learn([stream[0]])
    trunk = strategy.shared.parts_of(0)[0]
    before, first_head = tensors(trunk), tensors(strategy.shared.head_for(0))
    assert any("running_mean" in name for name in before)
    for task in stream[1:]:
        strategy.learn([task])
        assert_same_tensors(tensors(trunk), before)
        assert_same_tensors(tensors(strategy.shared.head_for(0)), first_head)
    assert not any(part.training for part in trunk.modules())
    assert not any(parameter.requires_grad for parameter in trunk.parameters())


def test_a_head_alone_learns_on_the_features_of_evaluation_mode() -> None:
    stream = make_stream((2, 5))
    strategy = learn_all(HeadOnly(NORMED), stream)
    trunk, head = network_of(strategy, 1)
    plain = plain_network(NORMED, stream[1])[-1]  # type: ignore[index]
    assert_other_numbers(head, plain)
    with torch.no_grad():
        features = [trunk(split.x) for split in (stream[1].train, stream[1].val, stream[1].test)]
    task = replace(stream[1], train=Samples(features[0], stream[1].train.y))
    plain_training(plain, task, TRAINING, lambda p: Adam(p, lr=0.01, fused=True))
    for found, required in zip(head.parameters(), plain.parameters(), strict=True):
        assert torch.allclose(found, required, atol=1e-6)  # features of 40 samples at once, and of 13 or 14


def test_the_first_task_of_head_only_is_fine_tuning() -> None:
    stream = make_stream((5,))
    assert_equal_numbers(
        network_of(learn_all(HeadOnly(NORMED), stream), 0), network_of(learn_all(FineTune(NORMED), stream), 0)
    )


def test_the_digests_of_head_only_are_trunk_and_heads() -> None:
    result = quick_run(HeadOnly(NORMED), make_stream())
    assert [sorted(digests) for digests in result.digests] == [
        ["trunk"],  # one head alone could be one that all tasks share
        ["head 0", "head 1", "trunk"],
        ["head 0", "head 1", "head 2", "trunk"],
    ]
    learner = result.learner
    assert result.digests[2]["trunk"] == module_digest(learner.shared.trunk)
    assert result.digests[2]["head 1"] == module_digest(learner.shared.head_for(1))
    assert len({digests["trunk"] for digests in result.digests}) == 1


def test_head_only_on_a_shared_head_claims_the_trunk_alone() -> None:
    result = quick_run(HeadOnly(NORMED), make_stream((3, 3, 3), heads="shared"))
    assert [sorted(digests) for digests in result.digests] == [["trunk"]] * 3
    assert result.accuracy.shape == (3, 3)


def test_before_it_learns_nothing_is_frozen() -> None:
    assert HeadOnly(PLAIN).frozen_digests() == {}
