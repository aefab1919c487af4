"""The network: nothing is forgotten, only the last column learns, sources, refusals."""

import functools
import re
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor

from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork
from prognet.engine.adapters import Adapter
from prognet.engine.network import frozen_digests
from prognet.errors import FrozenColumnError, SiteError
from tests.helpers import zoo
from tests.helpers.asserts import (
    Optimizer,
    assert_every_adapter_matters,
    assert_every_lateral_learns,
    assert_every_source_matters,
    assert_features_are_shared,
    assert_no_forgetting,
    assert_only_last_column_learns,
    assert_same_tensors,
    assert_zero_adapters_give_the_backbone,
    learn,
    logits,
    snapshot,
)

SGD: Optimizer = functools.partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.01)
ADAM: Optimizer = functools.partial(torch.optim.Adam, lr=0.01)
ADAMW: Optimizer = functools.partial(torch.optim.AdamW, lr=0.01, weight_decay=0.1)

every_kind = pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)


@every_kind
@pytest.mark.parametrize("optimizer", [SGD, ADAM], ids=["sgd", "adam"])
def test_nothing_is_forgotten(kind: zoo.Kind, optimizer: Optimizer) -> None:
    """Bits of logits and digests, while later columns are added, trained in training mode with all parameters of the
    network in the optimiser, and evaluated (Avalanche A1, Mammoth M3 and M4, Doric D1).
    """
    net, x = zoo.network(kind, 2), kind.example()
    learn(net, 1, x, optimizer)
    net.freeze()

    def later() -> None:
        for seed in (5, 6):
            k = net.add_column(kind.build(4, seed), x)
            learn(net, k, kind.example(seed=seed), optimizer)
            net.eval()(x, k)

    assert_no_forgetting(net, [0, 1], x, later)


def test_an_optimiser_that_began_before_the_freeze_moves_nothing() -> None:
    """Its momentum and its moments belong to parameters that are frozen now."""
    kind = zoo.MLP_NORM
    for make in (SGD, ADAM, ADAMW):
        net, x = zoo.network(kind, 1), kind.example()
        used = make(list(net.parameters()))
        for _ in range(3):
            used.zero_grad()
            net(x, 0).square().sum().backward()
            used.step()
        net.add_column(kind.build(), x)
        used.add_param_group({"params": list(net.column(1).parameters())})

        def later(net: ProgressiveNetwork = net, used: torch.optim.Optimizer = used, x: Tensor = x) -> None:
            net.train()
            for _ in range(3):
                used.zero_grad(set_to_none=False)
                net(x, 1).square().sum().backward()
                used.step()

        assert_no_forgetting(net, [0], x, later)


@every_kind
@pytest.mark.parametrize("n_columns", [1, 2, 3])
def test_only_the_last_column_learns(kind: zoo.Kind, n_columns: int) -> None:
    assert_only_last_column_learns(zoo.network(kind, n_columns), kind.example(), ADAM)


@every_kind
@pytest.mark.parametrize("adapter", [LinearAdapter(zero_init=False), zoo.RANDOM], ids=["linear", "mlp"])
def test_every_adapter_matters(kind: zoo.Kind, adapter: Adapter) -> None:
    """Mammoth's adapters are never run (bug M1)."""
    assert_every_adapter_matters(zoo.network(kind, 3, adapter), kind.example())


@every_kind
@pytest.mark.parametrize("adapter", [LinearAdapter(), MLPAdapter(), MLPAdapter.paper()], ids=["linear", "mlp", "paper"])
def test_every_lateral_learns_within_two_steps(kind: zoo.Kind, adapter: Adapter) -> None:
    assert_every_lateral_learns(zoo.network(kind, 3, adapter), kind.example(), ADAM)


@every_kind
@pytest.mark.parametrize("adapter", [LinearAdapter(), MLPAdapter(), MLPAdapter(kernel="layer")], ids=repr)
@pytest.mark.parametrize("mode", [True, False])
def test_zero_adapters_give_the_backbone(kind: zoo.Kind, adapter: Adapter, mode: bool) -> None:
    net = zoo.network(kind, 3, adapter)
    backbones = [kind.build(2 + k, k) for k in range(3)]
    assert_zero_adapters_give_the_backbone(net, backbones, kind.example(), mode)


@every_kind
def test_the_first_column_is_the_backbone(kind: zoo.Kind) -> None:
    plain = kind.build(2, 0).state_dict()
    own = zoo.network(kind, 1).column(0).backbone.state_dict()
    assert_same_tensors(dict(plain), dict(own))
    names = {f"columns.0.backbone.{name}" for name in plain}
    assert names == set(zoo.network(kind, 1).state_dict())


@every_kind
def test_features_that_a_column_reads_are_those_of_the_source(kind: zoo.Kind) -> None:
    """Mammoth's copies drop laterals and use the new column's norm (M2); HAT and CompoNet recompute without them."""
    net = zoo.network(kind, 3)
    assert_features_are_shared(net, kind.example())
    assert_every_source_matters(net, kind.example())


def test_a_new_column_reads_earlier_ones_in_evaluation_mode() -> None:
    """Dropout and the batch's own statistics of a source would make its features noise."""
    net, x = zoo.network(zoo.MLP_NORM, 2), zoo.MLP_NORM.example()
    net.eval()
    quiet = net.activations(x, [0])[0]
    net.train()
    loud = net.activations(x, [0])[0]
    assert_same_tensors(dict(quiet), dict(loud))
    assert not torch.equal(net(x, 1), net.eval()(x, 1))  # its own dropout is on


