"""Meta-learning of every kind of architecture: with the derivatives of a plain loop over episodes, or not at all."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.functional import cross_entropy

from prognet.backbones import vit_tiny
from prognet.errors import ConfigError
from prognet.meta import Episodes, MetaLearning, loss_with, meta_gradient, meta_learn, reptile_direction
from prognet.training.attention import unfused_attention
from tests.helpers.runs import tensors
from tests.helpers.zoo import (
    DENSE,
    GATED,
    LAZY,
    LENET,
    MLP,
    MLP_NORM,
    PRETRAINED,
    RECURRENT,
    RESNET,
    SWIN,
    TRANSFORMER,
    ZOO,
    Kind,
)

VIT = Kind("vit_tiny", lambda n: vit_tiny(patch=4, dim=8, depth=2, heads=2)((1, 8, 8), n), (1, 8, 8))
LEARNED = (MLP, LENET, TRANSFORMER, GATED, SWIN, VIT)
WITH_STATISTICS = (MLP_NORM, RESNET, DENSE, LAZY, PRETRAINED)
METHODS = ("maml", "anil", "reptile")
RATE, STEPS = 0.1, 2

kinds = pytest.mark.parametrize("kind", LEARNED, ids=lambda kind: kind.name)
modes = pytest.mark.parametrize("training", [True, False], ids=["training", "evaluation"])


def episodes_of(kind: Kind, count: int = 3) -> Episodes:
    """Episodes of eight samples, half of them to be judged by, in double precision."""
    x = torch.stack([kind.example(8, seed) for seed in range(count)]).double()
    y = (torch.arange(8) % 3).repeat(count, 1)
    return Episodes(x[:, :4], y[:, :4], x[:, 4:], y[:, 4:])


def network_of(kind: Kind, training: bool) -> nn.Module:
    return kind.build().double().train(training)


def test_no_kind_is_left_out() -> None:
    assert {*LEARNED, *WITH_STATISTICS, RECURRENT} == {*ZOO, VIT}


@kinds
@modes
def test_the_meta_gradient_is_that_of_a_loop_over_episodes(kind: Kind, training: bool) -> None:
    net, episodes = network_of(kind, training), episodes_of(kind)
    values = {name: p.detach() for name, p in net.named_parameters()}
    found, loss = meta_gradient(loss_with(net, cross_entropy), values, episodes, RATE, STEPS)
    begun = {name: value.clone().requires_grad_(True) for name, value in values.items()}
    with unfused_attention():
        total = torch.stack(
            [
                cross_entropy(functional_call(net, descended(net, begun, x, y), (query_x,)), query_y)
                for x, y, query_x, query_y in zip(
                    episodes.x, episodes.y, episodes.query_x, episodes.query_y, strict=True
                )
            ]
        ).mean()
        required = torch.autograd.grad(total, list(begun.values()))
    torch.testing.assert_close(loss, total.detach())
    for (name, gradient), other in zip(found.items(), required, strict=True):
        torch.testing.assert_close(gradient, other, msg=name)


def descended(net: nn.Module, start: dict[str, Tensor], x: Tensor, y: Tensor) -> dict[str, Tensor]:
    """The inner loop with `torch.autograd.grad`."""
    own = start
    for _ in range(STEPS):
        loss = cross_entropy(functional_call(net, own, (x,)), y)
        gradients = torch.autograd.grad(loss, list(own.values()), create_graph=True)
        own = {name: p - RATE * g for (name, p), g in zip(own.items(), gradients, strict=True)}
    return own


@kinds
@modes
def test_the_direction_of_reptile_is_that_of_a_loop_over_episodes(kind: Kind, training: bool) -> None:
    net, episodes = network_of(kind, training), episodes_of(kind)
    values = {name: p.detach() for name, p in net.named_parameters()}
    found, _ = reptile_direction(loss_with(net, cross_entropy), values, episodes, RATE, STEPS)
    total = {name: torch.zeros_like(value) for name, value in values.items()}
    for x, y in zip(*episodes.together(), strict=True):
        own = {name: value.clone().requires_grad_(True) for name, value in values.items()}
        for part, target in zip(x.chunk(STEPS), y.chunk(STEPS), strict=True):
            gradients = torch.autograd.grad(
                cross_entropy(functional_call(net, own, (part,)), target), list(own.values())
            )
            own = {
                name: (p - RATE * g).detach().requires_grad_(True)
                for (name, p), g in zip(own.items(), gradients, strict=True)
            }
        total = {name: total[name] + (own[name].detach() - values[name]) / len(episodes) for name in total}
    for name, way in found.items():
        torch.testing.assert_close(way, total[name], msg=name)


@kinds
@pytest.mark.parametrize("method", METHODS)
def test_every_parameter_of_every_kind_is_learned(kind: Kind, method: Any) -> None:
    net = network_of(kind, True)
    before = tensors(net)
    fast = torch.backends.mha.get_fastpath_enabled()
    meta_learn(net, lambda count, _: episodes_of(kind, count), MetaLearning(method=method, rounds=1, episodes=2))
    assert all(not torch.equal(p, before[name]) for name, p in net.named_parameters())
    assert torch.backends.mha.get_fastpath_enabled() == fast


@pytest.mark.parametrize("kind", WITH_STATISTICS, ids=lambda kind: kind.name)
def test_kinds_that_keep_statistics_are_refused(kind: Kind) -> None:
    with pytest.raises(ConfigError, match="network: required one without running statistics"):
        meta_learn(kind.build(), lambda count, _: episodes_of(kind, count), MetaLearning(rounds=1))


@modes
@pytest.mark.parametrize("method", METHODS)
def test_what_cannot_be_computed_at_once_is_refused(method: Any, training: bool) -> None:
    net = network_of(RECURRENT, training)
    before = tensors(net)
    with pytest.raises(ConfigError) as caught:
        meta_learn(net, lambda count, _: episodes_of(RECURRENT, count), MetaLearning(method=method, rounds=1))
    assert str(caught.value).startswith("network: required one whose loss torch.func.vmap computes for many episodes")
    assert "write recurrent layers out in plain operations" in str(caught.value)
    assert all(torch.equal(tensor, before[name]) for name, tensor in tensors(net).items())


@pytest.mark.parametrize("method", ["maml", "reptile"])
def test_what_fails_for_one_episode_fails_by_itself(method: Any) -> None:
    episodes = episodes_of(MLP)
    wider = Episodes(*(torch.cat([x, x], 2) if x.is_floating_point() else x for x in vars_of(episodes)))
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied") as caught:
        meta_learn(network_of(MLP, True), lambda count, _: wider, MetaLearning(method=method, rounds=1))
    assert not isinstance(caught.value, ConfigError)


def vars_of(episodes: Episodes) -> tuple[Tensor, ...]:
    return episodes.x, episodes.y, episodes.query_x, episodes.query_y
