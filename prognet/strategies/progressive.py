"""Progressive networks, and the control in which their earlier columns have learned nothing."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from torch import Tensor, nn

from prognet.engine import Adapter, MLPAdapter, Sites
from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, Strategy, single
from prognet.strategies.columns import TaskColumns
from prognet.strategies.growth import Growth, PruneLaterals, Width
from prognet.strategies.planning import Plan, allowance, column_size, narrowest
from prognet.strategies.sources import AllSources, Situation, Sources, selected
from prognet.strategies.specification import check_specification
from prognet.strategies.start import Start, begin
from prognet.streams.objectives import Classification
from prognet.streams.task import Task
from prognet.training import booking, count_parameters, seeded

OTHER_INPUTS = "other_inputs"
"""Among the choices of a step: the columns that a new one does not read, since they see inputs of another shape."""


class Progressive(Strategy):
    """A progressive network: a new column for every task, which reads the frozen ones (Rusu et al. 2016).

    A column reads those that see inputs of its own shape, since all of them are run on its task's samples; others are
    left out, as the choices of the step tell, and a column that finds none of its shape begins without laterals.
    """

    kind = "Progressive"

    def __init__(
        self,
        backbone: Backbone,
        *,
        adapter: Adapter | None = None,
        sites: Sites = None,
        sources: Sources | None = None,
        width: Width | None = None,
        budget: int | None = None,
        prune: PruneLaterals | None = None,
        start: Start | None = None,
        name: str = "progressive",
    ) -> None:
        """
        Args:
            backbone: makes the network of each column.
            adapter: the lateral connections; by default `MLPAdapter.transfer()`.
            sites: names or globs of the sites; None for the defaults.
            sources: the columns that a new one reads; by default `AllSources()`.
            width: how wide columns are; None for as wide as the backbone makes them.
            budget: parameters of the whole network at most; the tasks to come have to be known.
            prune: which laterals are taken out after training; None for none.
            start: how a new column begins; by default `Start()`.
            name: the name in results and figures.

        Raises:
            ConfigError: when one of them is not what it has to be, or does not fit the backbone or the adapter.
        """
        super().__init__(backbone, name)
        self.adapter = adapter if adapter is not None else MLPAdapter.transfer()
        self.sites: Sites = sites if sites is None or isinstance(sites, str) else tuple(sites)
        self.growth = Growth(sources=sources or AllSources(), width=width, budget=budget, prune=prune)
        self.growth.check_fit(backbone, self.adapter)
        self.start = start if start is not None else Start()
        check_specification(self.start, Start, "start")
        self.columns = TaskColumns(self.adapter)
        self._smallest: Mapping[int, int] = {}
        self._classifying: set[int] = set()

    def prepare(self, tasks: Sequence[Task]) -> None:
        if self.growth.budget is not None:
            self._smallest = self.growth.smallest(self.backbone, tasks)

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        self.columns.check_new(task)
        session = self.current_session()
        plan = self._plan(task)
        backbone = self.build(task, width=plan.width)
        with seeded(derive_seed(session.seed, task.label, "adapters"), session.device):
            self.columns.learn(task, backbone, lambda column: self._train(column, task), self.sites, plan.sources)
        if isinstance(task.objective, Classification):
            self._classifying.add(self.columns.column_of[task.label])

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.columns.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return self.columns.frozen_digests()

    def arguments(self) -> Mapping[str, Any]:
        sites = list(self.sites) if isinstance(self.sites, tuple) else self.sites
        return {
            "adapter": self.adapter.describe(),
            "sites": sites,
            "start": self.start.describe(),
            **self.growth.arguments(),
        }

    def _train(self, column: nn.Module, task: Task) -> None:
        """From a column that has been added to one that can be frozen."""
        begin(self, self.columns.network, task, self.start)
        self.fit(column, [task], reading=self.columns.reading())
        self._prune(task)

    def _plan(self, task: Task) -> Plan:
        """Sources and width of the column to be."""
        network = self.columns.network
        size = partial(column_size, network, self.backbone, task, self.sites)
        allowed = self._allowance(task)
        return self.growth.plan(self._ranked(task), len(network), size, allowed, narrowest(self.backbone))

    def _ranked(self, task: Task) -> Sequence[int]:
        """The sources of the column to be, best first."""
        network, session, sources = self.columns.network, self.current_session(), self.growth.sources
        situation = Situation(
            network=network,
            task=task,
            session=session,
            sites=self.sites,
            build=partial(self.build, task, "trial"),
            note=self.records.append,
            classifying=frozenset(self._classifying),
        )

        apart = [index for index in range(len(network)) if index not in situation.columns]

        def decide() -> dict[str, Any]:
            evidence = sources.evidence(situation)
            chosen = selected(sources, evidence, network, situation.columns)
            return {"sources": chosen, "evidence": evidence, **({OTHER_INPUTS: apart} if apart else {})}

        if not len(network):
            return ()
        ranked: Sequence[int] = (self.choose(decide) if sources.from_data or apart else decide())["sources"]
        return ranked

    def _allowance(self, task: Task) -> int | None:
        """The parameters that the column to be may have; None without a budget."""
        if self.growth.budget is None:
            return None
        to_come = {label: size for label, size in self._smallest.items() if label not in self.columns.column_of}
        if task.label not in to_come:
            raise ConfigError(
                f"budget: required the tasks to come, found {sorted(to_come)} without task {task.label}; call "
                "`prepare` with all tasks before the first step, as `prognet.run` does."
            )
        return allowance(self.growth.budget, count_parameters(self.columns), to_come, task.label)

    def _prune(self, task: Task) -> None:
        prune, network, k = self.growth.prune, self.columns.network, len(self.columns.network) - 1
        if prune is not None and network.column(k).sources:
            session = self.current_session()
            with booking(self.records.append, session.device):
                choice = self.choose(lambda: prune.decide(network, k, task, session))
            prune.apply(network, k, choice)


class ProgressiveRandom(Strategy):
    """The control for laterals: those of a progressive network, which read columns that are random and frozen.

    The column of task k reads k - 1 columns that were initialised like any other and never trained. It begins as that
    of `Progressive` does, so what a progressive network gains over it comes from what its laterals read. With
    `Start(kind="scratch")` nothing of earlier tasks is used at all: baseline 4 of Rusu et al. 2016.
    """

    kind = "ProgressiveRandom"

    def __init__(
        self,
        backbone: Backbone,
        *,
        adapter: Adapter | None = None,
        sites: Sites = None,
        start: Start | None = None,
        name: str = "progressive-random",
    ) -> None:
        """The arguments of `Progressive`; a copy is taken of trained columns only."""
        super().__init__(backbone, name)
        self.adapter = adapter if adapter is not None else MLPAdapter.transfer()
        self.sites: Sites = sites if sites is None or isinstance(sites, str) else tuple(sites)
        self.start = start if start is not None else Start()
        check_specification(self.start, Start, "start")
        self.columns = TaskColumns(self.adapter)
        self._random: list[int] = []
        self._previous: Task | None = None

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        session = self.current_session()
        if self._previous is not None:
            stand_in = self.build(self._previous, "random column")
            self._random.append(self.columns.add(stand_in, self._previous, self.sites, sources=()))
        alike = self.columns.network.alike(task.input_shape)
        read = [index for index in self._random if index in alike]
        backbone = self.build(task)
        with seeded(derive_seed(session.seed, task.label, "adapters"), session.device):
            self.columns.learn(task, backbone, lambda column: self._train(column, task), self.sites, read)
        self._previous = task.outline()

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.columns.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return self.columns.frozen_digests()

    def arguments(self) -> Mapping[str, Any]:
        sites = list(self.sites) if isinstance(self.sites, tuple) else self.sites
        return {"adapter": self.adapter.describe(), "sites": sites, "start": self.start.describe()}

    def _train(self, column: nn.Module, task: Task) -> None:
        begin(self, self.columns.network, task, self.start, tuple(self.columns.column_of.values()))
        self.fit(column, [task], reading=self.columns.reading())
