"""How a strategy departs from plain updates: plain values that `fit` is given."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Penalised:
    """The outputs of a batch, and what is added to its loss."""

    outputs: Mapping[int, Tensor]
    """Task label -> outputs (b, n_outputs)."""
    penalty: Tensor
    """A number, ()."""


Forward = Callable[[Mapping[int, Tensor]], Mapping[int, Tensor] | Penalised]
"""Task label -> inputs (b, *input_shape), to task label -> outputs (b, n_outputs), with a penalty if need be."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedure:
    """How the updates of one training depart from plain ones; by default in nothing."""

    before_pass: Callable[[int], None] | None = None
    """Told the number of a pass over the samples, from 0, before it begins: where parameters can be unfrozen."""
