"""Learning an initialisation: alone, and as the start of columns and of fine-tuning."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from time import perf_counter
from typing import Literal, get_args

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import SGD, Adam, Optimizer

from prognet.backbones.checks import require_whole
from prognet.backbones.describe import BackboneSpecification
from prognet.backbones.from_file import WithWeights, with_weights
from prognet.engine import probe
from prognet.engine.sites import same_device
from prognet.errors import ConfigError, DivergedError
from prognet.files import write_atomically
from prognet.meta.episodes import Episodes, FewShot
from prognet.meta.steps import Criterion, Loss, Parameters, adapted, loss_with, meta_gradient, reptile_direction
from prognet.ranges import POSITIVE, require_number
from prognet.seeds import derive_seed
from prognet.streams.task import Task
from prognet.training import seeded

MetaName = Literal["reptile", "maml", "anil"]
Draw = Callable[[int, torch.Generator], Episodes]
"""(number of episodes, generator) -> that many episodes."""


@dataclass(frozen=True, kw_only=True)
class MetaLearning:
    """How an initialisation is learned.

    Raises:
        ConfigError: when a value is out of its range.
    """

    method: MetaName = "reptile"
    """`"maml"`: descends the loss after the inner loop; `"anil"`: the same, and only the head moves in it;
    `"reptile"`: moves towards where it ends."""
    first_order: bool = False
    """Whether MAML and ANIL take the gradients of the inner loop as constants; Reptile has no second derivatives."""
    inner_rate: float = 0.1
    """Rate of the inner loop, which is plain gradient descent."""
    inner_steps: int = 5
    """Steps of the inner loop; those of Reptile share out the samples of an episode, or go over them again."""
    outer_rate: float | None = None
    """Rate of Adam for MAML and ANIL, by default 0.001; the share of the way that Reptile goes, by default 0.5."""
    rounds: int = 200
    """Steps of the outer loop."""
    episodes: int = 8
    """Episodes in a round."""

    def __post_init__(self) -> None:
        if self.method not in get_args(MetaName):
            raise ConfigError(f"method: required one of {get_args(MetaName)}, found {self.method!r}.")
        for name in ("inner_steps", "rounds", "episodes"):
            require_whole(name, getattr(self, name))
        require_number("inner_rate", self.inner_rate, POSITIVE)
        if self.outer_rate is not None:
            require_number("outer_rate", self.outer_rate, POSITIVE)
        if self.method == "reptile" and self.first_order:
            raise ConfigError("first_order: required False for reptile, which has no second derivatives, found True.")


@dataclass(frozen=True, kw_only=True, slots=True)
class MetaRecord:
    """What a meta-learning did."""

    losses: tuple[float, ...]
    """The mean loss after the inner loop, round by round: on query samples, for Reptile on all."""
    episodes: int
    """Inner loops in all."""
    samples: int
    """Samples of all episodes."""
    seconds: float


def meta_learn(
    network: nn.Module,
    draw: Draw,
    meta: MetaLearning,
    *,
    criterion: Criterion = functional.cross_entropy,
    seed: int = 0,
) -> MetaRecord:
    """Learns the parameters of a network that require a gradient as an initialisation, in place.

    Args:
        network: without running statistics; its mode is left as it is.
        draw: makes episodes, such as `FewShot(...).draw` or `sine_episodes`.
        meta: how.
        criterion: the loss of outputs against targets.
        seed: of the episodes.

    Raises:
        ConfigError: when the network has running statistics, no parameter of it requires a gradient, it cannot be
            computed for many episodes at once, or ANIL finds no output layer that learns; when episodes lack samples.
        DivergedError: when a loss is not finite.
    """
    started, generator = perf_counter(), torch.Generator().manual_seed(derive_seed(seed, "episodes"))
    parameters = _learned(network)
    device = next(iter(parameters.values())).device
    loss, outer = loss_with(network, criterion), _outer_optimiser(meta, parameters.values())
    losses, samples = [], 0
    with seeded(derive_seed(seed, "meta"), device):
        for number in range(meta.rounds):
            episodes = draw(meta.episodes, generator).to(device)
            _check_samples(episodes, meta)
            samples += episodes.y.shape[:2].numel() + episodes.query_y.shape[:2].numel()
            inner = head_names(network, episodes.x[0]) if meta.method == "anil" else None
            gradient, value = _outer_gradient(loss, parameters, episodes, meta, inner)
            for name, parameter in parameters.items():
                parameter.grad = gradient[name]
            outer.step()
            losses.append(value.item())
            if not isfinite(losses[-1]):
                raise DivergedError(
                    f"meta-learning: required a finite loss, found {losses[-1]} in round {number}; use smaller rates "
                    f"than inner_rate={meta.inner_rate}, outer_rate={meta.outer_rate}."
                )
    outer.zero_grad(set_to_none=True)
    return MetaRecord(
        losses=tuple(losses),
        episodes=meta.rounds * meta.episodes,
        samples=samples,
        seconds=perf_counter() - started,
    )


def _learned(network: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that require a gradient, by name: what inner and outer loop may move."""
    learned = {name: parameter for name, parameter in network.named_parameters() if parameter.requires_grad}
    if not learned:
        raise ConfigError(
            "network: required a parameter that requires a gradient, found none; call requires_grad_(True) on what is "
            "to be learned."
        )
    return learned


