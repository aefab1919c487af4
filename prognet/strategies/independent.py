"""A network of its own for every task, and the control in which it is as large as a progressive column."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from prognet.backbones import accepts_width
from prognet.engine import Adapter, MLPAdapter, Sites
from prognet.errors import ControlUnavailableError
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, Strategy, network_for, single
from prognet.strategies.columns import TaskColumns
from prognet.streams.task import Task
from prognet.training import count_parameters, seeded

_WIDEST = 64.0
_HALVINGS = 40


class Independent(Strategy):
    """One network a task, from scratch, without any transfer: what a progressive network has to beat."""

    kind = "Independent"

    def __init__(self, backbone: Backbone, *, name: str = "independent") -> None:
        """
        Args:
            backbone: makes the networks.
            name: the name in results and figures.
        """
        super().__init__(backbone, name)
        self.columns = TaskColumns()

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        self.columns.learn(task, self.build(task), lambda column: self.fit(column, tasks), sources=())

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.columns.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return self.columns.frozen_digests()


class IndependentWide(Strategy):
    """The control for size: independent networks, each widened to the parameters of the progressive column.

    The network of task k has as nearly as possible as many parameters as column k of a progressive network with its
    adapters would have.
    """

    kind = "IndependentWide"

    def __init__(
        self,
        backbone: Backbone,
        *,
        adapter: Adapter | None = None,
        sites: Sites = None,
        name: str = "independent-wide",
    ) -> None:
        """
        Args:
            backbone: makes the networks; it must take `width`, a factor of its widths.
            adapter: the lateral connections of the progressive network to match; by default `MLPAdapter.transfer()`.
            sites: its sites.
            name: the name in results and figures.

        Raises:
            ControlUnavailableError: when the backbone takes no `width`.
        """
        super().__init__(backbone, name)
        if not accepts_width(backbone):
            raise ControlUnavailableError(
                "backbone: required an argument width=1.0 by which the network can be widened, found none; add it to "
                "get this control."
            )
        self.adapter = adapter if adapter is not None else MLPAdapter.transfer()
        self.sites: Sites = sites if sites is None or isinstance(sites, str) else tuple(sites)
        self.columns = TaskColumns()
        self._seen: list[Task] = []

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        session = self.current_session()
        self._seen.append(task.outline())
        target = column_parameters(self.backbone, self._seen, self.adapter, self.sites)
        width = matching_width(lambda w: network_for(self.backbone, task, w), target)
        with seeded(derive_seed(session.seed, task.label, "backbone"), session.device):
            network = network_for(self.backbone, task, width).to(session.device)
        self.columns.learn(task, network, lambda column: self.fit(column, tasks), sources=())

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.columns.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return self.columns.frozen_digests()

    def arguments(self) -> Mapping[str, Any]:
        return {
            "adapter": self.adapter.describe(),
            "sites": list(self.sites) if isinstance(self.sites, tuple) else self.sites,
        }


def column_parameters(
    backbone: Backbone,
    tasks: Sequence[Task],
    adapter: Adapter,
    sites: Sites = None,
) -> int:
    """The parameters of the last column of a progressive network over tasks, of which no samples are used.

    Nothing is computed or stored: the columns are made on torch's meta device.
    """
    columns = TaskColumns(adapter)
    with torch.device("meta"):
        for task in tasks:
            k = columns.add(network_for(backbone, task), task, sites)
    return count_parameters(columns.network.column(k))


def matching_width(build: Callable[[float], nn.Module], target: int) -> float:
    """The width factor, at least 1, whose network has the number of parameters nearest to `target`."""

    def size(width: float) -> int:
        with torch.device("meta"):
            return count_parameters(build(width))

    low, high = 1.0, _WIDEST
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= target else (low, middle)
    return min((low, high), key=lambda width: abs(size(width) - target))
