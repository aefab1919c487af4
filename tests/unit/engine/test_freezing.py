"""Every way in which a frozen column could be unfrozen by accident: harmless, refused, or found at the next look."""

import copy
import functools
import pickle
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import pytest
import torch
from torch import Tensor, nn
from torch.nn.utils import clip_grad_norm_, parameters_to_vector, prune, vector_to_parameters
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn, update_bn

from prognet.engine import ProgressiveNetwork
from prognet.errors import FrozenColumnError, PrognetError
from tests.helpers import zoo
from tests.helpers.asserts import Optimizer, assert_network_unchanged, assert_same_tensors, logits, snapshot

KIND = zoo.MLP_NORM


def parent(net: ProgressiveNetwork) -> nn.Module:
    """A module that holds the network, such as a strategy."""
    return nn.ModuleDict({"net": net})


def other() -> ProgressiveNetwork:
    """A network of the same shapes and other numbers."""
    return zoo.network(KIND, 2, seed=9)


def backbone(net: ProgressiveNetwork) -> nn.Module:
    return net.column(0).backbone


SGD: Optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)
ADAMW: Optimizer = functools.partial(torch.optim.AdamW, lr=0.1, weight_decay=0.5)
RMSPROP: Optimizer = functools.partial(torch.optim.RMSprop, lr=0.1, momentum=0.9, weight_decay=0.1)


def train_all(net: ProgressiveNetwork, optimizer: Optimizer) -> None:
    """All parameters of the network in the optimiser."""
    used = optimizer(list(net.parameters()))
    for _ in range(3):
        used.zero_grad(set_to_none=False)
        net.train()(KIND.example(), 1).square().sum().backward()
        clip_grad_norm_(net.parameters(), 1.0)
        used.step()


def average(net: ProgressiveNetwork) -> None:
    """A moving average beside the training, whose frozen column has to be the same as well."""
    own = snapshot(net.column(0))
    averaged = AveragedModel(net, multi_avg_fn=get_ema_multi_avg_fn(0.9))  # type: ignore[no-untyped-call]
    for _ in range(2):
        train_all(net, SGD)
        averaged.update_parameters(net)
    twin = averaged.module
    assert isinstance(twin, ProgressiveNetwork)
    assert_same_tensors(own, snapshot(twin.column(0)))
    twin.check_frozen()


@torch.no_grad()
def lerp_in_place(net: ProgressiveNetwork) -> None:
    for own, given in zip(net.parameters(), other().parameters(), strict=True):
        own.lerp_(given, 0.1)


def write_data(net: ProgressiveNetwork) -> None:
    for own, given in zip(net.parameters(), other().parameters(), strict=True):
        own.data.mul_(0.9).add_(given.data, alpha=0.1)


def swap_vector(net: ProgressiveNetwork) -> None:
    vector_to_parameters(parameters_to_vector(net.parameters()) * 2, net.parameters())


def reset_statistics(net: ProgressiveNetwork) -> None:
    """What torch offers for averaged networks resets the statistics of every BatchNorm layer."""
    wrapped = nn.Sequential(_Second(net))
    update_bn([KIND.example()], wrapped)


class _Second(nn.Module):
    def __init__(self, net: ProgressiveNetwork) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x, 1)  # type: ignore[no-any-return]


def call_in_half_precision(net: ProgressiveNetwork) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        net(KIND.example(), 1).sum().backward()


def prune_a_layer(net: ProgressiveNetwork) -> None:
    prune.l1_unstructured(backbone(net).get_submodule("4"), "weight", 0.5)  # type: ignore[no-untyped-call]


@dataclass(frozen=True)
class Attempt:
    """What somebody does to a network, what becomes of it, and what they are told."""

    name: str
    action: Callable[[ProgressiveNetwork], object]
    outcome: Literal["harmless", "refused", "found"]
    message: str = ""


LOAD = "load_state_dict: required the numbers of the frozen column at '"
GRAD = "column 0: required frozen parameters, found requires_grad=True at 'backbone.0.weight'"
CHANGED = "column 0: required the tensors with which it was frozen, found another '"

