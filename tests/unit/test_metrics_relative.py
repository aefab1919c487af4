"""Delta_m and negative transfer: by hand, at their ends, and what is refused."""

import numpy as np
import pytest
from scipy.stats import ttest_rel

from prognet import metrics
from prognet.errors import ConfigError


def test_delta_m_by_hand() -> None:
    assert metrics.relative_gains([0.9, 0.6], [0.8, 0.75]) == pytest.approx([0.125, -0.2])
    assert metrics.delta_m([0.9, 0.6], [0.8, 0.75]) == pytest.approx(-0.0375)
    # an error that grows from 1.6 to 2 is a loss of a quarter
    assert metrics.delta_m([0.9, 2.0], [0.8, 1.6], [True, False]) == pytest.approx((0.125 - 0.25) / 2)
    assert metrics.delta_m([0.5, 0.7], [0.5, 0.7]) == 0.0


def test_what_is_undefined_stays_undefined() -> None:
    assert np.isnan(metrics.delta_m([0.5, 0.1], [0.5, 0.0]))
    assert np.isnan(metrics.relative_gains([0.5, 0.1], [0.5, 0.0])[1])
    assert np.isnan(metrics.delta_m([np.nan, 0.1], [0.5, 0.5]))


def test_negative_transfer_by_hand() -> None:
    reference = np.full((3, 3), 0.8)
    values = np.array([[0.70, 0.80, 0.92], [0.71, 0.70, 0.90], [0.69, 0.90, 0.91]])
    harmed, neither, helped = metrics.negative_transfer(values, reference)
    # differences -0.10, -0.09, -0.11: mean -0.1, deviation 0.01; t for two degrees of freedom is 4.302653
    assert harmed.difference.interval.mean == pytest.approx(-0.1)
    assert harmed.difference.interval.half_width == pytest.approx(4.302653 * 0.01 / np.sqrt(3), rel=1e-6)
    assert (harmed.negative, harmed.positive) == (True, False)
    assert (neither.negative, neither.positive) == (False, False)
    assert (helped.negative, helped.positive) == (False, True)
    p = [ttest_rel(values[:, task], reference[:, task]).pvalue for task in range(3)]
    assert harmed.difference.p_value == pytest.approx(p[0])
    assert helped.adjusted == pytest.approx(min(3 * min(p), 1))  # the smallest of three
    assert neither.adjusted == pytest.approx(p[1])


def test_where_lower_is_better_the_signs_turn() -> None:
    values, reference = [[1.0], [1.1], [0.9]], [[2.0], [2.0], [2.0]]
    assert metrics.negative_transfer(values, reference)[0].negative
    assert metrics.negative_transfer(values, reference, [False])[0].positive


def test_one_seed_says_nothing_for_sure() -> None:
    (found,) = metrics.negative_transfer([[0.5]], [[0.9]])
    assert found.difference.interval.mean == pytest.approx(-0.4)
    assert not found.negative
    assert np.isnan(found.adjusted)


def test_arguments_stay_as_they_are() -> None:
    values, reference = np.array([[0.5, 0.6]] * 2), np.array([[0.4, 0.7]] * 2)
    kept = values.copy(), reference.copy()
    metrics.negative_transfer(values, reference, [True, False])
    metrics.delta_m(values[0], reference[0], [True, False])
    np.testing.assert_array_equal(values, kept[0])
    np.testing.assert_array_equal(reference, kept[1])


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ConfigError, match="reference: required 2 values, one for each task, found 1"):
        metrics.delta_m([0.5, 0.6], [0.5])
    with pytest.raises(ConfigError, match="higher_is_better: required 2 answers, one for each task, found 1"):
        metrics.delta_m([0.5, 0.6], [0.5, 0.5], [True])
    with pytest.raises(ConfigError, match=r"reference: required shape \(seeds, T\) as values \(2,\), found \(2,\)"):
        metrics.negative_transfer([0.5, 0.6], [0.5, 0.6])
    with pytest.raises(ConfigError, match="values: required one value for each task, found shape"):
        metrics.delta_m([], [])
