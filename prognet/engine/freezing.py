"""Parts that can be frozen for good, and what keeps them so.

What torch lets a module notice is refused or ignored: training mode, `requires_grad_`, another floating point type,
`load_state_dict`. What it does not, such as a parent's `requires_grad_` or a write into a parameter, is found
afterwards: a frozen part remembers the fingerprint of every tensor, and `problem` names the first one that has changed.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from typing import Any, Self

import torch
from torch import Tensor, nn

from prognet.engine.digest import fingerprint, fingerprints, first_difference
from prognet.errors import FrozenColumnError


class Freezable(nn.Module):
    """A module that learns until it is frozen, and never after."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen = False
        self._seal: Mapping[str, str] = {}

    def freeze(self) -> Self:
        """Ends learning for good: evaluation mode, no gradients; returns the column."""
        first = not self.frozen
        self.frozen = True
        self.requires_grad_(False)
        for parameter in self.parameters():
            parameter.grad = None
        if first:
            self.seal()
        return self.train(False)

    def seal(self) -> None:
        """Remembers the fingerprints of all tensors: what a frozen column has to keep. For whoever loads it."""
        self._seal = fingerprints(self)

    def problem(self) -> str | None:
        """What is wrong with a frozen column, or None: one that can learn, or has been written into."""
        if not self.frozen:
            return None
        if (found := self.unfrozen()) is not None:
            return found
        name = first_difference(self._seal, fingerprints(self))
        if name is None:
            return None
        return f"required the tensors with which it was frozen, found another {name!r}; load the network again."

    def unfrozen(self) -> str | None:
        """What lets a frozen column learn or leave evaluation mode, or None."""
        for name, parameter in self.named_parameters():
            if self.frozen and parameter.requires_grad:
                return (
                    f"required frozen parameters, found requires_grad=True at {name!r}; call freeze() on the network "
                    "instead of requires_grad_() on its parts."
                )
        for name, module in self.named_modules():
            if self.frozen and module.training:
                return (
                    f"required evaluation mode, found training mode at {name!r}; call train() on the network, which "
                    "leaves frozen columns alone."
                )
        return None

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As in torch, for a column that is not frozen.

        Raises:
            FrozenColumnError: when a frozen column is to learn.
        """
        if self.frozen and requires_grad:
            raise FrozenColumnError(
                "requires_grad_: required a column that is not frozen, found a frozen one; add a column to learn more."
            )
        return super().requires_grad_(requires_grad)

    def refuse_other_type(self, change: Callable[[Tensor], Tensor]) -> None:
        """Refuses a change of all tensors that would give a frozen column another floating point type.

        Raises:
            FrozenColumnError: for `half`, `double` or `to(dtype)`; devices and memory formats may change.
        """
        for name, tensor in chain(self.named_parameters(), self.named_buffers()) if self.frozen else ():
            found = change(torch.empty(0, dtype=tensor.dtype, device=tensor.device)).dtype
            if found != tensor.dtype:
                raise FrozenColumnError(
                    f"to: required {tensor.dtype} at {name!r}, with which the column was frozen, found {found}; "
                    "another type is another function: convert backbones before they become columns, or use "
                    "torch.autocast."
                )

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        self.refuse_other_type(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return,no-untyped-call]

    def _load_from_state_dict(
        self,
        state_dict: Mapping[str, Any],
        prefix: str,
        local_metadata: Mapping[str, Any],
        strict: bool,
        missing_keys: list[str],
        unexpected_keys: list[str],
        error_msgs: list[str],
    ) -> None:
        own = self.state_dict(prefix=prefix) if self.frozen else {}
        for name, tensor in own.items():
            given = state_dict.get(name)
            if isinstance(given, Tensor) and fingerprint(given) != fingerprint(tensor):
                raise FrozenColumnError(
                    f"load_state_dict: required the numbers of the frozen column at {name!r}, found others; read a "
                    "saved network with ProgressiveNetwork.load, or load before the column is frozen."
                )
        super()._load_from_state_dict(
            state_dict, prefix, local_metadata, strict, missing_keys, unexpected_keys, error_msgs
        )

    def train(self, mode: bool = True) -> Self:
        """As in torch, but a frozen column stays in evaluation mode, with its BatchNorm statistics and dropout."""
        super().train(mode and not self.frozen)
        return self
