from math import isnan, nan

import numpy as np
import pytest

from prognet.report.estimates import band, interval, per_seed
from prognet.statistics import t_interval


def test_orders_are_averaged_within_a_seed_before_the_interval() -> None:
    # seed 0: (1 + 3) / 2 = 2, seed 1: (5 + 7) / 2 = 6; n is 2 seeds, not 4 runs
    values = {(0, 0): 1.0, (1, 0): 3.0, (0, 1): 5.0, (1, 1): 7.0}
    assert interval(values) == t_interval([2.0, 6.0])
    assert interval(values).n == 2


def test_a_band_is_the_interval_of_each_entry() -> None:
    values = {(0, seed): np.array([[seed, 2.0 * seed], [nan, 1.0]]) for seed in range(3)}
    found = band(values)
    assert found.at(0, 1) == t_interval([0.0, 2.0, 4.0])
    assert (found.mean[1, 1], found.low[1, 1], found.high[1, 1]) == (1.0, 1.0, 1.0)
    assert isnan(found.mean[1, 0])
    assert found.mean.shape == (2, 2)
    assert found.n == 3


def test_one_seed_has_a_mean_and_no_bounds() -> None:
    found = band({(0, 4): np.array([0.5]), (1, 4): np.array([0.7])})
    assert found.mean[0] == pytest.approx(0.6)
    assert isnan(found.low[0])
    assert isnan(found.high[0])


def test_a_value_undefined_in_one_run_is_undefined() -> None:
    assert isnan(interval({(0, 0): 0.5, (0, 1): nan, (0, 2): 0.7}).mean)


def test_seeds_are_sorted_whatever_the_sequence_of_the_runs() -> None:
    assert per_seed({(0, 2): np.array(2.0), (0, 0): np.array(0.0), (0, 1): np.array(1.0)}).tolist() == [0, 1, 2]


def test_an_infinite_value_is_undefined_and_leaves_the_others() -> None:
    found = band({(0, seed): np.array([np.inf if seed else 1.0, seed]) for seed in range(3)})
    assert np.isnan([found.mean[0], found.low[0], found.high[0]]).all()
    assert found.at(1) == t_interval([0.0, 1.0, 2.0])
