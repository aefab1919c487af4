"""What frozen columns hand over to a new one, as a value that can be kept: on the same inputs always the same."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from prognet.engine.sites import Activations


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """By site, what the laterals of a column make of their sources before anything that learns; `Column.prepare`.

    Each tensor has the samples in its first dimension.
    """

    by_site: Mapping[str, tuple[Tensor, ...]]

    def __getitem__(self, site: str) -> tuple[Tensor, ...]:
        return self.by_site[site]

    def map(self, function: Callable[[Tensor], Tensor]) -> "Prepared":
        """The same, with every tensor replaced by a function of it."""
        return Prepared({site: tuple(function(h) for h in handed) for site, handed in self.by_site.items()})

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """All tensors, site by site."""
        return tuple(h for handed in self.by_site.values() for h in handed)


Past = Sequence[Activations] | Prepared
"""The activations of every source column, or what was prepared of them."""
