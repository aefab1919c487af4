"""Multi-task learning: the tasks together, in a schedule of its own; the usual upper bound."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import torch
from torch import Tensor

from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, Strategy, network_for
from prognet.strategies.heads import SharedTrunk, TaskModel
from prognet.strategies.multitask.architecture import Architecture, Hard
from prognet.strategies.multitask.weighting import Weighting
from prognet.strategies.specification import check_specification
from prognet.streams.task import Task
from prognet.training import Procedure, seeded
from prognet.training.weighting import Balance


class MultiTask(Strategy):
    """Several tasks learned together, on three axes: what they share, how their losses are weighted, and how often
    each is sampled. By default a trunk with a head per task, the mean of the losses, and as many samples of each.

    In the joint schedule all tasks are learned in one step; in the cumulative one, step k learns tasks 0..k from
    scratch. A joint epoch sees as many samples as the single epochs of its tasks together.
    """

    kind = "MultiTask"

    def __init__(
        self,
        backbone: Backbone,
        *,
        architecture: Architecture | None = None,
        weighting: Weighting | None = None,
        sampling: float = 0.0,
        schedule: Literal["joint", "cumulative"] = "joint",
        name: str = "multitask",
    ) -> None:
        """
        Args:
            backbone: makes the networks.
            architecture: what the tasks share; None for `Hard()`.
            weighting: how their losses become one gradient; None for their mean over the samples of a batch.
            sampling: alpha in [0, 1]: of a task with n samples a batch holds a share ~ n ** alpha.
            schedule: which tasks are learned together.
            name: the name in results and figures.

        Raises:
            ConfigError: when an argument is out of its range.
        """
        super().__init__(backbone, name)
        if schedule not in ("joint", "cumulative"):
            raise ConfigError(f"schedule: required 'joint' or 'cumulative', found {schedule!r}.")
        _check_exponent(sampling)
        self.architecture = Hard() if architecture is None else architecture
        check_specification(self.architecture, Architecture, "architecture")
        if weighting is not None:
            check_specification(weighting, Weighting, "weighting")
        self.schedule = schedule
        self.weighting, self.sampling = weighting, float(sampling)
        self.shared: TaskModel = SharedTrunk()

    def prepare(self, tasks: Sequence[Task]) -> None:
        self.architecture.check(tasks, lambda task, purpose="backbone": network_for(self.backbone, task))

    def learn(self, tasks: Sequence[Task]) -> None:
        session = self.current_session()
        with seeded(derive_seed(session.seed, tasks[0].label, "architecture"), session.device):
            self.shared = self.architecture.build(tasks, self.build).to(session.device)
        procedure = Procedure(weighting=None if self.weighting is None else self._balance)
        self.fit(self.shared, tasks, self.shared.predict_together, self.sampling, procedure=procedure)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)

    def arguments(self) -> Mapping[str, Any]:
        return {
            "architecture": self.architecture.describe(),
            "weighting": None if self.weighting is None else self.weighting.describe(),
            "sampling": self.sampling,
            "schedule": self.schedule,
        }

    def _balance(self, labels: Sequence[int], device: torch.device) -> Balance:
        """The weighting of one training, which knows whose parameters are whose."""
        assert self.weighting is not None
        balance = self.weighting.start(labels, device)
        balance.own = {parameter: label for label in labels for parameter in self.shared.own_parameters(label)}
        return balance


def _check_exponent(sampling: object) -> None:
    if not isinstance(sampling, int | float) or not 0 <= sampling <= 1:
        raise ConfigError(
            f"sampling: required an exponent from 0, each task alike, to 1, each sample alike, found {sampling!r}."
        )
