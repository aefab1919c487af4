"""The digest changes with everything that decides the output of a column, and with nothing else."""

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork, Site
from prognet.engine.digest import module_digest, tensor_bytes, tensors_of
from tests.helpers import zoo


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
