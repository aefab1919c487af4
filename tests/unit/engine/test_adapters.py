"""Adapters: their forms, sizes, initial values, errors, and that sources are left as they are."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork, Site
from prognet.engine.adapters import adapter_from
from prognet.engine.laterals import MLPLateral
from prognet.engine.sites import Geometry
from prognet.errors import ConfigError, PrognetError, SiteError
from tests.helpers import reference, zoo
from tests.helpers.asserts import assert_no_forgetting, learn


def parameters_of(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize(
    ("adapter", "total"),
    [
        # 784-100-100-10 has 784 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10 = 89,610 parameters; ten: 896,100.
        # Equation 1: U has 100 * 100 and 100 * 10 for each of 45 pairs: 896,100 + 45 * 11,000 = 1,391,100.
        (LinearAdapter(), 1_391_100),
        # Equation 2, m = n = 100: V 45 * 2 * 100 * 100; nine times U 100 * 110 and c 2 * 100; alpha 45 * 2:
        # 896,100 + 900,000 + 9 * (11,000 + 200) + 90 = 1,896,990.
        (MLPAdapter(), 1_896_990),
        # m = 25: 896,100 + 45 * 2 * 100 * 25 + 9 * (25 * 110 + 2 * 25) + 90 = 1,146,390.
        (MLPAdapter(hidden=0.25), 1_146_390),
        (MLPAdapter(hidden=25), 1_146_390),
    ],
)
def test_ten_columns_have_the_parameters_of_the_formula(adapter: Adapter, total: int) -> None:
    """Appendix B: P_k = |own| + sum_i (k-1) + (k-1) n m + m + m n_i; nothing reads the raw input (bug A3)."""
    net = ProgressiveNetwork(adapter)
    for _ in range(10):
        net.add_column(zoo.mlp(10, (100, 100), 784), torch.zeros(2, 784))
    assert parameters_of(net) == total


def test_the_first_column_has_no_adapter() -> None:
    net = zoo.network(zoo.MLP, 2)
    assert len(net.column(0).adapters) == 0
    assert net.column(0).adapter is None
    assert len(net.column(1).adapters) == 2


@pytest.mark.parametrize("adapter", [LinearAdapter(), MLPAdapter(), MLPAdapter(kernel="layer")], ids=repr)
def test_by_default_laterals_start_at_zero(adapter: Adapter) -> None:
    net = zoo.network(zoo.LENET, 2, adapter)
    for module in net.column(1).adapters.values():
        U = module.get_submodule("U").get_parameter("weight")
        assert not U.count_nonzero()
        assert U.requires_grad
        if isinstance(module, MLPLateral):
            assert module.alpha.tolist() == [1.0]
            assert module.V.get_parameter("weight").count_nonzero()  # else nothing could ever learn


def test_the_choices_of_the_paper() -> None:
    assert MLPAdapter.paper() == MLPAdapter(hidden=None, alpha=0.1, zero_init=False, kernel="layer")
    net = zoo.network(zoo.LENET, 3, MLPAdapter.paper())
    conv = net.column(2).adapters["conv2"]
    assert isinstance(conv, MLPLateral)
    torch.testing.assert_close(conv.alpha.detach(), torch.tensor([0.1, 0.1]))
    assert conv.V.get_parameter("weight").shape == (4, 8, 1, 1)  # m = n = 4 maps, of two sources
    assert conv.U.get_parameter("weight").shape == (5, 4, 3, 3)  # the kernel of the layer
    assert conv.U.get_parameter("weight").count_nonzero()
    assert "bias" not in dict(conv.U.named_parameters())


@pytest.mark.parametrize(
    ("hidden", "width"), [(None, 10), (3, 3), (0.25, 3), (0.01, 1), (1.0, 10), (2.5, 25), (1, 1), (100, 100)]
)
def test_hidden_widths(hidden: float | None, width: int) -> None:
    assert MLPAdapter(hidden=hidden).width(10) == width


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": 0}, "hidden: required None, a width or a ratio above 0, found 0."),
        ({"hidden": -0.5}, "hidden: required None, a width or a ratio above 0, found -0.5."),
        ({"alpha": 0.0}, "alpha: required another value than 0 where U starts at 0, since neither could learn."),
        ({"kernel": "3x3"}, "kernel: required '1x1' or 'layer', found '3x3'."),
    ],
)
def test_values_out_of_range_are_refused(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)) as raised:
        MLPAdapter(**arguments)  # type: ignore[arg-type]
    assert isinstance(raised.value, PrognetError)
    assert isinstance(raised.value, ValueError)


def test_kernels_of_linear_adapters_are_checked_too() -> None:
    with pytest.raises(ConfigError, match="kernel: required '1x1' or 'layer', found 'same'"):
        LinearAdapter(kernel="same")  # type: ignore[arg-type]


@dataclass(frozen=True)
class Scaled(Adapter):
    """A kind of adapter that is not in the package: a scaled sum of vectors of one width."""

    scale: float = 0.5

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        return _Sum(self.scale)


class _Sum(nn.Module):
    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        return self.scale * torch.stack([h[:, :3] for h in sources]).sum(0)


@pytest.mark.parametrize(
    "adapter", [LinearAdapter(), MLPAdapter(), MLPAdapter(hidden=0.25), MLPAdapter.paper(), Scaled(2.0)], ids=repr
)
def test_a_description_is_json_and_has_an_inverse(adapter: Adapter) -> None:
    again = adapter_from(json.loads(json.dumps(adapter.describe())))
    assert again == adapter
    assert type(again) is type(adapter)


def test_a_kind_of_ones_own() -> None:
    net = ProgressiveNetwork(Scaled())
    for _ in range(2):
        net.add_column(zoo.mlp(3), torch.zeros(2, 6), sites=["4"])
    x = zoo.MLP.example()
    seen = net.activations(x, [0])[0]["4"]
    torch.testing.assert_close(net(x, 1), net.column(1).backbone(x) + 0.5 * seen[:, :3], rtol=0, atol=0)


@pytest.mark.parametrize(
    ("description", "message"),
    [
        ({"kind": "Nothing", "arguments": {}}, "adapter: required one of "),
        ({"kind": "MLPAdapter", "arguments": {"width": 3}}, "adapter: required the arguments of MLPAdapter, found "),
        ({"kind": "MLPAdapter", "arguments": {"hidden": -1}}, "hidden: required None, a width or a ratio above 0"),
    ],
)
def test_descriptions_that_do_not_fit_are_refused(description: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        adapter_from(description)


IMAGE = Site("s", (4, 6, 6), (5, 4, 4), "first", Geometry((3, 3), (1, 1), (0, 0), (1, 1)))
TOKENS = Site("s", (7, 8), (7, 6), "last")
VECTOR = Site("s", (8,), (6,), "last")
VOLUME = Site("s", (2, 4, 4, 4), (5, 2, 2, 2), "first", Geometry((2,) * 3, (2,) * 3, (0,) * 3, (1,) * 3))


@pytest.mark.parametrize("adapter", [LinearAdapter(zero_init=False), MLPAdapter(zero_init=False)], ids=repr)
@pytest.mark.parametrize("kernel", ["1x1", "layer"])
@pytest.mark.parametrize(
    ("shapes", "site"),
    [
        ([(4, 6, 6)], IMAGE),
        ([(4, 6, 6), (2, 6, 6)], IMAGE),
        ([(3, 9, 7), (2, 2, 2)], IMAGE),  # larger and smaller images in the sources
        ([(3, 6, 6)], Site("s", (4, 6, 6), (5,), "first")),
        ([(3, 9)], Site("s", (4, 8), (5, 3), "first", Geometry((4,), (2,), (0,), (1,)))),
        ([(3, 4, 4, 4)], VOLUME),
        ([(4, 6, 6)], Site("s", (4, 6, 6), (5, 6, 6), "first", Geometry((3, 3), (1, 1), "same", (2, 2)))),
        ([(4, 6, 6)], Site("s", (4, 6, 6), (5, 4, 4), "first", Geometry((2, 2), (1, 1), (0, 0), (2, 2)))),
        ([(7, 8), (7, 3)], TOKENS),
        ([(7, 8), (7, 3)], Site("s", (7, 8), (4, 6), "last")),  # a layer that leaves out tokens
        ([(7, 8), (7, 3)], Site("s", (7, 8), (6,), "last")),
        ([(6, 5, 8), (3, 3, 2)], Site("s", (6, 5, 8), (6, 5, 8), "last")),  # images with features last
        ([(6, 4, 8), (6, 4, 3)], Site("s", (6, 4, 8), (3, 2, 16), "last")),  # Swin's merging of patches
        ([(6, 4, 8)], Site("s", (6, 4, 8), (5,), "last")),
        ([(2, 6, 4, 8)], Site("s", (2, 6, 4, 8), (2, 3, 2, 8), "last")),
        ([(8,), (3,), (5,)], VECTOR),
    ],
    ids=str,
)
def test_forms_give_the_shape_of_the_output(
    adapter: LinearAdapter | MLPAdapter, kernel: str, shapes: list[tuple[int, ...]], site: Site
) -> None:
    spec = type(adapter)(zero_init=False, kernel=kernel)  # type: ignore[arg-type]
    senders = [Site("s", shape, (1,), site.channels) for shape in shapes]
    module = spec.build(senders, site)
    sources = [torch.randn(3, *shape) for shape in shapes]
    kept = [h.clone() for h in sources]
    versions = [h._version for h in sources]
    out = module(sources)
    assert out.shape == (3, *site.out_shape)
    assert out.isfinite().all()
    # An adapter that scaled its sources in place would change what the other columns and the other sites read.
    assert all(torch.equal(a, b) for a, b in zip(sources, kept, strict=True))
    assert versions == [h._version for h in sources]


def test_valid_convolutions_read_pooled_images() -> None:
    """5 x 5 against 3 x 3: strides do not fit, cells of an average overlap."""
    site = Site("s", (2, 5, 5), (3, 3, 3), "first", Geometry((3, 3), (1, 1), (0, 0), (1, 1)))
    module = LinearAdapter(zero_init=False).build([site], site)
    h = torch.randn(2, 2, 5, 5)
    U = module.get_submodule("U").get_parameter("weight").flatten(1)
    torch.testing.assert_close(module([h]), reference.pointwise(U, reference.pooled(h, 3, 3), 1))


@pytest.mark.parametrize(
    ("sender", "site", "message"),
    [
        (
            VECTOR,
            Site("s", (8,), (2, 3, 3), "last"),
            "site 's': required an output of the same rank as its input (8,), of at most three dimensions beside the "
            "features, or a vector, found (2, 3, 3); choose another site.",
        ),
        (TOKENS, Site("s", (7, 8), (7, 2, 8), "last"), "as its input (7, 8), of at most three dimensions beside the "),
        (
            Site("s", (2, 2, 2, 2, 8), (1,), "last"),
            Site("s", (2, 2, 2, 2, 8), (2, 2, 2, 2, 8), "last"),
            "or a vector, found (2, 2, 2, 2, 8); choose another site.",
        ),
        (
            Site("s", (9, 8), (9, 6), "last"),
            TOKENS,
            "site 's': required an input like the new column's (7, 8) in every source column, found (9, 8);",
        ),
        (VECTOR, TOKENS, "an input like the new column's (7, 8) in every source column, found (8,);"),
        (VECTOR, IMAGE, "an input like the new column's (4, 6, 6) in every source column, found (8,);"),
        (Site("s", (6, 6, 4), (1,), "last"), IMAGE, "an input like the new column's (4, 6, 6) in every source column,"),
    ],
    ids=str,
)
@pytest.mark.parametrize("adapter", [LinearAdapter(), MLPAdapter()], ids=repr)
def test_shapes_that_cannot_be_joined_are_refused(adapter: Adapter, sender: Site, site: Site, message: str) -> None:
    with pytest.raises(SiteError, match=re.escape(message)):
        adapter.build([sender], site)


@pytest.mark.parametrize("alpha", [1.0, 0.1, 0.01])
def test_hidden_units_start_alive_whatever_the_scale(alpha: float) -> None:
    """With c = 0 no unit of equation 2 is on for every input or for none; a random c would outweigh a small alpha h."""
    torch.manual_seed(0)
    site = Site("s", (50,), (5,), "last")
    module = MLPAdapter(alpha=alpha).build([site, site], site)
    assert isinstance(module, MLPLateral)
    assert not module.V.get_parameter("bias").count_nonzero()
    h = torch.randn(64, 100).relu()
    on = (module.V(alpha * h) > 0).float().mean(0)
    assert ((on > 0) & (on < 1)).all()


def test_random_laterals_start_as_torch_starts_layers() -> None:
    """Uniform within 1 / sqrt(n), the default of Linear; with U = 0 only the alpha would be tried at the start."""
    torch.manual_seed(0)
    module = MLPAdapter(zero_init=False).build([VECTOR], Site("s", (8,), (400,), "last"))
    U = module.get_submodule("U").get_parameter("weight").detach()
    bound = 1 / math.sqrt(8)
    assert U.abs().max() <= bound
    assert abs(float(U.std()) - bound / math.sqrt(3)) < 0.01


def test_merged_patches_are_pooled_behind_their_norm() -> None:
    """Features last, 4 x 4 to 2 x 2: every cell is the mean of four normed pixels, then U acts on the features."""
    site = Site("s", (4, 4, 3), (2, 2, 6), "last")
    module = LinearAdapter(zero_init=False).build([site], site)
    h = torch.randn(5, 4, 4, 3)
    normed = reference.layer_norm(h, torch.ones(3), torch.zeros(3))
    pooled = torch.stack(
        [torch.stack([normed[:, r : r + 2, c : c + 2].mean((1, 2)) for c in (0, 2)], 1) for r in (0, 2)], 1
    )
    U = module.get_submodule("U").get_parameter("weight")
    torch.testing.assert_close(module([h]), reference.pointwise(U, pooled, 3))


@pytest.mark.parametrize("adapter", [LinearAdapter(zero_init=False), MLPAdapter(zero_init=False)], ids=repr)
def test_a_vector_behind_tokens_reads_their_mean(adapter: Adapter) -> None:
    """The order of the tokens does not matter then, which of them it is does."""
    site = Site("s", (7, 8), (6,), "last")
    module = adapter.build([site], site)
    h = torch.randn(3, 7, 8)
    torch.testing.assert_close(module([h]), module([h.flip(1)]))
    assert not torch.allclose(module([h]), module([h * torch.tensor([1.0, 0, 0, 0, 0, 0, 0])[:, None]]))


@dataclass(frozen=True, kw_only=True)
class Gated(Adapter):
    """Another kind of one's own, for images: every source behind a 1x1 convolution and a learned gate, summed."""

    start: float = 0.0

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        return _Gates([nn.Conv2d(sender.in_shape[0], site.out_shape[0], 1) for sender in senders], self.start)


