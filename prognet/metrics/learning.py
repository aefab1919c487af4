"""How well and how fast new tasks are learned, compared with a reference."""

import numpy as np
from numpy.typing import ArrayLike

from prognet.errors import ConfigError
from prognet.metrics.arguments import accuracy_matrix, accuracy_value, accuracy_vector, learning_curve, mean, same_tasks
from prognet.metrics.retention import learning_accuracies
from prognet.results import Floats


def forward_transfer(R: ArrayLike, baseline: ArrayLike) -> float:
    """FWT: accuracy on each task just before it is learned, above that of a randomly initialised model.

    Formula: FWT = 1/(T-1) sum_{j>=2} (R_{j-1,j} - b_j) (Lopez-Paz & Ranzato 2017, GEM, eq. 4). It reads
    the cells just above the diagonal of R. Unit: difference of fractions in [-1, 1]. NaN where one of those is NaN,
    because the strategy cannot predict tasks that it has not learned (a progressive network has no column for them:
    see `transfer`), and unless there are T >= 2 steps, one for each task in label order.

    Args:
        R: accuracy matrix (T, T) with values for tasks not learned yet.
        baseline: b, (T,), accuracies of a randomly initialised model.

    Raises:
        ConfigError: when R or the baseline is out of range or the baseline has another number of tasks.
    """
    matrix = accuracy_matrix(R)
    steps, n_tasks = matrix.shape
    chance = accuracy_vector(baseline, "baseline", n_tasks)
    if steps != n_tasks:
        return float("nan")
    return mean(np.diagonal(matrix, offset=1) - chance[1:])


def intransigence_per_task(R: ArrayLike, R_cumulative: ArrayLike) -> Floats:
    """(T,): how much worse each task is learned than by a joint model trained from scratch on all tasks so far.

    Formula: I_k = a*_k - R_{k,k}, a*_k the accuracy on task k of a joint model trained on tasks 1 .. k (Chaudhry et al.
    2018, Riemannian Walk). Unit: difference of fractions in [-1, 1], lower is better, negative when the learner beats
    the joint model. All NaN when the two schedules have different numbers of steps, e.g. for a joint run.

    Args:
        R: accuracy matrix (steps, T).
        R_cumulative: accuracy matrix (steps, T) of a cumulative run on the same stream.

    Raises:
        ConfigError: when one is no accuracy matrix or they have different numbers of tasks.
    """
    matrix, joint = accuracy_matrix(R), accuracy_matrix(R_cumulative, "R_cumulative")
    same_tasks(matrix, joint, "R_cumulative")
    if len(matrix) != len(joint):
        return np.full(matrix.shape[1], np.nan)
    return learning_accuracies(joint) - learning_accuracies(matrix)


def intransigence(R: ArrayLike, R_cumulative: ArrayLike) -> float:
    """The mean of `intransigence_per_task` over all tasks; Chaudhry et al. report single I_k.

    Unit: difference of fractions in [-1, 1], lower is better. NaN when a task was never learned or the two schedules
    have different numbers of steps.

    Args:
        R: accuracy matrix (steps, T).
        R_cumulative: accuracy matrix (steps, T) of a cumulative run on the same stream.

    Raises:
        ConfigError: when one is no accuracy matrix or they have different numbers of tasks.
    """
    return mean(intransigence_per_task(R, R_cumulative))


def transfer(R: ArrayLike, R_reference: ArrayLike) -> Floats:
    """(T,): the learning accuracy on each task minus that of a reference that learns every task alone.

    Formula: R_{j,j} - a_j with a_j the learning accuracy of the reference, independent networks or their
    parameter-matched variant; for the last task this is the transfer T(S) of CTrL (Veniat et al. 2021). Unit:
    difference of fractions in [-1, 1], positive when earlier tasks helped. NaN where one has not learned the task.

    Args:
        R: accuracy matrix (steps, T).
        R_reference: accuracy matrix (any steps, T) of the reference on the same stream.

    Raises:
        ConfigError: when one is no accuracy matrix or they have different numbers of tasks.
    """
    matrix, reference = accuracy_matrix(R), accuracy_matrix(R_reference, "R_reference")
    same_tasks(matrix, reference, "R_reference")
    return learning_accuracies(matrix) - learning_accuracies(reference)


