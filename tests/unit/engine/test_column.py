"""One column: its equation, its frozen state, and what it refuses."""

import copy
import re

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import Column, MLPAdapter, ProgressiveNetwork, Site, probe
from prognet.errors import ConfigError, SiteError
from tests.helpers import zoo
from tests.helpers.asserts import assert_same_tensors, snapshot


def columns_of(kind: zoo.Kind, adapter: MLPAdapter = zoo.RANDOM) -> tuple[Column, Column]:
    """A first column, and a second that reads it."""
    sites = probe(kind.build(), kind.example()).sites
    first = Column(kind.build(seed=1), sites)
    return first, Column(kind.build(seed=2), sites, [sites], adapter, [0])


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_a_column_without_sources_is_its_backbone(kind: zoo.Kind) -> None:
    first, _ = columns_of(kind)
    y, activations = first.eval()(kind.example())
    plain = kind.build(seed=1).eval()
    assert torch.equal(y, plain(kind.example()))
    assert_same_tensors(snapshot(plain), snapshot(first.backbone))
    assert tuple(activations) == tuple(name for name in kind.sites if name in activations) == kind.sites
    assert {name: tuple(h.shape[1:]) for name, h in activations.items()} == {s.name: s.in_shape for s in first.sites}


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_a_lateral_leaves_what_it_reads_as_it_was(kind: zoo.Kind) -> None:
    """No adapter rescales in place: the same activations serve other columns, and are handed on as values."""
    first, second = columns_of(kind)
    _, past = first.eval()(kind.example())
    kept = {name: h.clone() for name, h in past.items()}
    versions = {name: h._version for name, h in past.items()}
    one, _ = second.eval()(kind.example(), [past])
    two, _ = second(kind.example(), [past])
    assert torch.equal(one, two)
    assert_same_tensors(kept, dict(past))
    assert versions == {name: h._version for name, h in past.items()}


def test_the_lateral_is_added_to_the_output_of_the_layer_itself() -> None:
    """Before any norm and activation: y_s = m_s(x_s) + a_s, seen by the layer after it."""
    backbone = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.ReLU())
    sites = (Site("1", (4,), (2,), "last"),)
    column = Column(backbone, sites, [sites], MLPAdapter(zero_init=False), [0])
    x, past = torch.randn(5, 3), {"1": torch.randn(5, 4)}
    a = column.adapters["1"]([past["1"]])
    expected = torch.relu(backbone[1](backbone[0](x)) + a)
    y, received = column(x, [past])
    assert torch.equal(y, expected)
    assert torch.equal(received["1"], backbone[0](x))


def test_activations_are_values() -> None:
    first, second = columns_of(zoo.MLP)
    _, one = first(zoo.MLP.example())
    _, two = first(zoo.MLP.example())
    assert one is not two
    edited = {name: h * 0 for name, h in one.items()}
    changed, _ = second(zoo.MLP.example(), [edited])
    plain, _ = second(zoo.MLP.example(), [one])
    assert not torch.equal(changed, plain)


def test_the_past_must_hold_every_source() -> None:
    _, second = columns_of(zoo.MLP)
    with pytest.raises(ConfigError, match=re.escape("past: required the activations of columns [0], found 0.")):
        second(zoo.MLP.example())
    with pytest.raises(ConfigError, match=re.escape("past: required the activations of columns [0], found 2.")):
        second(zoo.MLP.example(), [{}, {}])


def test_a_past_on_another_batch_is_refused_and_never_broadcast() -> None:
    first, second = columns_of(zoo.MLP)
    _, past = first(zoo.MLP.example(1))
    expected = "site '2': required a lateral of the shape of the output (16, 7), found (1, 7);"
    with pytest.raises(SiteError, match=re.escape(expected)):
        second(zoo.MLP.example(16), [past])


