import dataclasses
from math import isnan, nan
from typing import Any

import numpy as np
import pytest

import prognet.metrics as metrics
from prognet.results import Floats

# Task 0 rises from 0.7 to 0.9 and falls to 0.6, so that the two conventions of forgetting differ.
SEQUENTIAL = np.array([[0.7, nan, nan], [0.9, 0.8, nan], [0.6, 0.5, 1.0]])
# The same with values for tasks not learned yet, as GEM measures them.
FULL = np.array([[0.7, 0.4, 0.2], [0.9, 0.8, 0.3], [0.6, 0.5, 1.0]])
JOINT = np.array([[0.9, 0.7, 0.8]])
CUMULATIVE = np.array([[0.8, nan, nan], [0.85, 0.7, nan], [0.9, 0.75, 0.95]])
# Two tasks in the first step, one in the second.
GROUPED = np.array([[0.8, 0.6, nan], [0.7, 0.9, 0.5]])
UPDATES, CURVE = np.array([0, 1, 2, 6]), np.array([0.1, 0.3, 0.7, 0.9])


def approx(expected: Any) -> Any:
    return pytest.approx(expected, rel=0, abs=1e-12, nan_ok=True)


def test_average_accuracy() -> None:
    assert metrics.average_accuracy(SEQUENTIAL) == approx(0.7)  # (0.6 + 0.5 + 1.0) / 3
    assert metrics.average_accuracy(JOINT) == approx(0.8)  # (0.9 + 0.7 + 0.8) / 3
    assert isnan(metrics.average_accuracy(SEQUENTIAL[:2]))  # task 2 was never learned


def test_average_accuracy_over_time() -> None:
    # 0.7, (0.9 + 0.8) / 2, (0.6 + 0.5 + 1.0) / 3
    assert metrics.average_accuracy_over_time(SEQUENTIAL) == approx([0.7, 0.85, 0.7])
    assert metrics.average_accuracy_over_time([[nan, nan], [0.5, nan]]) == approx([nan, 0.5])


def test_learning_accuracy() -> None:
    assert metrics.learning_accuracies(SEQUENTIAL) == approx([0.7, 0.8, 1.0])  # the diagonal
    assert metrics.learning_accuracy(SEQUENTIAL) == approx(2.5 / 3)
    assert metrics.learning_accuracies(CUMULATIVE) == approx([0.8, 0.7, 0.95])
    assert metrics.learning_accuracies(JOINT) == approx([0.9, 0.7, 0.8])
    assert metrics.learning_accuracies(GROUPED) == approx([0.8, 0.6, 0.5])
    assert metrics.learning_accuracies(SEQUENTIAL[:2]) == approx([0.7, 0.8, nan])
    assert isnan(metrics.learning_accuracy(SEQUENTIAL[:2]))


def test_backward_transfer_divides_by_the_tasks_learned_before_the_last_step() -> None:
    # ((0.6 - 0.7) + (0.5 - 0.8)) / 2; GEM's code would say -0.4 / 3
    assert metrics.backward_transfer(SEQUENTIAL) == approx(-0.2)
    assert metrics.backward_transfer(CUMULATIVE) == approx(0.075)  # ((0.9 - 0.8) + (0.75 - 0.7)) / 2
    assert metrics.backward_transfer(GROUPED) == approx(0.1)  # ((0.7 - 0.8) + (0.9 - 0.6)) / 2
    assert metrics.backward_transfer(SEQUENTIAL[:2]) == approx(0.2)  # 0.9 - 0.7


def test_the_two_conventions_of_forgetting_differ_where_accuracy_first_rises() -> None:
    # Chaudhry: max(0.7, 0.9) - 0.6 = 0.3 and 0.8 - 0.5 = 0.3, mean 0.3
    assert metrics.forgetting_per_task(SEQUENTIAL) == approx([0.3, 0.3, nan])
    assert metrics.forgetting(SEQUENTIAL) == approx(0.3)
    # Avalanche: 0.7 - 0.6 = 0.1 and 0.8 - 0.5 = 0.3, mean 0.2
    assert metrics.forgetting_since_learning(SEQUENTIAL) == approx(0.2)


def test_forgetting_leaves_the_last_row_out_of_the_maximum_and_may_be_negative() -> None:
    # max(0.8, 0.85) - 0.9 = -0.05 and 0.7 - 0.75 = -0.05; with the last row both would be 0
    assert metrics.forgetting_per_task(CUMULATIVE) == approx([-0.05, -0.05, nan])
    assert metrics.forgetting(CUMULATIVE) == approx(-0.05)
    assert metrics.forgetting_since_learning(CUMULATIVE) == approx(-0.075)  # ((0.8 - 0.9) + (0.7 - 0.75)) / 2


