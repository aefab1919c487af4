"""How the losses of several tasks become one gradient, where it is not that of their mean.

A weighting works on l_t = k n_t / N L_t, where L_t is the mean loss of the n_t samples that task t has in a batch of N
samples from k tasks. The mean of these l_t is the mean loss over the samples, so that how often tasks are sampled keeps
its meaning whatever the weighting; with as many samples of each, l_t is L_t. Tasks without samples in a batch are left
out. What is added to the loss, such as a penalty, is added after the weighting.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn

Parts = Mapping[int, Tensor]
"""Task label -> its part n_t / N L_t of the mean loss of a batch, ()."""


def total(parts: Parts, penalty: Tensor | None) -> Tensor:
    """The mean loss over the samples of a batch, and the penalty: what is minimised without any weighting, ()."""
    losses = list(parts.values())
    loss = losses[0] if len(losses) == 1 else torch.stack(losses).sum()
    return loss if penalty is None else loss + penalty


class Balance(ABC):
    """The weighting of one training: made before its first update, and forgotten after its last one."""

    def __init__(self, match_scale: bool = False) -> None:
        """
        Args:
            match_scale: whether a step is to be as long as that of the mean of the losses, or about as long.
        """
        self.match_scale = match_scale
        self.own: Mapping[nn.Parameter, int] = {}
        """The task, by its label, of parameters that change no other task's outputs, though all losses reach them."""
        self._norms: Tensor | None = None
        self._updates = 0

    @abstractmethod
    def backward(self, parts: Parts, penalty: Tensor | None, parameters: Sequence[nn.Parameter]) -> None:
        """Sets the gradients of the parameters, which have none yet.

        Args:
            parts: the parts of the mean loss, one at least.
            penalty: what is added after the weighting, ().
            parameters: what is trained.
        """

    def after_step(self, again: Callable[[], Parts]) -> None:  # noqa: B027  # most do nothing
        """Told after every update; `again` computes the parts of the same batch anew."""

    def after_pass(self) -> None:  # noqa: B027  # most do nothing
        """Told after every pass over the samples."""

    def note_norm(self, parameters: Sequence[nn.Parameter]) -> None:
        """Notes the length of the gradient, without waiting for the device."""
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        norm = torch.stack(torch._foreach_norm(gradients)).norm()
        self._norms = norm if self._norms is None else self._norms + norm
        self._updates += 1

    def mean_norm(self) -> float:
        """The mean length of the gradients so far; NaN before the first one. Waits for the device."""
        return float("nan") if self._norms is None else self._norms.item() / self._updates


class LossBalance(Balance):
    """Weights that follow from the losses alone: one backward pass."""

    def __init__(self, match_scale: bool = False, learned: Sequence[nn.Parameter] = (), lr: float = 0.0) -> None:
        """
        Args:
            match_scale: whether weights are divided by their sum.
            learned: parameters of the weighting, which an Adam of their own trains on `scalar`.
            lr: its learning rate.
        """
        super().__init__(match_scale)
        self._learned = list(learned)
        self._optimiser = torch.optim.Adam(self._learned, lr=lr) if self._learned else None

    @abstractmethod
    def scalar(self, losses: Mapping[int, Tensor]) -> Tensor:
        """The losses l_t in one number, (); its derivatives by them are the weights."""

    def backward(self, parts: Parts, penalty: Tensor | None, parameters: Sequence[nn.Parameter]) -> None:
        leaves = {label: (len(parts) * part).detach().requires_grad_() for label, part in parts.items()}
        scalar = self.scalar(leaves)
        found: Sequence[Tensor | None] = torch.autograd.grad(
            scalar, [*leaves.values(), *self._learned], allow_unused=True
        )
        weights = torch.stack(
            [torch.zeros_like(scalar) if weight is None else weight for weight in found[: len(parts)]]
        )
        if self.match_scale:  # where all are 0, as of tasks that are given none, they stay so
            weights = weights / torch.where(weights.sum() > 0, weights.sum(), 1.0)
        loss = (weights * len(parts) * torch.stack(list(parts.values()))).sum()
        (loss if penalty is None else loss + penalty).backward()  # type: ignore[no-untyped-call]
        if self._optimiser is not None:
            for parameter, gradient in zip(self._learned, found[len(parts) :], strict=True):
                parameter.grad = gradient  # None for a task that is not in the batch
            self._optimiser.step()


class GradientBalance(Balance):
    """Weights that follow from the gradients of the single losses: one backward pass for each of them.

    The parameters that more than one task reaches are shared: for them the gradients, one row a task, are combined.
    A parameter that one task alone reaches, or owns, gets that task's gradient. `match_scale` brings the combined
    gradient to the length of the mean of the rows, and divides the gradients of the others as the mean of the losses
    does.
    """

    @abstractmethod
    def combine(self, rows: Tensor, losses: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        """What becomes of the gradients.

        Args:
            rows: the gradients of the k losses by the shared parameters, (k, P).
            losses: the k losses l_t, in the order of the rows.

        Returns:
            The combined gradient (P,), and a factor (k,) for each task's gradient by its own parameters.
        """

    def backward(self, parts: Parts, penalty: Tensor | None, parameters: Sequence[nn.Parameter]) -> None:
        losses = {label: len(parts) * part for label, part in parts.items()}
        rows = [
            torch.autograd.grad(
                loss, parameters, retain_graph=penalty is not None or index < len(losses) - 1, allow_unused=True
            )
            for index, loss in enumerate(losses.values())
        ]
        reached = [
            [
                index
                for index, (label, row) in enumerate(zip(losses, rows, strict=True))
                if row[place] is not None and self.own.get(parameter, label) == label
            ]
            for place, parameter in enumerate(parameters)
        ]
        shared = [place for place, by in enumerate(reached) if len(by) > 1]
        detached = {label: loss.detach() for label, loss in losses.items()}
        factors = self._set_shared([parameters[place] for place in shared], _matrix(rows, parameters, shared), detached)
        for place, by in enumerate(reached):
            if len(by) == 1:
                parameters[place].grad = rows[by[0]][place] * factors[by[0]]
        if penalty is not None and penalty.requires_grad:
            penalty.backward()  # type: ignore[no-untyped-call]

    def _set_shared(self, shared: Sequence[nn.Parameter], rows: Tensor, losses: Mapping[int, Tensor]) -> Tensor:
        """Sets the gradients of the shared parameters -> the factors for the others, (k,)."""
        combined, factors = self.combine(rows, losses)
        if self.match_scale:
            combined = matched(combined, rows)
            factors = factors / factors.sum()
        for parameter, gradient in zip(
            shared, torch.split(combined, [parameter.numel() for parameter in shared]), strict=True
        ):
            parameter.grad = gradient.view_as(parameter).clone()
        return factors


def matched(combined: Tensor, rows: Tensor) -> Tensor:
    """The combined gradient (P,) in the length of the mean of the rows (k, P); nothing where it is nothing."""
    length = combined.norm()
    return combined * torch.where(length > 0, rows.mean(dim=0).norm() / length, length)


def _matrix(
    rows: Sequence[Sequence[Tensor | None]], parameters: Sequence[nn.Parameter], places: Sequence[int]
) -> Tensor:
    """The gradients of the parameters at some places, a row for each loss: (k, P)."""

    def flat(gradient: Tensor | None, parameter: nn.Parameter) -> Tensor:
        return (torch.zeros_like(parameter) if gradient is None else gradient).flatten()

    parts = [[flat(row[place], parameters[place]) for place in places] for row in rows]
    return torch.stack([torch.cat(row) if row else parameters[0].new_zeros(0) for row in parts])
