"""Columns that see inputs of several shapes in one network: who reads whom, what is stored, and what is refused."""

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.engine.joining import common
from prognet.errors import ConfigError, SiteError
from prognet.evaluation import verify

SMALL, LARGE = (6,), (9,)
SHAPES = (SMALL, LARGE, SMALL, LARGE)


def build(column: int) -> nn.Module:
    return backbone(SHAPES[column], 3)


def backbone(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 8), nn.ReLU(), nn.Linear(8, 5), nn.ReLU(), nn.Linear(5, n_classes))


def batch(shape: tuple[int, ...], n: int = 4) -> Tensor:
    return torch.randn(n, *shape, generator=torch.Generator().manual_seed(1))


def network() -> ProgressiveNetwork:
    torch.manual_seed(0)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for column, shape in enumerate(SHAPES):
        net.add_column(build(column), batch(shape), sources=net.alike(shape))
    return net


def test_a_column_reads_those_of_its_own_shape() -> None:
    net = network()
    assert [net.column(k).sources for k in range(4)] == [(), (), (0,), (1,)]
    assert [net.column(k).input_shape for k in range(4)] == [*SHAPES]
    assert (net.alike(SMALL), net.alike([9]), net.alike((7,))) == ((0, 2), (1, 3), ())
    assert (net.input_shape, ProgressiveNetwork().input_shape, net.extract(2).input_shape) == (None, None, SMALL)


def test_a_column_says_what_it_says_in_a_network_of_its_own_shape_alone() -> None:
    net = network()
    for k, shape in enumerate(SHAPES):
        alone = net.extract(k)
        assert torch.equal(net(batch(shape), k), alone(batch(shape), len(alone) - 1))
        assert alone.digest(len(alone) - 1) == net.digest(k)


@pytest.mark.parametrize(
    ("add", "message"),
    [
        (
            lambda net: net.add_column(backbone(SMALL, 2), batch(SMALL)),
            "example: required the input shape (9,) of column 1, which the new one is to read, found (6,); a column "
            "and its sources see the same input: read those of this shape only, with sources=[0, 2].",
        ),
        (lambda net: net.add_column(backbone(LARGE, 2), batch(LARGE), sources=[1, 2]), "of column 2, which the new"),
        (lambda net: net.add_column(backbone((7,), 2), batch((7,)), sources=[0]), "found (7,); a column and its"),
    ],
)
def test_a_source_of_another_shape_is_refused(add: Callable[[ProgressiveNetwork], object], message: str) -> None:
    net = network()
    before = net.digests()
    with pytest.raises(SiteError, match=re.escape(message)):
        add(net)
    assert len(net) == 4 and net.digests() == before


def test_what_was_saved_is_loaded_and_verified_with_a_probe_of_each_shape(tmp_path: Path) -> None:
    net = network()
    net.save(tmp_path, probe=[batch(SMALL, 64), batch(LARGE, 64)])
    again = ProgressiveNetwork.load(tmp_path, build)
    assert [again.column(k).input_shape for k in range(4)] == [*SHAPES] and again.digests() == net.digests()
    assert all(torch.equal(net(batch(shape), k), again(batch(shape), k)) for k, shape in enumerate(SHAPES))
    (verdict,) = verify(tmp_path, backbone)
    assert (verdict.problem, verdict.parts, verdict.same_bits) == (None, 4, 4)
    (without,) = verify(tmp_path)
    assert (without.problem, without.unchecked) == (None, 4)


def test_a_probe_of_one_shape_is_for_the_columns_that_see_it(tmp_path: Path) -> None:
    network().save(tmp_path, probe=batch(LARGE, 64))
    (verdict,) = verify(tmp_path, backbone)
    assert (verdict.problem, verdict.parts, verdict.same_bits) == (None, 4, 2)


@pytest.mark.parametrize("probe", [batch((7,)), [batch(SMALL), batch(SMALL)], [batch(SMALL), batch((2, 3))]])
def test_a_probe_that_fits_nobody_or_somebody_twice_is_refused(probe: Tensor | list[Tensor], tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError, match=r"probe: required one batch for each input shape \[\(6,\), \(9,\)\] of the c"
    ):
        network().save(tmp_path, probe=probe)
    assert not list(tmp_path.iterdir())


def test_every_column_is_exported_for_its_own_shape(tmp_path: Path) -> None:
    net = network().eval()
    for k, shape in enumerate(SHAPES[:2]):
        program = torch.export.load(net.export(k, tmp_path / f"{k}.pt2")).module()
        assert torch.allclose(program(batch(shape)), net(batch(shape), k), atol=1e-6)


def test_the_one_shape_of_several() -> None:
    assert (common([]), common([SMALL]), common([SMALL, SMALL]), common([SMALL, LARGE])) == (None, SMALL, SMALL, None)