ATTEMPTS = (
    Attempt("train", lambda net: net.train(), "harmless"),
    Attempt("train of a parent", lambda net: parent(net).train(), "harmless"),
    Attempt("train of the column", lambda net: net.column(0).train(True), "harmless"),
    Attempt("requires_grad_", lambda net: net.requires_grad_(True), "harmless"),
    Attempt("zero_grad", lambda net: net.zero_grad(set_to_none=False), "harmless"),
    Attempt("sgd", lambda net: train_all(net, SGD), "harmless"),
    Attempt("adamw", lambda net: train_all(net, ADAMW), "harmless"),
    Attempt("rmsprop", lambda net: train_all(net, RMSPROP), "harmless"),
    Attempt("requires_grad_ and sgd", lambda net: train_all(net.requires_grad_(True), SGD), "harmless"),
    Attempt("averaged model", average, "harmless"),
    Attempt("to a device", lambda net: net.to("cpu"), "harmless"),
    Attempt("to a memory format", lambda net: net.to(memory_format=torch.channels_last), "harmless"),
    Attempt("to the same type", lambda net: net.float(), "harmless"),
    Attempt("its own state", lambda net: net.load_state_dict(copy.deepcopy(net.state_dict())), "harmless"),
    Attempt("assigned state", lambda net: net.load_state_dict(net.state_dict(), assign=True), "harmless"),
    Attempt("deepcopy", lambda net: copy.deepcopy(net).check_frozen(), "harmless"),
    Attempt("pickle", lambda net: pickle.loads(pickle.dumps(net)).check_frozen(), "harmless"),
    Attempt("freeze", lambda net: net.freeze(), "harmless"),
    Attempt("autocast", call_in_half_precision, "harmless"),
    Attempt("half", lambda net: net.half(), "refused", "to: required torch.float32 at 'backbone.0.weight', "),
    Attempt("double", lambda net: net.double(), "refused", "found torch.float64; another type is another function"),
    Attempt("bfloat16", lambda net: net.bfloat16(), "refused", "found torch.bfloat16"),
    Attempt("to a type", lambda net: net.to(torch.float64), "refused", "with which the column was frozen, found"),
    Attempt("to a type, parent", lambda net: parent(net).to(torch.half), "refused", "found torch.float16"),
    Attempt("to a type, column", lambda net: net.column(0).to(torch.half), "refused", "found torch.float16"),
    Attempt("requires_grad_ of the column", lambda net: net.column(0).requires_grad_(), "refused", "requires_grad_: "),
    Attempt("other state", lambda net: net.load_state_dict(other().state_dict()), "refused", LOAD),
    Attempt(
        "other state, parent", lambda net: parent(net).load_state_dict(parent(other()).state_dict()), "refused", LOAD
    ),
    Attempt(
        "other state, column",
        lambda net: net.column(0).load_state_dict(other().column(0).state_dict()),
        "refused",
        LOAD,
    ),
    Attempt(
        "other state, not strict", lambda net: net.load_state_dict(other().state_dict(), strict=False), "refused", LOAD
    ),
    Attempt("requires_grad_ of a parent", lambda net: parent(net).requires_grad_(True), "found", GRAD),
    Attempt("requires_grad_ of a part", lambda net: backbone(net).requires_grad_(True), "found", GRAD),
    Attempt("train of a part", lambda net: backbone(net).train(), "found", "column 0: required evaluation mode, "),
    Attempt("average in place", lerp_in_place, "found", f"{CHANGED}backbone.0.weight'"),
    Attempt("write to data", write_data, "found", f"{CHANGED}backbone.0.weight'"),
    Attempt("vector", swap_vector, "found", f"{CHANGED}backbone.0.weight'"),
    Attempt("statistics", reset_statistics, "found", f"{CHANGED}backbone.1.running_mean'"),
    Attempt(
        "other state, part", lambda net: backbone(net).load_state_dict(backbone(other()).state_dict()), "found", CHANGED
    ),
    Attempt("to a type, part", lambda net: backbone(net).double(), "found", f"{CHANGED}backbone.0.weight'"),
    Attempt(
        "init", lambda net: nn.init.zeros_(backbone(net).get_parameter("7.bias")), "found", "another 'backbone.7.b"
    ),
    Attempt("pruning", prune_a_layer, "found", CHANGED),
    Attempt("another part", lambda net: backbone(net).__setattr__("0", nn.Linear(6, 8)), "found", GRAD),
)


