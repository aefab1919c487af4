"""How a strategy departs from plain updates: plain values that `fit` is given."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prognet.training.weighting import Balance


@dataclass(frozen=True, slots=True, eq=False)
class Penalised:
    """The outputs of a batch, and what is added to its loss."""

    outputs: Mapping[int, Tensor]
    """Task label -> outputs (b, n_outputs)."""
    penalty: Tensor
    """A number, ()."""


Forward = Callable[[Mapping[int, Tensor]], Mapping[int, Tensor] | Penalised]
"""Task label -> inputs (b, *input_shape), to task label -> outputs (b, n_outputs), with a penalty if need be."""


@dataclass(frozen=True, slots=True, eq=False)
class RateGroup:
    """Parameters that learn at a rate of their own."""

    parameters: Sequence[nn.Parameter]
    factor: float
    """Of the learning rate of the training, at every update."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Procedure:
    """How the updates of one training depart from plain ones; by default in nothing."""

    before_pass: Callable[[int], None] | None = None
    """Told the number of a pass over the samples, from 0, before it begins: where parameters can be unfrozen."""
    groups: Sequence[RateGroup] = ()
    """Rates of their own; parameters in none of the groups learn at the rate of the training."""
    alone: bool = False
    """Whether the forward pass holds tensors of this one run, so that it cannot stand for that of a replica."""
    weighting: Callable[[Sequence[int], torch.device], Balance] | None = None
    """From the labels of the tasks and the device to how their losses are weighted; None for the mean over samples."""
