"""What a trunk can learn from inputs without labels, before its first task: a seeded start with a budget of its own."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from math import prod
from pathlib import Path
from typing import get_args

import torch
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn import functional

from prognet.backbones.describe import BackboneSpecification
from prognet.backbones.from_file import WithWeights, with_weights
from prognet.config import Measurement, Training
from prognet.engine import probe
from prognet.errors import ConfigError
from prognet.files import write_atomically
from prognet.results import PRIMARY_METRIC
from prognet.seeds import derive_seed
from prognet.strategies.base import example_of
from prognet.strategies.finetune_recipe import FineTuning, PretextName
from prognet.strategies.heads import split
from prognet.streams.objectives import Classification, Objective
from prognet.streams.task import Samples, Task
from prognet.training import FitRecord, Session, evaluating, fit, seeded
from prognet.training.session import ignore_progress, train_alone

_TURNS = 4


@dataclass(frozen=True, slots=True)
class Reconstruction(Objective):
    """Mean squared error of an output (B, D) against the inputs, flattened; the primary metric is its negative."""

    primary = PRIMARY_METRIC

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return functional.mse_loss(output, target.flatten(1))

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return -(output - target.flatten(1)).square().mean(dim=1)  # (B,)

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        return {PRIMARY_METRIC: self.correct(output, target).mean().item()}


def learn_pretext(trunk: nn.Module, task: Task, recipe: FineTuning, session: Session) -> FitRecord:
    """Trains a trunk on the training inputs of a task, whose labels are not looked at; nothing without samples.

    A linear layer on the trunk's features, which is thrown away afterwards, codes the inputs or names the turn. The
    optimiser and the batches are those of the session, the updates those of the recipe.

    Returns:
        What it cost, to be booked as part of learning.

    Raises:
        ConfigError: when the inputs are not square images, and turns are to be told.
    """
    training = replace(
        session.training,
        updates=recipe.pretext_updates if session.training.epochs or session.training.updates else None,
        first_updates=None,
        first_batch_size=None,
        label_smoothing=0.0,
        augment=(),
        patience=None,
    )
    quiet = replace(session.measurement, lca_updates=0, curve_points=0)
    seed = derive_seed(session.seed, task.label, "pretext")
    own = replace(
        session,
        training=training,
        measurement=quiet,
        seed=seed,
        advance=ignore_progress,
        train_together=train_alone,
    )
    assert recipe.pretext is not None
    pretext = pretext_task(task, recipe.pretext)
    with evaluating(trunk):
        features = trunk(example_of(task).to(session.device)).flatten(1)  # (2, D)
    n_outputs = prod(task.input_shape) if recipe.pretext == "autoencoder" else _TURNS
    with seeded(seed, session.device):
        decoder = nn.Linear(features.shape[1], n_outputs).to(session.device)

    def predict(x: Tensor, label: int) -> Tensor:
        out: Tensor = decoder(trunk(x).flatten(1))
        return out

    record = fit(nn.ModuleList([trunk, decoder]), _each(predict), predict, [pretext], own)
    return replace(record, curves=(), trainable=0)


def pretext_start(
    backbone: BackboneSpecification,
    x: Tensor,
    recipe: FineTuning,
    path: str | Path,
    *,
    training: Training | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> tuple[WithWeights, FitRecord]:
    """Learns a pretext on a pool of inputs of one's own, and keeps the network in a file.

    Args:
        backbone: makes the network, such as `prognet.backbones.cnn()`.
        x: the pool, (N, *input_shape), as a stream stores inputs: bytes, which are divided by 255, or floating point.
        recipe: its `pretext` and `pretext_updates` are followed.
        path: the safetensors file that is written.
        training: optimiser, rate and batch size; by default `Training()`.
        seed: of the network and the batches.
        device: where to learn.

    Returns:
        The backbone whose networks begin there, for any strategy, and what it cost.

    Raises:
        ConfigError: when the recipe has no pretext, or the pool does not fit it.
    """
    if recipe.pretext is None:
        raise ConfigError(f"recipe: required one with a pretext, found none; one of {get_args(PretextName)}.")
    none = Samples(x[:0], torch.zeros(0, dtype=torch.int64))
    train = Samples(x, torch.zeros(len(x), dtype=torch.int64))
    pool = Task(
        label=0, name="pool", classes=("pool",), train=train, val=none, test=none, objective=Classification(1), head=0
    )
    session = Session(
        training=training or Training(), measurement=Measurement(), seed=seed, device=torch.device(device)
    )
    with seeded(derive_seed(seed, "backbone"), session.device):
        network = backbone(pool.input_shape, 1).to(device)
    name = probe(network, example_of(pool)).output_layer
    trunk, head = split(network, example_of(pool))
    record = learn_pretext(trunk, pool, recipe, session)
    tensors = {**trunk.state_dict(), **{f"{name}.{own}": tensor for own, tensor in head.state_dict().items()}}
    plain = {key: tensor.detach().cpu().contiguous().clone() for key, tensor in tensors.items()}
    write_atomically(Path(path), save(plain))
    return with_weights(backbone, path), record


def pretext_task(task: Task, kind: PretextName) -> Task:
    """The pretext of a task: its training inputs with targets that are made from themselves.

    Raises:
        ConfigError: when turns are to be told of inputs that are no square images.
    """
    x = task.train.x
    if kind == "autoencoder":
        samples, objective = Samples(x, task.normalisation(x)), Reconstruction()
        return replace(task, train=samples, val=_few(samples, 0), test=_few(samples, 1), objective=objective)
    if x.ndim != 4 or x.shape[2] != x.shape[3]:
        raise ConfigError(
            f"pretext: required square images (C, H, H) to be turned, found inputs {task.input_shape} in task "
            f"{task.label}; take 'autoencoder'."
        )
    turned = torch.cat([torch.rot90(x, turns, dims=(2, 3)) for turns in range(_TURNS)])  # (4 N, C, H, H)
    samples = Samples(turned, torch.arange(_TURNS).repeat_interleave(len(x)).to(turned.device))
    return replace(task, train=samples, val=_few(samples, 0), test=_few(samples, 1), objective=Classification(_TURNS))


def _few(samples: Samples, count: int) -> Samples:
    return Samples(samples.x[:count], samples.y[:count])


def _each(predict: Callable[[Tensor, int], Tensor]) -> Callable[[Mapping[int, Tensor]], Mapping[int, Tensor]]:
    return lambda inputs: {label: predict(x, label) for label, x in inputs.items()}
