"""Laterals that lose a source: what is left computes what it computed before, and nothing else is left."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork, Site
from prognet.engine.laterals import MLPLateral
from prognet.engine.narrowing import laterals_of, remove_laterals
from prognet.errors import ConfigError, FrozenColumnError
from tests.helpers.runs import ZeroAdapter


def mlp(width: int = 7) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 3))


def cnn(width: int = 4) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, width, 3),
        nn.ReLU(),
        nn.Conv2d(width, 5, 3, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


class Tokens(nn.Module):
    """(B, 4, 6) -> (B, 3), through a site over tokens."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.embed, self.mix, self.head = nn.Linear(6, width), nn.Linear(width, 5), nn.Linear(5, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.mix(torch.relu(self.embed(x))).mean(1))
        return out


SHAPES: dict[str, tuple[Callable[[int], nn.Module], tuple[int, ...], list[str] | None]] = {
    "vectors": (mlp, (6,), None),
    "images": (cnn, (1, 8, 8), None),
    "tokens": (Tokens, (4, 6), ["mix", "head"]),
}
ADAPTERS: dict[str, Adapter] = {
    "linear": LinearAdapter(zero_init=False),
    "mlp": MLPAdapter(zero_init=False, hidden=6),
    "paper": MLPAdapter.paper(),
    "transfer": MLPAdapter.transfer(),
}


def network(shape: str, adapter: Adapter) -> tuple[ProgressiveNetwork, Tensor]:
    """Four columns of unequal widths with laterals at work, and inputs."""
    torch.manual_seed(0)
    build, input_shape, sites = SHAPES[shape]
    x = torch.randn(20, *input_shape)
    net = ProgressiveNetwork(adapter)
    for width in (5, 7, 4, 6):
        net.add_column(build(width), x[:2], sites)
    with torch.no_grad():
        for parameter in net.column(3).adapters.parameters():
            parameter.add_(torch.randn_like(parameter) / 5)
    return net.eval(), x


def senders(net: ProgressiveNetwork) -> dict[int, tuple[Site, ...]]:
    return {source: net.column(source).sites for source in range(len(net) - 1)}


def output(net: ProgressiveNetwork, x: Tensor, without: Sequence[tuple[str, int]] = ()) -> Tensor:
    """Column 3, with zeros handed over in the place of some sources."""
    past = net.activations(x, [0, 1, 2])
    edited = [
        {site: torch.zeros_like(h) if (site, j) in without else h for site, h in past[j].items()}
        for j in net.column(3).sources
    ]
    with torch.no_grad():
        y, _ = net.column(3)(x, edited)
    out: Tensor = y
    return out


@pytest.mark.parametrize("shape", ["vectors", "images"])
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_without_a_source_the_column_is_the_one_that_is_handed_zeros(shape: str, adapter: str) -> None:
    net, x = network(shape, ADAPTERS[adapter])
    first, last = (net.column(3).sites[place].name for place in (0, -1))
    removed = [(first, 0), (first, 2), (last, 1)]
    required = output(net, x, removed)
    assert not torch.allclose(required, output(net, x), atol=1e-3)
    remove_laterals(net.column(3), senders(net), removed)
    torch.testing.assert_close(output(net, x), required)


def test_a_token_lateral_without_a_source_is_the_one_whose_scale_is_zero() -> None:
    net, x = network("tokens", MLPAdapter(zero_init=False))
    lateral = net.column(3).lateral("mix")
    assert isinstance(lateral, MLPLateral)
    with torch.no_grad():
        alpha = lateral.alpha.clone()
        lateral.alpha[1] = 0.0
        required = output(net, x)
        lateral.alpha.copy_(alpha)
    assert not torch.allclose(required, output(net, x), atol=1e-3)
    remove_laterals(net.column(3), senders(net), [("mix", 1)])
    torch.testing.assert_close(output(net, x), required)


@pytest.mark.parametrize("shape", ["vectors", "images"])
@pytest.mark.parametrize("adapter", ["mlp", "transfer"])
@pytest.mark.parametrize("place", [0, -1])
def test_a_mean_that_is_kept_is_the_source_replaced_by_it(shape: str, adapter: str, place: int) -> None:
    net, x = network(shape, ADAPTERS[adapter])
    column, past = net.column(3), net.activations(x, [0, 1, 2])
    site = column.sites[place].name
    mean = past[1][site].mean((0, 2, 3) if past[1][site].ndim == 4 else 0)  # (features,)
    filled = mean.view(1, -1, *[1] * (past[1][site].ndim - 2)).expand_as(past[1][site])
    with torch.no_grad():
        required, _ = column(x, [past[0], {**past[1], site: filled}, past[2]])
    remove_laterals(column, senders(net), [(site, 1)], {(site, 1): mean})
    torch.testing.assert_close(output(net, x), required)


