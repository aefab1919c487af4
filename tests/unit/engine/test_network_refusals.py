"""Calls that a network refuses, with their texts; each leaves the network as it was."""

import re
from collections.abc import Callable

import pytest
import torch
from torch import nn

from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError, SiteError
from tests.helpers import zoo
from tests.helpers.asserts import assert_network_unchanged, learn


def _refusals() -> list[tuple[Callable[[ProgressiveNetwork], object], type[Exception], str]]:
    x, build = zoo.MLP.example(), zoo.MLP.build
    half = nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.GRU(8, 2))
    tokens = nn.Sequential(nn.Linear(6, 8), nn.Unflatten(1, (2, 4)), nn.Linear(4, 3))
    return [
        (
            lambda net: net.add_column(build(), zoo.TRANSFORMER.example()),
            SiteError,
            "example: required the input shape (6,) of column 0, which the new one is to read, found (4, 5); a column",
        ),
        (lambda net: net.add_column(build(), x.numpy()), ConfigError, "example: required a tensor (B, *inp"),  # type: ignore[arg-type]
        (lambda net: net.add_column(len, x), ConfigError, "backbone: required an nn.Module, found a "),  # type: ignore[arg-type]
        (lambda net: net.add_column(net.column(0).backbone, x), ConfigError, "backbone: required a module of its own"),
        (
            lambda net: net.add_column(nn.Sequential(net.column(1).backbone[0], nn.Linear(8, 2)), x),  # type: ignore[index]
            ConfigError,
            "found one that shares modules or parameters with an earlier column; build a new one.",
        ),
        (lambda net: net.add_column(build(), x, sites=["9"]), SiteError, "sites: '9' names no submodule"),
        (lambda net: net.add_column(build(), x, sites=["0"]), SiteError, "site '0': it receives the raw input"),
        (lambda net: net.add_column(build(), x, sites=[]), SiteError, "sites: required at least one name"),
        (lambda net: net.add_column(build(), x, sites=["3"]), SiteError, "site '3': required in every source column"),
        (lambda net: net.add_column(half, x), SiteError, "backbone: required one tensor as output, found a tuple."),
        (lambda net: net.add_column(tokens, x), SiteError, "site '2': required an input like the new column's (2, 4)"),
        (
            lambda net: net.add_column(nn.Linear(6, 3), x),
            SiteError,
            "sites: required at least one site in the backbone, found none by default ({}); name some with `sites=`.",
        ),
        (
            lambda net: net.add_column(build(), x, sources=[2]),
            ConfigError,
            "column: required an index from 0 to 1, found 2; add a column first.",
        ),
        (lambda net: net.add_column(build(), x, sources=[-1]), ConfigError, "found -1;"),
        (
            lambda net: net.add_column(build(), x, sources=[0, 0]),
            ConfigError,
            "required each column once, found [0, 0]",
        ),
        (lambda net: net(x, 2), ConfigError, "column: required an index from 0 to 1, found 2; add a column first."),
        (lambda net: net(x, -1), ConfigError, "found -1;"),
        (lambda net: net(x, True), ConfigError, "found True;"),
        (lambda net: net(x, 0.0), ConfigError, "found 0.0;"),
        (lambda net: net.digest(2), ConfigError, "found 2;"),
        (lambda net: net.activations(x, [1, 7]), ConfigError, "found 7;"),
    ]


@pytest.mark.parametrize(("call", "error", "message"), _refusals())
def test_a_refused_call_changes_nothing(
    call: Callable[[ProgressiveNetwork], object], error: type[Exception], message: str
) -> None:
    """Nor does asking for a task that was never learned add a column, as in Avalanche (bugs A1 and A2)."""
    net = zoo.network(zoo.MLP, 2)

    def refused() -> None:
        with pytest.raises(error, match=re.escape(message)):
            call(net)

    assert_network_unchanged(net, refused)
    learn(net, 1, zoo.MLP.example(), torch.optim.SGD)  # column 1 is still the one that learns


def test_an_empty_network_says_what_to_do() -> None:
    with pytest.raises(ConfigError, match=r"found 0; add a column first"):
        ProgressiveNetwork()(torch.zeros(1, 3), 0)