def test_forgetting_over_time() -> None:
    # after step 1: 0.7 - 0.9 = -0.2
    assert metrics.forgetting_over_time(SEQUENTIAL) == approx([nan, -0.2, 0.3])
    assert metrics.forgetting_over_time(GROUPED) == approx([nan, -0.1])  # ((0.8 - 0.7) + (0.6 - 0.9)) / 2


def test_with_one_step_forgetting_and_backward_transfer_are_undefined() -> None:
    for matrix in (JOINT, [[0.5]]):
        assert isnan(metrics.forgetting(matrix))
        assert isnan(metrics.forgetting_since_learning(matrix))
        assert isnan(metrics.backward_transfer(matrix))
        assert np.isnan(metrics.forgetting_per_task(matrix)).all()
        assert np.isnan(metrics.forgetting_over_time(matrix)).all()


def test_a_missing_measurement_makes_a_metric_nan_and_no_mean_over_the_rest() -> None:
    gap = np.array([[0.7, nan, nan], [nan, 0.8, nan], [0.6, 0.5, 1.0]])
    assert metrics.forgetting_per_task(gap) == approx([nan, 0.3, nan])
    assert isnan(metrics.forgetting(gap))
    assert metrics.average_accuracy_over_time(gap) == approx([0.7, nan, 0.7])
    assert metrics.backward_transfer(gap) == approx(-0.2)  # needs the first and the last value only


def test_forward_transfer_reads_above_the_diagonal() -> None:
    # ((0.4 - 0.1) + (0.3 - 0.5)) / 2; the baseline of task 0 does not count
    assert metrics.forward_transfer(FULL, [0.9, 0.1, 0.5]) == approx(0.05)
    # only tasks just about to be learned: the corner cell 0.2 does not count
    assert metrics.forward_transfer(np.where(FULL == 0.2, nan, FULL), [0.9, 0.1, 0.5]) == approx(0.05)


@pytest.mark.parametrize("matrix", [SEQUENTIAL, JOINT, GROUPED, np.array([[0.5]])])
def test_forward_transfer_is_undefined_where_unseen_tasks_cannot_be_predicted(matrix: Floats) -> None:
    assert isnan(metrics.forward_transfer(matrix, [0.5] * matrix.shape[1]))


def test_intransigence() -> None:
    # 0.8 - 0.7, 0.7 - 0.8, 0.95 - 1.0
    assert metrics.intransigence_per_task(SEQUENTIAL, CUMULATIVE) == approx([0.1, -0.1, -0.05])
    assert metrics.intransigence(SEQUENTIAL, CUMULATIVE) == approx(-0.05 / 3)


def test_intransigence_needs_schedules_of_equally_many_steps() -> None:
    assert np.isnan(metrics.intransigence_per_task(JOINT, CUMULATIVE)).all()
    assert isnan(metrics.intransigence(SEQUENTIAL, JOINT))


def test_transfer() -> None:
    independent = np.array([[0.7, nan, nan], [0.7, 0.5, nan], [0.7, 0.5, 0.9]])
    # 0.7 - 0.7, 0.8 - 0.5, 1.0 - 0.9: when learned, not at the end
    assert metrics.transfer(SEQUENTIAL, independent) == approx([0.0, 0.3, 0.1])
    assert metrics.transfer(JOINT, independent) == approx([0.2, 0.2, -0.1])


def test_area_under_curve() -> None:
    # (1 * (0.1 + 0.3) / 2 + 1 * (0.3 + 0.7) / 2 + 4 * (0.7 + 0.9) / 2) / 6 = (0.2 + 0.5 + 3.2) / 6
    assert metrics.area_under_curve(UPDATES, CURVE) == approx(0.65)
    assert metrics.area_under_curve([2, 6], [0.7, 0.9]) == approx(0.8)  # normalised by what it covers
    assert isnan(metrics.area_under_curve([0], [0.5]))


def test_transfer_ratio_and_relative_forward_transfer() -> None:
    assert metrics.transfer_ratio(0.9, 0.6) == approx(1.5)
    assert metrics.relative_forward_transfer(0.9, 0.6) == approx(0.75)  # 0.3 / 0.4
    assert metrics.relative_forward_transfer(0.2, 0.6) == approx(-1.0)  # -0.4 / 0.4
    assert isnan(metrics.transfer_ratio(0.5, 0.0))
    assert isnan(metrics.relative_forward_transfer(0.5, 1.0))
    assert isnan(metrics.transfer_ratio(nan, 0.5))


