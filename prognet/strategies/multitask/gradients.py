"""Weightings that look at the gradients of the single losses: one backward pass for each task."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor

from prognet.ranges import NOT_NEGATIVE, POSITIVE, require_number
from prognet.strategies.multitask.projection import least_squares_projector
from prognet.strategies.multitask.weighting import Weighting, require_all, silenced, torchjd, with_extra
from prognet.training.weighting import GradientBalance

_NOT_DPP = "You are solving a parameterized problem that is not DPP"
"""What cvxpy says of the programme of torchjd's NashMTL: that solving it again is not faster, which nobody can mend."""


@dataclass(frozen=True, kw_only=True)
class PCGrad(Weighting):
    """Yu et al. 2020 (arXiv 2001.06782): each gradient is projected off those it conflicts with, in a random order.

    The projections are added: steps are as long as those of the sum.
    """

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        return _Aggregated(torchjd("aggregation").PCGrad(), self.match_scale)


@dataclass(frozen=True, kw_only=True)
class MGDA(Weighting):
    """Sener & Koltun 2018 (arXiv 1810.04650): the shortest vector in the convex hull of the gradients."""

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        return _Aggregated(torchjd("aggregation").MGDA(), self.match_scale)


@dataclass(frozen=True, kw_only=True)
class IMTLG(Weighting):
    """Liu et al. 2021 (ICLR, "Towards impartial multi-task learning"): equal projections on all unit gradients."""

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        return _Aggregated(torchjd("aggregation").IMTLG(), self.match_scale)


@dataclass(frozen=True, kw_only=True)
class AlignedMTL(Weighting):
    """Senushkin et al. 2023 (arXiv 2305.19000): the mean of the gradients with their principal components aligned."""

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        return _Aggregated(torchjd("aggregation").AlignedMTL(), self.match_scale)


@dataclass(frozen=True, kw_only=True)
class UPGrad(Weighting):
    """Quinton & Rey 2024 (arXiv 2406.16232): the mean of the gradients, each projected on the cone without conflict.

    The projections are computed by scipy's non-negative least squares.
    """

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        return _Aggregated(torchjd("aggregation").UPGrad(projector=least_squares_projector()), self.match_scale)


@dataclass(frozen=True, kw_only=True)
class CAGrad(Weighting):
    """Liu et al. 2021 (arXiv 2110.14048): the best worst improvement within a ball around the mean gradient.

    Raises:
        ControlUnavailableError: when the packages of torchjd[cagrad] are not installed.
        ConfigError: when `c` is below 0.
    """

    c: float = 0.5
    """The radius of the ball, in lengths of the mean gradient."""

    def __post_init__(self) -> None:
        require_number("c", self.c, NOT_NEGATIVE)
        self._aggregator()

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        return _Aggregated(self._aggregator(), self.match_scale)

    def _aggregator(self) -> Any:
        return with_extra("CAGrad", "cagrad", lambda: torchjd("aggregation").CAGrad(c=self.c))


@dataclass(frozen=True, kw_only=True)
class NashMTL(Weighting):
    """Navon et al. 2022 (arXiv 2202.01017): the bargaining solution; slow, since a cone programme is solved each time.

    Raises:
        ControlUnavailableError: when the packages of torchjd[nash_mtl] are not installed; one of them is under GPL.
        ConfigError: when `max_norm` is below 0.
    """

    max_norm: float = 1.0
    """The longest combined gradient; 0 for no bound."""

    def __post_init__(self) -> None:
        require_number("max_norm", self.max_norm, NOT_NEGATIVE)
        self._aggregator(2)

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        aggregator = silenced(self._aggregator(len(labels)), _NOT_DPP)
        return _Aggregated(aggregator, self.match_scale, "NashMTL", labels)

    def _aggregator(self, n_tasks: int) -> Any:
        make = torchjd("aggregation").NashMTL
        return with_extra("NashMTL", "nash_mtl", lambda: make(n_tasks, max_norm=self.max_norm))


@dataclass(frozen=True, kw_only=True)
class GradNorm(Weighting):
    """Chen et al. 2018 (arXiv 1711.02257): weights, learned, that bring the gradients w_t g_t to lengths

        mean_s |w_s g_s| * (r_t / mean_s r_s) ** alpha,   r_t = L_t / L_t(at the start),

    by the gradient of sum_t ||w_t g_t| - that length|, taken as a constant; the weights add up to the number of tasks.
    Lengths are those of the gradients by all shared parameters.

    Raises:
        ConfigError: when a number is out of its range.
    """

    alpha: float = 1.5
    """How strongly tasks that learn slowly are preferred; 0 for gradients of equal length."""
    lr: float = 0.025
    """The learning rate of the weights, of an Adam of their own."""

    def __post_init__(self) -> None:
        require_number("alpha", self.alpha, NOT_NEGATIVE)
        require_number("lr", self.lr, POSITIVE)

    def start(self, labels: Sequence[int], device: torch.device) -> GradientBalance:
        return _GradNorm(self, labels, device)


class _Aggregated(GradientBalance):
    """An aggregator of torchjd; the gradients by own parameters stay as they are."""

    def __init__(self, aggregator: Any, match_scale: bool, name: str = "", labels: Sequence[int] | None = None) -> None:
        """With `labels` every one of these tasks has to be in every batch."""
        super().__init__(match_scale)
        self._aggregator, self._name, self._labels = aggregator, name, labels

    def combine(self, rows: Tensor, losses: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        if self._labels is not None:
            require_all(self._name, losses, self._labels)
        if not rows.shape[1]:
            combined = rows[0]  # (P,)
        elif rows.isfinite().all():
            combined = self._aggregator(rows)
        else:  # for which solvers have errors of their own, and the training ends as one that diverged
            combined = torch.full_like(rows[0], nan)
        return combined, rows.new_ones(len(rows))


class _GradNorm(GradientBalance):
    """The weights of GradNorm, and the losses at the start."""

    def __init__(self, settings: GradNorm, labels: Sequence[int], device: torch.device) -> None:
        super().__init__(settings.match_scale)
        self._alpha, self._labels = settings.alpha, labels
        self.weights = torch.ones(len(labels), device=device, requires_grad=True)
        self._optimiser = torch.optim.Adam([self.weights], lr=settings.lr)
        self._first: Tensor | None = None

    def combine(self, rows: Tensor, losses: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        require_all("GradNorm", losses, self._labels)
        current = torch.stack(list(losses.values()))  # (k,)
        self._first = current if self._first is None else self._first
        used = self.weights.detach().clone()
        rates = current / self._first
        lengths = rows.norm(dim=1)  # (k,)
        wanted = (used * lengths).mean() * (rates / rates.mean()) ** self._alpha
        self.weights.grad = torch.sign(used * lengths - wanted) * lengths
        self._optimiser.step()
        with torch.no_grad():
            self.weights.clamp_(min=1e-6).mul_(len(used) / self.weights.sum())
        return used @ rows, used
