"""Replicas of a run that differ in their seed: their tensors, and their data, lie one above the other.

What a run computes is then computed for all replicas by one operation (`torch.func.vmap`), with the same numbers for
each as alone but for rounding.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from prognet.engine.prepared import Prepared
from prognet.errors import NotStackableError
from prognet.streams.task import Samples, Task
from prognet.training.attention import unfused_attention
from prognet.training.features import FeatureTable

Rows = tuple[Tensor, Tensor, Mapping[str, tuple[Tensor, ...]]]
"""Inputs, targets, and what frozen columns hand over by site, nothing where it is not kept; replicas first."""


class _Calling(nn.Module):
    """A function that uses the tensors of a module, as a module, so that they can be replaced for a call."""

    def __init__(self, root: nn.Module) -> None:
        super().__init__()
        self.root = root

    def forward(self, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        return function(*arguments)


class StackedTensors:
    """The parameters and buffers of like modules, (S, *shape) each; those that are learned require a gradient.

    Args:
        roots: one module a replica, each with all that its run computes with.
        learned: of each replica the parameters that are learned.

    Raises:
        NotStackableError: when the modules differ in more than numbers, or a parameter is in none of them.
    """

    def __init__(self, roots: Sequence[nn.Module], learned: Sequence[Sequence[nn.Parameter]]) -> None:
        self._calling, self._places = _Calling(roots[0]), _places(roots[0])
        self._own = [_tensors(root) for root in roots]
        self._require_alike(learned)
        self._stacked = {
            name: torch.stack([own[name].detach() for own in self._own]) for name in self._own[0]
        }  # (S, *shape) each
        wanted = {id(parameter) for parameter in learned[0]}
        self._names = [name for name, tensor in self._own[0].items() if id(tensor) in wanted]
        self.learned = [nn.Parameter(self._stacked[name]) for name in self._names]
        self._stacked |= dict(zip(self._names, self.learned, strict=True))

    def __call__(self, function: Callable[..., Tensor], *arguments: object) -> Tensor:
        """What a function of the first replica gives with the tensors and the arguments of each, (S, ...).

        Raises:
            RuntimeError: when it draws random numbers, or cannot be done for all at once.
        """

        def one(tensors: Mapping[str, Tensor], *arguments: object) -> Tensor:
            placed = {place: tensors[name] for place, name in self._places.items()}
            out: Tensor = functional_call(self._calling, placed, (function, *arguments), tie_weights=False)
            return out

        with unfused_attention():
            out: Tensor = vmap(one, randomness="error")(self._stacked, *arguments)
        return out

    def gradients(self) -> list[Tensor]:
        """The gradient of every learned tensor, (S, *shape) each, in the order of the first replica's."""
        return [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in self.learned]

    def own_learned(self, replica: int) -> list[Tensor]:
        """A replica's own tensors that are learned, in the same order."""
        return [self._own[replica][name] for name in self._names]

    def write(self, replica: int) -> None:
        """Gives a replica's own tensors the numbers that they have here."""
        with torch.no_grad():
            for name, tensor in self._own[replica].items():
                tensor.copy_(self._stacked[name][replica])

    def read(self) -> None:
        """Takes the numbers of all replicas' own tensors."""
        with torch.no_grad():
            for replica, own in enumerate(self._own):
                for name, tensor in own.items():
                    self._stacked[name][replica].copy_(tensor)

    def _require_alike(self, learned: Sequence[Sequence[nn.Parameter]]) -> None:
        described = []
        for own, parameters in zip(self._own, learned, strict=True):
            wanted = {id(parameter) for parameter in parameters}
            if not wanted <= {id(tensor) for tensor in own.values()}:
                raise NotStackableError("a parameter that is learned lies outside the module")
            described.append({name: (t.shape, t.dtype, t.device, id(t) in wanted) for name, t in own.items()})
        if any(one != described[0] for one in described):
            raise NotStackableError("their networks differ in more than their numbers")


