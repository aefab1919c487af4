from math import nan
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

import prognet.metrics as metrics
from prognet.results import Floats


def approx(expected: Any) -> Any:
    return pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)


@st.composite
def sequential_matrices(draw: st.DrawFn) -> Floats:
    size = draw(st.integers(1, 5))
    full: Floats = draw(arrays(np.float64, (size, size), elements=st.floats(0, 1)))
    return np.where(np.tri(size, dtype=bool), full, nan)


@st.composite
def curves(draw: st.DrawFn) -> tuple[list[int], list[float]]:
    updates = sorted(draw(st.sets(st.integers(0, 50), min_size=2, max_size=8)))
    return updates, draw(st.lists(st.floats(0, 1), min_size=len(updates), max_size=len(updates)))


@given(sequential_matrices())
@settings(deadline=None, max_examples=60)
def test_relations_of_the_metrics_of_a_sequential_run(matrix: Floats) -> None:
    size, backward = len(matrix), metrics.backward_transfer(matrix)
    assert metrics.average_accuracy_over_time(matrix)[-1] == metrics.average_accuracy(matrix)
    assert metrics.forgetting_over_time(matrix)[-1] == pytest.approx(metrics.forgetting(matrix), abs=0, nan_ok=True)
    if size > 1:
        assert metrics.forgetting_since_learning(matrix) == -backward
        assert metrics.forgetting(matrix) >= metrics.forgetting_since_learning(matrix)
        gained = backward * (size - 1) / size
        assert metrics.average_accuracy(matrix) == approx(metrics.learning_accuracy(matrix) + gained)


@given(sequential_matrices())
@settings(deadline=None, max_examples=60)
def test_what_does_not_change_is_forgotten_by_exactly_zero(matrix: Floats) -> None:
    frozen = np.where(np.isnan(matrix), nan, np.diagonal(matrix))
    if len(frozen) > 1:
        zero = [
            metrics.forgetting(frozen),
            metrics.forgetting_since_learning(frozen),
            metrics.backward_transfer(frozen),
        ]
        assert [str(value) for value in zero] == ["0.0"] * 3  # not even -0.0
        assert metrics.diaz_rodriguez(frozen).remembering == 1.0


@given(sequential_matrices(), st.floats(0, 1))
@settings(deadline=None, max_examples=60)
def test_ranges_of_diaz_rodriguez(matrix: Floats, unseen: float) -> None:
    found = metrics.diaz_rodriguez(np.where(np.isnan(matrix), unseen, matrix))
    assert -1e-12 <= found.accuracy <= 1 + 1e-12
    if len(matrix) > 1:
        assert -1 <= found.backward_transfer <= 1
        assert 0 <= found.remembering <= 1
        assert 0 <= found.positive_backward_transfer <= 1
        assert found.remembering == 1 or found.positive_backward_transfer == 0
        assert found.forward_transfer == approx(unseen)


@given(curves())
@settings(deadline=None, max_examples=60)
def test_areas_lie_between_the_lowest_and_the_highest_point(curve: tuple[list[int], list[float]]) -> None:
    updates, accuracy = curve
    assert min(accuracy) - 1e-12 <= metrics.area_under_curve(updates, accuracy) <= max(accuracy) + 1e-12
    area = metrics.learning_curve_area(range(len(updates)), accuracy, len(updates) - 1)
    assert area == approx(sum(accuracy) / len(accuracy))


@given(arrays(np.float64, (3, 4), elements=st.floats(0, 1)), st.permutations(range(3)))
@settings(deadline=None, max_examples=30)
def test_disparity_knows_no_first_order(accuracies: Floats, permutation: list[int]) -> None:
    assert (metrics.order_disparity(accuracies) == metrics.order_disparity(accuracies[permutation])).all()
    assert 0 <= metrics.average_order_disparity(accuracies) <= metrics.maximum_order_disparity(accuracies) + 1e-12
