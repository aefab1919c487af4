"""Pruning: never beyond its budget, the least missed first, and the parameters really go."""

from copy import deepcopy
from functools import cache

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.analysis.pruning import _longest, prune_laterals
from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork
from prognet.errors import ConfigError, FrozenColumnError
from tests.helpers.asserts import assert_no_forgetting

ADAPTERS: dict[str, Adapter] = {"linear": LinearAdapter(), "mlp": MLPAdapter()}


def data(n: int, seed: int) -> tuple[Tensor, Tensor]:
    """Four classes: the signs of two of the six features."""
    x = torch.randn(n, 6, generator=torch.Generator().manual_seed(seed))
    return x, (x[:, 0] > 0).long() * 2 + (x[:, 1] > 0).long()


def trained(adapter: Adapter, norm: bool = False) -> ProgressiveNetwork:
    """Column 1 knows the classes, columns 0 and 2 are random; column 3 has few units of its own."""
    return deepcopy(_trained(adapter, norm))


@cache
def _trained(adapter: Adapter, norm: bool) -> ProgressiveNetwork:
    torch.manual_seed(0)
    net = ProgressiveNetwork(adapter)
    x, y = data(400, 0)
    for k in range(4):
        width = 2 if k == 3 else 12
        middle = nn.BatchNorm1d(4) if norm else nn.Identity()
        backbone = nn.Sequential(
            nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 4), middle, nn.ReLU(), nn.Linear(4, 4)
        )
        net.add_column(backbone, x, sources=range(k) if k == 3 else ())
        if k in (1, 3):
            _fit(net, k, x, y)
    return net


def _fit(net: ProgressiveNetwork, k: int, x: Tensor, y: Tensor) -> None:
    column = net.column(k)
    net.train()
    optimiser = torch.optim.Adam(column.parameters(), lr=0.01)
    for _ in range(100):
        optimiser.zero_grad()
        torch.autograd.backward(functional.cross_entropy(net(x, k), y))
        optimiser.step()


def accuracy(net: ProgressiveNetwork, x: Tensor, y: Tensor) -> float:
    net.eval()
    with torch.no_grad():
        return float((net(x, 3).argmax(1) == y).double().mean())


@pytest.mark.parametrize("norm", [False, True], ids=["plain", "normed"])
@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("drop", [0.0, 0.02, 0.3])
def test_the_budget_is_kept_and_parameters_go(adapter: str, norm: bool, drop: float) -> None:
    net = trained(ADAPTERS[adapter], norm)
    (x, y), (held, classes) = data(400, 0), data(200, 1)
    before = accuracy(net, x, y), accuracy(net, held, classes)
    parameters = sum(parameter.numel() for parameter in net.parameters())
    done = prune_laterals(net, 3, x, y, held_out=(held, classes), drop=drop)
    after = accuracy(net, x, y), accuracy(net, held, classes)
    assert (done.before, done.after) == (before, after)
    assert all(old - new <= drop + 1e-9 for old, new in zip(before, after, strict=True))
    gone = parameters - sum(parameter.numel() for parameter in net.parameters())
    assert (gone > 0) == bool(done.removed)
    assert all(site in ("2", "5") and source in (0, 1, 2) for site, source in done.removed)
    if drop == 0.3:
        assert done.removed


def test_more_is_removed_where_more_may_be_lost() -> None:
    counts = []
    for drop in (0.01, 0.9):
        net = trained(MLPAdapter())
        counts.append(len(prune_laterals(net, 3, *data(400, 0), drop=drop).removed))
    assert counts[0] < counts[1] == 6
    assert net.column(3).sources == ()
    assert net.closure([3]) == (3,)


def test_the_useful_source_is_missed_most() -> None:
    net = trained(MLPAdapter())
    done = prune_laterals(net, 3, *data(400, 0), drop=0.9)
    assert done.removed[-1][1] == 1
    assert {source for _, source in done.removed[:3]} <= {0, 2}


def test_a_held_out_loss_alone_stops_it() -> None:
    net, (x, y) = trained(MLPAdapter()), data(400, 0)
    free = prune_laterals(trained(MLPAdapter()), 3, x, y, drop=0.5)
    held, classes = data(200, 1)
    with torch.no_grad():
        kept = net.eval()(held, 3).argmax(1)
    tight = prune_laterals(net, 3, x, y, held_out=(held[kept == classes][:3], classes[kept == classes][:3]), drop=0.5)
    assert len(tight.removed) <= len(free.removed)
    assert tight.before[1] == 1.0
    assert tight.after[1] >= 0.5


def test_batch_norm_is_taken_anew() -> None:
    net, (x, y) = trained(MLPAdapter(), norm=True), data(400, 0)
    norm = net.column(3).backbone.get_submodule("3")
    before = norm.get_buffer("running_mean").clone()
    done = prune_laterals(net, 3, x, y, drop=0.9, batch_size=100)
    assert len(done.removed) == 6
    assert not torch.allclose(before, norm.get_buffer("running_mean"))
    with torch.no_grad():
        reached = net.column(3).backbone[:3](x)  # type: ignore[index]  # all laterals are gone
    torch.testing.assert_close(norm.get_buffer("running_mean"), reached.mean(0))


def test_earlier_columns_and_modes_stay_as_they_are() -> None:
    net, (x, y) = trained(MLPAdapter(), norm=True), data(400, 0)
    net.train()
    assert_no_forgetting(net, [0, 1, 2], x, lambda: prune_laterals(net, 3, x, y, drop=0.1))
    modes = [part.training for part in net.column(3).modules()]
    net.train()
    assert [part.training for part in net.column(3).modules()] == [True] * len(modes)
    assert all(parameter.requires_grad for parameter in net.column(3).parameters())


def test_the_length_by_bisection() -> None:
    for largest in range(12):
        for holding in range(largest + 1):
            assert _longest(largest, lambda count, limit=holding: count <= limit) == holding  # type: ignore[misc]
    assert _longest(8, lambda count: count in (4, 6)) in (4, 6)  # never a length that does not hold
    assert _longest(0, lambda count: False) == 0


def test_what_cannot_be_pruned_is_refused() -> None:
    net, (x, y) = trained(MLPAdapter()), data(400, 0)
    for drop in (-0.1, 1.0, float("nan")):
        with pytest.raises(ConfigError, match=r"drop: required a share of the accuracy in \[0, 1\), found"):
            prune_laterals(net, 3, x, y, drop=drop)
    with pytest.raises(
        ConfigError, match="x: required two training inputs or more and a class for each, found 1 and 1"
    ):
        prune_laterals(net, 3, x[:1], y[:1])
    net.freeze()
    with pytest.raises(FrozenColumnError, match="column: required one that is not frozen"):
        prune_laterals(net, 3, x, y, drop=0.9)