def _tensors(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers by name, each once."""
    named = [*module.named_parameters(), *module.named_buffers()]
    return {f"root.{name}": tensor for name, tensor in named}


def _places(module: nn.Module) -> dict[str, str]:
    """Every place where a tensor is kept, with the name of the tensor in `_tensors`: tied ones are kept at several.

    What a module that stands twice in another one keeps, it keeps at one place. `functional_call` by itself would take
    it for two, and not give the module its own tensors back.
    """
    names = {id(tensor): name for name, tensor in _tensors(module).items()}
    found: dict[str, str] = {}
    for prefix, part in module.named_modules(prefix="root"):
        kept = chain(
            part.named_parameters(prefix, recurse=False, remove_duplicate=False),
            part.named_buffers(prefix, recurse=False, remove_duplicate=False),
        )
        found |= {place: names[id(tensor)] for place, tensor in kept}
    return found


@dataclass(frozen=True, slots=True, eq=False)
class StackedSamples:
    """The samples of one split for all replicas, which share them or have as many of their own."""

    task: Task
    samples: Samples
    """Of all replicas, one after the other; where they share them, once."""
    features: Mapping[str, tuple[Tensor, ...]]
    """What frozen columns hand over by site, of all replicas one after the other; nothing where it is not kept."""
    count: int
    """How many samples each replica has."""
    starts: Tensor
    """Where each replica's samples begin, (S, 1)."""
    feature_starts: Tensor
    """Where each replica's features begin, (S, 1)."""

    @staticmethod
    def of(
        tasks: Sequence[Task], samples: Sequence[Samples], tables: Sequence[FeatureTable | None]
    ) -> "StackedSamples":
        """The samples of a split, from those of each replica.

        Raises:
            NotStackableError: when they cannot lie together.
        """
        first, n = samples[0], len(samples[0])
        if any(one.x.shape != first.x.shape for one in samples) or len({task.normalisation for task in tasks}) > 1:
            raise NotStackableError("their samples differ in number, shape or normalisation")
        kept = [table for table in tables if table is not None]
        if 0 < len(kept) < len(tables):
            raise NotStackableError("features are kept for some of them only")
        starts = torch.arange(len(samples), device=first.x.device).mul(n).unsqueeze(1)  # (S, 1)
        shared = all(_same(one.x, first.x) and _same(one.y, first.y) for one in samples)
        return StackedSamples(
            task=tasks[0],
            samples=first if shared else Samples(*(torch.cat(all_of) for all_of in _columns(samples))),
            features=_stacked_rows(kept),
            count=n,
            starts=torch.zeros_like(starts) if shared else starts,
            feature_starts=starts,
        )

    def take(self, chosen: Tensor) -> Rows:
        """The samples at the places `chosen` (S, b), normalised."""
        places = (chosen + self.starts).flatten()  # (S b,)
        x = self.task.normalisation(self.samples.x.index_select(0, places))
        y = self.samples.y.index_select(0, places)
        rows = (chosen + self.feature_starts).flatten()
        features = {
            site: tuple(_by_replica(h.index_select(0, rows).float(), chosen) for h in handed)
            for site, handed in self.features.items()
        }
        return _by_replica(x, chosen), _by_replica(y, chosen), features

    def first(self, count: int) -> Tensor:
        """The places (S, b) of the first `count` samples, or of all where there are fewer."""
        return torch.arange(min(count, self.count), device=self.starts.device).expand(len(self.starts), -1)

    def batches(self, batch_size: int) -> list[Tensor]:
        """The places (S, b) of all samples, in order."""
        places = torch.arange(self.count, device=self.starts.device)
        return [part.expand(len(self.starts), -1) for part in torch.split(places, batch_size)]


def _columns(samples: Sequence[Samples]) -> tuple[list[Tensor], list[Tensor]]:
    return [one.x for one in samples], [one.y for one in samples]


def _stacked_rows(tables: Sequence[FeatureTable]) -> dict[str, tuple[Tensor, ...]]:
    """The rows of all tables, one after the other, by site."""
    if not tables:
        return {}
    return {
        site: tuple(torch.cat([table.rows[site][place] for table in tables]) for place in range(len(handed)))
        for site, handed in tables[0].rows.by_site.items()
    }


def prepared_of(features: Mapping[str, tuple[Tensor, ...]]) -> Prepared | None:
    """What frozen columns hand over, None where it is not kept."""
    return Prepared(features) if features else None


def _by_replica(rows: Tensor, chosen: Tensor) -> Tensor:
    """Rows (S b, ...) as (S, b, ...)."""
    return rows.view(*chosen.shape, *rows.shape[1:])


def _same(one: Tensor, other: Tensor) -> bool:
    return one.data_ptr() == other.data_ptr() and one.shape == other.shape
