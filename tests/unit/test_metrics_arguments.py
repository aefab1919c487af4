from collections.abc import Callable
from math import nan
from typing import Any

import numpy as np
import pytest

import prognet.metrics as metrics
from prognet.errors import ConfigError
from prognet.metrics.arguments import accuracy_matrix

SEQUENTIAL = np.array([[0.7, nan, nan], [0.9, 0.8, nan], [0.6, 0.5, 1.0]])
FULL = np.array([[0.7, 0.4, 0.2], [0.9, 0.8, 0.3], [0.6, 0.5, 1.0]])
JOINT = np.array([[0.9, 0.7, 0.8]])
CUMULATIVE = np.array([[0.8, nan, nan], [0.85, 0.7, nan], [0.9, 0.75, 0.95]])
UPDATES, CURVE = np.array([0, 1, 2, 6]), np.array([0.1, 0.3, 0.7, 0.9])


CALLS: dict[str, tuple[Any, ...]] = {
    "area_under_curve": (UPDATES, CURVE),
    "average_accuracy": (SEQUENTIAL,),
    "average_accuracy_over_time": (SEQUENTIAL,),
    "average_order_disparity": (FULL,),
    "backward_transfer": (SEQUENTIAL,),
    "delta_m": (JOINT[0], JOINT[0] / 2),
    "diaz_rodriguez": (FULL,),
    "forgetting": (SEQUENTIAL,),
    "forgetting_over_time": (SEQUENTIAL,),
    "forgetting_per_task": (SEQUENTIAL,),
    "forgetting_ratio": (SEQUENTIAL, JOINT[0] / 2, JOINT),
    "forgetting_since_learning": (SEQUENTIAL,),
    "forward_transfer": (FULL, JOINT[0]),
    "intransigence": (SEQUENTIAL, CUMULATIVE),
    "intransigence_per_task": (SEQUENTIAL, CUMULATIVE),
    "learning_accuracies": (SEQUENTIAL,),
    "learning_accuracy": (SEQUENTIAL,),
    "learning_curve_area": (UPDATES, CURVE, 2),
    "maximum_order_disparity": (FULL,),
    "model_size_efficiency": (np.array([100, 200]),),
    "negative_transfer": (FULL, FULL[::-1].copy()),
    "normalised_score": (0.5, 0.2, 0.8),
    "order_disparity": (FULL,),
    "relative_forward_transfer": (0.5, 0.4),
    "relative_gains": (JOINT[0], JOINT[0] / 2),
    "transfer": (SEQUENTIAL, JOINT),
    "transfer_ratio": (0.5, 0.4),
}
OF_ONE_MATRIX = sorted(name for name, arguments in CALLS.items() if len(arguments) == 1 and arguments[0].ndim == 2)


def function(name: str) -> Callable[..., Any]:
    found: Callable[..., Any] = getattr(metrics, name)
    return found


def test_every_public_function_is_in_the_tests_of_arguments() -> None:
    assert {name for name in metrics.__all__ if name not in ("DiazRodriguez", "TaskTransfer")} == set(CALLS)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_no_function_changes_its_arguments(name: str) -> None:
    copies = [argument.copy() if isinstance(argument, np.ndarray) else argument for argument in CALLS[name]]
    function(name)(*copies)
    for copy, original in zip(copies, CALLS[name], strict=True):
        np.testing.assert_array_equal(copy, original)


def test_a_checked_matrix_is_a_copy() -> None:
    assert not np.shares_memory(accuracy_matrix(SEQUENTIAL), SEQUENTIAL)


@pytest.mark.parametrize("name", sorted(CALLS))
def test_a_result_shares_no_memory_with_the_arguments(name: str) -> None:
    copies = [argument.copy() if isinstance(argument, np.ndarray) else argument for argument in CALLS[name]]
    found = function(name)(*copies)
    assert not any(np.shares_memory(found, copy) for copy in copies if isinstance(found, np.ndarray))


