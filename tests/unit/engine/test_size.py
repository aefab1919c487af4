"""How large adapters are beside their column, and the warning where they outweigh it."""

import re
import warnings

import pytest
import torch
from torch import nn

from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork, Sites, probe
from prognet.engine.adapters import Adapter
from prognet.engine.size import WORTH_A_WARNING, adapter_parameters, count_parameters, outweighs
from prognet.errors import AdapterSizeWarning
from tests.helpers import zoo
from tests.helpers.asserts import assert_generator_untouched, assert_network_unchanged


def wide(n_classes: int) -> nn.Sequential:
    """Much smaller than laterals at its one site: 4 * 800 + 800 + (800 + 1) * n_classes parameters."""
    return nn.Sequential(nn.Linear(4, 800), nn.ReLU(), nn.Linear(800, n_classes))


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
@pytest.mark.parametrize("adapter", [LinearAdapter(), MLPAdapter(), MLPAdapter.paper()], ids=["linear", "mlp", "paper"])
def test_adapters_are_counted_before_they_are_made(kind: zoo.Kind, adapter: Adapter) -> None:
    sites = probe(kind.build(), kind.example()).sites
    net = zoo.network(kind, 3, adapter)
    senders = [[site, site] for site in sites]
    counts = []
    assert_generator_untouched(lambda: counts.append(adapter_parameters(adapter, senders, net.column(2).sites)))
    assert counts == [count_parameters(net.column(2).adapters)]


def test_adapters_that_outweigh_their_column_are_reported_once() -> None:
    """V has 800 * 800 weights for every source, 640,000: too few to mind with one of them."""
    net, x = ProgressiveNetwork(), torch.zeros(2, 4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for k in range(5):
            net.add_column(wide(3), x)
            assert [outweighs(net.column(j)) for j in range(k + 1)] == [j > 1 for j in range(k + 1)]
    # V: 2 * 800 * 800 weights and 800 biases; U: 800 * 3; two alphas. The column: 5 * 800 + 801 * 3.
    assert count_parameters(net.column(2).adapters) == 1_280_000 + 800 + 2_400 + 2 > WORTH_A_WARNING
    assert [item.category for item in caught] == [AdapterSizeWarning]
    assert issubclass(AdapterSizeWarning, UserWarning)
    assert str(caught[0].message) == (
        "column 2: its adapters have 1,283,202 parameters, 200.4 times the 6,403 of its backbone; take a bottleneck "
        "such as MLPAdapter(hidden=0.25), fewer sources, or coarser sites (sites='blocks'). Later columns are not "
        "reported."
    )
    assert caught[0].filename == __file__  # the line that adds the column


@pytest.mark.parametrize(
    ("adapter", "sources"),
    [(MLPAdapter(hidden=0.25), (0, 1, 2)), (MLPAdapter(), (2,)), (LinearAdapter(), (0, 1, 2))],
    ids=["bottleneck", "fewer sources", "linear"],
)
def test_the_remedies_of_the_warning_help(adapter: Adapter, sources: tuple[int, ...]) -> None:
    net, x = ProgressiveNetwork(adapter), torch.zeros(2, 4)
    for k in range(4):
        net.add_column(wide(3), x, sources=[j for j in sources if j < k])
    assert not outweighs(net.column(3))


def test_leaves_of_a_large_network_are_reported_and_its_blocks_are_not() -> None:
    from prognet.backbones import torchvision

    backbone, x = torchvision("efficientnet_b0"), torch.zeros(2, 3, 32, 32)

    def columns(sites: Sites) -> ProgressiveNetwork:
        net = ProgressiveNetwork()
        for _ in range(2):
            net.add_column(backbone((3, 32, 32), 3), x, sites)
        return net

    columns("blocks")
    with pytest.warns(AdapterSizeWarning, match="column 1: its adapters have 35,855,517 parameters, 8.9 times"):
        columns("leaves")


def test_a_warning_that_is_an_error_leaves_the_network_as_it_was() -> None:
    net, x = ProgressiveNetwork(), torch.zeros(2, 4)
    for _ in range(2):
        net.add_column(wide(3), x)

    def add() -> None:
        with pytest.raises(AdapterSizeWarning, match=re.escape("column 2: its adapters have 1,283,202 parameters")):
            net.add_column(wide(3), x)

    assert_network_unchanged(net, add)


def test_small_networks_are_never_reported() -> None:
    """Ten columns of the built-in default on digits: adapters many times as large as a column, and nobody minds."""
    from prognet.backbones import mlp

    net = ProgressiveNetwork()
    for _ in range(10):
        net.add_column(mlp()((1, 8, 8), 2), torch.zeros(2, 1, 8, 8))
    last = net.column(9)
    assert count_parameters(last.adapters) > 10 * count_parameters(last.backbone)
    assert not outweighs(last)