@pytest.fixture
def net() -> ProgressiveNetwork:
    """Two columns, the first one frozen, with statistics that were learned."""
    net = zoo.network(KIND, 1)
    for seed in range(3):
        net.train()(KIND.example(seed=seed), 0)
    net.add_column(KIND.build(3, 1), KIND.example())
    return net


@pytest.mark.parametrize("attempt", ATTEMPTS, ids=lambda attempt: attempt.name)
def test_a_frozen_column_is_not_unfrozen_by_accident(net: ProgressiveNetwork, attempt: Attempt) -> None:
    x = KIND.example()
    before, digest, numbers = logits(net, 0, x), net.digest(0), snapshot(net.column(0))

    def refused() -> None:
        with pytest.raises(FrozenColumnError, match=re.escape(attempt.message)) as raised:
            attempt.action(net)
        assert isinstance(raised.value, PrognetError)
        assert isinstance(raised.value, RuntimeError)

    if attempt.outcome == "refused":
        assert_network_unchanged(net, refused)  # the newest column as well
    else:
        attempt.action(net)
    if attempt.outcome == "found":
        with pytest.raises(FrozenColumnError, match=re.escape(attempt.message)):
            net.check_frozen()
        return
    net.check_frozen()
    assert_same_tensors(numbers, snapshot(net.column(0)))
    assert net.digest(0) == digest
    for mode in (True, False):
        assert torch.equal(before, logits(net.train(mode), 0, x))


def test_the_newest_column_may_do_all_of_it() -> None:
    net = zoo.network(zoo.MLP, 1)
    net.requires_grad_(False).requires_grad_(True)
    net.load_state_dict(zoo.network(zoo.MLP, 1, seed=9).state_dict())
    net.double().column(0).requires_grad_(True)
    lerped = [parameter.data.mul_(2) for parameter in net.parameters()]
    assert len(lerped) == 6
    net.check_frozen()
    assert all(parameter.requires_grad for parameter in net.parameters())


def test_requires_grad_of_the_network_reaches_the_column_that_learns(net: ProgressiveNetwork) -> None:
    net.requires_grad_(False)
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert net.requires_grad_(True) is net
    assert [{p.requires_grad for p in net.column(k).parameters()} for k in range(2)] == [{False}, {True}]


def test_a_refused_type_leaves_no_column_changed() -> None:
    """The columns are asked before any of them is changed, whatever their order."""
    net = zoo.network(zoo.MLP, 3)
    net.column(0).frozen = False
    before = snapshot(net)
    with pytest.raises(FrozenColumnError, match="to: required"):
        net.double()
    assert_same_tensors(before, snapshot(net))
    assert {parameter.dtype for parameter in net.parameters()} == {torch.float32}


def test_a_column_is_sealed_when_it_is_frozen_and_not_again(net: ProgressiveNetwork) -> None:
    with torch.no_grad():
        net.column(1).backbone.get_parameter("0.weight").add_(1)  # it may still learn
    net.freeze()
    net.check_frozen()
    with torch.no_grad():
        net.column(1).backbone.get_parameter("0.weight").add_(1)
    net.freeze()
    with pytest.raises(FrozenColumnError, match=r"column 1: .*, found another 'backbone\.0\.weight'; load the network"):
        net.check_frozen()


def test_frozen_parameters_stay_parameters(net: ProgressiveNetwork) -> None:
    """Stored as buffers they would give other bits in recurrent and attention layers."""
    names = {name for name, _ in zoo.network(KIND, 1).column(0).named_parameters()}
    assert {name for name, _ in net.column(0).named_parameters()} == names
