"""Early stopping: the end of a training that no longer gets better."""

import torch
from torch import Tensor, nn

from prognet.engine.digest import tensors_of


class EarlyStopping:
    """Keeps the state with the lowest validation loss; does nothing without patience."""

    def __init__(self, module: nn.Module, patience: int | None) -> None:
        self._module, self._patience = module, patience
        self._best, self._waited = float("inf"), 0
        self._state: dict[str, Tensor] | None = None

    def is_over(self, loss: float) -> bool:
        """Whether training should stop after a pass with this validation loss."""
        if self._patience is None:
            return False
        if loss < self._best:
            self._best, self._waited = loss, 0
            self._state = {name: tensor.detach().clone() for name, tensor in tensors_of(self._module)}
        else:
            self._waited += 1
        return self._waited >= self._patience

    def restore(self) -> None:
        """Puts the best state back."""
        if self._state is not None:
            with torch.no_grad():
                for name, tensor in tensors_of(self._module):
                    tensor.copy_(self._state[name])
