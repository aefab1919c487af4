"""Fine-tuning: one trunk that goes on learning, and the control in which it stops after the first task."""

from collections.abc import Mapping, Sequence

from torch import Tensor

from prognet.engine.digest import module_digest
from prognet.strategies.base import Backbone, Strategy, example_of, single
from prognet.strategies.heads import SharedTrunk
from prognet.streams.task import Task


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
        self.shared.add(task, self.build(task), example_of(task))
        self.fit(self.shared.parts_of(task.label), tasks)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)


class HeadOnly(Strategy):
    """Head-only fine-tuning: the trunk learns the first task and is frozen; later tasks train a head on it."""

    kind = "HeadOnly"

    def __init__(self, backbone: Backbone, *, name: str = "finetune-head") -> None:
        """The arguments of `FineTune`."""
        super().__init__(backbone, name)
        self.shared = SharedTrunk()

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        is_first = self.shared.trunk is None
        head = self.shared.add(task, self.build(task), example_of(task))
        self.fit(self.shared.parts_of(task.label) if is_first else head, tasks)
        self.shared.freeze_trunk()

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        if self.shared.trunk is None:
            return {}
        # A single head may be one that all tasks share and go on training: it counts as frozen once there is another.
        own = self.shared.heads.items() if len(self.shared.heads) > 1 else ()
        heads = {f"head {key}": module_digest(head) for key, head in own}
        return {"trunk": module_digest(self.shared.trunk), **heads}
