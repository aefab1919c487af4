"""The digest changes with everything that decides the output of a column, and with nothing else."""

import copy
import functools
from collections.abc import Callable
from enum import Enum
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import prune

from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork, Site
from prognet.engine.digest import (
    digest_from,
    fingerprint,
    fingerprints,
    first_difference,
    module_digest,
    structure_of,
    tensor_bytes,
    tensors_of,
)
from tests.helpers import zoo
from tests.helpers.names import without_addresses


def flip_lowest_bit(tensor: Tensor) -> None:
    """Changes the last number of a tensor by the least that its type can say."""
    with torch.no_grad():
        bits = tensor.view(-1).view({4: torch.int32, 8: torch.int64}[tensor.element_size()])
        bits[-1] ^= 1


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_every_single_bit_counts(kind: zoo.Kind) -> None:
    """Every parameter and buffer of a column, persistent or not, in its own digest and in those that read it."""
    net = zoo.network(kind, 2)
    before = net.digests()
    for k in range(2):
        for name, tensor in tensors_of(net.column(k)):
            flip_lowest_bit(tensor)
            assert [before[j] != net.digest(j) for j in range(2)] == [j >= k for j in range(2)], name
            flip_lowest_bit(tensor)
    assert net.digests() == before


def test_a_buffer_that_state_dict_leaves_out_counts() -> None:
    net = zoo.network(zoo.GATED, 1)
    assert "columns.0.backbone.gate" not in net.state_dict()
    before = net.digest(0)
    flip_lowest_bit(net.column(0).backbone.get_buffer("gate"))
    assert net.digest(0) != before


def test_only_columns_that_read_it_change_with_a_source() -> None:
    net, x = ProgressiveNetwork(zoo.RANDOM), zoo.MLP.example()
    for k, sources in enumerate(([], [], [1], [2])):
        net.add_column(zoo.MLP.build(2, k), x, sources=sources)
    before = net.digests()
    flip_lowest_bit(net.column(1).backbone.get_parameter("0.weight"))
    assert [net.digest(k) != before[k] for k in range(4)] == [False, True, True, True]  # 3 reads 1 through 2


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_what_decides_nothing_does_not_count(kind: zoo.Kind) -> None:
    net = zoo.network(kind, 3)
    before = net.digests()
    assert before == {k: net.digest(k) for k in range(3)}
    assert len(set(before.values())) == 3
    assert net.train().digests() == before
    assert net.eval().digests() == before
    net(kind.example(), 2).sum().backward()
    assert net.digests() == before
    assert copy.deepcopy(net).digests() == before
    assert net.to(memory_format=torch.channels_last).digests() == before
    net.freeze()
    assert net.digests() == before
    assert zoo.network(kind, 3).digests() == before
    net.add_column(kind.build(), kind.example())
    assert {k: net.digest(k) for k in range(3)} == before


def _plain(**changes: object) -> nn.Module:
    """Modules of the same tensors, whatever the changes."""
    torch.manual_seed(0)
    values: dict[str, object] = {
        "p": 0.5,
        "stride": 1,
        "eps": 1e-5,
        "heads": 2,
        "first": False,
        "scale": 1.0,
        "act": nn.ReLU,
    }
    values |= changes
    layer = nn.TransformerEncoderLayer(4, 2, 8, norm_first=bool(values["first"]))
    return nn.ModuleDict(
        {
            "drop": nn.Dropout(values["p"]),  # type: ignore[arg-type]
            "conv": nn.Conv2d(2, 2, 1, stride=values["stride"]),  # type: ignore[arg-type]
            "norm": nn.BatchNorm2d(2, eps=values["eps"]),  # type: ignore[arg-type]
            "attention": nn.MultiheadAttention(4, values["heads"]),
            "layer": layer,
            "scaled": _Scaled(values["scale"]),  # type: ignore[arg-type]
            "act": values["act"](),  # type: ignore[operator]
        }
    )


class _Scaled(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale, self._calls = scale, 0


@pytest.mark.parametrize(
    "change",
    [{"p": 0.4}, {"stride": 2}, {"eps": 1e-6}, {"heads": 4}, {"first": True}, {"scale": 2.0}, {"act": nn.Tanh}],
)
def test_settings_of_modules_count(change: dict[str, object]) -> None:
    """Also those that a module does not print, such as the number of heads of an attention."""
    assert module_digest(_plain()) == module_digest(_plain())
    assert module_digest(_plain(**change)) != module_digest(_plain())


def test_private_attributes_do_not_count() -> None:
    """They are what modules keep for themselves, such as a counter of calls."""
    one, two = _Scaled(1.0), _Scaled(1.0)
    two._calls = 5
    assert module_digest(one) == module_digest(two)


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.double(),
        lambda m: m.register_buffer("more", torch.zeros(0)),
        lambda m: setattr(m, "weight", nn.Parameter(m.weight.detach().view(2, 6))),
        lambda m: m.add_module("more", nn.Identity()),
    ],
    ids=["type", "name", "shape", "module"],
)
def test_names_types_and_shapes_count(change: Callable[[nn.Module], object]) -> None:
    module = nn.Linear(4, 3)
    nn.init.zeros_(module.weight)
    nn.init.zeros_(module.bias)
    before = module_digest(module)
    change(module)
    assert module_digest(module) != before


