"""The floor: an MLP column with its adapters, written out by hand as a tensor loop with nothing left to save.

The arithmetic is that of equation 2 with alpha multiplied into V; what frozen columns hand over is given, one row for
every sample. Data lies on the device as bytes, batches are index slices, the optimiser is torch's fused Adam.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional


class Floor:
    """One column: its own parameters, those of its laterals, and the data of its task."""

    def __init__(
        self,
        network: nn.Sequential,
        laterals: Mapping[int, nn.Module],
        x: Tensor,
        y: Tensor,
        rows: Mapping[int, Tensor],
    ) -> None:
        """
        Args:
            network: an MLP of Flatten, Linear and ReLU, copied.
            laterals: the `MLPLateral` of each Linear that has one, by its place among the Linears, copied.
            x: inputs (N, ...), bytes.
            y: targets (N,).
            rows: what each lateral reads of the frozen columns, (N, features).
        """
        self.x, self.y, self.rows = x, y, rows
        self.layers = [_own(layer.weight, layer.bias) for layer in network if isinstance(layer, nn.Linear)]
        self.laterals = {
            place: _own(m.V.weight, m.V.bias, m.U.weight, m.alpha)  # type: ignore[union-attr]
            for place, m in laterals.items()
        }
        parameters = [p for group in [*self.layers, *self.laterals.values()] for p in group]
        self.optimiser = torch.optim.Adam(parameters, fused=True)

    def train(self, updates: int, batch_size: int) -> None:
        """So many updates, in a new random order."""
        order = torch.randperm(len(self.x)).to(self.x.device)
        batches = len(order) // batch_size
        for update in range(updates):
            start = update % batches * batch_size
            self.update(order[start : start + batch_size])

    def update(self, chosen: Tensor) -> None:
        """One update on the chosen samples."""
        h = self.x.index_select(0, chosen).flatten(1).float().div_(255)  # (b, D)
        for place, (weight, bias) in enumerate(self.layers):
            out = functional.linear(h, weight, bias)
            if place in self.laterals:
                out = out + self._lateral(place, chosen)
            h = out if place == len(self.layers) - 1 else torch.relu(out)
        loss = functional.cross_entropy(h, self.y.index_select(0, chosen))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimiser.step()

    def _lateral(self, place: int, chosen: Tensor) -> Tensor:
        V, c, U, alpha = self.laterals[place]
        scale = alpha.unsqueeze(1).expand(-1, V.shape[1] // len(alpha)).reshape(-1)
        return functional.linear(
            torch.relu(functional.linear(self.rows[place].index_select(0, chosen), V * scale, c)), U
        )


def _own(*tensors: Tensor) -> Sequence[Tensor]:
    return [tensor.detach().clone().requires_grad_() for tensor in tensors]