def test_the_parameters_go_and_the_source_leaves_the_closure() -> None:
    net, _ = network("vectors", MLPAdapter(zero_init=False))
    column = net.column(3)
    before = sum(parameter.numel() for parameter in column.parameters())
    removed = [("2", 1), ("4", 1), ("4", 0), ("4", 2)]
    remove_laterals(column, senders(net), removed)
    # at "2" V loses the 7 features of source 1 and alpha one entry; at "4" V (5 x 15 + 5), alpha and U (3 x 5) go
    assert before - sum(parameter.numel() for parameter in column.parameters()) == (6 * 7 + 1) + (5 * 15 + 5 + 3 + 15)
    assert (column.sources, column.reads) == ((0, 2), {"2": (0, 2), "4": ()})
    assert column.lateral("4") is None
    assert net.closure([3]) == (0, 1, 2, 3)  # column 2 reads column 1 itself
    remove_laterals(column, senders(net), [("2", 2)])
    assert net.closure([3]) == (0, 3)


def test_a_column_without_laterals_is_its_backbone() -> None:
    net, x = network("vectors", MLPAdapter(zero_init=False))
    column = net.column(3)
    remove_laterals(column, senders(net), laterals_of(column))
    assert (column.sources, column.adapter, len(column.adapters)) == ((), None, 0)
    with torch.no_grad():
        assert torch.equal(net(x, 3), column.backbone(x))


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("adapter", ADAPTERS)
def test_a_pruned_network_is_saved_and_loaded(shape: str, adapter: str, tmp_path: Path) -> None:
    net, x = network(shape, ADAPTERS[adapter])
    sites = [site.name for site in net.column(3).sites]
    remove_laterals(net.column(3), senders(net), [(sites[0], 0), (sites[-1], 1), (sites[-1], 2)])
    net.freeze()
    net.save(tmp_path)
    build, _, _ = SHAPES[shape]
    again = ProgressiveNetwork.load(tmp_path, build=lambda k: build((5, 7, 4, 6)[k]))
    assert again.digests() == net.digests()
    assert again.column(3).reads == net.column(3).reads
    with torch.no_grad():
        assert torch.equal(again.eval()(x, 3), net(x, 3))


def test_the_digest_tells_which_lateral_is_left() -> None:
    digests = set()
    for pruned in ([("2", 0), ("4", 2)], [("2", 2), ("4", 0)], [("2", 0), ("4", 0)]):
        torch.manual_seed(0)
        net = ProgressiveNetwork(LinearAdapter())
        for _ in range(4):
            net.add_column(mlp(), torch.zeros(2, 6))
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.zero_()  # so that no number tells them apart
        remove_laterals(net.column(3), senders(net), pruned)
        digests.add(net.digest(3))
    assert len(digests) == 3


def test_the_generator_and_the_other_numbers_are_left_alone() -> None:
    net, _ = network("vectors", MLPAdapter(zero_init=False))
    state, lateral = torch.get_rng_state(), deepcopy(net.column(3).lateral("4"))
    remove_laterals(net.column(3), senders(net), [("2", 0)])
    assert torch.equal(torch.get_rng_state(), state)
    left = net.column(3).lateral("4")
    assert isinstance(left, MLPLateral)
    assert isinstance(lateral, MLPLateral)
    assert all(torch.equal(a, b) for a, b in zip(left.parameters(), lateral.parameters(), strict=True))
    assert all(parameter.requires_grad for parameter in net.column(3).parameters())


def test_what_cannot_be_removed_is_refused() -> None:
    net, _ = network("vectors", MLPAdapter())
    with pytest.raises(ConfigError, match=r"removed: required laterals of the column, found \[\('2', 3\)\]\."):
        remove_laterals(net.column(3), senders(net), [("2", 3)])
    with pytest.raises(FrozenColumnError, match="column: required one that is not frozen, found a frozen one"):
        remove_laterals(net.column(2), senders(net), [("2", 0)])
    other = ProgressiveNetwork(ZeroAdapter())
    for _ in range(3):
        other.add_column(mlp(), torch.zeros(2, 6))
    with pytest.raises(ConfigError, match=r"adapter: required one of \['LinearAdapter', 'MLPAdapter'\], found ZeroAd"):
        remove_laterals(other.column(2), senders(other), [("2", 0)])