def test_learning_curve_area_is_the_plain_mean() -> None:
    # (0.1 + 0.3 + 0.7) / 3; the trapezoid of A-GEM's notebook would be (0.2 + 0.5) / 2 = 0.35
    assert metrics.learning_curve_area(UPDATES, CURVE, 2) == approx(1.1 / 3)
    assert metrics.learning_curve_area(UPDATES, CURVE, 0) == approx(0.1)


def test_learning_curve_area_is_nan_when_an_update_was_not_measured() -> None:
    assert isnan(metrics.learning_curve_area(UPDATES, CURVE, 3))
    assert isnan(metrics.learning_curve_area(UPDATES, CURVE, 6))  # 6 was measured, 3 to 5 were not
    assert isnan(metrics.learning_curve_area([1, 2], [0.3, 0.7], 2))  # 0 was not
    assert isnan(metrics.learning_curve_area([0, 1], [nan, 0.7], 1))


def test_forgetting_ratio() -> None:
    # chance 0.5, 0.5, 0.1: (0.6 - 0.5) / (0.9 - 0.5) - 1 = -0.75; (0.5 - 0.5) / 0.2 - 1 = -1;
    # (1.0 - 0.1) / (0.8 - 0.1) - 1 = 2 / 7
    assert metrics.forgetting_ratio(SEQUENTIAL, [0.5, 0.5, 0.1], JOINT) == approx((-0.75 - 1 + 2 / 7) / 3)
    assert metrics.forgetting_ratio(SEQUENTIAL, [0.5, 0.5, 0.1], np.vstack([FULL, JOINT])) == approx(
        (-0.75 - 1 + 2 / 7) / 3  # the last row of the joint run counts
    )
    assert isnan(metrics.forgetting_ratio(SEQUENTIAL, [0.5, 0.7, 0.1], JOINT))  # joint training at chance on task 1


def test_diaz_rodriguez() -> None:
    found = metrics.diaz_rodriguez(FULL)
    assert found.accuracy == approx(0.75)  # (0.7 + 0.9 + 0.8 + 0.6 + 0.5 + 1.0) / 6
    # ((0.9 - 0.7) + (0.6 - 0.7) + (0.5 - 0.8)) / 3 = -0.2 / 3
    assert found.backward_transfer == approx(-0.2 / 3)
    assert found.remembering == approx(1 - 0.2 / 3)
    assert found.positive_backward_transfer == 0.0
    assert found.forward_transfer == approx(0.3)  # (0.4 + 0.2 + 0.3) / 3


def test_diaz_rodriguez_with_positive_backward_transfer() -> None:
    found = metrics.diaz_rodriguez(CUMULATIVE)
    # ((0.85 - 0.8) + (0.9 - 0.8) + (0.75 - 0.7)) / 3 = 0.2 / 3
    assert found.backward_transfer == found.positive_backward_transfer == approx(0.2 / 3)
    assert found.remembering == 1.0
    assert isnan(found.forward_transfer)


def test_diaz_rodriguez_is_undefined_unless_every_step_learns_one_task() -> None:
    assert all(isnan(value) for value in dataclasses.astuple(metrics.diaz_rodriguez(JOINT)))
    one = dataclasses.astuple(metrics.diaz_rodriguez([[0.5]]))
    assert one == approx((0.5, nan, nan, nan, nan))


def test_model_size_efficiency() -> None:
    assert metrics.model_size_efficiency([100, 200, 400]) == approx(1.75 / 3)  # (1 + 1/2 + 1/4) / 3
    assert metrics.model_size_efficiency([100, 100]) == 1.0
    assert metrics.model_size_efficiency([100, 50]) == 1.0  # (1 + 2) / 2, clipped


def test_order_disparity() -> None:
    orders = np.array([[0.9, 0.5], [0.7, 0.6], [0.8, 0.55]])
    assert metrics.order_disparity(orders) == approx([0.2, 0.1])  # 0.9 - 0.7, 0.6 - 0.5
    assert metrics.average_order_disparity(orders) == approx(0.15)
    assert metrics.maximum_order_disparity(orders) == approx(0.2)
    assert np.isnan(metrics.order_disparity(orders[:1])).all()
    assert isnan(metrics.maximum_order_disparity([[0.9, nan], [0.7, 0.5]]))


def test_normalised_score() -> None:
    assert metrics.normalised_score(0.8, 0.5, 0.9) == approx(0.75)  # 0.3 / 0.4
    assert metrics.normalised_score(0.4, 0.5, 0.9) == approx(-0.25)
    assert isnan(metrics.normalised_score(0.8, 0.5, 0.5))
