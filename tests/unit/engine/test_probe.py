"""Measuring a backbone: default sites, every refusal with its text, and that nothing is disturbed."""

import re
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import probe
from prognet.errors import PrognetError, SiteError
from tests.helpers import zoo
from tests.helpers.asserts import assert_generator_untouched, assert_same_tensors, snapshot


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
def test_default_sites(kind: zoo.Kind) -> None:
    found = probe(kind.build(5), kind.example())
    assert tuple(site.name for site in found.sites) == kind.sites
    assert found.output_layer == kind.sites[-1]  # the output layer is a site, unlike in Avalanche (bug A6)
    assert found.output_shape == (5,)
    assert not found.skipped


@pytest.mark.parametrize("kind", zoo.ZOO, ids=lambda kind: kind.name)
@pytest.mark.parametrize("mode", [True, False])
def test_a_probe_disturbs_nothing(kind: zoo.Kind, mode: bool) -> None:
    backbone, example = kind.build().train(mode), kind.example()
    next(iter(backbone.modules())).train(not mode)  # modes may differ between parts
    before, kept = snapshot(backbone), example.clone()
    flags = [parameter.requires_grad for parameter in backbone.parameters()]
    modes = [module.training for module in backbone.modules()]
    assert_generator_untouched(lambda: probe(backbone, example))
    assert_same_tensors(before, snapshot(backbone))
    assert flags == [parameter.requires_grad for parameter in backbone.parameters()]
    assert modes == [module.training for module in backbone.modules()]
    assert all(parameter.grad is None for parameter in backbone.parameters())
    assert torch.equal(example, kept)


def test_making_lazy_layers_disturbs_nothing_else() -> None:
    backbone = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Dropout(), nn.LazyLinear(3))
    before = snapshot(backbone[1])
    assert_generator_untouched(lambda: probe(backbone, torch.randn(1, 4, generator=torch.Generator().manual_seed(0))))
    assert_same_tensors(before, snapshot(backbone[1]))
    assert backbone.training
    assert type(backbone[3]) is nn.Linear


def test_a_backbone_that_fails_is_left_as_it_was() -> None:
    class Failing(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            raise RuntimeError("the backbone broke")

    backbone = Failing(nn.Linear(3, 3).requires_grad_(False)).train()
    with pytest.raises(RuntimeError, match="the backbone broke"):
        probe(backbone, torch.zeros(2, 3))
    assert backbone[0].training
    assert not backbone[0].weight.requires_grad
    assert not [m for m in backbone.modules() if m._forward_hooks or m._forward_pre_hooks]


def test_gradients_may_be_off_around_a_probe() -> None:
    with torch.no_grad():
        found = probe(zoo.MLP.build(), zoo.MLP.example())
    assert [site.name for site in found.sites] == ["2", "4"]


@pytest.mark.parametrize("depth", [0, 2])
def test_no_default_site_reads_the_raw_input(depth: int) -> None:
    """Avalanche's first layer reads copies of the input as laterals (bug A3); behind what has no parameters it is
    still the raw input.
    """
    front: list[nn.Module] = [nn.Flatten(), nn.BatchNorm1d(6, affine=False)][:depth]
    backbone = nn.Sequential(*front, nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2))
    assert [site.name for site in probe(backbone, torch.zeros(3, 6)).sites] == [str(depth + 2)]


def test_defaults_that_break_the_contract_are_listed() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.unused = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.shared(torch.relu(self.shared(self.first(x))))  # type: ignore[no-any-return]

    found = probe(Shared(), torch.zeros(3, 4))
    assert found.sites == ()
    assert found.skipped == {
        "shared": "it is called 2 times in a forward pass; one call is required",
        "unused": "it is never called in a forward pass",
    }


def test_a_module_inside_a_block_is_no_default_site() -> None:
    names = [site.name for site in probe(zoo.RESNET.build(), zoo.RESNET.example()).sites]
    assert "layer2.0.conv1" not in names
    named = probe(zoo.RESNET.build(), zoo.RESNET.example(), ["layer2.0.conv1", "layer2.0.down"])
    assert [site.in_shape for site in named.sites] == [(4, 8, 8), (4, 8, 8)]  # two readers of one tensor: allowed


@pytest.mark.parametrize(
    ("patterns", "expected"),
    [
        (["fc"], ["fc"]),
        (["fc", "layer1.0"], ["layer1.0", "fc"]),  # in the order of the backbone
        (["layer[12].?"], ["layer1.0", "layer2.0", "layer2.1"]),
        (["layer2.*.conv2", "fc"], ["layer2.0.conv2", "layer2.1.conv2", "fc"]),
        (["layer2.1", "layer2.1"], ["layer2.1"]),
        (["layer[1-2]"], ["layer1", "layer2"]),
        (["layer2.*"], ["layer2.0", "layer2.1"]),  # the blocks, and not what they hold
        (["layer[!1]*.*.conv?"], ["layer2.0.conv1", "layer2.0.conv2", "layer2.1.conv1", "layer2.1.conv2"]),
    ],
)
def test_names_may_be_globs(patterns: list[str], expected: list[str]) -> None:
    assert [site.name for site in probe(zoo.RESNET.build(), zoo.RESNET.example(), patterns).sites] == expected


