"""Transfer by alignment of features: a new network is drawn towards what a source network says of the same inputs."""

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from prognet.engine.digest import module_digest
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.ranges import NOT_NEGATIVE, require_number
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, Strategy, example_of, require_one_input, single
from prognet.strategies.heads import SharedTrunk
from prognet.streams.task import Task
from prognet.training import Penalised, Procedure, evaluating, seeded

SourceName = Literal["frozen", "joint"]
SourceTask = Literal["first", "previous"]


class FeatureAlignment(Strategy):
    """A network of its own for every task, from scratch, with an alignment to the features of a source network:

        L = L_cls + weight * mean_b ||phi(z_source(x_b)) - z_target(x_b)||²

    z is what the output layer reads, phi a linear projection that is learned with the target and thrown away. The
    gradient reaches phi and the target, and where the source is joint the source, too. With weight 0 it is
    `Independent`, bit for bit.

    A frozen source has learned an earlier task, and no network changes once its task has been learned. A joint source
    learns its own task in the same step as all targets; its batch statistics then see the inputs of both.
    """

    kind = "FeatureAlignment"

    def __init__(
        self,
        backbone: Backbone,
        *,
        weight: float = 0.001,
        source: SourceName = "frozen",
        source_task: SourceTask = "first",
        name: str = "aligned",
    ) -> None:
        """
        Args:
            backbone: makes the networks; they are split at their output layers.
            weight: lambda, at least 0.
            source: `"frozen"`, task after task, or `"joint"`, all tasks in one step.
            source_task: whose network is the source of a later task: the first one's, or the one's before.
            name: the name in results and figures.

        Raises:
            ConfigError: when an argument is out of its range.
        """
        super().__init__(backbone, name)
        require_number("weight", weight, NOT_NEGATIVE)
        for argument, value, kind in (("source", source, SourceName), ("source_task", source_task, SourceTask)):
            if value not in get_args(kind):
                raise ConfigError(f"{argument}: required one of {get_args(kind)}, found {value!r}.")
        self.weight, self.source, self.source_task = float(weight), source, source_task
        self.schedule = "sequential" if source == "frozen" else "joint"
        self.networks = nn.ModuleDict()
        """By task label, a trunk with one head."""

    def prepare(self, tasks: Sequence[Task]) -> None:
        if self.weight:
            require_one_input(tasks, self)

    def learn(self, tasks: Sequence[Task]) -> None:
        if self.source == "frozen":
            single(tasks, self)
        sources: dict[int, int] = {}
        for task in tasks:
            if self.networks and self.weight > 0:
                sources[task.label] = self._source_label()
            shared = SharedTrunk()
            shared.add(task, self.build(task), example_of(task))
            self.networks[str(task.label)] = shared
        projections = {
            task.label: self._projection(task, sources[task.label]) for task in tasks if task.label in sources
        }
        learning = [self._network(task.label) for task in tasks]

        def forward(inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor] | Penalised:
            z = {label: self._network(label).features(x) for label, x in inputs.items()}
            outputs = {label: self._network(label).head_for(label)(features) for label, features in z.items()}
            count, penalties = sum(len(x) for x in inputs.values()), []
            for label, source in sources.items():
                if label in inputs:
                    projected = projections[label](self._source_features(source, inputs[label]))  # (b, D)
                    distance = (projected - z[label].flatten(1)).square().sum(dim=1).mean()
                    penalties.append(self.weight * len(projected) / count * distance)
            return Penalised(outputs, torch.stack(penalties).sum()) if penalties else outputs

        module = nn.ModuleList([*learning, *projections.values()])
        self.fit(module, tasks, forward, procedure=Procedure(alone=bool(sources)))
        for network in learning:
            network.requires_grad_(False)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self._network(task_label).predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return {f"network {label}": module_digest(network) for label, network in self.networks.items()}

    def arguments(self) -> Mapping[str, Any]:
        return {"weight": self.weight, "source": self.source, "source_task": self.source_task}

    def _network(self, label: int) -> SharedTrunk:
        if str(label) not in self.networks:
            raise UnlearnedTaskError(
                f"task_label: required one of the learned tasks {sorted(map(int, self.networks))}, found {label!r}; "
                "learn it first."
            )
        network = self.networks[str(label)]
        assert isinstance(network, SharedTrunk)
        return network

    def _source_label(self) -> int:
        """The task whose network is the source of the next one."""
        learned = [int(label) for label in self.networks]
        return learned[0 if self.source_task == "first" else -1]

    def _source_features(self, label: int, x: Tensor) -> Tensor:
        """z_source, (b, D); a frozen source has no parameter to which a gradient could go."""
        return self._network(label).features(x).flatten(1)

    def _projection(self, task: Task, source: int) -> nn.Module:
        session = self.current_session()
        x = example_of(task).to(session.device)
        sizes = []
        for label in (source, task.label):
            with evaluating(self._network(label)):
                sizes.append(self._network(label).features(x).flatten(1).shape[1])
        with seeded(derive_seed(session.seed, task.label, "projection"), session.device):
            return nn.Linear(sizes[0], sizes[1]).to(session.device)
