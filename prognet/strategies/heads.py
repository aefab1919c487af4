"""A trunk with heads: a plain network split at its output layer, so that tasks can share all but that."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from prognet.engine import probe
from prognet.engine.sites import same_device
from prognet.errors import SiteError, UnlearnedTaskError
from prognet.streams.task import Task
from prognet.training import Penalised, evaluating


class TaskModel(nn.Module, ABC):
    """What several tasks are learned with together."""

    @abstractmethod
    def predict(self, x: Tensor, task_label: int) -> Tensor:
        """The outputs (B, n_outputs) of one task for inputs (B, *input_shape).

        Raises:
            UnlearnedTaskError: when the task has not been learned.
        """

    @abstractmethod
    def predict_together(self, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor] | Penalised:
        """The outputs of several tasks by label, and what is to be added to their loss, if anything."""

    def own_parameters(self, task_label: int) -> list[nn.Parameter]:
        """Parameters that stand in the way of all tasks' samples and change only those of one.

        The losses of the other tasks reach them with a gradient of zero. Without need are those they do not reach.
        """
        return []


class SharedTrunk(TaskModel):
    """One trunk and several heads. Which head a task uses is `Task.head`: its own, or one that all tasks share."""

    def __init__(self) -> None:
        super().__init__()
        self.trunk: nn.Module | None = None
        self.heads = nn.ModuleDict()
        self._head_of: dict[int, str] = {}

    def add(self, task: Task, backbone: nn.Module, example: Tensor) -> nn.Module:
        """Makes room for a task: the first one brings the trunk, every new head its own output layer.

        Args:
            task: the task.
            backbone: a fresh network for the task; only its output layer is used once there is a trunk.
            example: an input batch.

        Returns:
            The head of the task.

        Raises:
            SiteError: when the network cannot be split exactly, or its head does not fit the trunk.
        """
        trunk, head = split(backbone, example)
        if self.trunk is None:
            self.trunk = trunk
        key = str(task.head)
        if key not in self.heads:
            _check_fit(self.trunk, head, same_device(backbone, example), task)
            self.heads[key] = head
        self._head_of[task.label] = key
        return self.heads[key]

    def parts_of(self, task_label: int) -> nn.ModuleList:
        """All that makes the outputs of a task: the trunk and its head.

        Raises:
            UnlearnedTaskError: when the task has not been added.
        """
        return nn.ModuleList([self._learned_trunk(), self.head_for(task_label)])

    def freeze_trunk(self) -> None:
        """Ends the learning of the trunk for good; the heads go on."""
        self._learned_trunk().requires_grad_(False)

    def features(self, x: Tensor) -> Tensor:
        """What the heads read: the output of the trunk for inputs (B, *input_shape).

        Raises:
            UnlearnedTaskError: when no task has been added.
        """
        out: Tensor = self._learned_trunk()(x)
        return out

    def head_for(self, task_label: int) -> nn.Module:
        """The head of a task.

        Raises:
            UnlearnedTaskError: when the task has not been learned.
        """
        if task_label not in self._head_of:
            raise UnlearnedTaskError(
                f"task_label: required one of the learned tasks {sorted(self._head_of)}, found {task_label!r}; "
                "learn it first."
            )
        return self.heads[self._head_of[task_label]]

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        head = self.head_for(task_label)
        out: Tensor = head(self.features(x))
        return out

    def predict_together(self, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """In one pass of the trunk."""
        features = self.features(torch.cat(list(inputs.values())))  # (B, *features)
        parts = torch.split(features, [len(x) for x in inputs.values()])
        return {label: self.head_for(label)(part) for label, part in zip(inputs, parts, strict=True)}

    def _learned_trunk(self) -> nn.Module:
        if self.trunk is None:
            raise UnlearnedTaskError("task_label: required a learned task, found that nothing has been learned yet.")
        return self.trunk


def split(backbone: nn.Module, example: Tensor) -> tuple[nn.Module, nn.Module]:
    """Splits a network, in place, into a trunk and its output layer, with `head(trunk(x)) == backbone(x)` bit for bit.

    Raises:
        SiteError: when the output of the network is not the output of one of its layers.
    """
    example = same_device(backbone, example)
    name = probe(backbone, example).output_layer
    if name is None:
        raise SiteError(
            "backbone: required a last layer whose output is the output of the network, found none; end the network "
            "with its Linear or convolution layer to share a trunk between heads."
        )
    with evaluating(backbone):
        whole = backbone(example)
        head = backbone.get_submodule(name)
        backbone.set_submodule(name, nn.Identity())
        parts = head(backbone(example))
    if not torch.equal(whole, parts):
        raise SiteError(f"backbone: required an output that layer {name!r} alone makes, found another one.")
    return backbone, head


def _check_fit(trunk: nn.Module, head: nn.Module, example: Tensor, task: Task) -> None:
    with evaluating(trunk), evaluating(head):
        features = trunk(example)
        try:
            head(features)
        except RuntimeError as error:
            raise SiteError(
                f"backbone: required, for task {task.label}, an output layer that reads the trunk's features "
                f"{tuple(features.shape[1:])}, found another one ({error}); let nothing but the output layer depend on "
                "n_classes."
            ) from error
