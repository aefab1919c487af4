"""What a strategy is: two methods. Everything else is derived from them by the harness."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn

from prognet.backbones import accepts
from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.streams.task import Task
from prognet.training import FitRecord, Forward, Procedure, Reading, Sampling, Session, fit, seeded
from prognet.training.norms import check_batches

Backbone = Callable[..., nn.Module]
"""(input_shape, n_classes) -> nn.Module, with an optional width=1.0."""

ScheduleName = Literal["sequential", "joint", "cumulative"]


class Strategy(nn.Module, ABC):
    """A way to learn the tasks of a stream, one group of tasks after another.

    A strategy of one's own implements `learn` and `predict`, builds networks with `build` and trains them with `fit`;
    the harness gives it a session, evaluates it, counts its parameters and operations, and stores its tensors. What
    `learn` builds must depend on the tasks' shapes, the seed and what was decided with `choose` only, so that a stored
    run can be rebuilt without training and without data.
    """

    schedule: ScheduleName = "sequential"
    """Which tasks are learned together: one after the other, all at once, or all so far at every step."""
    kind: ClassVar[str] = ""
    """Name of the class in the catalogue; empty for a strategy that only its author can rebuild."""
    resumable: ClassVar[bool] = True
    """Whether all that it needs for the next task lies in its parameters and buffers, so that a run that was killed can
    go on; otherwise such a run begins again from its first task."""
    shareable: ClassVar[bool] = True
    """Whether several processes can share its batches; not where updates are taken by others than `fit`."""

    def __init__(self, backbone: Backbone, name: str) -> None:
        """A strategy that has learned nothing yet.

        Args:
            backbone: makes the networks: (input_shape, n_classes) -> nn.Module.
            name: the name in results and figures.
        """
        super().__init__()
        check_backbone(backbone)
        self.backbone, self.name = backbone, name
        self.session: Session | None = None
        self.records: list[FitRecord] = []
        self.choices: list[Mapping[str, Any]] = []

    def prepare(self, tasks: Sequence[Task]) -> None:
        """Told once, before the first step, which tasks will come, without their samples; by default no matter.

        Raises:
            ConfigError: when they cannot be learned as they were asked for.
        """

    @abstractmethod
    def learn(self, tasks: Sequence[Task]) -> None:
        """Learns a group of tasks: one in a sequential schedule, several in a joint one."""

    @abstractmethod
    def predict(self, x: Tensor, task_label: int) -> Tensor:
        """The outputs for inputs of one task.

        Args:
            x: inputs, (B, *input_shape), float32.
            task_label: a task that was learned.

        Returns:
            Outputs (B, n_outputs of the task), for a classifier logits over the task's own classes.

        Raises:
            UnlearnedTaskError: when the task has not been learned.
        """

    def frozen_digests(self) -> Mapping[str, str]:
        """SHA-256 of every part that will never change again, by name; the harness checks that none ever does."""
        return {}

    def kept_bytes(self) -> int:
        """Bytes that it keeps for later tasks beside its parameters and buffers, such as a replay memory."""
        return 0

    def arguments(self) -> Mapping[str, Any]:
        """The arguments of the constructor, without backbone and name, as JSON values."""
        return {}

    def current_session(self) -> Session:
        """The session of the step.

        Raises:
            ConfigError: outside a run.
        """
        if self.session is None:
            raise ConfigError("strategy: required a session, found none; let `prognet.run` call `learn`.")
        return self.session

    def choose(self, decide: Callable[[], Mapping[str, Any]]) -> Mapping[str, Any]:
        """What is decided from the data of a step, once: by `decide`, or as the run decided that is being rebuilt.

        Args:
            decide: makes the decision, JSON values by name; it is stored with the run.
        """
        stored = self.current_session().choice
        choice = dict(decide()) if stored is None else stored
        self.choices.append(choice)
        return choice

    def build(self, task: Task, purpose: str = "backbone", width: float = 1.0) -> nn.Module:
        """A network for the task on the session's device; its initialisation depends on (seed, task, purpose) alone.

        Args:
            task: the task.
            purpose: names the random stream.
            width: factor of the backbone's widths.
        """
        session = self.current_session()
        with seeded(derive_seed(session.seed, task.label, purpose), session.device):
            network = network_for(self.backbone, task, width).to(session.device)
        return network.to(memory_format=torch.channels_last) if session.execution.channels_last else network

    def fit(
        self,
        module: nn.Module,
        tasks: Sequence[Task],
        forward: Forward | None = None,
        sampling: Sampling = 0.0,
        reading: Reading | None = None,
        procedure: Procedure | None = None,
    ) -> None:
        """Trains those parameters of `module` that have a gradient, with the one training loop.

        Raises:
            ConfigError: when several tasks are learned together in batches that are too small for their norms.
        """
        session, forward = self.current_session(), forward or self._each
        if len(tasks) > 1:
            check_batches(module, forward, tasks, session, sampling)
        record = fit(module, forward, self.predict, tasks, session, sampling, reading, procedure, owner=self)
        self.records.append(record)

    def _each(self, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        return {label: self.predict(x, label) for label, x in inputs.items()}


def network_for(backbone: Backbone, task: Task, width: float = 1.0) -> nn.Module:
    """The backbone for a task; `width` is named only where it is not 1, since not every backbone takes one.

    Where the outputs of the task are boxes, the backbone is told their grid.

    Raises:
        ConfigError: when the task is a detection and the backbone takes no `grid`.
    """
    options: dict[str, Any] = {} if width == 1 else {"width": width}
    if (grid := task.objective.grid()) is not None:
        if not accepts(backbone, "grid"):
            raise ConfigError(
                f"backbone: required one that can detect for task {task.label} ({task.name!r}), found none that takes "
                "`grid`; take prognet.backbones.detection_resnet18."
            )
        options["grid"] = grid
    return backbone(task.input_shape, task.n_classes, **options)


def check_backbone(backbone: object) -> None:
    """Raises ConfigError unless `backbone` is a function that can make networks."""
    if not callable(backbone) or isinstance(backbone, nn.Module):
        raise ConfigError(
            "backbone: required a function (input_shape, n_classes) -> nn.Module, found a "
            f"{type(backbone).__name__}; wrap it in a function that builds a new network at every call."
        )


def single(tasks: Sequence[Task], strategy: Strategy) -> Task:
    """The one task of a step.

    Raises:
        ConfigError: when there is not exactly one.
    """
    if len(tasks) != 1:
        raise ConfigError(f"tasks: required one task a step for {strategy.name!r}, found {len(tasks)}.")
    return tasks[0]


def require_one_input(tasks: Sequence[Task], strategy: Strategy) -> None:
    """Refuses tasks whose inputs differ in shape, for a strategy whose tasks share layers that read the input.

    Raises:
        ConfigError: when they do; the message names the first two.
    """
    for task in tasks[1:]:
        if task.input_shape != tasks[0].input_shape:
            raise ConfigError(
                f"tasks: required inputs of one shape for {strategy.name!r}, found {tasks[0].input_shape} in task "
                f"{tasks[0].label} ({tasks[0].name!r}) and {task.input_shape} in task {task.label} ({task.name!r}); "
                "bring them to one shape, or take a strategy in which such tasks have layers of their own: "
                "independent, progressive, copytune, multitask-stems, multitask-soft."
            )


def example_of(task: Task) -> Tensor:
    """An input batch of two samples with the shape and type of the task's, independent of its data; on the CPU."""
    return torch.zeros(2, *task.input_shape)
