"""Fine-tuning: one trunk that goes on learning, and the control in which it stops after the first task."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from prognet.engine.digest import module_digest
from prognet.streams.task import Task
from prognet.strategies.base import Backbone, Strategy, example_of, single
from prognet.strategies.heads import SharedTrunk


class FineTune(Strategy):
    """A shared trunk with a head per task, all of it trained on one task after the other: the usual lower bound."""

    kind = "FineTune"

    def __init__(self, backbone: Backbone, *, name: str = "finetune") -> None:
        """
        Args:
            backbone: makes the network; it is split at its output layer.
            name: the name in results and figures.
        """
        super().__init__(backbone, name)
        self.shared = SharedTrunk()

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        head = self.shared.add(task, self.build(task), example_of(task))
        self.fit(nn.ModuleList([self.shared.trunk, head]), tasks)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)


class HeadOnly(Strategy):
    """Head-only fine-tuning: the trunk learns the first task and is frozen; later tasks train a head on it."""

    kind = "HeadOnly"

    def __init__(self, backbone: Backbone, *, name: str = "finetune-head") -> None:
        """The arguments of `FineTune`."""
        super().__init__(backbone, name)
        self.shared = SharedTrunk()
        self._own_heads: list[int] = []

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        is_first = self.shared.trunk is None
        head = self.shared.add(task, self.build(task), example_of(task))
        self.fit(nn.ModuleList([self.shared.trunk, head]) if is_first else head, tasks)
        if self.shared.trunk is not None:
            self.shared.trunk.requires_grad_(False)
        if task.head == task.label:
            self._own_heads.append(task.label)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        if self.shared.trunk is None:
            return {}
        heads = {f"head {label}": module_digest(self.shared.head_for(label)) for label in self._own_heads}
        return {"trunk": module_digest(self.shared.trunk), **heads}
