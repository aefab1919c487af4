"""Rank correlations with the measured gain, by hand; and what a choice is worth."""

from dataclasses import replace
from math import isnan

import numpy as np
import pytest

from prognet.related import PAIR_MEASURES
from prognet.report.ranking import BEST, LATEST, picked_gain, rankings, spearman, weighted_tau, within_targets
from prognet.results import Floats
from tests.helpers.relations import make_relatedness
from tests.helpers.results import make_run

nan = np.nan


def triangle(*above: float) -> Floats:
    """Of three tasks: pairs (1, 2), (1, 3), (2, 3)."""
    found = np.full((3, 3), nan)
    found[0, 1], found[0, 2], found[1, 2] = above
    return found


def test_spearman_and_weighted_tau_by_hand() -> None:
    gains = triangle(0.1, 0.2, 0.3)
    assert spearman(triangle(1, 2, 3), gains) == pytest.approx(1)
    assert spearman(triangle(1, 3, 2), gains) == pytest.approx(0.5)  # 1 - 6 * 2 / 24
    assert weighted_tau(triangle(3, 2, 1), gains) == pytest.approx(-1)
    # hyperbolic weights 1/1 + 1/2, 1/1 + 1/3, 1/2 + 1/3 of the pairs of ranks; the largest two are exchanged
    one, other, rest = 3 / 2, 4 / 3, 5 / 6
    assert weighted_tau(triangle(1, 3, 2), gains) == pytest.approx((other + rest - one) / (one + other + rest))


def test_what_has_no_rank_is_undefined() -> None:
    for measure in (spearman, weighted_tau):
        assert isnan(measure(triangle(1, 1, 1), triangle(0.1, 0.2, 0.3)))
        assert isnan(measure(triangle(1, 2, 3), triangle(0.1, 0.1, 0.1)))
        assert isnan(measure(triangle(1, nan, 3), triangle(0.1, 0.2, 0.3)))  # two pairs


def test_among_the_sources_of_a_target() -> None:
    gains = np.full((4, 4), nan)
    gains[:1, 1], gains[:2, 2], gains[:3, 3] = 0.9, [0.1, 0.2], [0.3, 0.1, 0.2]
    values = np.full((4, 4), nan)
    values[:1, 1], values[:2, 2], values[:3, 3] = -5, [1, 2], [3, 2, 1]
    # target 3: right; target 4: of three pairs one is wrong; target 2 has nothing to choose from
    assert within_targets(values, gains) == pytest.approx((1 + 1 / 3) / 2)
    assert picked_gain(values, gains) == pytest.approx((0.2 - 0.15 + 0.3 - 0.2) / 2)
    assert picked_gain(gains, gains) == pytest.approx(0.075)
    alike = np.where(np.isnan(gains), nan, 1.0)
    assert within_targets(alike, gains) == 0
    assert picked_gain(alike, gains) == pytest.approx((0.2 - 0.15 + 0.2 - 0.2) / 2)  # of equal ones the later
    assert isnan(within_targets(values[:2, :2], gains[:2, :2]))
    assert isnan(picked_gain(values[:2, :2], gains[:2, :2]))


def test_every_measure_is_ranked_with_its_sign_beside_its_control() -> None:
    records = {(0, seed): make_relatedness(make_run("progressive", n_tasks=4, seed=seed)) for seed in range(3)}
    found = rankings(records)
    assert [rank.title for rank in found] == [*(measure.title for measure in PAIR_MEASURES), LATEST, BEST]
    for rank in found[: len(PAIR_MEASURES)]:
        assert (rank.pairs, rank.targets) == (6, 2)
        assert rank.spearman.mean == pytest.approx(1)
        assert rank.spearman_shuffled.mean == pytest.approx(-1)
        assert (rank.within.mean, rank.within_shuffled.mean) == (1, -1)
        # targets 3 and 4 have gains 1/2, 1 and 1/3, 1/2, 1 of a tenth
        best = (0.1 - 0.075 + 0.1 - 0.55 / 9) / 2
        assert rank.picked.mean == pytest.approx(best)
        assert rank.picked_shuffled.mean < 0
        assert rank.spearman.n == 3
    latest, ceiling = found[-2:]
    assert latest.picked.mean == pytest.approx(ceiling.picked.mean) == pytest.approx(best)
    assert isnan(latest.spearman_shuffled.mean)


def test_seeds_are_ranked_apart() -> None:
    one = make_relatedness(make_run("progressive", n_tasks=3, seed=0))
    other = make_relatedness(make_run("progressive", n_tasks=3, seed=1))
    turned = replace(other, gain=np.where(np.isnan(other.gain), nan, -other.gain))
    found = rankings({(0, 0): one, (0, 1): turned})[0]
    assert found.within.mean == 0
    assert found.within.half_width == pytest.approx(12.7062, rel=1e-4)  # of 1 and -1
