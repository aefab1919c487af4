"""Hooks: what they note, when, and that nothing outlives the call."""

import copy
import gc
import weakref

import pytest
import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from prognet.engine import ProgressiveNetwork, Site, probe
from prognet.engine.measured import site_of
from prognet.engine.sites import Call, Geometry, observe, refusal
from prognet.errors import PrognetError, SiteError
from tests.helpers import models, zoo
from tests.helpers.asserts import assert_no_activation_outlives_the_call


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_no_activation_outlives_the_call(kind: zoo.Kind) -> None:
    """Doric keeps the last outputs of every column alive (bug D2)."""
    assert_no_activation_outlives_the_call(zoo.network(kind, 2), kind.example())


def test_no_activation_outlives_a_call_that_fails() -> None:
    class Failing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            h = self[0](x)
            seen.append(weakref.ref(h))
            y = self[1](h)
            if broken:
                raise RuntimeError("the backbone broke")
            return y  # type: ignore[no-any-return]

    seen: list[weakref.ref[Tensor]] = []
    broken = False
    net = ProgressiveNetwork()
    net.add_column(Failing(nn.Linear(3, 4), nn.Linear(4, 2)), torch.zeros(2, 3))
    broken = True
    with pytest.raises(RuntimeError, match="the backbone broke"):
        net(torch.zeros(2, 3), 0)
    gc.collect()  # the traceback is a cycle
    assert seen[-1]() is None
    broken = False
    assert net(torch.zeros(2, 3), 0).shape == (2, 2)  # and the column can be called again


