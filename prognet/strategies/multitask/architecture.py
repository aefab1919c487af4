"""The architecture axis: what tasks that are learned together share. Frozen values, each of which builds a model."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from prognet.engine.probe import match_names, probe
from prognet.errors import ConfigError, PrognetError, SiteError, UnlearnedTaskError
from prognet.strategies.base import example_of
from prognet.strategies.heads import SharedTrunk, TaskModel
from prognet.strategies.specification import Specification
from prognet.streams.task import Task
from prognet.training import Penalised


class Make(Protocol):
    """Makes the networks of tasks."""

    def __call__(self, task: Task, purpose: str = "backbone") -> nn.Module:
        """A fresh network for the task; the same at every call with one purpose."""


class Architecture(Specification, ABC):
    """What tasks share; a frozen dataclass."""

    @property
    def mixes_inputs(self) -> bool:
        """Whether tasks may differ in the shape of their inputs."""
        return False

    def check(self, tasks: Sequence[Task], make: Make) -> None:
        """Refuses tasks that cannot be learned together, before any work; they have no samples.

        Args:
            tasks: the tasks.
            make: makes their networks, without numbers.

        Raises:
            ConfigError: when inputs differ in shape and may not, or the networks of such tasks do not fit each other.
        """
        if not self.mixes_inputs:
            check_inputs(tasks)
        elif len({task.input_shape for task in tasks}) > 1:
            try:
                with torch.device("meta"):
                    self.build(tasks, make)
            except PrognetError as error:
                raise ConfigError(f"architecture: {type(self).__name__} cannot join these tasks: {error}") from error
            except Exception:  # not every module can be made without numbers: then it is for `build` to say
                return

    @abstractmethod
    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        """A model of the tasks that has learned nothing.

        Args:
            tasks: the tasks; only their shapes and labels matter.
            make: makes the networks.

        Raises:
            ConfigError: when the tasks cannot share what they are asked to.
            SiteError: when the networks do not fit each other.
        """


@dataclass(frozen=True, kw_only=True)
class Hard(Architecture):
    """A shared trunk with a head for every task; or only some of the layers shared, the others a task's own.

    The trunk is that of the first task. With `shared`, tasks may differ in what their inputs look like, and each goes
    through the shared layers by itself: a BatchNorm there would then mix the statistics of unlike inputs.
    """

    shared: Sequence[str] | None = None
    """Names or globs of the submodules that are shared, as in `named_modules()`; None for all but the output layer."""

    def __post_init__(self) -> None:
        if self.shared is not None:
            object.__setattr__(self, "shared", tuple(self.shared))

    @property
    def mixes_inputs(self) -> bool:
        """Where only some of the layers are shared."""
        return self.shared is not None

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return shared_trunk(tasks, make) if self.shared is None else SharedSpan(tasks, make, self.shared)


def shared_trunk(tasks: Sequence[Task], make: Make) -> SharedTrunk:
    """A trunk with the heads of all tasks."""
    check_inputs(tasks)
    model = SharedTrunk()
    for task in tasks:
        model.add(task, make(task), example_of(task))
    return model


class OwnNetworks(TaskModel):
    """A network for every task; what they have in common is for others to say."""

    def __init__(self, tasks: Sequence[Task], make: Make) -> None:
        super().__init__()
        self.networks = nn.ModuleDict({str(task.label): make(task) for task in tasks})

    def network(self, task_label: int) -> nn.Module:
        """The network of a task.

        Raises:
            UnlearnedTaskError: when the task has not been learned.
        """
        check_learned(task_label, [int(key) for key in self.networks])
        return self.networks[str(task_label)]

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        out: Tensor = self.network(task_label)(x)
        return out

    def predict_together(self, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor] | Penalised:
        """Each by itself."""
        return {label: self.predict(x, label) for label, x in inputs.items()}


class SharedSpan(OwnNetworks):
    """A network for every task, in which the submodules of some names are those of the first task.

    They stand in every network as the same objects, so that a network can do with them whatever it did with its own:
    iterate, call them with keywords, read their attributes. Their parameters count once, and learn from all tasks.
    """

    def __init__(self, tasks: Sequence[Task], make: Make, shared: Sequence[str]) -> None:
        super().__init__(tasks, make)
        outputs = [probe(self.network(task.label), example_of(task)).output_layer for task in tasks]
        first, heads = self.network(tasks[0].label), dict[int, nn.Module]()
        names = match_names(shared, [name for name, _ in first.named_modules() if name])
        if not any(_shapes(first.get_submodule(name)) for name in names):
            raise SiteError(f"shared: required submodules with parameters, found none in {names}.")
        for task, output in zip(tasks, outputs, strict=True):
            network = self.network(task.label)
            if task is not tasks[0]:
                _share(first, network, names, task)
            if output is not None:  # tasks of a stream with one head share it, whatever else is their own
                network.set_submodule(output, heads.setdefault(task.head, network.get_submodule(output)))


def _share(first: nn.Module, network: nn.Module, names: Sequence[str], task: Task) -> None:
    own = dict(network.named_modules(remove_duplicate=False))
    for name in names:
        theirs, shapes = first.get_submodule(name), _shapes(own[name]) if name in own else None
        if shapes != _shapes(theirs):
            raise SiteError(
                f"shared: required in {name!r} of task {task.label} the parameters of the first task's "
                f"{_shapes(theirs)}, found {shapes}; leave it to every task, or let the layers before it bring the "
                "inputs to one shape."
            )
        for place in [place for place, part in own.items() if part is own[name]]:  # a network may repeat a layer
            network.set_submodule(place, theirs)


def _shapes(module: nn.Module) -> list[tuple[int, ...]]:
    return [tuple(parameter.shape) for parameter in module.parameters()]


def check_inputs(tasks: Sequence[Task]) -> None:
    """Raises ConfigError unless the samples of all tasks have one shape; the message names the first two."""
    for task in tasks[1:]:
        if task.input_shape != tasks[0].input_shape:
            raise ConfigError(
                f"architecture: required inputs of one shape in all tasks, found {tasks[0].input_shape} in task "
                f"{tasks[0].label} and {task.input_shape} in task {task.label}; share some layers only, with Stems() "
                "or Hard(shared=[...]), or use Soft, where every task has a network of its own."
            )


def check_learned(task_label: int, labels: Sequence[int]) -> None:
    """Raises UnlearnedTaskError unless the task is one of these."""
    if task_label not in labels:
        raise UnlearnedTaskError(
            f"task_label: required one of the learned tasks {sorted(labels)}, found {task_label!r}; learn it first."
        )


def rows_of(inputs: Mapping[int, Tensor]) -> tuple[Tensor, list[tuple[int, int]]]:
    """All inputs in one batch (B, *input_shape), and the label and number of samples of each task in it."""
    return torch.cat(list(inputs.values())), [(label, len(x)) for label, x in inputs.items()]
