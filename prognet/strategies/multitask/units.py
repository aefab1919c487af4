"""A shared trunk whose features every task sees in its own way: a small unit a site, which begins as the identity.

At every site s the features of the samples of task t are changed before the site receives them; what stands before the
first site, the sites themselves and all behind them is shared, and every task has a head. With units that are the
identity this is hard sharing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from prognet.engine.probe import Sites, probe
from prognet.engine.sites import Rewriting, Site, attach_rewriting
from prognet.strategies.base import example_of
from prognet.strategies.heads import SharedTrunk, TaskModel
from prognet.strategies.multitask.architecture import Architecture, Make, rows_of, shared_trunk
from prognet.strategies.multitask.descriptions import Descriptions, Term
from prognet.strategies.specification import require_whole
from prognet.streams.task import Task


class Unit(nn.Module, ABC):
    """What tasks do to the features that one site receives."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.axis = 1 if site.channels == "first" else -1
        self.width = site.in_shape[0 if site.channels == "first" else -1]

    @abstractmethod
    def change(self, h: Tensor, task: int, z: Tensor | None) -> Tensor:
        """What is made of features.

        Args:
            h: the features of samples of one task, (b, *in_shape).
            task: the place of the task.
            z: its description, (n,); None for a one-hot one.

        Returns:
            The same shape.
        """

    @abstractmethod
    def own(self, task: int) -> list[nn.Parameter]:
        """The parameters that belong to one task."""

    def broadcast(self, v: Tensor, h: Tensor) -> Tensor:
        """A number for every feature, (width,), in the form of h."""
        shape = [1] * h.ndim
        shape[self.axis] = self.width
        return v.view(shape)


@dataclass(frozen=True, kw_only=True)
class Attention(Architecture):
    """Soft attention masks, after MTAN (Liu, Johns & Davison 2019, arXiv 1803.10704): at every site and position

        h <- 2 sigmoid(A_t h + b_t) * h,

    with A_t over the features; A = b = 0 at the start, so that every mask is 1. MTAN has convolutional branches
    besides; this is its gate.
    """

    sites: Sites = None
    """Where: names or globs of the sites, `"leaves"` or `"blocks"`; None for the defaults of `probe`."""

    def __post_init__(self) -> None:
        _freeze_sites(self)

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return RewrittenTrunk(tasks, make, self.sites, None, partial(Mask, n_tasks=len(tasks)))


class Mask(Unit):
    """h <- 2 sigmoid(A_t h + b_t) * h."""

    def __init__(self, site: Site, n_tasks: int) -> None:
        super().__init__(site)
        self.gates = nn.ModuleList([nn.Linear(self.width, self.width) for _ in range(n_tasks)])
        for parameter in self.gates.parameters():
            nn.init.zeros_(parameter)

    def change(self, h: Tensor, task: int, z: Tensor | None) -> Tensor:
        gate: Tensor = self.gates[task](h.movedim(self.axis, -1))
        return 2 * torch.sigmoid(gate).movedim(-1, self.axis) * h

    def own(self, task: int) -> list[nn.Parameter]:
        return list(self.gates[task].parameters())


@dataclass(frozen=True, kw_only=True)
class Added(Architecture):
    """A description z_t of the task is added to the features: h <- h + W z_t, W = 0 at the start.

    z_t is a one-hot vector, or learned. Behind a linear layer this is the concatenation [h, z_t].

    Raises:
        ConfigError: when `descriptor` is no number of features.
    """

    descriptor: int | None = None
    """Features of a learned z_t; None for a one-hot vector."""
    sites: Sites = None
    """Where: names or globs of the sites, `"leaves"` or `"blocks"`; None for the defaults of `probe`."""

    def __post_init__(self) -> None:
        _check_descriptor(self.descriptor)
        _freeze_sites(self)

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return RewrittenTrunk(
            tasks, make, self.sites, self.descriptor, lambda site: Addition(site, len(tasks), self.descriptor)
        )


@dataclass(frozen=True, kw_only=True)
class Concatenated(Architecture):
    """A description z_t of the task is concatenated to the features: h <- P [h, z_t], P = [1, 0] at the start.

    P brings the features to the width that the site expects, so that any site can be conditioned; at a linear layer V
    it makes V P, a layer that reads the concatenation. The arguments and errors are those of `Added`.
    """

    descriptor: int | None = None
    """Features of a learned z_t; None for a one-hot vector."""
    sites: Sites = None
    """Where: names or globs of the sites, `"leaves"` or `"blocks"`; None for the defaults of `probe`."""

    def __post_init__(self) -> None:
        _check_descriptor(self.descriptor)
        _freeze_sites(self)

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return RewrittenTrunk(
            tasks, make, self.sites, self.descriptor, lambda site: Concatenation(site, len(tasks), self.descriptor)
        )


