"""One column a task: the part that progressive and independent networks share."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from torch import Tensor, nn

from prognet.engine import Adapter, ProgressiveNetwork
from prognet.engine.network import frozen_digests
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.strategies.base import example_of
from prognet.streams.task import Task
from prognet.training import Reading


class TaskColumns(nn.Module):
    """A progressive network in which every task has a column of its own."""

    def __init__(self, adapter: Adapter | None = None) -> None:
        super().__init__()
        self.network = ProgressiveNetwork(adapter)
        self._column_of: dict[int, int] = {}

    def learn(
        self,
        task: Task,
        backbone: nn.Module,
        fit: Callable[[nn.Module], None],
        sites: Sequence[str] | None = None,
        sources: Sequence[int] | None = None,
    ) -> None:
        """Adds a column for the task, trains it with `fit`, and freezes it.

        Without `sources` it reads all columns that see inputs of the task's shape.

        Raises:
            ConfigError: when the task has a column already.
            SiteError: when the backbone does not fit the columns there are.
        """
        self.check_new(task)
        k = self.add(backbone, task, sites, sources)
        self._column_of[task.label] = k
        fit(self.network.column(k))
        self.network.check_frozen()
        self.network.column(k).freeze()

    def check_new(self, task: Task) -> None:
        """Raises ConfigError when the task has a column already."""
        if task.label in self._column_of:
            raise ConfigError(f"tasks: required a new task, found task {task.label}, which has been learned already.")

    def add(
        self, backbone: nn.Module, task: Task, sites: Sequence[str] | None = None, sources: Sequence[int] | None = None
    ) -> int:
        """Adds a column that no task owns, and returns its index."""
        sources = self.network.alike(task.input_shape) if sources is None else sources
        return self.network.add_column(backbone, example_of(task), sites, sources=sources)

    @property
    def column_of(self) -> Mapping[int, int]:
        """The index of each learned task's column, by the task's label."""
        return dict(self._column_of)

    def reading(self) -> Reading | None:
        """How the newest column reads the frozen ones; None where it reads none."""
        return reading_of(self.network, len(self.network) - 1)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        """The output of the task's column.

        Raises:
            UnlearnedTaskError: when the task has none.
        """
        if task_label not in self._column_of:
            raise UnlearnedTaskError(
                f"task_label: required one of the learned tasks {sorted(self._column_of)}, found {task_label!r}; "
                "learn it first. Predicting adds no column."
            )
        out: Tensor = self.network(x, column=self._column_of[task_label])
        return out

    def frozen_digests(self) -> Mapping[str, str]:
        """The digest of every frozen column."""
        return frozen_digests(self.network)


def reading_of(network: ProgressiveNetwork, k: int) -> Reading | None:
    """How column k reads its sources; None where it has none."""
    if not network.column(k).sources:
        return None
    return Reading(partial(network.prepare, column=k), lambda x, past: network(x, column=k, past=past))
