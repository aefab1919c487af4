"""Closed-form ridge regression on fixed features, with its exact leave-one-out predictions: evidence without training.

Classes are regressed as one-hot vectors. The fit gives logits at once, and tells how well features predict the labels
of samples that were not used, for every sample, from one decomposition.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from prognet.errors import ConfigError

SCALES = (2.0, 4.0, 8.0, 16.0)
_PENALTIES = tuple(10.0**exponent for exponent in range(-4, 4))
_LARGEST_LEVERAGE = 1 - 1e-9


@dataclass(frozen=True, eq=False)
class RidgeFit:
    """A linear classifier in closed form: `logits = features @ weight.T + bias`."""

    weight: Tensor
    """(C, D), already times the scale."""
    bias: Tensor
    """(C,), already times the scale."""
    penalty: float
    """Relative to the mean squared singular value of the centred features."""
    scale: float
    """By what the regressed one-hot vectors are multiplied to be logits."""
    left_out: Tensor
    """(N, C): the logits of every sample by the fit to all others."""
    cross_entropy: float
    """Of the left-out logits, in nats."""
    accuracy: float
    """Of the left-out logits, in [0, 1]."""


def ridge_fit(features: Tensor, y: Tensor, n_classes: int, scales: Sequence[float] = SCALES) -> RidgeFit:
    """The ridge regression with the penalty and scale of the lowest leave-one-out cross-entropy.

    The bias is not penalised. Left-out predictions are exact: the residual over one minus the leverage (Allen's PRESS,
    Technometrics 16, 1974).

    Args:
        features: (N, D), at least two samples.
        y: classes (N,), in [0, n_classes).
        n_classes: C.
        scales: candidates for the scale of the logits.

    Raises:
        ConfigError: when there are too few samples, the shapes do not fit, or a feature is not finite.
    """
    _check(features, y)
    X, Y = features.detach().cpu().double(), functional.one_hot(y.detach().cpu(), n_classes).double()  # (N, D), (N, C)
    mean_x, mean_y = X.mean(0), Y.mean(0)
    variances, V = _axes(X - mean_x)  # (R,), (D, R)
    Z = (X - mean_x) @ V  # (N, R)
    squared, correlated = Z.square(), Z.T @ (Y - mean_y)  # (N, R), (R, C)
    unit = variances.mean().clamp_min(1e-12)
    best: RidgeFit | None = None
    for penalty in _PENALTIES:
        shrunk = 1 / (variances + penalty * unit)  # (R,)
        fitted = mean_y + Z @ (shrunk[:, None] * correlated)  # (N, C)
        leverage = (squared @ shrunk + 1 / len(X)).clamp_max(_LARGEST_LEVERAGE)  # (N,)
        left_out = Y - (Y - fitted) / (1 - leverage)[:, None]  # (N, C)
        for scale in scales:
            loss = float(functional.cross_entropy(scale * left_out, y.cpu()))
            if best is None or loss < best.cross_entropy:
                W = (V @ (shrunk[:, None] * correlated)).T  # (C, D)
                best = RidgeFit(
                    weight=(scale * W).to(features),
                    bias=(scale * (mean_y - W @ mean_x)).to(features),
                    penalty=penalty,
                    scale=scale,
                    left_out=(scale * left_out).to(features),
                    cross_entropy=loss,
                    accuracy=float((left_out.argmax(1) == y.cpu()).double().mean()),
                )
    assert best is not None
    return best


def _axes(X: Tensor) -> tuple[Tensor, Tensor]:
    """The squared singular values (R,) of centred features (N, D), and their directions (D, R).

    With no more features than samples they are those of the Gram matrix, which is many times as fast as a decomposition
    of the features. What it loses in precision lies far below the smallest penalty.
    """
    if X.shape[1] <= X.shape[0]:
        variances, V = torch.linalg.eigh(X.T @ X)
        return variances.clamp_min(0), V
    _, s, Vt = torch.linalg.svd(X, full_matrices=False)
    return s.square(), Vt.T


def _check(features: Tensor, y: Tensor) -> None:
    if features.ndim != 2 or y.shape != features.shape[:1]:
        raise ConfigError(
            f"features: required (N, D) and classes (N,), found {tuple(features.shape)} and {tuple(y.shape)}."
        )
    if len(features) < 2:
        raise ConfigError(f"features: required at least 2 samples to leave one out, found {len(features)}.")
    if broken := int((~features.isfinite()).any(1).sum()):
        raise ConfigError(
            f"features: required finite numbers, found {broken} of {len(features)} samples with inf or nan; look at "
            "what the network makes of its inputs."
        )