class _Attribute(nn.Module):
    def __init__(self, value: object) -> None:
        super().__init__()
        self.value = value


class _Mode(Enum):
    MEAN = "mean"
    LAST = "last"


def _other(x: Tensor) -> Tensor:
    return -x


@pytest.mark.parametrize(
    ("one", "two"),
    [
        (torch.relu, torch.tanh),
        (functional.relu, functional.gelu),
        (_other, torch.relu),
        (nn.LayerNorm, nn.BatchNorm1d),
        (
            functools.partial(functional.gelu, approximate="tanh"),
            functools.partial(functional.gelu, approximate="none"),
        ),
        ({"scale": 1.0}, {"scale": 2.0}),
        ({"scale": 1.0}, {"shift": 1.0}),
        ([1, [2, 3]], [1, [2, 4]]),
        ((1, object()), (2, object())),
        ({1, 2}, {1, 3}),
        (_Mode.MEAN, _Mode.LAST),
        (torch.float32, torch.float64),
        (torch.tensor([1.0]), torch.tensor([2.0])),
        ([torch.tensor([1.0])], [torch.tensor([2.0])]),
        (np.array([1, 2]), np.array([1, 3])),
        (np.zeros(2, np.float32), np.zeros(2, np.float64)),
        (0.0, -0.0),
        (1, True),
        (1, 1.0),
        ("1", 1),
        (None, 0),
        (nn.ReLU().forward, nn.Tanh().forward),
    ],
    ids=without_addresses,
)
def test_public_attributes_count(one: object, two: object) -> None:
    """Functions, tensors that are no buffers, and nested settings, whatever they are held in."""
    assert module_digest(_Attribute(one)) != module_digest(_Attribute(two))
    assert module_digest(_Attribute(one)) == module_digest(copy.deepcopy(_Attribute(one)))


@pytest.mark.parametrize(
    "value", [object(), {"handle": object()}, torch.device("cpu"), [lambda: None]], ids=without_addresses
)
def test_where_an_attribute_is_kept_does_not_count(value: object) -> None:
    assert "0x" not in structure_of(_Attribute(value))


def test_which_tensors_are_tied_counts() -> None:
    """Three layers with two matrices: the same names and numbers, but the one in the middle is another."""

    def tied(to: int) -> nn.Module:
        torch.manual_seed(0)
        layers = nn.ModuleList([nn.Linear(3, 3, bias=False) for _ in range(3)])
        middle = layers[1]
        assert isinstance(middle, nn.Linear)
        middle.weight = nn.Parameter(torch.ones(3, 3))
        layers[2].weight = layers[to].weight
        return layers

    assert (
        dict(tied(0).named_parameters()).keys() == dict(tied(1).named_parameters()).keys() == {"0.weight", "1.weight"}
    )
    assert fingerprints(tied(0)) == fingerprints(tied(1))
    assert module_digest(tied(0)) == module_digest(tied(0))
    assert module_digest(tied(0)) != module_digest(tied(1))


def test_a_weight_that_torch_makes_anew_at_every_call_does_not_count_twice() -> None:
    """The hook of pruning keeps weight and mask as tensors, and their product as an attribute, stale after loading."""
    layer = nn.Linear(3, 2)
    prune.random_unstructured(layer, "weight", 0.5)  # type: ignore[no-untyped-call]
    before = module_digest(layer)
    layer.weight = torch.zeros(2, 3)
    assert module_digest(layer) == before
    with torch.no_grad():
        layer.get_parameter("weight_orig").add_(1)
    assert module_digest(layer) != before


def test_the_order_of_sources_counts_and_their_indices_do_not() -> None:
    column = zoo.network(zoo.MLP, 3).column(2)
    assert column.digest(["a", "b"]) != column.digest(["b", "a"])
    before = column.digest(["a", "b"])
    column.renumber({0: 4, 1: 7})
    assert column.sources == (4, 7)
    assert column.digest(["a", "b"]) == before


def test_the_first_difference_is_named() -> None:
    one = {"a": "1", "b": "2", "c": "3"}
    assert first_difference(one, dict(one)) is None
    assert first_difference(one, {**one, "b": "0", "c": "0"}) == "b"
    assert first_difference(one, {"a": "1", "c": "3"}) == "b"
    assert first_difference(one, {**one, "d": "4"}) == "d"


