import subprocess
import sys
from math import isnan, nan, pi, sqrt, tan

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_1samp

from prognet.errors import ConfigError
from prognet.statistics import Interval, bootstrap_interval, holm, paired_difference, t_interval

FRACTIONS = st.floats(0, 1)
# The 97.5 % quantiles of Student's t have closed forms for 1 and 2 degrees of freedom: tan(0.95 pi / 2) = 12.706 and
# 0.95 sqrt(2 / (1 - 0.95^2)) = 4.303.
T_1, T_2 = tan(0.475 * pi), 0.95 * sqrt(2 / (1 - 0.95**2))


def assert_undefined(interval: Interval, n: int) -> None:
    assert isnan(interval.low)
    assert isnan(interval.high)
    assert isnan(interval.half_width)
    assert interval.n == n


def test_t_interval() -> None:
    # 0.90, 0.92, 0.97: mean 0.93, deviations -0.03, -0.01, 0.04, s^2 = 0.0026 / 2, half width t s / sqrt(3)
    interval = t_interval([0.90, 0.92, 0.97])
    half = T_2 * sqrt(0.0013) / sqrt(3)
    assert interval.mean == pytest.approx(0.93, abs=1e-12)
    assert interval.low == pytest.approx(0.93 - half, abs=1e-12)
    assert interval.high == pytest.approx(0.93 + half, abs=1e-12)
    assert interval.half_width == pytest.approx(half, abs=1e-12)
    assert interval.n == 3
    assert str(interval) == "0.930 ± 0.090"


@given(st.lists(FRACTIONS, min_size=2, max_size=6), st.floats(0.5, 0.99))
@settings(deadline=None, max_examples=60)
def test_t_interval_excludes_what_the_t_test_refutes(values: list[float], confidence: float) -> None:
    interval = t_interval(values, confidence)
    assert interval.low <= interval.mean <= interval.high or interval.half_width < 1e-12
    if interval.half_width > 1e-6:  # the test at the limit has p = 1 - confidence
        assert ttest_1samp(values, interval.high).pvalue == pytest.approx(1 - confidence, abs=1e-6)


def test_a_single_value_has_no_limits() -> None:
    interval = t_interval([0.5])
    assert_undefined(interval, 1)
    assert interval.mean == 0.5
    assert str(interval) == "0.500"


def test_equal_values_have_exactly_zero_width() -> None:
    for value in (0.1, 1.0, 0.0):
        assert t_interval([value] * 3) == Interval(value, value, value, 3)
    assert str(t_interval([0.1] * 3)) == "0.100 ± 0.000"


def test_nan_propagates() -> None:
    interval = t_interval([0.5, nan, 0.7])
    assert_undefined(interval, 3)
    assert isnan(interval.mean)
    assert str(interval) == "nan"


def test_a_tiny_negative_mean_prints_without_a_sign() -> None:
    assert str(Interval(-0.0001, -0.0002, 0.0, 3)) == "0.000 ± 0.000"


def test_paired_difference() -> None:
    # differences 0.1, 0.2, 0.3: mean 0.2, s = 0.1, t = 0.2 / (0.1 / sqrt(3)) = 2 sqrt(3) with 2 degrees of freedom;
    # there the two-sided p is 1 - t / sqrt(t^2 + 2) = 1 - sqrt(12 / 14)
    found = paired_difference([0.5, 0.7, 0.9], [0.4, 0.5, 0.6])
    assert found.interval.mean == pytest.approx(0.2, abs=1e-12)
    assert found.interval.half_width == pytest.approx(T_2 * 0.1 / sqrt(3), abs=1e-12)
    assert found.p_value == pytest.approx(1 - sqrt(12 / 14), abs=1e-12)
    assert found.n == found.interval.n == 3


def test_pairing_removes_what_the_seeds_share() -> None:
    a, b = np.array([0.1, 0.5, 0.91]), np.array([0.0, 0.41, 0.8])
    assert paired_difference(a, b).p_value < 0.01
    assert paired_difference(a, b[[1, 2, 0]]).p_value > 0.5


def test_the_confidence_reaches_the_interval_of_a_difference() -> None:
    wide, narrow = paired_difference([0.5, 0.7], [0.4, 0.5], 0.95), paired_difference([0.5, 0.7], [0.4, 0.5], 0.5)
    assert wide.interval.half_width == pytest.approx(T_1 * 0.05, abs=1e-12)  # differences 0.1, 0.2: s / sqrt(2) = 0.05
    assert narrow.interval.half_width == pytest.approx(0.05, abs=1e-12)  # the 75 % quantile of t with 1 degree is 1


@pytest.mark.parametrize("values", [[0.5, 0.7, 0.9], [0.0, 0.0], [1.0, 1.0, 1.0]])
def test_equal_strategies_do_not_differ(values: list[float]) -> None:
    found = paired_difference(values, values)
    assert found.interval == Interval(0.0, 0.0, 0.0, len(values))
    assert found.p_value == 1.0


def test_differences_that_are_equal_but_for_rounding_have_zero_width() -> None:
    a, b = np.array([0.9, 0.8, 0.7]), np.array([0.8, 0.7, 0.6])
    assert len(set(a - b)) > 1  # 0.09999999999999998, 0.10000000000000009
    found = paired_difference(a, b)
    assert found.interval.half_width == 0.0
    assert found.interval.mean == pytest.approx(0.1, abs=1e-12)
    assert found.p_value == 0.0


def test_differences_too_small_to_be_squared_count_as_equal() -> None:
    assert paired_difference([0.0, 0.0], [0.0, 5e-324]).p_value == 1.0


