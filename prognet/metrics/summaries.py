"""Metrics that put a run into one number on a scale: against bounds, over all pairs, over task orders, over size."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite

import numpy as np
from numpy.typing import ArrayLike

from prognet.errors import ConfigError
from prognet.metrics.arguments import accuracy_matrix, accuracy_value, accuracy_vector, mean, same_tasks
from prognet.results import Floats


def forgetting_ratio(R: ArrayLike, chance: ArrayLike, R_joint: ArrayLike) -> float:
    """HAT's rho: where the final accuracies lie between chance and joint training, as a relative loss.

    Formula: rho = (1/T) sum_j [ (R_{T,j} - c_j) / (J_j - c_j) - 1 ] with c_j the accuracy of a random stratified
    classifier and J_j that of joint training on all tasks (Serra et al. 2018, HAT). Unit: ratio, 0 means as good as
    joint training, -1 at chance, above 0 better than joint training. NaN when joint training is at chance on a task.

    Args:
        R: accuracy matrix (steps, T).
        chance: c, (T,), accuracies of guessing.
        R_joint: accuracy matrix (steps, T) of a joint or cumulative run on the same stream; its last row counts.

    Raises:
        ConfigError: when an argument is out of range or they have different numbers of tasks.
    """
    matrix, joint = accuracy_matrix(R), accuracy_matrix(R_joint, "R_joint")
    same_tasks(matrix, joint, "R_joint")
    guesses = accuracy_vector(chance, "chance", matrix.shape[1])
    return mean(_quotient(matrix[-1] - guesses, joint[-1] - guesses) - 1)


@dataclass(frozen=True, slots=True)
class DiazRodriguez:
    """The metrics of Diaz-Rodriguez et al. 2018 (1810.13166), computed from all pairs of steps and tasks."""

    accuracy: float
    """A = sum_{i>=j} R_{ij} / (T(T+1)/2), in [0, 1]."""
    backward_transfer: float
    """BWT = sum_{i>=2} sum_{j<i} (R_{ij} - R_{jj}) / (T(T-1)/2), in [-1, 1]; GEM's reads the last row only."""
    remembering: float
    """REM = 1 - |min(BWT, 0)|, in [0, 1]; 1 when nothing is forgotten."""
    positive_backward_transfer: float
    """BWT+ = max(BWT, 0), in [0, 1]."""
    forward_transfer: float
    """FWT = sum_{i<j} R_{ij} / (T(T-1)/2), in [0, 1]; unlike GEM's, no baseline is subtracted."""


def diaz_rodriguez(R: ArrayLike) -> DiazRodriguez:
    """The all-pairs metrics of Diaz-Rodriguez et al. 2018 (1810.13166); formulas and units at the fields.

    All NaN unless there are T steps, one for each task in label order; all but the accuracy are NaN for T = 1; forward
    transfer is NaN where a cell above the diagonal is.

    Args:
        R: accuracy matrix (T, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    steps, n_tasks = matrix.shape
    if steps != n_tasks:
        return DiazRodriguez(*[float("nan")] * 5)
    later, earlier = np.tril_indices(n_tasks, k=-1), np.triu_indices(n_tasks, k=1)
    backward = mean((matrix - np.diagonal(matrix))[later])
    return DiazRodriguez(
        accuracy=mean(matrix[np.tril_indices(n_tasks)]),
        backward_transfer=backward,
        remembering=float(1 - np.abs(np.minimum(backward, 0.0))),
        positive_backward_transfer=float(np.maximum(backward, 0.0)),
        forward_transfer=mean(matrix[earlier]),
    )


def model_size_efficiency(parameters: Sequence[int]) -> float:
    """MS: how little the learner has grown since its first task.

    Formula: MS = min(1, (1/T) sum_i Mem(theta_1) / Mem(theta_i)) (Diaz-Rodriguez et al. 2018, 1810.13166). Unit: ratio
    in (0, 1]; 1 means no growth.

    Args:
        parameters: parameters held after each step, all positive; bytes serve as well.

    Raises:
        ConfigError: when there is none or one is not a positive finite number.
    """
    if len(parameters) == 0 or any(not (isfinite(count) and count > 0) for count in parameters):
        raise ConfigError(f"parameters: required at least one number, all above 0, found {list(parameters)}.")
    return min(1.0, float(sum(parameters[0] / count for count in parameters)) / len(parameters))


def order_disparity(accuracies: ArrayLike) -> Floats:
    """OPD, (T,): for each task, how far its final accuracy depends on the order in which the tasks arrive.

    Formula: OPD_t = max_r P_t^r - min_r P_t^r over task orders r (Yoon et al. 2020, APD, 1902.09432). Unit: difference
    of fractions in [0, 1]. NaN with fewer than two orders or where an accuracy is NaN.

    Args:
        accuracies: (orders, T), final accuracies; a column is one *task*, wherever it stands in an order.

    Raises:
        ConfigError: when it is no matrix of accuracies.
    """
    matrix = accuracy_matrix(accuracies, "accuracies")
    if len(matrix) < 2:
        return np.full(matrix.shape[1], np.nan)
    disparity: Floats = matrix.max(axis=0) - matrix.min(axis=0)
    return disparity


def average_order_disparity(accuracies: ArrayLike) -> float:
    """AOPD: the mean of `order_disparity` over tasks (Yoon et al. 2020, APD). Unit: difference of fractions in [0, 1].

    Args:
        accuracies: (orders, T), final accuracies; a column is one task.

    Raises:
        ConfigError: when it is no matrix of accuracies.
    """
    return mean(order_disparity(accuracies))


def maximum_order_disparity(accuracies: ArrayLike) -> float:
    """MOPD: the largest `order_disparity` of a task (Yoon et al. 2020, APD). Unit: difference of fractions in [0, 1].

    Args:
        accuracies: (orders, T), final accuracies; a column is one task.

    Raises:
        ConfigError: when it is no matrix of accuracies.
    """
    return float(order_disparity(accuracies).max())


def normalised_score(accuracy: float, lower: float, upper: float) -> float:
    """Where an accuracy lies between a lower bound (fine-tuning) and an upper bound (joint training).

    Formula: (A - A_lower) / (A_upper - A_lower). Unit: ratio, 0 at the lower and 1 at the upper bound, beyond them
    outside; NaN when the bounds are equal.

    Args:
        accuracy: the accuracy to place.
        lower: that of the lower bound.
        upper: that of the upper bound.

    Raises:
        ConfigError: when one is not in [0, 1].
    """
    low, high = accuracy_value(lower, "lower"), accuracy_value(upper, "upper")
    return (accuracy_value(accuracy, "accuracy") - low) / (high - low) if high != low else float("nan")


def _quotient(numerator: Floats, denominator: Floats) -> Floats:
    """Element by element; NaN for a denominator of 0."""
    return np.divide(numerator, denominator, out=np.full_like(numerator, np.nan), where=denominator != 0)
