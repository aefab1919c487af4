"""A shared trunk whose features every task sees in its own way: a small unit a site, which begins as the identity.

At every site s the features of the samples of task t are changed before the site receives them; what stands before the
first site, the sites themselves and all behind them is shared, and every task has a head. With units that are the
identity this is hard sharing.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prognet.engine.probe import Sites, probe
from prognet.engine.sites import Rewriting, Site, attach_rewriting
from prognet.strategies.base import example_of
from prognet.strategies.heads import SharedTrunk, TaskModel
from prognet.strategies.multitask.architecture import Architecture, Make, rows_of, shared_trunk
from prognet.strategies.specification import require_whole
from prognet.streams.task import Task


class Unit(nn.Module, ABC):
    """What tasks do to the features that one site receives: a method, since parts of parameters are no good arguments
    of modules while operations are counted."""

    def __init__(self, site: Site) -> None:
        super().__init__()
        self.axis = 1 if site.channels == "first" else -1
        self.width = site.in_shape[0 if site.channels == "first" else -1]

    @abstractmethod
    def change(self, h: Tensor, task: int, z: Tensor) -> Tensor:
        """What is made of features.

        Args:
            h: the features of samples of one task, (b, *in_shape).
            task: the place of the task.
            z: its description, (n,).

        Returns:
            The same shape.
        """

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
        return RewrittenTrunk(tasks, make, self.sites, None, lambda site, features: Mask(site, len(tasks)))


class Mask(Unit):
    """h <- 2 sigmoid(A_t h + b_t) * h."""

    def __init__(self, site: Site, n_tasks: int) -> None:
        super().__init__(site)
        self.gates = nn.ModuleList([nn.Linear(self.width, self.width) for _ in range(n_tasks)])
        for parameter in self.gates.parameters():
            nn.init.zeros_(parameter)

    def change(self, h: Tensor, task: int, z: Tensor) -> Tensor:
        gate: Tensor = self.gates[task](h.movedim(self.axis, -1))
        return 2 * torch.sigmoid(gate).movedim(-1, self.axis) * h


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
        return RewrittenTrunk(tasks, make, self.sites, self.descriptor, Addition)


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
        return RewrittenTrunk(tasks, make, self.sites, self.descriptor, Concatenation)


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
        return RewrittenTrunk(tasks, make, self.sites, self.descriptor, Modulation)


class Descriptors(nn.Module):
    """The descriptions z_t of all tasks, (T, n): one-hot, or learned, and standard normal at the start."""

    z: Tensor

    def __init__(self, n_tasks: int, features: int | None) -> None:
        super().__init__()
        if features is None:
            self.register_buffer("z", torch.eye(n_tasks))
        else:
            self.z = nn.Parameter(torch.randn(n_tasks, features))


class Addition(Unit):
    """h <- h + W z_t."""

    def __init__(self, site: Site, features: int) -> None:
        super().__init__(site)
        self.W = nn.Parameter(torch.zeros(self.width, features))

    def change(self, h: Tensor, task: int, z: Tensor) -> Tensor:
        return h + self.broadcast(self.W @ z, h)


class Concatenation(Unit):
    """h <- P [h, z_t]."""

    def __init__(self, site: Site, features: int) -> None:
        super().__init__(site)
        self.P = nn.Linear(self.width + features, self.width, bias=False)
        with torch.no_grad():
            self.P.weight.copy_(torch.eye(*self.P.weight.shape))

    def change(self, h: Tensor, task: int, z: Tensor) -> Tensor:
        last = h.movedim(self.axis, -1)  # (b, ..., width)
        out: Tensor = self.P(torch.cat([last, z.to(h.dtype).expand(*last.shape[:-1], -1)], dim=-1))
        return out.movedim(-1, self.axis)


class Modulation(Unit):
    """h <- (1 + G z_t) * h + B z_t."""

    def __init__(self, site: Site, features: int) -> None:
        super().__init__(site)
        self.G, self.B = (nn.Parameter(torch.zeros(self.width, features)) for _ in range(2))

    def change(self, h: Tensor, task: int, z: Tensor) -> Tensor:
        return (1 + self.broadcast(self.G @ z, h)) * h + self.broadcast(self.B @ z, h)


class RewrittenTrunk(TaskModel):
    """A shared trunk with heads, and a unit at every site of the trunk."""

    def __init__(
        self,
        tasks: Sequence[Task],
        make: Make,
        sites: Sites,
        descriptor: int | None,
        unit_for: Callable[[Site, int], Unit],
    ) -> None:
        """
        Args:
            tasks: the tasks.
            make: makes the networks.
            sites: where the units stand.
            descriptor: features of learned descriptions of the tasks; None for one-hot ones.
            unit_for: from a site and the features of a description to its unit.
        """
        super().__init__()
        found = probe(make(tasks[0]), example_of(tasks[0]), sites).sites
        self.shared: SharedTrunk = shared_trunk(tasks, make)
        self.labels = [task.label for task in tasks]
        self.names = [site.name for site in found]
        self.descriptors = Descriptors(len(tasks), descriptor)
        self.units = nn.ModuleList([unit_for(site, self.descriptors.z.shape[1]) for site in found])
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
            changed.append(unit.change(part, place, self.descriptors.z[place]))
        return torch.cat(changed)


def _check_descriptor(features: int | None) -> None:
    if features is not None:
        require_whole("descriptor", features, 1)


def _freeze_sites(architecture: Attention | Added | Concatenated | FiLM) -> None:
    if architecture.sites is not None and not isinstance(architecture.sites, str):
        object.__setattr__(architecture, "sites", tuple(architecture.sites))