def area_under_curve(updates: ArrayLike, accuracy: ArrayLike) -> float:
    """AUC: the mean height of a learning curve, by the trapezoid rule over updates.

    Formula: (1/(u_n - u_1)) sum_i (u_{i+1} - u_i) (a_i + a_{i+1}) / 2; the area under the learning curve of Rusu et al.
    2016 (1606.04671), normalised as in Continual World (Wolczyk et al. 2021). Unit: fraction in [0, 1]; NaN
    for a single point.

    Args:
        updates: (n,), mini-batches seen at each point, strictly increasing; for comparisons all curves cover the same.
        accuracy: (n,), accuracies at these points.

    Raises:
        ConfigError: when it is no learning curve.
    """
    counts, values = learning_curve(updates, accuracy)
    if len(counts) < 2:
        return float("nan")
    return float(np.trapezoid(values, counts) / (counts[-1] - counts[0]))


def transfer_ratio(auc: float, auc_reference: float) -> float:
    """The transfer score of Rusu et al.: area under the learning curve relative to learning from scratch.

    Formula: AUC_method / AUC_scratch (Rusu et al. 2016, there in percent). Unit: ratio, 1 means no
    transfer, above 1 positive transfer; NaN for a reference of 0.

    Args:
        auc: `area_under_curve` of the method.
        auc_reference: the same for the reference, baseline 1 of the paper: one column learned from scratch.

    Raises:
        ConfigError: when an area is not in [0, 1].
    """
    area, reference = accuracy_value(auc, "auc"), accuracy_value(auc_reference, "auc_reference")
    return area / reference if reference else float("nan")


def relative_forward_transfer(auc: float, auc_reference: float) -> float:
    """FT of Continual World: the share of the room above the reference's learning curve that was gained.

    Formula: (AUC - AUC_ref) / (1 - AUC_ref) (Wolczyk et al. 2021, Continual World). Unit: ratio of at most 1, 0 means
    no transfer, negative when the reference learns faster; NaN for a reference of 1.

    Args:
        auc: `area_under_curve` of the method.
        auc_reference: the same for learning from scratch.

    Raises:
        ConfigError: when an area is not in [0, 1].
    """
    area, reference = accuracy_value(auc, "auc"), accuracy_value(auc_reference, "auc_reference")
    return (area - reference) / (1 - reference) if reference != 1 else float("nan")


def learning_curve_area(updates: ArrayLike, accuracy: ArrayLike, beta: int) -> float:
    """LCA_beta of one task: the plain mean of its accuracy after 0, 1, ..., beta mini-batches.

    Formula: LCA_beta = 1/(beta+1) sum_{b=0..beta} Z_b with Z_b the accuracy after b mini-batches of the task (Chaudhry
    et al. 2019, A-GEM); the LCA of a stream is the mean over its tasks. A-GEM's own notebook uses a trapezoid instead,
    with half the weight on both ends. Unit: fraction in [0, 1]. NaN when one of these updates was not measured.

    Args:
        updates: (n,), mini-batches seen at each point, strictly increasing.
        accuracy: (n,), accuracies at these points; later points do not count.
        beta: mini-batches, at least 0; 0 is the accuracy before training.

    Raises:
        ConfigError: when it is no learning curve or beta is negative.
    """
    counts, values = learning_curve(updates, accuracy)
    if beta < 0:
        raise ConfigError(f"beta: required a number of mini-batches, at least 0, found {beta}.")
    early = counts <= beta
    return mean(values[early]) if early.sum() == beta + 1 else float("nan")
