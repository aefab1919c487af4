"""How a progressive network grows: the width of its columns, a parameter budget, and what is pruned after training.

Parameters of a column with s sources of the same width n are n^2 times a constant plus s n^2 times another. With all
sources the network grows with the square of the number of columns; with a bounded number of sources it grows linearly.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import sqrt
from typing import Any

import torch

from prognet.analysis.pruning import prune_laterals, senders_of
from prognet.backbones import accepts_width
from prognet.engine import Adapter, ProgressiveNetwork
from prognet.engine.narrowing import NARROWABLE, remove_laterals
from prognet.errors import ConfigError
from prognet.strategies.base import Backbone, network_for
from prognet.strategies.planning import NARROWEST, Plan, Size, narrowest, plan_within, widest
from prognet.strategies.sources import Sources, seeded_part, training_part
from prognet.strategies.specification import Specification, check_specification, require_whole
from prognet.streams.objectives import Classification
from prognet.streams.task import Task
from prognet.training import Session, count_parameters


class Width(Specification, ABC):
    """A frozen specification of how wide columns are: a factor of the widths of the backbone, at most 1."""

    @abstractmethod
    def factor(self, position: int, size: Callable[[float], int]) -> float:
        """The factor of one column.

        Args:
            position: the index of the column, counted from 0.
            size: width -> the parameters of the column with its adapters.

        Raises:
            ConfigError: when there is none.
        """


@dataclass(frozen=True)
class ConstantWidth(Width):
    """The first column as the backbone makes it, all later ones narrower by one factor.

    Raises:
        ConfigError: when the factor is not in (0, 1].
    """

    later: float = 0.5
    """Factor of every column after the first."""

    def __post_init__(self) -> None:
        if not 0 < self.later <= 1:
            raise ConfigError(f"later: required a factor above 0, at most 1, found {self.later!r}.")

    def factor(self, position: int, size: Callable[[float], int]) -> float:
        """1, then `later`."""
        return 1.0 if position == 0 else float(self.later)


@dataclass(frozen=True)
class RootWidth(Width):
    """Column k is narrower by 1 / sqrt(k), k counted from 1."""

    def factor(self, position: int, size: Callable[[float], int]) -> float:
        """1, 0.71, 0.58, 0.5, ..."""
        return 1 / sqrt(position + 1)


@dataclass(frozen=True)
class FittedWidth(Width):
    """Every column as wide as it can be, at most 1, with so many parameters, adapters included.

    Raises:
        ConfigError: when the number is below 1.
    """

    parameters: int
    """Of one column at most."""

    def __post_init__(self) -> None:
        require_whole("parameters", self.parameters, 1)

    def factor(self, position: int, size: Callable[[float], int]) -> float:
        """By bisection."""
        found = widest(size, self.parameters, 1.0, NARROWEST)
        if found is None:
            raise ConfigError(
                f"width: required {size(NARROWEST)} parameters for column {position} at the smallest width "
                f"{NARROWEST}, found FittedWidth({self.parameters}); give it more, or fewer sources."
            )
        return found


@dataclass(frozen=True)
class PruneLaterals(Specification):
    """After training, laterals that a column hardly misses are taken out of it for good, before it is frozen.

    Raises:
        ConfigError: when a value is out of its range.
    """

    drop: float = 0.005
    """Accuracy that may be lost on the training split, and on the validation split where there is one."""
    samples: int = 2000
    """Samples of each split that are looked at, at most."""

    def __post_init__(self) -> None:
        if not 0 <= self.drop < 1:
            raise ConfigError(f"drop: required a share of the accuracy in [0, 1), found {self.drop!r}.")
        require_whole("samples", self.samples, 2)

    def decide(self, network: ProgressiveNetwork, column: int, task: Task, session: Session) -> dict[str, Any]:
        """Prunes a trained column -> what was removed, as JSON values; nothing where accuracy is not defined."""
        judged_by_accuracy = isinstance(task.objective, Classification)
        if not judged_by_accuracy or len(task.train) < 2 or not network.column(column).sources:
            return {"pruned": []}
        x, y = training_part(task, session, self.samples)
        judged = seeded_part(task, task.val, session, self.samples, "held out") if len(task.val) else None
        size = session.measurement.evaluation_batch_size
        done = prune_laterals(network, column, x, y, held_out=judged, drop=self.drop, batch_size=size)
        return {"pruned": [list(lateral) for lateral in done.removed], "accuracy_without": list(done.after)}

    def apply(self, network: ProgressiveNetwork, column: int, choice: Mapping[str, Any]) -> None:
        """Removes what was decided, in a run that is rebuilt; nothing where that has been done."""
        reader = network.column(column)
        pruned = [(site, source) for site, source in choice["pruned"] if source in reader.reads[site]]
        if pruned:
            remove_laterals(reader, senders_of(network, column), pruned)


@dataclass(frozen=True, kw_only=True)
class Growth:
    """All settings by which a progressive network is kept small.

    Raises:
        ConfigError: when one is not what it has to be.
    """

    sources: Sources
    width: Width | None
    budget: int | None
    prune: PruneLaterals | None

    def __post_init__(self) -> None:
        check_specification(self.sources, Sources, "sources")
        if self.width is not None:
            check_specification(self.width, Width, "width")
        if self.budget is not None:
            require_whole("budget", self.budget, 1)
        if self.prune is not None:
            check_specification(self.prune, PruneLaterals, "prune")

    def check_fit(self, backbone: Backbone, adapter: Adapter) -> None:
        """Refuses what a backbone or an adapter does not allow.

        Raises:
            ConfigError: when the backbone takes no width, or laterals of the adapter cannot lose a source.
        """
        if self.width is not None and not accepts_width(backbone):
            raise ConfigError(
                f"width: required a backbone with an argument width=1.0, found one without for {self.width}; add it, "
                "or leave width out."
            )
        if self.prune is not None and type(adapter) not in NARROWABLE:
            raise ConfigError(
                f"prune: required one of {[kind.__name__ for kind in NARROWABLE]} as adapter, found {adapter!r}; its "
                "laterals cannot lose a source."
            )

    def arguments(self) -> dict[str, Any]:
        """The settings as JSON values, by the names of the arguments of `Progressive`."""
        return {
            "sources": self.sources.describe(),
            "width": None if self.width is None else self.width.describe(),
            "budget": self.budget,
            "prune": None if self.prune is None else self.prune.describe(),
        }

    def smallest(self, backbone: Backbone, tasks: Sequence[Task]) -> dict[int, int]:
        """The parameters of each task's smallest column, without sources at the smallest width, by label.

        Raises:
            ConfigError: when they are more than the budget.
        """
        width = narrowest(backbone)
        with torch.device("meta"):
            sizes = {task.label: count_parameters(network_for(backbone, task, width)) for task in tasks}
        if self.budget is not None and sum(sizes.values()) > self.budget:
            raise ConfigError(
                f"budget: required at least {sum(sizes.values())} parameters for {len(sizes)} tasks at width {width:g} "
                f"without sources, found {self.budget}; give more, or take a smaller backbone."
            )
        return sizes

    def plan(self, ranked: Sequence[int], position: int, size: Size, allowance: int | None, least: float) -> Plan:
        """What a new column will be.

        Args:
            ranked: the sources that it would read, best first.
            position: its index.
            size: what columns cost.
            allowance: its parameters at most; None without a budget.
            least: the smallest width.
        """
        width = 1.0 if self.width is None else self.width.factor(position, lambda factor: size(ranked, factor))
        return Plan(tuple(ranked), width) if allowance is None else plan_within(allowance, ranked, width, size, least)