@pytest.mark.parametrize("name", sorted(CALLS))
def test_lists_serve_as_well_as_arrays(name: str) -> None:
    lists = [argument.tolist() if isinstance(argument, np.ndarray) else argument for argument in CALLS[name]]
    np.testing.assert_equal(function(name)(*lists), function(name)(*CALLS[name]))


@pytest.mark.parametrize("name", OF_ONE_MATRIX)
@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ([0.5, 0.6], r"required shape \(\w+, T\) with at least one value, found shape \(2,\)\."),
        ([[]], r"required shape \(\w+, T\) with at least one value, found shape \(1, 0\)\."),
        ([[0.5, 0.6], [0.5]], r"required numbers of shape \(\w+, T\), found \[\[0\.5, 0\.6\], \[0\.5\]\]"),
        ([["a"]], r"required numbers of shape \(\w+, T\), found \[\['a'\]\]"),
        ([[0.5, 97.0]], r"required fractions in \[0, 1\] or NaN, found 97\.0; divide percentages by 100"),
        ([[-0.1]], r"required fractions in \[0, 1\] or NaN, found -0\.1"),
        ([[np.inf]], r"required fractions in \[0, 1\] or NaN, found inf"),
    ],
)
def test_what_is_no_accuracy_matrix_is_refused(name: str, wrong: object, message: str) -> None:
    with pytest.raises(ConfigError, match=rf"^(R|accuracies): {message}"):
        function(name)(wrong)


REFUSALS: list[tuple[str, tuple[Any, ...], str]] = [
    (
        "transfer",
        (SEQUENTIAL, [[0.5, 0.5]]),
        "R_reference: required the 3 tasks of R, found 2; compare runs on one stream.",
    ),
    ("intransigence", (SEQUENTIAL, [[0.5]]), "R_cumulative: required the 3 tasks of R, found 1; compare runs on one"),
    ("forgetting_ratio", (JOINT, [0.1] * 3, [[0.5]]), "R_joint: required the 3 tasks of R, found 1; compare"),
    ("forgetting_ratio", (JOINT, [0.1] * 2, JOINT), "chance: required 3 values, one for each task of R, found 2."),
    ("forward_transfer", (FULL, [0.1] * 4), "baseline: required 3 values, one for each task of R, found 4."),
    ("forward_transfer", (FULL, 0.1), "baseline: required shape (3) with at least one value, found shape ()."),
    ("area_under_curve", ([], []), "accuracy: required shape (T) with at least one value, found shape (0,)."),
    ("area_under_curve", ([0, 1], [0.5]), "updates: required one for each of the 1 accuracies, found 2."),
    (
        "area_under_curve",
        ([0, 0], [0.5, 0.5]),
        "updates: required strictly increasing numbers from 0 on, found [0, 0].",
    ),
    (
        "area_under_curve",
        ([-1, 0], [0.5, 0.5]),
        "updates: required strictly increasing numbers from 0 on, found [-1, 0].",
    ),
    ("area_under_curve", ([0.0, 1.5], [0.5, 0.5]), "updates: required a sequence of whole numbers, found [0.0, 1.5]."),
    ("area_under_curve", ([[0], [1, 2]], [0.5, 0.5]), "updates: required a sequence of whole numbers, found [[0], [1"),
    ("learning_curve_area", ([0], [0.5], -1), "beta: required a number of mini-batches, at least 0, found -1."),
    ("transfer_ratio", (1.5, 0.5), "auc: required fractions in [0, 1] or NaN, found 1.5; divide"),
    ("relative_forward_transfer", (0.5, [0.5]), "auc_reference: required one number with at least one value, found"),
    ("normalised_score", (0.5, -1, 0.5), "lower: required fractions in [0, 1] or NaN, found -1.0;"),
    ("model_size_efficiency", ([],), "parameters: required at least one number, all above 0, found []."),
    ("model_size_efficiency", ([5, 0],), "parameters: required at least one number, all above 0, found [5, 0]."),
]


@pytest.mark.parametrize(("name", "arguments", "message"), REFUSALS)
def test_arguments_that_do_not_fit_are_refused(name: str, arguments: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        function(name)(*arguments)
    assert str(caught.value).startswith(message)