def test_rounding_alone_is_no_difference() -> None:
    found = paired_difference([0.1 + 0.2] * 2, [0.3] * 2)
    assert found.interval.mean != 0.0
    assert found.p_value == 1.0


@given(st.lists(st.tuples(FRACTIONS, FRACTIONS), min_size=2, max_size=6))
@settings(deadline=None, max_examples=100)
def test_a_difference_turns_its_sign_with_its_arguments(pairs: list[tuple[float, float]]) -> None:
    a, b = [pair[0] for pair in pairs], [pair[1] for pair in pairs]
    one, other = paired_difference(a, b), paired_difference(b, a)
    assert one.interval.mean == -other.interval.mean
    assert one.p_value == other.p_value
    assert 0 <= one.p_value <= 1


def test_a_single_pair_and_a_missing_value_have_no_p_value() -> None:
    one = paired_difference([0.5], [0.25])
    assert isnan(one.p_value)
    assert one.interval.mean == 0.25
    assert_undefined(one.interval, 1)
    missing = paired_difference([0.5, nan], [0.25, 0.5])
    assert isnan(missing.p_value)
    assert_undefined(missing.interval, 2)


def test_bootstrap_interval_of_an_accuracy() -> None:
    # 80 of 100 right: the normal approximation has a half width of 1.96 sqrt(0.8 * 0.2 / 100) = 0.0784
    interval = bootstrap_interval([1.0] * 80 + [0.0] * 20, seed=0)
    assert interval.mean == 0.8
    assert interval.half_width == pytest.approx(0.0784, abs=0.006)
    assert interval.low < 0.8 < interval.high
    assert interval.n == 100


def test_bootstrap_is_repeatable_and_its_seed_and_confidence_matter() -> None:
    values = np.linspace(0, 1, 30) ** 2
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    assert bootstrap_interval(values, seed=1) != bootstrap_interval(values, seed=2)
    assert bootstrap_interval(values, 1, 0.5).half_width < bootstrap_interval(values, 1, 0.95).half_width / 2


def test_bootstrap_of_trivial_samples() -> None:
    assert bootstrap_interval([1.0] * 50, seed=0) == Interval(1.0, 1.0, 1.0, 50)
    assert_undefined(bootstrap_interval([0.5], seed=0), 1)
    assert_undefined(bootstrap_interval([0.5, nan], seed=0), 2)


def test_holm() -> None:
    # sorted 0.01, 0.02, 0.03, 0.4: times 4, 3, 2, 1 = 0.04, 0.06, 0.06, 0.4
    assert holm([0.03, 0.01, 0.4, 0.02]) == pytest.approx([0.06, 0.04, 0.4, 0.06], abs=1e-12)
    # sorted 0.02, 0.021, 0.9: times 3, 2, 1 = 0.06, 0.042 raised to 0.06, 0.9
    assert holm([0.02, 0.021, 0.9]) == pytest.approx([0.06, 0.06, 0.9], abs=1e-12)
    assert holm([0.6, 0.7]) == pytest.approx([1.0, 1.0])  # 1.2 is cut at 1
    assert holm([]).shape == (0,)


def test_holm_counts_only_tests_that_were_made() -> None:
    adjusted = holm([nan, 0.01, 0.5])
    assert isnan(adjusted[0])
    assert adjusted[1:] == pytest.approx([0.02, 0.5], abs=1e-12)


@given(st.lists(FRACTIONS, min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_holm_keeps_the_order_and_lies_between_raw_and_bonferroni(p_values: list[float]) -> None:
    adjusted, raw = holm(p_values), np.array(p_values)
    assert (adjusted >= raw).all()
    assert (adjusted <= np.minimum(1, len(raw) * raw) + 1e-15).all()
    assert (np.diff(adjusted[np.argsort(raw)]) >= 0).all()


def test_no_function_changes_its_arguments() -> None:
    values, other = np.array([0.5, 0.9, 0.7]), np.array([0.4, 0.2, 0.1])
    for array in (values, other):
        array.flags.writeable = False  # a change would raise
    t_interval(values)
    bootstrap_interval(values, seed=0)
    paired_difference(values, other)
    adjusted = holm(values)
    assert not np.shares_memory(adjusted, values)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(
        ConfigError, match=r"^values: required at least one value in one dimension, found shape \(0,\)\."
    ):
        t_interval([])
    with pytest.raises(
        ConfigError, match=r"^values: required at least one value in one dimension, found shape \(1, 2\)"
    ):
        t_interval([[0.5, 0.5]])
    with pytest.raises(ConfigError, match=r"^values: required finite numbers or NaN, found inf\."):
        t_interval([0.5, np.inf])
    with pytest.raises(ConfigError, match=r"^values: required numbers, found \['a'\]"):
        t_interval(["a"])
    with pytest.raises(ConfigError, match=r"^confidence: required a number strictly between 0 and 1, found 95\."):
        t_interval([0.5, 0.6], confidence=95)
    with pytest.raises(ConfigError, match=r"^b: required 2 values, paired with those of a, found 1\."):
        paired_difference([0.5, 0.6], [0.5])
    with pytest.raises(ConfigError, match=r"^values_per_test_sample: required at least one value"):
        bootstrap_interval([], seed=0)
    with pytest.raises(ConfigError, match=r"^p_values: required numbers in \[0, 1\] or NaN, found \[0\.5, 1\.5\]\."):
        holm([0.5, 1.5])


def test_scipy_is_imported_only_when_needed() -> None:
    code = "import sys, prognet.statistics, prognet.metrics; sys.exit('scipy' in sys.modules or 'torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
