"""A network is a module like any other: state_dict, copies, pickle, functional calls, the compiler."""

import copy
import pickle

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import ProgressiveNetwork, probe
from tests.helpers import zoo
from tests.helpers.asserts import assert_same_tensors, logits, snapshot

every_kind = pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)


def assert_same_network(one: ProgressiveNetwork, two: ProgressiveNetwork, x: Tensor) -> None:
    assert_same_tensors(snapshot(one), snapshot(two))
    assert one.digests() == two.digests()
    for k in range(len(one)):
        assert torch.equal(logits(one, k, x), logits(two, k, x))
        assert one.column(k).frozen == two.column(k).frozen


def assert_independent(one: ProgressiveNetwork, two: ProgressiveNetwork, x: Tensor) -> None:
    """Changing the second network, its hooks included, leaves the first as it was."""
    before, digests = [logits(one, k, x) for k in range(len(one))], one.digests()
    with torch.no_grad():
        for parameter in two.parameters():
            parameter.mul_(0.5).add_(0.1)
    assert all(torch.equal(before[k], logits(one, k, x)) for k in range(len(one)))
    assert not torch.equal(before[-1], logits(two, len(two) - 1, x))
    assert one.digests() == digests


@every_kind
def test_state_dict(kind: zoo.Kind) -> None:
    """Read into a network whose columns are not frozen: frozen ones take no other numbers."""
    net, other = zoo.network(kind, 1).eval(), zoo.network(kind, 1, seed=9).eval()
    assert other.digests() != net.digests()
    other.load_state_dict(copy.deepcopy(net.state_dict()))
    assert_same_network(net, other, kind.example())
    several = zoo.network(kind, 3).eval()
    several.load_state_dict(copy.deepcopy(several.state_dict()))  # the same numbers harm nothing
    assert_same_network(zoo.network(kind, 3).eval(), several, kind.example())


@every_kind
def test_deepcopy_after_a_call(kind: zoo.Kind) -> None:
    net = zoo.network(kind, 3).eval()
    net(kind.example(), 2).sum().backward()
    twin = copy.deepcopy(net)
    assert_same_network(net, twin, kind.example())
    assert_independent(net, twin, kind.example())


@every_kind
def test_pickle_after_a_call(kind: zoo.Kind) -> None:
    net = zoo.network(kind, 3).eval()
    net(kind.example(), 2)
    twin = pickle.loads(pickle.dumps(net))
    assert_same_network(net, twin, kind.example())
    assert_independent(net, twin, kind.example())


@every_kind
def test_functional_call(kind: zoo.Kind) -> None:
    net, x = zoo.network(kind, 2).eval(), kind.example()
    own = logits(net, 1, x)
    numbers = {name: p.detach() * 0.5 + 0.1 for name, p in net.named_parameters()}
    with torch.no_grad():
        other = torch.func.functional_call(net, numbers, (x, 1))
    assert not torch.equal(own, other)
    assert torch.equal(own, logits(net, 1, x))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            parameter.copy_(numbers[name])
    assert torch.equal(other, logits(net, 1, x))


def test_double_precision() -> None:
    """A network that is still learning may change its type, with all that it reads in the new one."""
    net, x = zoo.network(zoo.RESNET, 1).eval(), zoo.RESNET.example()
    before, own = net.digest(0), logits(net, 0, x)
    torch.testing.assert_close(logits(net.double(), 0, x.double()), own.double(), rtol=1e-4, atol=1e-5)
    assert net.digest(0) != before


def test_the_compiler_takes_the_whole_network_in_one_graph() -> None:
    torch.compiler.reset()
    net, x = zoo.network(zoo.MLP, 3), zoo.MLP.example()
    compiled = torch.compile(net, fullgraph=True, backend="eager")
    for k in (2, 1, 2):
        assert torch.equal(compiled(x, column=k), net(x, column=k))
    compiled(x, column=2).sum().backward()
    assert all(parameter.grad is not None for parameter in net.column(2).parameters())
    with torch.no_grad():
        net.column(2).adapters.get_parameter("2.U.weight").zero_()
    assert torch.equal(compiled(x, column=2), net(x, column=2))


def test_a_backbone_compiled_but_not_yet_called_has_its_laterals() -> None:
    torch.compiler.reset()
    x = zoo.MLP.example()
    net, plain = ProgressiveNetwork(zoo.RANDOM), zoo.network(zoo.MLP, 2)
    for k in range(2):
        backbone = torch.compile(zoo.MLP.build(2 + k, k), backend="eager")
        assert isinstance(backbone, nn.Module)
        net.add_column(backbone, x)
    names = [site.name for site in probe(zoo.MLP.build(), x).sites]
    assert [site.name for site in net.column(1).sites] == [f"_orig_mod.{name}" for name in names]
    with torch.no_grad():
        for own, other in zip(net.parameters(), plain.parameters(), strict=True):
            own.copy_(other)
    assert torch.equal(net(x, 1), plain(x, 1))
