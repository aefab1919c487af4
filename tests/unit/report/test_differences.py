from math import isnan, nan

import pytest

from prognet.report.differences import differences, pairs
from prognet.statistics import holm, paired_difference

A = {(0, 0): 0.9, (0, 1): 0.8, (0, 2): 0.95}
B = {(0, 0): 0.85, (0, 1): 0.8, (0, 2): 0.85}
C = {(0, 0): 0.5, (0, 1): 0.6, (0, 2): 0.4}


def test_each_pair_is_compared_once() -> None:
    names = ("progressive", "finetune", "independent", "independent-wide")
    assert pairs(names) == (
        ("progressive", "independent"),
        ("finetune", "independent"),
        ("independent-wide", "independent"),
        ("progressive", "independent-wide"),
        ("finetune", "independent-wide"),
        ("progressive", "finetune"),
    )


@pytest.mark.parametrize("names", [("finetune", "multitask"), ("progressive",), ("independent",)])
def test_without_a_partner_nothing_is_compared(names: tuple[str, ...]) -> None:
    assert pairs(names) == ()
    assert differences(dict.fromkeys(names, A)) == ()


def test_differences_are_paired_by_seed_and_adjusted_for_their_number() -> None:
    found = differences({"progressive": A, "finetune": C, "independent": B})
    expected = [
        paired_difference([0.9, 0.8, 0.95], [0.85, 0.8, 0.85]),
        paired_difference([0.5, 0.6, 0.4], [0.85, 0.8, 0.85]),
    ]
    expected.append(paired_difference([0.9, 0.8, 0.95], [0.5, 0.6, 0.4]))
    assert [d.interval for d in found] == [e.interval for e in expected]
    assert [d.p_value for d in found] == [e.p_value for e in expected]
    assert [d.adjusted for d in found] == holm([e.p_value for e in expected]).tolist()
    assert found[0].interval.mean == pytest.approx(0.05)  # (0.05 + 0 + 0.1) / 3


def test_only_cells_that_both_have_count() -> None:
    partial = {key: value for key, value in B.items() if key != (0, 1)}
    (found,) = differences({"progressive": A, "independent": partial})
    assert found.interval == paired_difference([0.9, 0.95], [0.85, 0.85]).interval


def test_nothing_shared_is_undefined() -> None:
    (found,) = differences({"progressive": {(0, 0): 0.9}, "independent": {(0, 1): 0.8}})
    assert isnan(found.interval.mean)
    assert found.interval.n == 0


@pytest.mark.parametrize("other", [{(0, 0): 0.8}, {(0, 0): 0.8, (0, 1): nan}])
def test_one_seed_or_an_undefined_value_has_no_p(other: dict[tuple[int, int], float]) -> None:
    (found,) = differences({"progressive": A, "independent": other})
    assert isnan(found.p_value)
    assert isnan(found.adjusted)
