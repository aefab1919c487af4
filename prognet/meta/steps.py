"""The steps of meta-learning as functions of parameters: values in, values out, nothing is changed.

MAML (Finn et al. 2017, arXiv 1703.03400) descends the loss after an inner loop of k steps,

    theta_i = theta - a grad L_i(theta), k times,      theta <- theta - b grad_theta mean_i L'_i(theta_i)

through the inner steps, so with second derivatives; the first-order variant takes their gradients as constants. ANIL
(Raghu et al. 2020, arXiv 1909.09157) is the same with the head alone in the inner loop. Reptile (Nichol et al. 2018,
arXiv 1803.02999) moves towards where the inner loop ends, theta <- theta + e mean_i (theta_i - theta).
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, grad_and_value, vmap

from prognet.errors import ConfigError, PrognetError
from prognet.meta.episodes import Episodes
from prognet.training.attention import unfused_attention
from prognet.training.memory import is_out_of_memory

Parameters = Mapping[str, Tensor]
Criterion = Callable[[Tensor, Tensor], Tensor]
"""(outputs (n, ...), targets (n, ...)) -> loss, ()."""
Loss = Callable[[Parameters, Tensor, Tensor], Tensor]
"""(parameters, inputs (n, ...), targets (n, ...)) -> loss, ()."""


def loss_with(network: nn.Module, criterion: Criterion) -> Loss:
    """The loss of a network as a function of its parameters.

    Raises:
        ConfigError: when the network keeps statistics of its batches, which no function of parameters can.
    """
    for name, module in network.named_modules():
        if getattr(module, "running_mean", None) is not None:
            raise ConfigError(
                f"network: required one without running statistics, found a {type(module).__name__} at {name!r}; "
                "meta-learning runs many tasks at once: take GroupNorm, or no norm."
            )
    buffers = dict(network.named_buffers())

    def loss(parameters: Parameters, x: Tensor, y: Tensor) -> Tensor:
        return criterion(functional_call(network, {**parameters, **buffers}, (x,)), y)

    return loss


def adapted(
    loss: Loss,
    parameters: Parameters,
    batches: Sequence[tuple[Tensor, Tensor]],
    rate: float,
    *,
    inner: Collection[str] | None = None,
    first_order: bool = False,
) -> dict[str, Tensor]:
    """The parameters after one step of gradient descent on each of some batches.

    Args:
        loss: what is descended.
        parameters: where from, by name.
        batches: inputs and targets of every step.
        rate: length of a step, a.
        inner: names of those that move; None for all.
        first_order: whether gradients are constants to a derivative by where the descent began.
    """
    moving = {name: p for name, p in parameters.items() if inner is None or name in inner}
    for x, y in batches:
        gradient = grad(lambda own, x=x, y=y: loss({**parameters, **own}, x, y))(moving)
        moving = {
            name: p - rate * (gradient[name].detach() if first_order else gradient[name]) for name, p in moving.items()
        }
    return {**parameters, **moving}


def meta_gradient(
    loss: Loss,
    parameters: Parameters,
    episodes: Episodes,
    rate: float,
    steps: int,
    *,
    inner: Collection[str] | None = None,
    first_order: bool = False,
) -> tuple[dict[str, Tensor], Tensor]:
    """The gradient of the loss on the query samples after `steps` steps on the others, as mean over the episodes.

    All episodes run at once, by `vmap`.

    Returns:
        The gradient by name, and the loss, ().

    Raises:
        ConfigError: when the loss of many episodes cannot be computed at once, as that of recurrent layers.
    """

    def after(x: Tensor, y: Tensor, query_x: Tensor, query_y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        def judged(own: Parameters) -> Tensor:
            end = adapted(loss, own, [(x, y)] * steps, rate, inner=inner, first_order=first_order)
            return loss(end, query_x, query_y)

        gradient, value = grad_and_value(judged)(dict(parameters))
        return gradient, value

    # vmap stands outside of both derivatives: what it lifts of norms between them forgets how statistics are derived
    with _at_once(loss, parameters, episodes):
        gradients, losses = vmap(after, randomness="different")(
            episodes.x, episodes.y, episodes.query_x, episodes.query_y
        )
    return {name: each.mean(0) for name, each in gradients.items()}, losses.mean()


@torch.no_grad()
def reptile_direction(
    loss: Loss, parameters: Parameters, episodes: Episodes, rate: float, steps: int
) -> tuple[dict[str, Tensor], Tensor]:
    """Where the inner loops end, relative to where they begin: mean_i (theta_i - theta).

    All samples of an episode are shared out over the steps, so that these see different ones; where there are more
    steps than samples, each sees one, and after the last sample comes the first again.

    Returns:
        The direction by name, and the mean loss, (), on all samples at the end.

    Raises:
        ConfigError: when the loss of many episodes cannot be computed at once, as that of recurrent layers.
    """
    x, y = episodes.together()

    def end(x: Tensor, y: Tensor) -> tuple[dict[str, Tensor], Tensor]:
        parts = min(steps, len(x))
        batches = list(zip(x.tensor_split(parts), y.tensor_split(parts), strict=True))
        own = adapted(loss, parameters, [batches[step % parts] for step in range(steps)], rate)
        return own, loss(own, x, y)

    with _at_once(loss, parameters, episodes):
        ends, losses = vmap(end, randomness="different")(x, y)
    return {name: ends[name].mean(0) - p for name, p in parameters.items()}, losses.mean()


@contextmanager
def _at_once(loss: Loss, parameters: Parameters, episodes: Episodes) -> Iterator[None]:
    """Within the block all episodes are computed at once; what cannot be is a ConfigError."""
    try:
        with unfused_attention():
            yield
    except PrognetError:
        raise
    except RuntimeError as error:
        if is_out_of_memory(error):
            raise
        loss(parameters, episodes.x[0], episodes.y[0])  # what fails for one episode fails with an error of its own
        raise ConfigError(
            "network: required one whose loss torch.func.vmap computes for many episodes at once, found that it "
            f"cannot ({error}); write recurrent layers out in plain operations, and leave out branches that depend "
            "on numbers."
        ) from error
