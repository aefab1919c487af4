"""Progressive networks, and the control in which their earlier columns have learned nothing."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from prognet.engine import Adapter, MLPAdapter
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, Strategy, single
from prognet.strategies.columns import TaskColumns
from prognet.streams.task import Task
from prognet.training import seeded


class Progressive(Strategy):
    """A progressive network: a new column for every task, which reads the frozen ones (Rusu et al. 2016)."""

    kind = "Progressive"

    def __init__(
        self,
        backbone: Backbone,
        *,
        adapter: Adapter | None = None,
        sites: Sequence[str] | None = None,
        name: str = "progressive",
    ) -> None:
        """
        Args:
            backbone: makes the network of each column.
            adapter: the lateral connections; by default `MLPAdapter()`.
            sites: names or globs of the sites; None for the defaults.
            name: the name in results and figures.
        """
        super().__init__(backbone, name)
        self.adapter = adapter if adapter is not None else MLPAdapter()
        self.sites = None if sites is None else tuple(sites)
        self.columns = TaskColumns(self.adapter)

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        session = self.current_session()
        backbone = self.build(task)
        with seeded(derive_seed(session.seed, task.label, "adapters"), session.device):
            self.columns.learn(task, backbone, lambda column: self.fit(column, tasks), self.sites)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.columns.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return self.columns.frozen_digests()

    def arguments(self) -> Mapping[str, Any]:
        return {"adapter": self.adapter.describe(), "sites": None if self.sites is None else list(self.sites)}


class ProgressiveRandom(Strategy):
    """The control for capacity: a progressive network whose earlier columns are random and frozen (baseline 4).

    The column of task k reads k - 1 columns that were initialised like any other and never trained. What it gains over
    an independent network comes from more parameters and from random features, not from earlier tasks.
    """

    kind = "ProgressiveRandom"

    def __init__(
        self,
        backbone: Backbone,
        *,
        adapter: Adapter | None = None,
        sites: Sequence[str] | None = None,
        name: str = "progressive-random",
    ) -> None:
        """The arguments of `Progressive`."""
        super().__init__(backbone, name)
        self.adapter = adapter if adapter is not None else MLPAdapter()
        self.sites = None if sites is None else tuple(sites)
        self.columns = TaskColumns(self.adapter)
        self._random: list[int] = []
        self._previous: Task | None = None

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        session = self.current_session()
        if self._previous is not None:
            stand_in = self.build(self._previous, "random column")
            self._random.append(self.columns.add(stand_in, self._previous, self.sites, sources=()))
        backbone = self.build(task)
        with seeded(derive_seed(session.seed, task.label, "adapters"), session.device):
            self.columns.learn(task, backbone, lambda column: self.fit(column, tasks), self.sites, self._random)
        self._previous = task.outline()

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.columns.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return self.columns.frozen_digests()

    def arguments(self) -> Mapping[str, Any]:
        return {"adapter": self.adapter.describe(), "sites": None if self.sites is None else list(self.sites)}
