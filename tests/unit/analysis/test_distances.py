"""Distances between samples of tasks: values computed by hand, and what an unbiased estimator has to do."""

from math import exp, inf, sqrt

import numpy as np
import pytest
import torch
from torch import Tensor

from prognet.analysis import class_mean_distance, class_means, mean_distance, median_bandwidth, mmd
from prognet.analysis.distances import class_distances
from prognet.errors import ConfigError


def cloud(seed: int, n: int = 50, d: int = 3, shift: float = 0.0) -> Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed)) + shift


def test_mmd_by_hand() -> None:
    a, b = torch.tensor([[0.0], [1.0]]), torch.tensor([[2.0], [3.0]])
    # distances of all pairs: 1 within a, 1 within b, and 2, 3, 1, 2 between
    assert median_bandwidth(a, b) == 1.5  # of 1 1 1 2 2 3
    k = {distance: exp(-(distance**2) / (2 * 2.25)) for distance in (1, 2, 3)}
    expected = k[1] + k[1] - 2 * (2 * k[2] + k[3] + k[1]) / 4
    assert mmd(a, b) == pytest.approx(expected, rel=1e-12)
    wide = {distance: exp(-(distance**2) / 200) for distance in (1, 2, 3)}
    assert mmd(a, b, 10.0) == pytest.approx(1.5 * wide[1] - wide[2] - 0.5 * wide[3], rel=1e-9)


def test_mmd_is_zero_on_average_where_nothing_differs() -> None:
    values = [mmd(cloud(seed, 12), cloud(1000 + seed, 12)) for seed in range(200)]
    error = np.std(values, ddof=1) / sqrt(len(values))
    assert abs(np.mean(values)) < 4 * error  # a biased estimator is off by 0.08, twenty errors
    assert error < 0.01
    assert min(values) < 0


def test_mmd_sees_more_than_means() -> None:
    narrow, wide = cloud(0, 200), 3 * cloud(1, 200)
    assert mmd(narrow, wide) > 0.05
    assert mean_distance(narrow, wide) < 0.2
    shifts = [mmd(cloud(0), cloud(1, shift=shift)) for shift in (0.0, 0.5, 1.0, 2.0)]
    assert shifts == sorted(shifts)


def test_mmd_of_equal_samples() -> None:
    same = torch.ones(5, 2)
    assert mmd(same, same) == 0.0
    images = cloud(0, 10, 12)
    assert mmd(images.reshape(10, 3, 2, 2), images.flip(0)) == mmd(images, images.flip(0))  # flattened


def test_distances_of_means_by_hand() -> None:
    a, b = torch.tensor([[0.0, 0.0], [2.0, 0.0]]), torch.tensor([[4.0, 4.0], [4.0, 2.0]])
    # means (1, 0) and (4, 3), mean squared distances from them 1 and 1
    assert mean_distance(a, b) == pytest.approx(sqrt(18), rel=1e-12)
    assert mean_distance(a * 7, b * 7) == pytest.approx(sqrt(18), rel=1e-12)
    assert mean_distance(a, a.flip(0)) == 0.0
    assert mean_distance(a[:1], b[:1]) == inf


def test_distances_of_class_means_by_hand() -> None:
    a, y_a = torch.tensor([[0.0], [2.0], [10.0]]), torch.tensor([0, 0, 2])
    b, y_b = torch.tensor([[3.0], [5.0], [9.0], [13.0]]), torch.tensor([0, 0, 1, 1])
    means = class_means(a, y_a, 3)
    torch.testing.assert_close(means, torch.tensor([[1.0], [torch.nan], [10.0]], dtype=torch.float64), equal_nan=True)
    torch.testing.assert_close(
        class_distances(means[[0, 2]]), torch.tensor([[0.0, 9.0], [9.0, 0.0]], dtype=torch.float64)
    )
    # means of b are 4 and 11: 3 from 1, and 1 from 10; its samples are 1, 1, 2, 2 from their own
    assert class_mean_distance(a, y_a, b, y_b) == pytest.approx(2 / sqrt(2.5), rel=1e-12)


def test_classes_may_be_named_otherwise() -> None:
    a, y = cloud(0, 20), torch.arange(20) % 4
    assert class_mean_distance(a, y, a, 3 - y) == 0.0
    assert mean_distance(a, a) == 0.0


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="b: required samples of 3 features, found 2"):
        mmd(cloud(0), cloud(1, d=2))
    with pytest.raises(ConfigError, match="b: required at least 2 samples on both sides, found 50 and 1"):
        mmd(cloud(0), cloud(1, 1))
    with pytest.raises(ConfigError, match="bandwidth: required a number above 0, found 0"):
        mmd(cloud(0), cloud(1), 0.0)
    with pytest.raises(ConfigError, match=r"y: required classes \(50,\) in \[0, 2\), found shape \(50,\) up to 2"):
        class_means(cloud(0), torch.full((50,), 2), 2)
