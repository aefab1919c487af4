"""Fine-tuning a stored copy of the best earlier network: zero forgetting without any lateral."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor, nn

from prognet.strategies.base import Backbone, Strategy, single
from prognet.strategies.columns import TaskColumns
from prognet.strategies.specification import check_specification
from prognet.strategies.start import Start, begin
from prognet.streams.task import Task


class CopyTune(Strategy):
    """A network for every task, begun from a copy of the most useful earlier one, with an output layer in closed form.

    The honest rival of a progressive network: nothing is forgotten, a task costs the parameters of one network, and
    what earlier tasks have learned is used. It has the start of `Progressive`, and no laterals.
    """

    kind = "CopyTune"

    def __init__(self, backbone: Backbone, *, start: Start | None = None, name: str = "copytune") -> None:
        """
        Args:
            backbone: makes the networks.
            start: when a copy is taken, and of which network; by default `Start()`.
            name: the name in results and figures.
        """
        super().__init__(backbone, name)
        self.start = start if start is not None else Start()
        check_specification(self.start, Start, "start")
        self.columns = TaskColumns()

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        self.columns.check_new(task)
        self.columns.learn(task, self.build(task), lambda column: self._train(column, task), sources=())

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.columns.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return self.columns.frozen_digests()

    def arguments(self) -> Mapping[str, Any]:
        return {"start": self.start.describe()}

    def _train(self, column: nn.Module, task: Task) -> None:
        begin(self, self.columns.network, task, self.start)
        self.fit(column, [task])
