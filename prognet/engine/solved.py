"""The lateral of an output layer of which one part learns and another is solved in closed form.

The solved part is linear in the frozen features of the sources. While the column learns it is silent, as dropout is
silent in evaluation, so that the column's own path learns to classify by itself; in evaluation it joins, and the
outputs of two classifiers are added, one that was trained and one that was solved. Trained together, the solved one
would explain the training samples at once and leave the other nothing to learn.
"""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from prognet.engine.laterals import Lateral, MLPLateral

if TYPE_CHECKING:
    from prognet.engine.column import Column


class SolvedLateral(Lateral):
    """a = U relu(V z + c) + W concat_j h_j + d; W and d never learn, are 0 until they are solved, and rest in training.

    The second part is equation 1 of Rusu et al. 2016, with a bias.
    """

    def __init__(self, lateral: MLPLateral, n_features: int, n_outputs: int) -> None:
        """
        Args:
            lateral: the part that learns.
            n_features: features of all sources together.
            n_outputs: C, the outputs of the column.
        """
        super().__init__()
        self.lateral = lateral
        self.solved = nn.Linear(n_features, n_outputs).requires_grad_(False)
        nn.init.zeros_(self.solved.weight)
        nn.init.zeros_(self.solved.bias)

    def prepare(self, sources: Sequence[Tensor]) -> Tensor:
        return self.lateral.prepare(sources)

    def forward(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        """One tensor (B, *in_shape) per source, or what `prepare` made of them -> (B, C)."""
        learned: Tensor = self.lateral(sources)
        if self.training:
            return learned
        out: Tensor = learned + self.solved(self.features(sources))
        return out

    def features(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        """What W reads: the sources side by side, (B, n_features)."""
        features: Tensor = self.lateral.align(sources)
        return features

    def solve(self, weight: Tensor, bias: Tensor) -> None:
        """Sets W (C, n_features) and d (C,)."""
        with torch.no_grad():
            self.solved.weight.copy_(weight)
            self.solved.bias.copy_(bias)


def reader_of(lateral: nn.Module | None) -> nn.Module | None:
    """The part of a lateral that reads the sources: what is inside of a solved one, any other itself."""
    return lateral.lateral if isinstance(lateral, SolvedLateral) else lateral


def solved_laterals(column: "Column") -> Iterator[tuple[str, SolvedLateral]]:
    """The sites of a column with a lateral that is solved, and the lateral: that of the output layer, or none."""
    for site in column.sites:
        lateral = column.lateral(site.name)
        if isinstance(lateral, SolvedLateral):
            yield site.name, lateral
