"""What a step for one task does to another, on a network that both share: gradient cosine and look-ahead affinity.

The shared network is given as functions: the loss of each task from the shared parameters and its own. It is trained
with plain gradient steps on all tasks together, and what is measured at every step is averaged.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import nan

import numpy as np
import torch
from torch import Tensor

from prognet.errors import ConfigError
from prognet.results import Floats

Parameters = Mapping[str, Tensor]
Loss = Callable[[Parameters, Parameters], Tensor]
"""(shared parameters, the task's own parameters) -> the loss of the task, a scalar."""


@dataclass(frozen=True, eq=False)
class Affinities:
    """Between T tasks, mean over the steps; rows are the task that steps, columns the one that is looked at."""

    cosine: Floats
    """(T, T), symmetric: cosine of the gradients of the shared parameters; NaN where one of them is zero."""
    lookahead: Floats
    """(T, T): share of the column's loss that a step for the row takes away."""


def affinities(
    shared: Parameters,
    own: Sequence[Parameters],
    losses: Sequence[Loss],
    *,
    steps: int = 100,
    lr: float = 0.1,
    every: int = 1,
) -> Affinities:
    """Trains a shared network on all tasks for some steps, and measures on the way how the tasks pull.

    Formula: cosine g_i . g_j / (|g_i| |g_j|); look-ahead Z_ij = 1 - L_j(theta - eta g_i) / L_j(theta), g_i the gradient
    of L_i by the shared parameters theta (Fifty et al. 2021, TAG, arXiv 2109.04617, eq. 1). Then theta moves by the
    mean of the gradients, and the parameters of each task by their own.

    Args:
        shared: parameters that all losses depend on, at their start.
        own: for each task the parameters that only its own loss depends on.
        losses: the loss of each task.
        steps: plain gradient steps. In the first ones, with output layers at random, gradients say next to nothing.
        lr: eta, of all steps.
        every: it is measured before every so many-th step; the mean is taken over these.

    Raises:
        ConfigError: when the numbers do not fit.
    """
    if not losses or len(own) != len(losses):
        raise ConfigError(f"own: required one for each of {len(losses)} losses, found {len(own)}.")
    if not 1 <= every <= steps or not lr > 0:
        raise ConfigError(
            f"steps: required at least 1 step of a rate above 0, and at least `every`, found {steps} of {lr!r}, every "
            f"{every}."
        )
    theta, heads = _leaves(shared), [_leaves(part) for part in own]
    cosines, gains = [], []
    for step in range(1, steps + 1):
        values, gradients = [], []
        for loss, head in zip(losses, heads, strict=True):
            value = loss(theta, head)
            found = torch.autograd.grad(value, [*theta.values(), *head.values()], materialize_grads=True)
            values.append(float(value.detach()))
            gradients.append(found)
        if step % every == 0:
            flat = torch.stack([_flat(found[: len(theta)]) for found in gradients])  # (T, P)
            cosines.append(_cosines(flat))
            gains.append(_lookahead(theta, heads, losses, gradients, values, lr))
        mean = [torch.stack(parts).mean(0) for parts in zip(*[found[: len(theta)] for found in gradients], strict=True)]
        heads = [_moved(head, found[len(theta) :], lr) for head, found in zip(heads, gradients, strict=True)]
        theta = _moved(theta, mean, lr)
    return Affinities(np.mean(cosines, axis=0), np.mean(gains, axis=0))


def gradient_cosines(gradients: Tensor) -> Floats:
    """The cosine of every pair of gradients, (T, P) -> (T, T); NaN for one that is zero.

    Raises:
        ConfigError: when there are not several gradients of one length.
    """
    if gradients.ndim != 2:
        raise ConfigError(f"gradients: required (T, P), found {tuple(gradients.shape)}.")
    return _cosines(gradients.detach())


def _cosines(flat: Tensor) -> Floats:
    wide = flat.cpu().double()
    norms = wide.norm(dim=1)
    unit = wide / norms.where(norms > 0, torch.full_like(norms, nan))[:, None]
    found: Floats = (unit @ unit.T).clamp(-1, 1).numpy()
    return found


def _lookahead(
    theta: Parameters,
    heads: Sequence[Parameters],
    losses: Sequence[Loss],
    gradients: Sequence[Sequence[Tensor]],
    values: Sequence[float],
    lr: float,
) -> Floats:
    found = np.full((len(losses), len(losses)), nan)
    with torch.no_grad():
        for i, gradient in enumerate(gradients):
            ahead = _moved(theta, gradient[: len(theta)], lr)
            for j, (loss, head) in enumerate(zip(losses, heads, strict=True)):
                found[i, j] = 1 - float(loss(ahead, head)) / values[j] if values[j] else nan
    return found


def _leaves(parameters: Parameters) -> dict[str, Tensor]:
    return {name: value.detach().clone().requires_grad_() for name, value in parameters.items()}


def _moved(parameters: Parameters, gradients: Sequence[Tensor], lr: float) -> dict[str, Tensor]:
    pairs = zip(parameters.items(), gradients, strict=True)
    return {name: (value.detach() - lr * gradient).requires_grad_() for (name, value), gradient in pairs}


def _flat(gradients: Sequence[Tensor]) -> Tensor:
    return torch.cat([gradient.flatten() for gradient in gradients]) if gradients else torch.zeros(0)