@pytest.mark.parametrize("change", [{}, {"structure": "s2"}, {"tensors": {"a": "2"}}, {"sources": ["x"]}], ids=str)
def test_the_digest_of_a_structure_and_fingerprints(change: dict[str, Any]) -> None:
    parts: dict[str, Any] = {"structure": "s", "tensors": {"a": "1"}, "sources": []}
    again = {**parts, **change}
    digests = {digest_from(*parts.values()), digest_from(*again.values())}
    assert len(digests) == (2 if change else 1)
    assert digest_from("s", {"a": "1"}) != digest_from("s", {}, ["a", "1"])


def test_a_fingerprint_covers_type_shape_and_bits() -> None:
    zeros = [torch.zeros(4), torch.zeros(2, 2), torch.zeros(4, dtype=torch.int32), -torch.zeros(4)]
    assert len({fingerprint(tensor) for tensor in zeros}) == 4
    assert fingerprint(torch.zeros(2, 3).t()) == fingerprint(torch.zeros(3, 2))
    assert fingerprint(torch.full((2,), float("nan"))) == fingerprint(torch.full((2,), float("nan")))
    wave = torch.tensor([1 + 2j])
    assert fingerprint(wave.conj()) == fingerprint(torch.tensor([1 - 2j])) != fingerprint(wave)


class _Printed(nn.Module):
    def __init__(self, setting: int) -> None:
        super().__init__()
        self._setting = setting

    def extra_repr(self) -> str:
        return str(self._setting)


def test_what_a_module_prints_counts() -> None:
    assert module_digest(_Printed(1)) == module_digest(_Printed(1))
    assert module_digest(_Printed(1)) != module_digest(_Printed(2))


def _buffers(**tensors: Tensor) -> nn.Module:
    module = nn.Module()
    for name, tensor in tensors.items():
        module.register_buffer(name, tensor)
    return module


def test_equal_bytes_of_another_type_or_name_are_others() -> None:
    digests = {
        module_digest(_buffers(a=torch.zeros(2))),
        module_digest(_buffers(a=torch.zeros(2, dtype=torch.int32))),
        module_digest(_buffers(b=torch.zeros(2))),
        module_digest(_buffers(a=torch.zeros(1), b=torch.zeros(1))),
    }
    assert len(digests) == 4


def test_sites_count() -> None:
    """They decide what later columns read."""
    digests = set()
    for sites in (["2"], ["4"], ["2", "4"]):
        net = ProgressiveNetwork()
        net.add_column(zoo.MLP.build(), zoo.MLP.example(), sites=sites)
        digests.add(net.digest(0))
    assert len(digests) == 3


def test_numbers_cannot_move_between_tensors() -> None:
    one = _buffers(a=torch.tensor([1.0, 2.0]), b=torch.tensor([3.0]))
    two = _buffers(a=torch.tensor([1.0]), b=torch.tensor([2.0, 3.0]))
    assert module_digest(one) != module_digest(two)


def test_the_specification_of_the_adapter_counts() -> None:
    """Two specifications that make the same modules with the same numbers are still two."""
    digests = set()
    for adapter in (MLPAdapter(), MLPAdapter(hidden=8), MLPAdapter(alpha=2.0), LinearAdapter()):
        net = ProgressiveNetwork(adapter)
        for k in range(2):
            torch.manual_seed(k)
            net.add_column(zoo.mlp(3, (8, 8)), zoo.MLP.example())
        digests.add(net.digest(1))
    assert len(digests) == 4


class Described(Adapter):
    """A specification that is no dataclass, and whose repr is an address."""

    def build(self, senders: object, site: Site) -> nn.Module:
        return LinearAdapter().build([site], site)

    def describe(self) -> dict[str, object]:
        return {"kind": "Described", "arguments": {}}


def test_the_digest_does_not_depend_on_where_objects_are_kept() -> None:
    net = ProgressiveNetwork(Described())
    for k in range(2):
        net.add_column(zoo.MLP.build(2, k), zoo.MLP.example())
    assert copy.deepcopy(net).digests() == net.digests()


def test_digests_are_sha256_in_hexadecimal() -> None:
    digest = zoo.network(zoo.MLP, 1).digest(0)
    assert len(digest) == 64
    assert int(digest, 16) >= 0


@pytest.mark.parametrize(
    ("tensor", "expected"),
    [
        (torch.tensor([1, 258], dtype=torch.int16), b"\x01\x00\x02\x01"),
        (torch.tensor(True), b"\x01"),
        (torch.zeros(0, 3), b""),
        (torch.tensor([1.0], dtype=torch.bfloat16), b"\x80\x3f"),  # 1.0 is 0x3f80 in bfloat16
        (torch.tensor([[1, 2], [3, 4]], dtype=torch.uint8).t(), b"\x01\x03\x02\x04"),  # in logical order
    ],
)
def test_bytes_of_tensors(tensor: Tensor, expected: bytes) -> None:
    assert tensor_bytes(tensor) == expected
