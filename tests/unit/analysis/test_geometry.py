"""The geometry of classes: by hand, against matrices, at its ends, and through the sites of a column."""

from math import inf, isnan, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prognet.analysis import class_geometry, column_geometry
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.errors import ConfigError
from tests.helpers.asserts import assert_network_unchanged


def test_two_classes_by_hand() -> None:
    h = torch.tensor([[0.0, 1.0], [0.0, -1.0], [4.0, 2.0], [4.0, -2.0]])
    found = class_geometry(h, torch.tensor([0, 0, 1, 1]), 2)
    # within each class the mean squared distance is 1 and 4; the means (0, 0) and (4, 0) lie 2 from their mean
    assert found.means.tolist() == [[0, 0], [4, 0]]
    assert found.distances.tolist() == [[0, 4], [4, 0]]
    assert found.within == pytest.approx(2.5)
    assert found.between == pytest.approx(4.0)
    assert found.ratio == pytest.approx(0.625)
    assert found.separation == pytest.approx(4 / sqrt(2.5))
    assert found.nc1 == pytest.approx(0.0, abs=1e-12)  # along (1, 0), where the means differ, nothing varies
    turned = class_geometry(h.flip(1) + h, torch.tensor([0, 0, 1, 1]), 2)
    assert turned.nc1 == pytest.approx(5 / 8 / 2)  # all of it along (1, 1): S_W is 5 there, and S_B 8


def test_against_the_matrices_of_the_definition() -> None:
    random = torch.Generator().manual_seed(0)
    y = torch.tensor([0] * 10 + [1] * 25 + [3] * 15)  # class 2 has no samples
    h = torch.randn(50, 6, generator=random) + 2 * torch.randn(4, 6, generator=random)[y]
    found = class_geometry(h, y, 4)
    classes = [h[y == c].double().numpy() for c in (0, 1, 3)]
    S_W = np.mean([np.cov(part.T, bias=True) for part in classes], axis=0)
    means = np.stack([part.mean(0) for part in classes])
    S_B = np.cov(means.T, bias=True)
    assert found.within == pytest.approx(np.trace(S_W), rel=1e-9)
    assert found.between == pytest.approx(np.trace(S_B), rel=1e-9)
    assert found.nc1 == pytest.approx(np.trace(S_W @ np.linalg.pinv(S_B, rcond=1e-9)) / 3, rel=1e-6)
    assert np.isnan(found.means[2]).all()
    distances = [np.linalg.norm(a - b) for i, a in enumerate(means) for b in means[i + 1 :]]
    assert found.separation == pytest.approx(np.mean(distances) / sqrt(np.trace(S_W)), rel=1e-9)


def test_ratios_have_no_unit() -> None:
    random = torch.Generator().manual_seed(1)
    y, h = torch.arange(30) % 3, torch.randn(30, 4, generator=random)
    one, other = class_geometry(h, y, 3), class_geometry(h * 50 + 7, y, 3)
    for name in ("ratio", "nc1", "separation"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-4)
    assert other.within == pytest.approx(2500 * one.within, rel=1e-4)


def test_the_ends() -> None:
    y = torch.arange(6) % 2
    points = class_geometry(torch.eye(2)[y], y, 2)
    assert (points.within, points.ratio, points.nc1) == (0, 0, 0)
    assert points.separation == float("inf")
    same = class_geometry(torch.zeros(6, 3), y, 2)
    assert np.isnan([same.ratio, same.nc1]).all()
    alone = class_geometry(torch.eye(2), torch.zeros(2, dtype=torch.int64), 1)
    assert np.isnan([alone.ratio, alone.separation]).all()


def test_without_anything_to_tell_apart_the_ratio_is_that_of_chance() -> None:
    random = torch.Generator().manual_seed(2)
    ratios = [class_geometry(torch.randn(60, 200, generator=random), torch.arange(60) % 6, 6).ratio for _ in range(20)]
    assert np.mean(ratios) == pytest.approx(10.8, rel=0.05)  # (n - 1) / n over (C - 1) / C / n: 9 * 6 / 5


class Scaled(nn.Module):
    """Its second layer receives what the class has been multiplied with."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.last = nn.Linear(4, 4), nn.Linear(4, 5), nn.Linear(5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.second(torch.relu(self.first(x)))))
        return out


def test_every_site_of_a_column_is_looked_at() -> None:
    torch.manual_seed(0)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(2):
        net.add_column(Scaled(), torch.zeros(2, 4), ["second", "last"])
    x, y = torch.randn(20, 4), torch.arange(20) % 2
    found = column_geometry(net, 1, x, y, 2, batch_size=7)
    with torch.no_grad():
        received = net.activations(x, [1])[1]
    assert found.sites == ("second", "last")
    for site, geometry in zip(found.sites, found.classes, strict=True):
        expected = class_geometry(received[site], y, 2)
        assert geometry.within == pytest.approx(expected.within, rel=1e-5)
        assert geometry.nc1 == pytest.approx(expected.nc1, rel=1e-3)
    again = column_geometry(net, 1, x, y, 2, batch_size=20)
    other = column_geometry(net, 1, x, y, 2, seed=1)
    assert again.shuffled[0].ratio == pytest.approx(found.shuffled[0].ratio, rel=1e-5)
    assert other.shuffled[0].ratio != found.shuffled[0].ratio
    assert other.classes[0].ratio == pytest.approx(found.classes[0].ratio, rel=1e-5)


def test_images_are_averaged_over_pixels() -> None:
    torch.manual_seed(0)
    net = ProgressiveNetwork()
    net.add_column(
        nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.Conv2d(3, 2, 4), nn.Flatten()), torch.zeros(2, 1, 6, 6)
    )
    x, y = torch.randn(8, 1, 6, 6), torch.arange(8) % 2
    pooled, flat = (column_geometry(net, 0, x, y, 2, features=kind) for kind in ("pooled", "flattened"))
    assert pooled.classes[0].means.shape == (2, 3)
    assert flat.classes[0].means.shape == (2, 48)


def test_looking_changes_nothing() -> None:
    torch.manual_seed(0)
    net = ProgressiveNetwork()
    net.add_column(nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(2, 4))
    net.train()
    assert_network_unchanged(net, lambda: column_geometry(net, 0, torch.randn(6, 4), torch.arange(6) % 2, 2))


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(ConfigError, match="features: required finite numbers, found inf or nan"):
        class_geometry(torch.tensor([[float("inf")]]), torch.zeros(1, dtype=torch.int64), 1)
    with pytest.raises(ConfigError, match=r"y: required classes \(2,\) in \[0, 1\), found shape \(2,\) up to 1"):
        class_geometry(torch.zeros(2, 1), torch.tensor([0, 1]), 1)


def test_classes_that_are_one_point_have_no_separation() -> None:
    dead = class_geometry(torch.zeros(6, 3), torch.arange(6) % 2, 2)
    assert isnan(dead.separation)
    assert isnan(dead.ratio)
    apart = class_geometry(torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1]), 2)
    assert apart.separation == inf
