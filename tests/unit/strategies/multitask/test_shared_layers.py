"""Shared layers do for every task's network what its own did, however the network uses them."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import Any

import pytest
import torch
from torch import nn

from prognet.config import Training
from prognet.engine.digest import module_digest, tensors_of
from prognet.strategies import MultiTask
from prognet.strategies.base import Backbone
from prognet.strategies.multitask import Architecture, Hard, Stems
from tests.helpers.runs import NORMED, TRAINING, learn_all, with_session
from tests.helpers.streams import make_stream, make_task
from tests.helpers.structures import SHAPE, Encoder, Keywords, Named, Repeated


def of_two(make: Callable[[int], nn.Module], architecture: Architecture) -> Any:
    """The model of two tasks that have been learned."""
    backbone: Backbone = lambda shape, n_classes: make(n_classes)  # noqa: E731
    strategy = with_session(MultiTask(backbone, architecture=architecture))
    strategy.learn([make_task(label, 2 + label, 12, shape=SHAPE) for label in range(2)])
    assert isinstance(strategy, MultiTask)
    return strategy.shared


@pytest.mark.parametrize(
    ("make", "architecture", "shared"),
    [
        (Keywords, Stems(), ["layers"]),
        (Keywords, Hard(shared=["layers"]), ["layers"]),
        (Keywords, Hard(shared=["layers.*"]), ["layers.0", "layers.1"]),
        (Keywords, Hard(shared=["layers.0", "layers.0.inner"]), ["layers.0"]),
        (Keywords, Hard(shared=["layers.*.inner"]), ["layers.0.inner", "layers.1.inner"]),
        (Named, Stems(), ["layers", "rest"]),
        (Named, Hard(shared=["layers.first", "rest"]), ["layers.first", "rest"]),
        (Encoder, Stems(), ["encoder"]),
        (Encoder, Hard(shared=["encoder.layers"]), ["encoder.layers"]),
        (Encoder, Hard(shared=["encoder.layers.*"]), ["encoder.layers.0", "encoder.layers.1"]),
        (Repeated, Hard(shared=["first"]), ["first", "again"]),
    ],
)
def test_layers_are_shared_however_the_network_holds_and_calls_them(
    make: Callable[[int], nn.Module], architecture: Architecture, shared: Sequence[str]
) -> None:
    model = of_two(make, architecture)
    first, second = (model.network(label) for label in range(2))
    assert all(second.get_submodule(name) is first.get_submodule(name) for name in shared)
    theirs = {id(p) for name in shared for p in first.get_submodule(name).parameters()}
    assert {id(p) for p in first.parameters()} & {id(p) for p in second.parameters()} == theirs
    one, two = make(2), make(3)
    common = sum({id(p): p.numel() for name in shared for p in one.get_submodule(name).parameters()}.values())
    numbers = sum(p.numel() for network in (one, two) for p in network.parameters())
    assert sum(p.numel() for p in model.parameters()) == numbers - common


def normed(training: Training = TRAINING) -> Any:
    """Two networks with shared BatchNorm."""
    strategy = MultiTask(NORMED, architecture=Hard(shared=["5", "6"]))
    return learn_all(strategy, make_stream((2, 3)), training).shared


def test_statistics_of_shared_norms_follow_all_tasks() -> None:
    model = normed(Training(epochs=0)).train()
    norm = model.network(0)[6]
    assert model.network(1)[6] is norm
    for label in range(2):
        before = norm.running_mean.clone()
        model.predict(make_task(label, 2).train.x, label)
        assert not torch.equal(norm.running_mean, before)
    assert int(norm.num_batches_tracked) == 2


def test_shared_layers_stay_shared_in_copies_and_where_they_are_moved() -> None:
    model = normed()
    digest = module_digest(model)
    for found in (deepcopy(model), deepcopy(model).double().float(), normed(Training(epochs=0))):
        first, second = (found.network(label) for label in range(2))
        assert second[5] is first[5] and second[6] is first[6]
        assert [name for name, _ in tensors_of(found)] == [name for name, _ in tensors_of(model)]
    assert module_digest(deepcopy(model).double().float()) == digest
    loaded = normed(Training(epochs=0))
    assert module_digest(loaded) != digest
    loaded.load_state_dict(model.state_dict())
    assert module_digest(loaded) == digest
