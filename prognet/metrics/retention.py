"""How well a learner does at the end, and what became of what it had learned."""

import numpy as np
from numpy.typing import ArrayLike

from prognet.metrics.arguments import accuracy_matrix, learning_steps, mean
from prognet.results import Floats


def average_accuracy(R: ArrayLike) -> float:
    """ACC: the mean accuracy over all tasks after the last step.

    Formula: ACC = (1/T) sum_j R_{T,j} (Lopez-Paz & Ranzato 2017, GEM, eq. 2). Unit: fraction in [0, 1]. Every task
    counts alike, however large its test set. NaN when a task was never learned.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    return mean(accuracy_matrix(R)[-1])


def average_accuracy_over_time(R: ArrayLike) -> Floats:
    """(steps,): after each step the mean accuracy over the tasks learned so far.

    Formula: A_k = (1/k) sum_{j<=k} R_{k,j} (Chaudhry et al. 2018, Riemannian Walk, average accuracy). Unit: fraction in
    [0, 1]; NaN before the first task.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    steps = learning_steps(matrix)
    return np.array([mean(row[steps <= step]) for step, row in enumerate(matrix)])


def learning_accuracies(R: ArrayLike) -> Floats:
    """(T,): the accuracy on each task right after the step in which it was first learned.

    Formula: R_{j,j} for a sequential or cumulative schedule, R_{1,j} for a joint one (Riemer et al. 2019, MER, learning
    accuracy). Unit: fraction in [0, 1]; NaN for a task that was never learned.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    learned = [(step, task) for task, step in enumerate(learning_steps(matrix))]
    return np.array([matrix[step, task] if step < len(matrix) else np.nan for step, task in learned])


def learning_accuracy(R: ArrayLike) -> float:
    """LA: the mean of `learning_accuracies`, i.e. how well tasks are learned, whatever is forgotten later.

    Formula: LA = (1/T) sum_j R_{j,j} (Riemer et al. 2019, MER). Unit: fraction in [0, 1]. NaN when a task was never
    learned. ACC = LA + (T-1)/T BWT in a sequential run.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    return mean(learning_accuracies(R))


def backward_transfer(R: ArrayLike) -> float:
    """BWT: what the accuracy on earlier tasks gained (positive) or lost (negative) since they were learned.

    Formula: BWT = 1/(T-1) sum_{j<T} (R_{T,j} - R_{j,j}) (Lopez-Paz & Ranzato 2017, GEM, eq. 3). As in the paper, the
    mean is over the tasks learned before the last step, T-1 in a sequential run; GEM's published code divides by T
    instead, and `diaz_rodriguez` averages over all pairs. Unit: difference of fractions in [-1, 1]. NaN with fewer than
    two steps.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    return mean((matrix[-1] - learning_accuracies(matrix))[_learned_before_last(matrix)])


def forgetting_since_learning(R: ArrayLike) -> float:
    """Forgetting as Avalanche counts it: accuracy right after learning minus accuracy at the end; exactly -BWT.

    Formula: 1/(T-1) sum_{j<T} (R_{j,j} - R_{T,j}) (avalanche-lib 0.6, `StreamForgetting`). Unlike `forgetting` it does
    not notice that a task was first improved and then forgotten. Unit: difference of fractions in [-1, 1], lower is
    better, negative for a gain. NaN with fewer than two steps.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    return mean((learning_accuracies(matrix) - matrix[-1])[_learned_before_last(matrix)])


def forgetting_per_task(R: ArrayLike) -> Floats:
    """(T,): for each task its best accuracy before the last step minus its accuracy after the last step.

    Formula: f_j = max_{l<k} R_{l,j} - R_{k,j} with k the last step (Chaudhry et al. 2018, Riemannian Walk). The maximum
    leaves the last row out, so f_j is negative when the last step improved the task (Mammoth includes it and is never
    negative). Unit: difference of fractions in [-1, 1]. NaN for a task first learned in the last step, or never.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    last = len(matrix) - 1
    return np.array(
        [
            matrix[step:last, task].max() - matrix[last, task] if step < last else np.nan
            for task, step in enumerate(learning_steps(matrix))
        ]
    )


def forgetting(R: ArrayLike) -> float:
    """F: the mean of `forgetting_per_task` over the tasks learned before the last step.

    Formula: F_k = 1/(k-1) sum_{j<k} (max_{l<k} R_{l,j} - R_{k,j}) with k the last step (Chaudhry et al. 2018,
    Riemannian Walk). Never below `forgetting_since_learning`; equal to it where accuracies only fall. Unit: difference
    of fractions in [-1, 1], lower is better, negative for a gain. NaN with fewer than two steps.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    return mean(forgetting_per_task(matrix)[_learned_before_last(matrix)])


def forgetting_over_time(R: ArrayLike) -> Floats:
    """(steps,): `forgetting` after each step, F_k for k = 1 .. steps; its first value is NaN.

    Args:
        R: accuracy matrix (steps, T).

    Raises:
        ConfigError: when R is no accuracy matrix.
    """
    matrix = accuracy_matrix(R)
    return np.array([forgetting(matrix[: step + 1]) for step in range(len(matrix))])


def _learned_before_last(matrix: Floats) -> np.ndarray[tuple[int, ...], np.dtype[np.bool_]]:
    return learning_steps(matrix) < len(matrix) - 1