def test_heads_have_the_size_of_their_own_task() -> None:
    net, x = ProgressiveNetwork(zoo.RANDOM), zoo.LENET.example()
    for n_classes in (2, 5, 3):
        net.add_column(zoo.LENET.build(n_classes), x)
    assert [net(x, k).shape for k in range(3)] == [(16, 2), (16, 5), (16, 3)]


def test_columns_may_differ_in_depth_when_sites_have_names_in_common() -> None:
    net, x = ProgressiveNetwork(zoo.RANDOM), zoo.MLP.example()
    net.add_column(zoo.mlp(3, (8, 7, 6)), x)  # default sites 2, 4, 6
    net.add_column(zoo.mlp(2, (5, 9)), x, sites=["2", "4"])
    assert list(net.column(1).adapters) == ["2", "4"]
    assert_every_adapter_matters(net, x)
    expected = "site '6': required in every source column, found only ['2', '4'] in one of them; name common sites"
    with pytest.raises(SiteError, match=re.escape(expected)):
        net.add_column(zoo.mlp(3, (8, 7, 6)), x)


def test_sources_and_their_closure() -> None:
    net, x = ProgressiveNetwork(zoo.RANDOM), zoo.MLP.example()
    reads: tuple[Sequence[int] | None, ...] = (None, [], [1], [2, 0], [])
    for k, sources in enumerate(reads):
        net.add_column(zoo.MLP.build(2, k), x, sources=sources)
    assert [net.column(k).sources for k in range(5)] == [(), (), (1,), (0, 2), ()]
    closures = [net.closure([k]) for k in range(5)]
    assert closures == [(0,), (1,), (1, 2), (0, 1, 2, 3), (4,)]
    assert net.closure([]) == ()
    assert net.closure([4, 2]) == (1, 2, 4)
    assert sorted(net.activations(x, [2])) == [1, 2]
    assert_every_adapter_matters(net, x)
    assert_every_source_matters(net, x)
    assert len(net.column(1).adapters) == 0
    assert torch.equal(net.eval()(x, 4), zoo.MLP.build(2, 4).eval()(x))


def test_a_column_may_have_adapters_of_its_own() -> None:
    net, x = zoo.network(zoo.MLP, 2, MLPAdapter()), zoo.MLP.example()
    k = net.add_column(zoo.MLP.build(), x, adapter=LinearAdapter())
    assert [net.column(j).adapter for j in range(3)] == [None, MLPAdapter(), LinearAdapter()]
    assert [name for name, _ in net.column(k).adapters.named_parameters()] == ["2.U.weight", "4.U.weight"]


def test_a_last_column_that_learns_changes_its_digest_only() -> None:
    net, x = zoo.network(zoo.MLP_NORM, 3), zoo.MLP_NORM.example()
    before = net.digests()
    learn(net, 2, x, ADAM, steps=1)
    assert [net.digest(k) == before[k] for k in range(3)] == [True, True, False]
    assert frozen_digests(net) == {"column 0": before[0], "column 1": before[1]}


def test_unfrozen_parameters_are_found_and_frozen_again() -> None:
    """A column cannot hear what a parent of its network is told, so `requires_grad_(True)` on it reaches the column."""
    net, x = zoo.network(zoo.MLP_NORM, 2), zoo.MLP_NORM.example()
    net.check_frozen()
    before = logits(net, 0, x)
    torch.nn.ModuleList([net]).requires_grad_(True)
    for look in (net.check_frozen, net.digests, lambda: net.digest(1)):
        with pytest.raises(FrozenColumnError, match="column 0: required frozen parameters, found requires_grad=True"):
            look()
    k = net.add_column(zoo.MLP_NORM.build(), x)
    net.check_frozen()
    learn(net, k, x, SGD)
    assert torch.equal(before, logits(net, 0, x))


def test_a_part_in_training_mode_is_found() -> None:
    net = zoo.network(zoo.MLP_NORM, 2)
    net.column(0).backbone.get_submodule("1").train()
    with pytest.raises(FrozenColumnError, match=r"evaluation mode, found training mode at 'backbone.1'"):
        net.check_frozen()
    net.train()
    net.check_frozen()


def test_evaluation_draws_no_random_number_and_changes_nothing() -> None:
    net, x = zoo.network(zoo.MLP_NORM, 2), zoo.MLP_NORM.example()
    before, state = snapshot(net.eval()), torch.get_rng_state()
    for k in range(2):
        net(x, k)
    assert_same_tensors(before, snapshot(net))
    assert torch.equal(state, torch.get_rng_state())


def test_frozen_columns_build_no_graph_and_inputs_can_have_gradients() -> None:
    net, x = zoo.network(zoo.MLP, 2), zoo.MLP.example()
    assert all(not h.requires_grad for h in net.activations(x, [0])[0].values())
    x.requires_grad_(True)
    assert all(
        h.requires_grad for h in net.activations(x, [0])[0].values()
    )  # sensitivity analysis reads such gradients
    net(x, 1).sum().backward()
    assert x.grad is not None
    assert x.grad.count_nonzero()
