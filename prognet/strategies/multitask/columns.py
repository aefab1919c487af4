"""A column for every task, all learned together: they differ in who reads whom, how, and what binds them.

Soft sharing binds the parameters of columns that do not read each other. Cross-stitch columns read each other at every
site: what a site receives is a learned mix of what the sites of all columns are given,

    x_s^(t) <- sum_j M_s[t, j] x_s^(j).

With `reads="earlier"`, M is triangular, and the columns are connected as those of a progressive network, but by numbers
instead of adapters, and learned together instead of frozen one after the other.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from prognet.engine.probe import Sites, match_names, probe
from prognet.engine.sites import Rewriting, attach_rewriting, same_device
from prognet.errors import ConfigError, PrognetError, SiteError
from prognet.ranges import FACTOR, NOT_NEGATIVE, require_number
from prognet.strategies.base import example_of
from prognet.strategies.heads import TaskModel, split
from prognet.strategies.multitask.architecture import (
    Architecture,
    Make,
    OwnNetworks,
    check_inputs,
    check_learned,
    rows_of,
)
from prognet.strategies.multitask.parallel import align, fold
from prognet.streams.task import Task
from prognet.training import Penalised, evaluating

Reads = Literal["all", "earlier"]


@dataclass(frozen=True, kw_only=True)
class Soft(Architecture):
    """Soft sharing (Duong et al. 2015, ACL): a network for every task, and the penalty

        sum_w lambda_w sum_t |w_t - mean_s w_s|^2

    over the parameters w that all tasks have in one shape, but for those of the output layers. With lambda = 0 the
    networks are independent; the larger it is, the more they are one.

    Raises:
        ConfigError: when a factor is no finite number of at least 0.
    """

    penalty: float | Mapping[str, float] = 0.01
    """lambda; or lambda for each submodule by its name or glob, the first that fits, and 0 for all others."""

    def __post_init__(self) -> None:
        for factor in self._factors().values():
            if factor not in NOT_NEGATIVE:
                raise ConfigError(f"penalty: required finite numbers, at least 0, found {self.penalty!r}.")

    @property
    def mixes_inputs(self) -> bool:
        """Yes."""
        return True

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return BoundNetworks(tasks, make, self._factors())

    def _factors(self) -> dict[str, float]:
        return dict(self.penalty) if isinstance(self.penalty, Mapping) else {"": self.penalty}


class BoundNetworks(OwnNetworks):
    """Networks whose parameters are drawn to their mean."""

    def __init__(self, tasks: Sequence[Task], make: Make, factors: Mapping[str, float]) -> None:
        """
        Args:
            tasks: the tasks.
            make: makes the network of a task.
            factors: lambda by name or glob of a submodule; the empty name is the whole network.
        """
        super().__init__(tasks, make)
        self.factors = _per_parameter(self.network(tasks[0].label), factors, self._bound(tasks))

    def predict_together(self, inputs: Mapping[int, Tensor]) -> Penalised:
        """Each by itself, bound by the penalty."""
        return Penalised({label: self.predict(x, label) for label, x in inputs.items()}, self.penalty())

    def penalty(self) -> Tensor:
        """sum_w lambda_w sum_t |w_t - mean_s w_s|^2, ()."""
        terms = []
        for name, factor in self.factors.items():
            holder, _, key = name.rpartition(".")
            values = torch.stack([getattr(network.get_submodule(holder), key) for network in self.networks.values()])
            # (T, *shape); not by `get_parameter`, which refuses the tensors of `functional_call`
            terms.append(factor * (values - values.mean(dim=0)).square().sum())
        return torch.stack(terms).sum()

    def _bound(self, tasks: Sequence[Task]) -> list[str]:
        """The parameters that all tasks have in one shape, without those of the output layers."""
        shapes = []
        for task in tasks:
            network = self.network(task.label)
            output = probe(network, example_of(task)).output_layer
            named = network.named_parameters()
            shapes.append({n: tuple(p.shape) for n, p in named if output is None or not n.startswith(f"{output}.")})
        return [name for name, shape in shapes[0].items() if all(other.get(name) == shape for other in shapes)]


def _per_parameter(network: nn.Module, factors: Mapping[str, float], bound: Sequence[str]) -> dict[str, float]:
    known, found = [name for name, _ in network.named_modules() if name], dict[str, float]()
    for pattern, factor in factors.items():
        modules = match_names([pattern], known) if pattern else [""]
        for name in bound:
            if any(not module or name.startswith(f"{module}.") for module in modules):
                found.setdefault(name, factor)
    if not found:
        raise SiteError(
            f"penalty: required parameters that all tasks have in one shape, found none for {list(factors)}; the "
            "output layers are no part of it."
        )
    return found


@dataclass(frozen=True, kw_only=True)
class CrossStitch(Architecture):
    """Cross-stitch networks (Misra et al. 2016, arXiv 1604.03539): a column a task, mixed at every site.

    Every column runs on the samples of every task, and the output of the task's own column is used. In training a
    BatchNorm of a column therefore sees the samples of all tasks, also where the columns do not read each other.
    Parameters that stand outside of all layers, such as a class token, are the first column's, for all.

    Raises:
        ConfigError: when an argument is out of its range.
    """

    own: float = 0.9
    """The weight of a column's own features at the start; the others share the rest. 1 begins with independent ones,
    but for the batch statistics of BatchNorm."""
    reads: Reads = "all"
    """Which columns a column reads: all of them, or those of earlier tasks."""
    sites: Sites = None
    """Where: names or globs of the sites, `"leaves"` or `"blocks"`; None for the defaults of `probe`."""

    def __post_init__(self) -> None:
        require_number("own", self.own, FACTOR)
        if self.reads not in get_args(Reads):
            raise ConfigError(f"reads: required one of {get_args(Reads)}, found {self.reads!r}.")
        if self.sites is not None and not isinstance(self.sites, str):
            object.__setattr__(self, "sites", tuple(self.sites))

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return MixedColumns(tasks, make, self)


class MixedColumns(TaskModel):
    """Columns of one kind, run side by side, that read each other at their sites."""

    def __init__(self, tasks: Sequence[Task], make: Make, settings: CrossStitch) -> None:
        super().__init__()
        check_inputs(tasks)
        networks, example = [make(task) for task in tasks], example_of(tasks[0])
        self.names = [site.name for site in probe(networks[0], example, settings.sites).sites]
        self.labels = [task.label for task in tasks]
        parts = [split(network, example) for network in networks]
        self.heads = nn.ModuleDict()
        for task, (_, head) in zip(tasks, parts, strict=True):
            self.heads[str(task.label)] = head
        trunks = [trunk for trunk, _ in parts]
        align(trunks, self.names)
        with evaluating(nn.ModuleList(trunks)):
            alone = torch.stack([trunk(same_device(trunk, example)) for trunk in trunks])
        self.trunks = fold(trunks, self.names)
        n = len(tasks)
        self.register_buffer("mask", torch.ones(n, n).tril() if settings.reads == "earlier" else torch.ones(n, n))
        start = _mixing(n, settings.own, settings.reads)
        self.mixes = nn.ParameterList([nn.Parameter(start.clone()) for _ in self.names])
        self._rewriting = Rewriting(self._mixed)
        self._check(alone, same_device(self.trunks, example))
        attach_rewriting(self.trunks, self.names, self._rewriting)

    mask: Tensor

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        check_learned(task_label, self.labels)
        out: Tensor = self.heads[str(task_label)](self.features(x)[self.labels.index(task_label)])
        return out

    def predict_together(self, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        """In one pass of all columns."""
        x, rows = rows_of(inputs)
        parts = torch.split(self.features(x), [count for _, count in rows], dim=1)
        return {
            label: self.heads[str(label)](part[self.labels.index(label)])
            for (label, _), part in zip(rows, parts, strict=True)
        }

    def features(self, x: Tensor) -> Tensor:
        """What the heads of the T columns read of inputs (B, *input_shape): (T, B, *features)."""
        n = len(self.labels)
        out = self._rewriting.run(self.trunks, x.repeat(n, *[1] * (x.ndim - 1)), None, self.names)
        return out.view(n, len(x), *out.shape[1:])

    def _mixed(self, name: str, received: Tensor, context: None) -> Tensor:
        mix = self.mixes[self.names.index(name)] * self.mask  # (T, T)
        columns = torch.stack(received.chunk(len(mix)))  # (T, B, *in_shape)
        mixed: Tensor = torch.tensordot(mix.to(columns.dtype), columns, dims=1)
        return mixed.flatten(0, 1)

    def _check(self, alone: Tensor, example: Tensor) -> None:
        """Columns that do not read each other yet have to say what the networks say by themselves."""
        n = len(self.labels)
        with evaluating(self.trunks):
            try:
                together = self.trunks(example.repeat(n, *[1] * (example.ndim - 1)))
            except PrognetError:
                raise
            except Exception as error:  # each network by itself has just been called
                raise SiteError(
                    f"sites: required modules that those of all columns can stand for, found {self.names} in a network "
                    f"that needs their own ({error}); choose coarser sites, such as what holds them, or use Soft."
                ) from error
        if not torch.allclose(together, alone.flatten(0, 1), rtol=1e-4, atol=1e-5):
            raise SiteError(
                "backbone: required a network that treats every sample by itself, so that columns can run side by "
                "side, found one that does not; use Soft or Hard."
            )


def _mixing(n: int, own: float, reads: Reads) -> Tensor:
    """The mix at the start, (T, T): rows add up to 1."""
    mix = torch.eye(n)
    for row in range(n):
        others = [column for column in range(row if reads == "earlier" else n) if column != row]
        if others:
            mix[row, row] = own
            mix[row, others] = (1 - own) / len(others)
    return mix