def test_inputs_of_another_size_are_refused_and_never_broadcast() -> None:
    """A convolution takes any size, a lateral was measured on one: 1 x 1 would broadcast over 5 x 5."""
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(2):
        net.add_column(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 3, 6)), torch.zeros(2, 1, 8, 8))
    assert net(torch.zeros(2, 1, 8, 8), 1).shape == (2, 3, 1, 1)
    with pytest.raises(SiteError, match=re.escape("of the output (2, 3, 5, 5), found (2, 3, 1, 1)")):
        net(torch.zeros(2, 1, 12, 12), 1)


def test_a_source_must_have_the_site() -> None:
    here, there = Site("1", (4,), (2,), "last"), Site("2", (4,), (2,), "last")
    backbone = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    expected = "site '1': required in every source column, found only ['2'] in one of them; name common sites with"
    with pytest.raises(SiteError, match=re.escape(expected)):
        Column(backbone, [here], [[there]], MLPAdapter(), [0])
    assert not backbone[1]._forward_hooks  # nothing was attached


@pytest.mark.parametrize("name", ["clear", "pop", "keys", "items", "values", "update"])
def test_a_site_may_be_called_like_a_method_of_a_dictionary(name: str) -> None:
    class Named(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Linear(3, 4)
            self.add_module(name, nn.Linear(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return self.get_submodule(name)(torch.relu(self.first(x)))  # type: ignore[no-any-return]

    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    x = torch.randn(2, 3)
    for _ in range(2):
        net.add_column(Named(), x)
    assert len(net.column(1).adapters) == 1
    assert not torch.equal(net(x, 1), net.column(1).backbone(x))


def test_adapters_have_the_type_of_their_backbone() -> None:
    kind = zoo.TRANSFORMER
    sites = probe(kind.build(), kind.example()).sites
    column = Column(kind.build().double(), sites, [sites], MLPAdapter(), [0])
    assert {parameter.dtype for parameter in column.parameters()} == {torch.float64}
    y, _ = column(kind.example().double(), [{s.name: torch.zeros(16, *s.in_shape).double() for s in sites}])
    assert y.dtype == torch.float64


def test_a_frozen_column_ignores_training_mode() -> None:
    """Doric toggles only requires_grad (bug D1), and Mammoth's old columns are evaluated in training mode (bug M4)."""
    _, column = columns_of(zoo.MLP_NORM)
    assert column.train().training
    assert column.freeze() is column
    for told in (column, nn.ModuleList([column])):
        told.train()
        assert not any(module.training for module in column.modules())
    assert column.train(False).train(True).training is False
    assert all(not parameter.requires_grad for parameter in column.parameters())


def test_freezing_drops_the_gradients() -> None:
    """An optimiser with momentum or weight decay would go on with a gradient that is left, even one of zeros."""
    first, _ = columns_of(zoo.MLP)
    first(zoo.MLP.example())[0].sum().backward()
    assert all(parameter.grad is not None for parameter in first.parameters())
    first.freeze()
    assert all(parameter.grad is None for parameter in first.parameters())


def test_a_backward_pass_that_began_before_the_freeze_leaves_no_gradient() -> None:
    first, _ = columns_of(zoo.MLP)
    loss = first(zoo.MLP.example())[0].sum()
    first.freeze()
    loss.backward()
    assert all(parameter.grad is None for parameter in first.parameters())


def test_a_copy_after_a_call_is_independent() -> None:
    """Activations kept on the module would make the copy fail."""
    first, second = columns_of(zoo.MLP)
    _, past = first(zoo.MLP.example())
    own, _ = second(zoo.MLP.example(), [past])
    twin = copy.deepcopy(second)
    with torch.no_grad():
        for parameter in twin.parameters():
            parameter.add_(1)
    assert torch.equal(second(zoo.MLP.example(), [past])[0], own)
    assert not torch.equal(twin(zoo.MLP.example(), [past])[0], own)


def test_a_column_shows_what_it_reads() -> None:
    assert columns_of(zoo.MLP)[1].freeze().extra_repr() == "sources=[0], frozen=True"
