"""Low-rank adapters against weights that are added by hand."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from prognet.engine.digest import module_digest
from prognet.engine.low_rank import LowRank
from prognet.errors import ConfigError
from tests.helpers.runs import assert_same_tensors, tensors
from tests.helpers.zoo import MLP, RESNET, Kind


def randomised(adapters: LowRank) -> LowRank:
    """Adapters that say something."""
    random = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for part in adapters.parameters():
            part.copy_(0.3 * torch.randn(part.shape, generator=random))
    return adapters


@pytest.mark.parametrize("kind", [MLP, RESNET], ids=lambda kind: kind.name)
def test_in_the_beginning_they_add_exactly_nothing(kind: Kind) -> None:
    network = kind.build().eval()
    assert torch.equal(LowRank(network, 2)(network, kind.example()), network(kind.example()))


def test_the_output_is_that_of_weights_added_by_hand() -> None:
    network = nn.Sequential(nn.Conv2d(2, 3, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.Linear(3 * 3 * 3, 4))
    adapters = randomised(LowRank(network, 2, alpha=3.0))
    x = torch.randn(5, 2, 8, 8, generator=torch.Generator().manual_seed(0))
    conv, linear = deepcopy(network[0]), deepcopy(network[3])
    assert isinstance(conv, nn.Conv2d)
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        for o in range(3):
            for i, row, column in ((i, r, c) for i in range(2) for r in range(3) for c in range(3)):
                for r in range(2):
                    inner = adapters.A[0][r, (i * 3 + row) * 3 + column]
                    conv.weight[o, i, row, column] += 3.0 / 2 * adapters.B[0][o, r] * inner
        linear.weight += 3.0 / 2 * torch.einsum("or,ri->oi", adapters.B[1], adapters.A[1])
        by_hand = linear(torch.relu(conv(x)).flatten(1))
    torch.testing.assert_close(adapters(network, x), by_hand)
    assert not torch.allclose(by_hand, network(x))


@pytest.mark.parametrize("kind", [MLP, RESNET], ids=lambda kind: kind.name)
def test_merged_weights_say_the_same_bits(kind: Kind) -> None:
    network = kind.build().eval()
    adapters, x = randomised(LowRank(network, 2)), kind.example()
    with torch.no_grad():
        said = adapters(network, x)
        adapters.merge(network)
        assert torch.equal(network(x), said)
    assert not torch.equal(said, kind.build().eval()(x))


def test_only_the_adapters_learn_and_the_network_stays_bit_for_bit() -> None:
    network = RESNET.build().requires_grad_(False).eval()
    before, digest = tensors(network), module_digest(network)
    adapters = randomised(LowRank(network, 1))
    loss: Tensor = adapters(network, RESNET.example()).square().mean()
    loss.backward()  # type: ignore[no-untyped-call]
    assert all(part.grad is not None and part.grad.count_nonzero() for part in adapters.parameters())
    assert all(part.grad is None for part in network.parameters())
    torch.optim.SGD(adapters.parameters(), lr=0.1).step()
    assert_same_tensors(tensors(network), before)
    assert module_digest(network) == digest


def test_every_layer_has_one_of_the_size_of_the_rank() -> None:
    network = RESNET.build()
    adapters = LowRank(network, 2)
    assert sorted(adapters.names) == sorted(
        f"{name}.weight" for name, part in network.named_modules() if isinstance(part, nn.Linear | nn.Conv2d)
    )
    sizes = [
        (network.get_parameter(name), a, b) for name, a, b in zip(adapters.names, adapters.A, adapters.B, strict=True)
    ]
    for weight, a, b in sizes:
        assert a.shape == (2, weight[0].numel())
        assert b.shape == (len(weight), 2)
        assert not b.count_nonzero()
        assert a.count_nonzero() == a.numel()


def test_a_network_without_layers_is_refused() -> None:
    with pytest.raises(ConfigError, match="rank: required a trunk with Linear layers or convolutions, found none"):
        LowRank(nn.Sequential(nn.Flatten()), 2)