def test_a_probe_keeps_no_activation_and_no_hook() -> None:
    kept: list[weakref.ref[Tensor]] = []

    class Watching(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            h = self[0](x)
            kept.append(weakref.ref(h))
            return self[1](h)  # type: ignore[no-any-return]

    backbone = Watching(nn.Linear(3, 4), nn.Linear(4, 2))
    found = probe(backbone, torch.zeros(2, 3))
    assert found.sites
    assert kept[0]() is None
    assert not [m for m in backbone.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_a_backbone_called_by_itself_has_no_laterals() -> None:
    net = zoo.network(zoo.MLP, 2)
    backbone, x = net.column(1).backbone, zoo.MLP.example()
    copied = zoo.MLP.build(3, seed=1)
    assert torch.equal(backbone(x), copied(x))
    assert not torch.equal(net(x, 1), copied(x))


def test_a_site_called_a_second_time_is_an_error_at_run_time() -> None:
    """The probe sees evaluation mode; a branch of training mode is seen when it is taken."""

    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            y = self.second(self.first(x))
            return self.second(y) if self.training else y  # type: ignore[no-any-return]

    net = ProgressiveNetwork()
    net.add_column(Twice(), torch.zeros(2, 3))
    net.train()
    with pytest.raises(SiteError, match=r"site 'second': required one call a forward pass, found a second one"):
        net(torch.zeros(2, 3), 0)
    assert net.eval()(torch.zeros(2, 3), 0).shape == (2, 4)


def test_a_site_that_is_left_out_is_an_error_at_run_time() -> None:
    class Sometimes(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Linear(3, 3), nn.Linear(3, 3)

        def forward(self, x: Tensor) -> Tensor:
            h = self.first(x)
            return h if self.training else self.second(h)  # type: ignore[no-any-return]

    net = ProgressiveNetwork()
    net.add_column(Sometimes(), torch.zeros(2, 3))
    net.train()
    with pytest.raises(SiteError, match=r"sites \['second'\]: required one call a forward pass, found none"):
        net(torch.zeros(2, 3), 0)


class Checkpointed(nn.Module):
    """Activation checkpointing of the layer `fc2`, in training mode."""

    def __init__(self, reentrant: bool) -> None:
        super().__init__()
        self.reentrant = reentrant
        self.fc1, self.fc2, self.fc3 = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = torch.relu(self.fc1(x))
        again = checkpoint(self.fc2, h, use_reentrant=self.reentrant) if self.training else self.fc2(h)
        return self.fc3(torch.relu(again))  # type: ignore[no-any-return]


def test_activation_checkpointing_of_a_site_is_loud() -> None:
    """Recomputed in the backward pass the site has no lateral: its adapter would silently learn nothing."""
    x = torch.randn(2, 3)
    nets = []
    for reentrant in (True, False):
        net = ProgressiveNetwork()
        net.add_column(Checkpointed(reentrant), x)
        net.add_column(Checkpointed(reentrant), x)
        nets.append(net.train())
    with pytest.raises(SiteError, match=r"site 'fc2': required gradients as in the rest of the column, found them off"):
        nets[0](x, 1)
    with pytest.raises(Exception, match="different number of tensors was saved") as raised:
        nets[1](x, 1).sum().backward()
    assert not isinstance(raised.value, PrognetError)  # torch's own
    for net in nets:
        assert net(x, 0).shape == net.eval()(x, 1).shape == (2, 2)


def test_the_block_around_a_checkpoint_can_be_a_site() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return checkpoint(self.fc, x, use_reentrant=False)  # type: ignore[no-any-return]

    x = torch.randn(2, 3)
    net = ProgressiveNetwork()
    for _ in range(2):
        net.add_column(nn.Sequential(nn.Linear(3, 4), Block(), nn.Linear(4, 2)), x, sites=["1", "2"])
    net.train()(x, 1).sum().backward()
    U = net.column(1).adapters["1"].get_submodule("U").get_parameter("weight")
    assert U.grad is not None
    assert U.grad.count_nonzero()


def test_a_copied_backbone_does_not_run_the_laterals_of_its_old_column() -> None:
    """A warm start from a copy of the previous column."""
    net = zoo.network(zoo.MLP, 2)
    x = zoo.MLP.example()
    own = net.column(1).backbone(x)
    warm = copy.deepcopy(net.column(1).backbone)
    assert torch.equal(warm(x), own)
    before = net.digests()
    k = net.add_column(warm.requires_grad_(True), x)
    assert net(x, k).shape == (16, 3)
    assert {j: net.digest(j) for j in (0, 1)} == before


def test_observation_notes_calls_in_the_order_of_return() -> None:
    outer = nn.Sequential(nn.Sequential(nn.Linear(3, 4), nn.ReLU()), nn.Linear(4, 2))
    with observe(outer) as calls:
        y = outer(torch.zeros(5, 3))
    assert list(calls) == ["0.0", "0.1", "0", "1"]
    assert calls["1"].returned is y
    assert calls["1"].received is calls["0"].returned
    assert [call.count for call in calls.values()] == [1, 1, 1, 1]
    outer(torch.zeros(5, 3))
    assert calls["1"].count == 1  # the hooks are gone


class _MeanOver(nn.Module):
    """A head on the mean over some dimensions."""

    def __init__(self, dims: tuple[int, ...], head: nn.Linear) -> None:
        super().__init__()
        self.dims, self.head = dims, head

    def forward(self, x: Tensor) -> Tensor:
        return self.head(x.mean(self.dims))  # type: ignore[no-any-return]


class _MapNorm(nn.LayerNorm):
    """As the LayerNorm2d of torchvision and timm: a subclass that norms the channels of images."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def _received(*shape: int) -> Tensor:
    return torch.zeros(*shape, requires_grad=True) * 1


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        (None, "it is never called in a forward pass"),
        (Call(_received(5, 3), _received(5, 3), 0, 3), "it is called 3 times in a forward pass; one call is required"),
        (Call(None, _received(5, 3), None), "it receives a NoneType first; one tensor is required"),
        (Call(_received(5, 3), (_received(5, 3),), 0), "it returns a tuple; one tensor is required"),
        (Call(torch.zeros(5, 3), _received(5, 3), 0), "it receives the raw input, which is the same in all columns"),
        (
            Call(_received(5, 3).relu_(), _received(5, 3), 0),
            "its input is modified in place after it was read; use the layer without inplace=True",
        ),
        (Call(_received(3, 5), _received(5, 3), 0), "its first dimension is not the batch"),
        (Call(_received(5, 3), _received(3, 5), 0), "its first dimension is not the batch"),
        (Call(_received(5), _received(5), 0), "its first dimension is not the batch"),
        (Call(_received(5, 3), _received(5, 2, 2), 0), None),
    ],
)
def test_refusals_name_their_reason(call: Call | None, reason: str | None) -> None:
    assert refusal(call, batch=5) == reason


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Linear(4, 2), (5, 4), Site("s", (4,), (2,), "last")),
        (nn.Linear(4, 2), (5, 3, 4), Site("s", (3, 4), (3, 2), "last")),
        (nn.Linear(4, 2), (5, 3, 3, 4), Site("s", (3, 3, 4), (3, 3, 2), "last")),
        (nn.LayerNorm(4), (5, 2, 3, 4), Site("s", (2, 3, 4), (2, 3, 4), "last")),
        (nn.Identity(), (5, 3, 4), Site("s", (3, 4), (3, 4), "last")),
        (nn.Identity(), (5, 2, 3, 4), Site("s", (2, 3, 4), (2, 3, 4), "first")),
        (nn.Sequential(nn.Conv1d(3, 2, 2)), (5, 3, 4), Site("s", (3, 4), (2, 3), "first")),
        (nn.Sequential(nn.LayerNorm(4), nn.Linear(4, 4)), (5, 2, 3, 4), Site("s", (2, 3, 4), (2, 3, 4), "last")),
        (nn.Sequential(nn.Flatten(), nn.Linear(24, 7)), (5, 2, 3, 4), Site("s", (2, 3, 4), (7,), "first")),
        (nn.Sequential(nn.GroupNorm(1, 4), nn.ReLU()), (5, 4, 3), Site("s", (4, 3), (4, 3), "first")),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm1d(4)), (5, 4, 4), Site("s", (4, 4), (4, 4), "first")),
        (nn.Sequential(nn.ConvTranspose2d(2, 3, 2), nn.ReLU()), (5, 2, 3, 4), Site("s", (2, 3, 4), (3, 4, 5), "first")),
        (zoo.PixelBlock(4), (5, 3, 3, 4), Site("s", (3, 3, 4), (3, 3, 4), "last")),
        (zoo.GRUBlock(4, 6), (5, 3, 4), Site("s", (3, 4), (3, 6), "last")),
        (models.ConformerBlock(4), (5, 3, 4), Site("s", (3, 4), (3, 4), "last")),
        (models.WaveBlock(4), (5, 4, 6), Site("s", (4, 6), (8, 3), "first")),
        (_MeanOver((2, 3), nn.Linear(2, 7)), (5, 2, 3, 4), Site("s", (2, 3, 4), (7,), "first")),
        (_MeanOver((1, 2), nn.Linear(4, 7)), (5, 2, 3, 4), Site("s", (2, 3, 4), (7,), "last")),
        (_MeanOver((2,), nn.Linear(3, 7)), (5, 3, 4), Site("s", (3, 4), (7,), "first")),
        (_MapNorm(2), (5, 2, 3, 4), Site("s", (2, 3, 4), (2, 3, 4), "first")),
        (_MapNorm(4), (5, 4, 3, 4), Site("s", (4, 3, 4), (4, 3, 4), "first")),  # either could be: images are likelier
        (
            nn.Conv2d(2, 6, (3, 1), stride=(1, 2), padding=(1, 0), dilation=(1, 3)),
            (5, 2, 3, 4),
            Site("s", (2, 3, 4), (6, 3, 2), "first", Geometry((3, 1), (1, 2), (1, 0), (1, 3))),
        ),
        (
            nn.Conv1d(2, 2, 3, padding="same"),
            (5, 2, 4),
            Site("s", (2, 4), (2, 4), "first", Geometry((3,), (1,), "same", (1,))),
        ),
    ],
    ids=repr,
)
def test_sites_are_measured(module: nn.Module, shape: tuple[int, ...], expected: Site) -> None:
    assert measured(module, torch.zeros(shape)) == expected


def measured(module: nn.Module, received: Tensor) -> Site:
    """The site that a module is which receives this tensor."""
    holder = nn.ModuleDict({"s": module})
    with observe(holder) as calls:
        module(received)
    return site_of("s", dict(holder.named_modules()), calls)


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_inference_mode_gives_the_logits_of_evaluation(kind: zoo.Kind) -> None:
    """Versions of tensors, by which a probe finds changes in place, are an error there: no call asks for them."""
    net, x = zoo.network(kind, 2).eval(), kind.example()
    net.freeze()
    with torch.no_grad():
        expected = net(x, 1)
    with torch.inference_mode():
        found = net(x, 1)
        with pytest.raises(RuntimeError, match="Inference tensors do not track version counter"):
            _ = found._version
    assert torch.equal(found, expected)