class _Gates(nn.Module):
    def __init__(self, maps: Sequence[nn.Module], start: float) -> None:
        super().__init__()
        self.maps = nn.ModuleList(maps)
        self.gates = nn.Parameter(torch.full((len(maps),), start))

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        mapped = [g * m(h) for g, m, h in zip(self.gates.unbind(), self.maps, sources, strict=True)]
        return torch.stack(mapped).sum(0)


def test_a_new_kind_is_one_small_class_with_all_properties(tmp_path: Path) -> None:
    """Nothing is registered anywhere: it starts as the independent network, learns, and is saved and loaded."""
    kind, net = zoo.RESNET, ProgressiveNetwork(Gated())
    x, sites = kind.example(), ["layer1.0", "layer2.1"]
    for k in range(3):
        net.add_column(kind.build(2 + k, k), x, sites)
    assert torch.equal(net.eval()(x, 2), kind.build(4, 2).eval()(x))
    assert_no_forgetting(net, [0, 1], x, lambda: learn(net, 2, x, partial(torch.optim.SGD, lr=0.1, momentum=0.9)))
    gates = [lateral.get_parameter("gates") for lateral in net.column(2).adapters.values()]
    assert len(gates) == 2
    assert all(gate.count_nonzero() == 2 for gate in gates)
    net.save(tmp_path)
    again = ProgressiveNetwork.load(tmp_path, lambda k: kind.build(2 + k))
    assert again.adapter == Gated()
    assert torch.equal(again.eval()(x, 2), net.eval()(x, 2))
