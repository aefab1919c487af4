"""Metrics of continual learning: pure functions of numbers.

R is the accuracy matrix of shape (steps, T): `R[i, j]` is the accuracy, a fraction in [0, 1], on task j after step i of
the schedule, NaN where task j has not been learned yet. The *learning step* of a task is the first row that has a value
for it, so that every function understands sequential (one task a step), cumulative (one more task a step) and joint
(one step) schedules alike. Only `forward_transfer` and `diaz_rodriguez` read cells of tasks that are not learned yet;
for the others such cells must be NaN, as the harness leaves them: `numpy.where(numpy.tri(T), R, numpy.nan)`.

Conventions that hold throughout: results are fractions, not percentages; a metric that is undefined (forgetting after
one step, a missing measurement) is NaN and never a mean over what is left; inputs are never changed; input that is no
accuracy matrix raises `ConfigError`. Formulas count steps and tasks from 1, code from 0.
"""

from prognet.metrics.learning import (
    area_under_curve,
    forward_transfer,
    intransigence,
    intransigence_per_task,
    learning_curve_area,
    relative_forward_transfer,
    transfer,
    transfer_ratio,
)
from prognet.metrics.relative import (
    TaskTransfer,
    delta_m,
    negative_transfer,
    relative_gains,
)
from prognet.metrics.retention import (
    average_accuracy,
    average_accuracy_over_time,
    backward_transfer,
    forgetting,
    forgetting_over_time,
    forgetting_per_task,
    forgetting_since_learning,
    learning_accuracies,
    learning_accuracy,
)
from prognet.metrics.summaries import (
    DiazRodriguez,
    average_order_disparity,
    diaz_rodriguez,
    forgetting_ratio,
    maximum_order_disparity,
    model_size_efficiency,
    normalised_score,
    order_disparity,
)

__all__ = [
    "DiazRodriguez",
    "TaskTransfer",
    "area_under_curve",
    "average_accuracy",
    "average_accuracy_over_time",
    "average_order_disparity",
    "backward_transfer",
    "delta_m",
    "diaz_rodriguez",
    "forgetting",
    "forgetting_over_time",
    "forgetting_per_task",
    "forgetting_ratio",
    "forgetting_since_learning",
    "forward_transfer",
    "intransigence",
    "intransigence_per_task",
    "learning_accuracies",
    "learning_accuracy",
    "learning_curve_area",
    "maximum_order_disparity",
    "model_size_efficiency",
    "negative_transfer",
    "normalised_score",
    "order_disparity",
    "relative_forward_transfer",
    "relative_gains",
    "transfer",
    "transfer_ratio",
]