class InPlace(nn.Module):
    """`block` receives a tensor that is modified after it was read."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.block, self.last = nn.Linear(3, 4), nn.Linear(4, 4), nn.Linear(4, 2)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        y = self.block(h)
        h += 1
        return self.last(y + h)  # type: ignore[no-any-return]


class Tuples(nn.Module):
    """Parts that return, and receive, something else than one tensor; one is called twice, one never."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gru = nn.Linear(3, 4), nn.GRU(4, 4, batch_first=True)
        self.twice, self.never, self.pair = nn.Linear(4, 4), nn.Linear(4, 4), _Pair()
        self.turned, self.last = nn.Linear(2, 2), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.twice(self.twice(self.gru(self.first(x))[0]))
        h = self.pair((h, h))
        h = self.turned(h.movedim(0, 2)).movedim(2, 0)
        return self.last(h.mean(1))  # type: ignore[no-any-return]


class _Pair(nn.Module):
    def forward(self, both: tuple[Tensor, Tensor]) -> Tensor:
        return both[0] + both[1]


@pytest.mark.parametrize(
    ("sites", "message"),
    [
        (["gruu"], "sites: 'gruu' names no submodule of the backbone; did you mean 'gru'?"),
        (
            ["last", "###"],
            "sites: '###' names no submodule of the backbone; print named_modules() for the names.",
        ),
        (["never"], "site 'never': it is never called in a forward pass;"),
        (["twice"], "site 'twice': it is called 2 times in a forward pass; one call is required;"),
        (["gru"], "site 'gru': it returns a tuple; one tensor is required;"),
        (["pair"], "site 'pair': it receives a tuple first; one tensor is required;"),
        (["first"], "site 'first': it receives the raw input, which is the same in all columns;"),
        (["turned"], "site 'turned': its first dimension is not the batch;"),
        (["last", "*"], "site 'first': it receives the raw input"),
        ([], "sites: required at least one name, found none; leave the argument out for the defaults."),
        ("last", "sites: required a sequence of names, 'leaves' or 'blocks', found the text 'last'; write ['last']."),
    ],
)
def test_sites_asked_for_by_name_are_refused(sites: Sequence[str], message: str) -> None:
    with pytest.raises(SiteError, match=re.escape(message)) as raised:
        probe(Tuples(), torch.zeros(2, 5, 3), sites)
    assert isinstance(raised.value, PrognetError)
    assert isinstance(raised.value, ValueError)


def test_a_refusal_names_the_remedy() -> None:
    with pytest.raises(SiteError, match=r"choose another site or leave `sites` out for the defaults\.$"):
        probe(Tuples(), torch.zeros(2, 5, 3), ["gru"])


def test_an_input_modified_in_place_is_refused() -> None:
    expected = "site 'block': its input is modified in place after it was read; use the layer without inplace=True;"
    with pytest.raises(SiteError, match=re.escape(expected)):
        probe(InPlace(), torch.zeros(2, 3), ["block"])
    preactivated = nn.Sequential(nn.Linear(3, 4), nn.Sequential(nn.ReLU(inplace=True), nn.Linear(4, 4)))
    found = probe(preactivated, torch.zeros(2, 3), None)
    assert [site.name for site in found.sites] == ["1.1"]  # which receives what was modified before
    with pytest.raises(SiteError, match="site '1': its input is modified in place"):
        probe(preactivated, torch.zeros(2, 3), ["1"])


def test_a_backbone_may_not_modify_its_input() -> None:
    """The second column would see another input than the first."""

    class Centred(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            x -= x.mean()
            return super().forward(x)  # type: ignore[no-any-return,no-untyped-call]

    example = torch.ones(2, 3)
    with pytest.raises(SiteError, match="backbone: required an input left as it is, found it modified in place"):
        probe(Centred(nn.Linear(3, 4), nn.Linear(4, 2)), example)
    assert torch.equal(example, torch.ones(2, 3))


def test_the_output_must_be_one_tensor() -> None:
    with pytest.raises(SiteError, match=r"backbone: required one tensor as output, found a tuple\."):
        probe(nn.GRU(3, 4), torch.zeros(2, 5, 3))


def test_a_backbone_that_was_compiled_and_called_is_refused() -> None:
    """Its compiled code does not know hooks that come later: laterals would be lost without a word."""
    torch.compiler.reset()
    wrapped, in_place = torch.compile(zoo.MLP.build(), backend="eager"), zoo.MLP.build()
    in_place.compile(backend="eager")
    for backbone in (wrapped, in_place):
        backbone(zoo.MLP.example())
        with pytest.raises(SiteError, match=r"found none; add it before it is compiled\.$"):
            probe(backbone, zoo.MLP.example())  # type: ignore[arg-type]  # a module, whatever its annotation says


def test_no_output_layer_where_the_output_is_computed_on() -> None:
    found = probe(nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2), nn.Softmax(1)), torch.zeros(2, 3))
    assert found.output_layer is None
    assert [site.name for site in found.sites] == ["1"]


