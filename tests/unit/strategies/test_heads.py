from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.backbones import cnn, mlp, resnet18, vit_tiny
from prognet.errors import SiteError, UnlearnedTaskError
from prognet.strategies.base import example_of
from prognet.strategies.heads import SharedTrunk, split
from tests.helpers.runs import NORMED, PLAIN, modes, tensors
from tests.helpers.streams import make_stream, make_task

IMAGE = (1, 8, 8)
BACKBONES = {
    "mlp": mlp(hidden=(8, 6)),
    "mlp-normed": NORMED,
    "cnn": cnn(channels=(3, 4), batch_norm=True),
    "resnet18": resnet18(channels=2),
    "vit": vit_tiny(patch=4, dim=6, depth=1, heads=3, dropout=0.1),
}


def randomised(network: nn.Module) -> nn.Module:
    """With statistics and biases that are not those of a fresh network."""
    with torch.no_grad():
        for tensor in [*network.parameters(), *network.buffers()]:
            if tensor.is_floating_point():
                tensor.add_(0.1 * torch.rand(tensor.shape, generator=torch.Generator().manual_seed(len(tensor.shape))))
    return network


@pytest.mark.parametrize("name", BACKBONES)
def test_a_split_network_is_the_whole_one_bit_for_bit(name: str) -> None:
    network = randomised(BACKBONES[name](IMAGE, 3)).eval()
    whole = deepcopy(network)
    trunk, head = split(network, torch.zeros(2, *IMAGE))
    x = torch.randn(16, *IMAGE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        assert torch.equal(head(trunk(x)), whole(x))
    assert isinstance(head, nn.Linear)
    assert head.out_features == 3
    assert sum(p.numel() for p in [*trunk.parameters(), *head.parameters()]) == sum(
        p.numel() for p in whole.parameters()
    )


@pytest.mark.parametrize("name", BACKBONES)
def test_splitting_trains_nothing_and_keeps_every_mode(name: str) -> None:
    network = BACKBONES[name](IMAGE, 3).train()
    whole = deepcopy(network)
    state = torch.get_rng_state()
    trunk, head = split(network, torch.zeros(2, *IMAGE))
    assert torch.equal(torch.get_rng_state(), state)
    assert all(modes(trunk).values())
    assert head.training
    expected = tensors(whole)
    assert all(torch.equal(tensor, expected[key]) for key, tensor in tensors(trunk).items())


class SoftmaxNet(nn.Module):
    """Its output is that of no layer."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 3)

    def forward(self, x: Tensor) -> Tensor:
        return functional.log_softmax(self.layer(x.flatten(1)), dim=1)


class Squeezed(nn.Module):
    """A convolution, and then a mean that no layer makes."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 3, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.conv(x).mean(dim=(2, 3))
        return out


@pytest.mark.parametrize(
    "make", [SoftmaxNet, Squeezed, lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 3), nn.ReLU())]
)
def test_an_output_that_no_layer_makes_is_refused(make: Callable[[], nn.Module]) -> None:
    with pytest.raises(SiteError) as caught:
        split(make(), torch.zeros(2, *IMAGE))
    assert str(caught.value) == (
        "backbone: required a last layer whose output is the output of the network, found none; end the network with "
        "its Linear or convolution layer to share a trunk between heads."
    )


class Twice(nn.Module):
    """Its last layer has read the trunk before."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.layer = nn.Linear(64, 64), nn.Linear(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        h = self.inner(x.flatten(1))
        out: Tensor = self.layer(h + self.layer(h))
        return out


def test_a_last_layer_that_is_called_twice_is_refused() -> None:
    with pytest.raises(SiteError, match="backbone: required"):
        split(Twice(), torch.ones(2, *IMAGE))


def shared_of(*classes: int, shared_head: bool = False) -> SharedTrunk:
    shared = SharedTrunk()
    stream = make_stream(classes, heads="shared" if shared_head else "per-task")
    for task in stream:
        shared.add(task, PLAIN(task.input_shape, task.n_classes), example_of(task))
    return shared.eval()


def test_every_task_has_a_head_of_its_size_on_one_trunk() -> None:
    shared = shared_of(2, 5, 3)
    assert [tuple(head.weight.shape) for head in shared.heads.values()] == [(2, 6), (5, 6), (3, 6)]  # type: ignore[arg-type]
    assert isinstance(shared.trunk, nn.Module)
    assert len({id(shared.parts_of(label)[0]) for label in range(3)}) == 1
    assert len({id(shared.head_for(label)) for label in range(3)}) == 3


def test_a_shared_head_is_one_module() -> None:
    shared = shared_of(3, 3, 3, shared_head=True)
    assert list(shared.heads) == ["0"]
    assert len({id(shared.head_for(label)) for label in range(3)}) == 1


def test_predicting_together_is_predicting_alone() -> None:
    shared = shared_of(2, 5, 3).double()
    noise = torch.Generator().manual_seed(0)
    inputs = {label: torch.randn(n, 1, 4, 4, generator=noise).double() for label, n in [(2, 4), (0, 7), (1, 1)]}
    together = shared.predict_together(inputs)
    assert list(together) == [2, 0, 1]
    for label, x in inputs.items():
        assert torch.allclose(together[label], shared.predict(x, label), rtol=0, atol=1e-14)


def test_a_head_that_does_not_fit_the_trunk_is_refused() -> None:
    def by_classes(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 2 * n_classes), nn.Linear(2 * n_classes, n_classes))

    shared = SharedTrunk()
    first, second = make_task(0, 2), make_task(1, 5)
    shared.add(first, by_classes(first.input_shape, 2), example_of(first))
    with pytest.raises(SiteError) as caught:
        shared.add(second, by_classes(second.input_shape, 5), example_of(second))
    message = (
        "backbone: required, for task 1, an output layer that reads the trunk's features (4,), found another one ("
    )
    assert str(caught.value).startswith(message)
    assert str(caught.value).endswith("; let nothing but the output layer depend on n_classes.")
    assert list(shared.heads) == ["0"]


def test_an_empty_trunk_says_so() -> None:
    with pytest.raises(UnlearnedTaskError, match="found that nothing has been learned yet"):
        SharedTrunk().features(torch.zeros(1, 1, 4, 4))
