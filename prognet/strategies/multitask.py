"""Multi-task learning with hard parameter sharing: the usual upper bound, in a schedule of its own."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

from torch import Tensor

from prognet.errors import ConfigError
from prognet.strategies.base import Backbone, Strategy, example_of
from prognet.strategies.heads import SharedTrunk
from prognet.streams.task import Task
from prognet.training import Sampling


class MultiTask(Strategy):
    """A shared trunk with a head per task, trained on several tasks together.

    In the joint schedule all tasks are learned in one step; in the cumulative one, step k learns tasks 0..k from
    scratch. A joint epoch sees as many samples as the single epochs of its tasks together.
    """

    kind = "MultiTask"

    def __init__(
        self,
        backbone: Backbone,
        *,
        schedule: Literal["joint", "cumulative"] = "joint",
        sampling: Sampling = "balanced",
        task_weights: Sequence[float] | None = None,
        name: str = "multitask",
    ) -> None:
        """
        Args:
            backbone: makes the network; it is split at its output layer.
            schedule: which tasks are learned together.
            sampling: `"balanced"`, the same number of samples of each task in a batch, or `"proportional"` to their
                sizes.
            task_weights: factor of the loss of each task, by label; None for 1.
            name: the name in results and figures.

        Raises:
            ConfigError: when an argument is out of its range.
        """
        super().__init__(backbone, name)
        if schedule not in ("joint", "cumulative"):
            raise ConfigError(f"schedule: required 'joint' or 'cumulative', found {schedule!r}.")
        if sampling not in get_args(Sampling):
            raise ConfigError(f"sampling: required one of {get_args(Sampling)}, found {sampling!r}.")
        if task_weights is not None and not all(weight >= 0 for weight in task_weights):
            raise ConfigError(f"task_weights: required numbers, at least 0, found {task_weights!r}.")
        self.schedule = schedule
        self.sampling: Sampling = sampling
        self.task_weights = None if task_weights is None else tuple(float(weight) for weight in task_weights)
        self.shared = SharedTrunk()

    def learn(self, tasks: Sequence[Task]) -> None:
        weights = self._weights(tasks)
        self.shared = SharedTrunk()
        for task in tasks:
            self.shared.add(task, self.build(task), example_of(task))
        self.fit(self.shared, tasks, self.shared.predict_together, self.sampling, weights)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)

    def arguments(self) -> Mapping[str, Any]:
        return {
            "schedule": self.schedule,
            "sampling": self.sampling,
            "task_weights": None if self.task_weights is None else list(self.task_weights),
        }

    def _weights(self, tasks: Sequence[Task]) -> dict[int, float]:
        if self.task_weights is None:
            return {}
        labels = [task.label for task in tasks]
        if max(labels) >= len(self.task_weights):
            raise ConfigError(
                f"task_weights: required a weight for each of the tasks {labels}, found {len(self.task_weights)}."
            )
        return {label: self.task_weights[label] for label in labels}