def _check_samples(episodes: Episodes, meta: MetaLearning) -> None:
    found = (episodes.x.shape[1], episodes.query_x.shape[1])
    if not found[0]:
        raise ConfigError("draw: required episodes with samples to learn from, found none; ask for shots=1 or more.")
    if not found[1] and meta.method != "reptile":
        raise ConfigError(
            f"draw: required episodes with samples to be judged by for {meta.method}, found none; ask for queries=1 or "
            "more, or use method='reptile', which does not tell the two kinds apart."
        )


def _outer_optimiser(meta: MetaLearning, parameters: Iterable[nn.Parameter]) -> Optimizer:
    if meta.method == "reptile":
        return SGD(parameters, lr=0.5 if meta.outer_rate is None else meta.outer_rate)
    return Adam(parameters, lr=1e-3 if meta.outer_rate is None else meta.outer_rate)


def _outer_gradient(
    loss: Loss, parameters: Parameters, episodes: Episodes, meta: MetaLearning, inner: Sequence[str] | None
) -> tuple[Mapping[str, Tensor], Tensor]:
    """What is descended in the outer loop, by name, and the loss; for Reptile the way back from where it goes."""
    values = {name: parameter.detach() for name, parameter in parameters.items()}
    rate, steps = meta.inner_rate, meta.inner_steps
    if meta.method == "reptile":
        direction, value = reptile_direction(loss, values, episodes, rate, steps)
        return {name: -way for name, way in direction.items()}, value
    return meta_gradient(loss, values, episodes, rate, steps, inner=inner, first_order=meta.first_order)


def head_names(network: nn.Module, example: Tensor) -> list[str]:
    """The names of the parameters of the output layer that require a gradient: what moves in the inner loop of ANIL.

    Raises:
        ConfigError: when there is no output layer, or all of it is frozen.
    """
    name = probe(network, same_device(network, example)).output_layer
    if name is None:
        raise ConfigError("network: required an output layer, which alone moves in the inner loop of ANIL, found none.")
    own = [f"{name}.{own}" for own, p in network.get_submodule(name).named_parameters() if p.requires_grad]
    if not own:
        raise ConfigError(
            f"network: required an output layer that learns, which alone moves in the inner loop of ANIL, found "
            f"{name!r} frozen; call requires_grad_(True) on it, or use another method."
        )
    return own


def adapt(
    network: nn.Module,
    x: Tensor,
    y: Tensor,
    meta: MetaLearning,
    *,
    steps: int | None = None,
    criterion: Criterion = functional.cross_entropy,
) -> nn.Module:
    """A copy of the network after the inner loop on a few samples; the network stays as it is, and what of it
    requires no gradient does not move.

    Args:
        network: where from.
        x: inputs (n, *input_shape).
        y: targets (n, ...).
        meta: rate and steps, and whether the head alone moves.
        steps: in the place of those of `meta`.
        criterion: the loss of outputs against targets.

    Raises:
        ConfigError: when the network has running statistics, no parameter of it requires a gradient, or ANIL finds no
            output layer that learns.
    """
    learner, inner = deepcopy(network), head_names(network, x) if meta.method == "anil" else None
    values = {name: p.detach() for name, p in _learned(learner).items()}
    count = meta.inner_steps if steps is None else steps
    end = adapted(loss_with(learner, criterion), values, [(x, y)] * count, meta.inner_rate, inner=inner)
    with torch.no_grad():
        for name, p in _learned(learner).items():
            p.copy_(end[name])
    return learner


def learn_start(
    backbone: BackboneSpecification,
    tasks: Sequence[Task],
    meta: MetaLearning,
    path: str | Path,
    *,
    ways: int = 5,
    shots: int = 5,
    queries: int = 10,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[WithWeights, MetaRecord]:
    """Learns an initialisation on the training splits of tasks, and keeps it in a file.

    Args:
        backbone: makes the network, such as `prognet.backbones.mlp()`.
        tasks: where episodes are drawn from; they should not be among the tasks that are learned from the start.
        meta: how.
        path: the safetensors file that is written.
        ways: classes of an episode; a network for as many classes begins with the learned head, too.
        shots: samples a class to learn from.
        queries: samples a class to be judged by.
        seed: of the network and the episodes.
        device: where to learn.

    Returns:
        The backbone whose networks begin there, for any strategy, and what it cost.

    Raises:
        StreamError: when the tasks do not have enough classes or samples.
        ConfigError: when the network cannot be meta-learned.
    """
    few = FewShot(tasks=tasks, ways=ways, shots=shots, queries=queries)
    with seeded(derive_seed(seed, "backbone"), torch.device(device)):
        network = backbone(tasks[0].input_shape, ways).to(device)
    record = meta_learn(network, few.draw, meta, seed=seed)
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    write_atomically(Path(path), save(tensors))
    return with_weights(backbone, path), record