@dataclass(frozen=True, kw_only=True)
class FiLM(Architecture):
    """Feature-wise linear modulation (Perez et al. 2018, arXiv 1709.07871): h <- (1 + G z_t) * h + B z_t.

    G = B = 0 at the start. The arguments and errors are those of `Added`.
    """

    descriptor: int | None = None
    """Features of a learned z_t; None for a one-hot vector."""
    sites: Sites = None
    """Where: names or globs of the sites, `"leaves"` or `"blocks"`; None for the defaults of `probe`."""

    def __post_init__(self) -> None:
        _check_descriptor(self.descriptor)
        _freeze_sites(self)

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return RewrittenTrunk(
            tasks, make, self.sites, self.descriptor, lambda site: Modulation(site, len(tasks), self.descriptor)
        )


class Addition(Unit):
    """h <- h + W z_t."""

    def __init__(self, site: Site, n_tasks: int, features: int | None) -> None:
        super().__init__(site)
        self.shift = Term(self.width, n_tasks, features)

    def change(self, h: Tensor, task: int, z: Tensor | None) -> Tensor:
        return h + self.broadcast(self.shift.of(task, z), h)

    def own(self, task: int) -> list[nn.Parameter]:
        return self.shift.own(task)


class Concatenation(Unit):
    """h <- P [h, z_t] = A h + W z_t, where P = [A, W]."""

    def __init__(self, site: Site, n_tasks: int, features: int | None) -> None:
        super().__init__(site)
        self.A = nn.Linear(self.width, self.width, bias=False)
        self.shift = Term(self.width, n_tasks, features)
        with torch.no_grad():
            self.A.weight.copy_(torch.eye(self.width))

    def change(self, h: Tensor, task: int, z: Tensor | None) -> Tensor:
        out: Tensor = self.A(h.movedim(self.axis, -1)) + self.shift.of(task, z)  # (b, ..., width)
        return out.movedim(-1, self.axis)

    def own(self, task: int) -> list[nn.Parameter]:
        return self.shift.own(task)


class Modulation(Unit):
    """h <- (1 + G z_t) * h + B z_t."""

    def __init__(self, site: Site, n_tasks: int, features: int | None) -> None:
        super().__init__(site)
        self.scale, self.shift = (Term(self.width, n_tasks, features) for _ in range(2))  # G and B

    def change(self, h: Tensor, task: int, z: Tensor | None) -> Tensor:
        scale, shift = (self.broadcast(term.of(task, z), h) for term in (self.scale, self.shift))
        return (1 + scale) * h + shift

    def own(self, task: int) -> list[nn.Parameter]:
        return [*self.scale.own(task), *self.shift.own(task)]


class RewrittenTrunk(TaskModel):
    """A shared trunk with heads, and a unit at every site of the trunk."""

    def __init__(
        self,
        tasks: Sequence[Task],
        make: Make,
        sites: Sites,
        descriptor: int | None,
        unit_for: Callable[[Site], Unit],
    ) -> None:
        """
        Args:
            tasks: the tasks.
            make: makes the networks.
            sites: where the units stand.
            descriptor: features of learned descriptions of the tasks; None for one-hot ones.
            unit_for: makes the unit of a site.
        """
        super().__init__()
        found = probe(make(tasks[0]), example_of(tasks[0]), sites).sites
        self.shared: SharedTrunk = shared_trunk(tasks, make)
        self.labels = [task.label for task in tasks]
        self.names = [site.name for site in found]
        self.descriptions = Descriptions(len(tasks), descriptor)
        self.units = nn.ModuleList([unit_for(site) for site in found])
        self._rewriting = Rewriting(self._rewritten)
        attach_rewriting(self._trunk(), self.names, self._rewriting)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        head = self.shared.head_for(task_label)
        out: Tensor = head(self._features(x, [(task_label, len(x))]))
        return out

    def predict_together(self, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """In one pass of the trunk."""
        x, rows = rows_of(inputs)
        parts = torch.split(self._features(x, rows), [count for _, count in rows])
        return {label: self.shared.head_for(label)(part) for (label, _), part in zip(rows, parts, strict=True)}

    def _features(self, x: Tensor, rows: Sequence[tuple[int, int]]) -> Tensor:
        return self._rewriting.run(self._trunk(), x, rows, self.names)

    def _trunk(self) -> nn.Module:
        assert self.shared.trunk is not None
        return self.shared.trunk

    def _rewritten(self, name: str, received: Tensor, rows: Sequence[tuple[int, int]]) -> Tensor:
        unit, changed = self.units[self.names.index(name)], []
        assert isinstance(unit, Unit)
        for (label, _), part in zip(rows, torch.split(received, [count for _, count in rows]), strict=True):
            place = self.labels.index(label)
            changed.append(unit.change(part, place, self.descriptions.of(place)))
        return torch.cat(changed)

    def own_parameters(self, task_label: int) -> list[nn.Parameter]:
        place = self.labels.index(task_label)
        units = [parameter for unit in self.units if isinstance(unit, Unit) for parameter in unit.own(place)]
        return [*self.descriptions.own(place), *units]


def _check_descriptor(features: int | None) -> None:
    if features is not None:
        require_whole("descriptor", features, 1)


def _freeze_sites(architecture: Attention | Added | Concatenated | FiLM) -> None:
    if architecture.sites is not None and not isinstance(architecture.sites, str):
        object.__setattr__(architecture, "sites", tuple(architecture.sites))