def test_the_output_layer_is_a_site_whatever_its_kind_and_place() -> None:
    class Own(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(4, 2))

        def forward(self, x: Tensor) -> Tensor:
            return x @ self.weight

    found = probe(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Own()), torch.zeros(2, 3))
    assert found.output_layer == "2"
    assert [site.name for site in found.sites] == ["2"]


RESNET_LEAVES = [
    *("layer1.0.conv1", "layer1.0.conv2", "layer2.0.conv1", "layer2.0.conv2", "layer2.0.down"),
    *("layer2.1.conv1", "layer2.1.conv2"),
]


@pytest.mark.parametrize(
    ("kind", "leaves", "blocks"),
    [
        (zoo.MLP, ["2", "4"], ["2", "4"]),
        (
            zoo.RESNET,
            [*RESNET_LEAVES, "fc"],
            ["layer1.0", "layer2.0", "layer2.1", "fc"],
        ),
        (
            zoo.TRANSFORMER,
            ["blocks.0.up", "blocks.0.down", "blocks.1.up", "blocks.1.down", "head"],
            ["blocks.0", "blocks.1", "head"],
        ),
    ],
    ids=lambda value: value.name if isinstance(value, zoo.Kind) else "",
)
def test_the_granularity_of_sites_can_be_chosen(kind: zoo.Kind, leaves: list[str], blocks: list[str]) -> None:
    for wanted, expected in (("leaves", leaves), ("blocks", blocks)):
        found = probe(kind.build(), kind.example(), wanted)
        assert [site.name for site in found.sites] == expected
        assert found.output_layer == expected[-1]
    assert [site.name for site in probe(kind.build(), kind.example()).sites] == (leaves if kind is zoo.MLP else blocks)


def test_leaves_that_attention_bypasses_are_listed() -> None:
    found = probe(zoo.TRANSFORMER.build(), zoo.TRANSFORMER.example(), "leaves")
    never = "it is never called in a forward pass"
    assert found.skipped == {f"blocks.{k}.attention.out_proj": never for k in (0, 1)}


def test_a_site_is_nowhere_inside_of_another_one_by_default() -> None:
    """The output would get two laterals from a head that holds a norm and the output layer."""

    class Head(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm, self.hidden, self.fc = nn.LayerNorm(4), nn.Linear(4, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.fc(torch.relu(self.hidden(self.norm(x))))  # type: ignore[no-any-return]

    class Headed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.head = nn.Linear(3, 4), Head()

        def forward(self, x: Tensor) -> Tensor:
            return self.head(torch.relu(self.first(x)))  # type: ignore[no-any-return]

    for backbone in (Headed(), nn.Sequential(nn.Linear(3, 4), nn.ReLU(), Head())):
        names = [site.name.rpartition(".")[2] for site in probe(backbone, torch.zeros(2, 3)).sites]
        assert names == ["hidden", "fc"]


def test_a_network_in_a_container_is_opened_and_a_block_without_parameters_is_none() -> None:
    """Behind a normalisation of the input a whole network reads it: its own blocks are the sites."""

    class Pool(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.steps = nn.Sequential(nn.AvgPool2d(2), nn.ReLU())

        def forward(self, x: Tensor) -> Tensor:
            return self.steps(x)  # type: ignore[no-any-return]

    head = nn.Linear(3, 2)
    backbone = nn.Sequential(nn.BatchNorm2d(1, affine=False), zoo.RESNET.build(3), head)
    found = probe(backbone, zoo.RESNET.example())
    assert [site.name for site in found.sites] == ["1.layer1.0", "1.layer2.0", "1.layer2.1", "1.fc", "2"]
    assert not found.skipped
    body = nn.ModuleList([nn.Conv2d(1, 2, 3), Pool(), zoo.ResidualBlock(2, 2, 1), nn.Flatten(), nn.Linear(2 * 9, 2)])
    found = probe(_Chain(body), zoo.RESNET.example())
    assert [site.name for site in found.sites] == ["steps.2", "steps.4"]


class _Chain(nn.Module):
    def __init__(self, steps: nn.ModuleList) -> None:
        super().__init__()
        self.steps = steps

    def forward(self, x: Tensor) -> Tensor:
        for step in self.steps:
            x = step(x)
        return x
