"""What is measured: columns as they are initialised, tasks of random bytes, and a training of the newest column."""

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from prognet.backbones import mlp
from prognet.config import Execution, Measurement, Training
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.strategies.base import Backbone
from prognet.strategies.columns import reading_of
from prognet.streams import Samples, Task
from prognet.streams.objectives import Classification
from prognet.training import FitRecord, Session, fit
from prognet.training.session import ignore_progress

WIDTH, BATCH, SAMPLES, CLASSES, DIGIT = 100, 128, 12_000, 2, (1, 28, 28)
QUIET = Measurement(lca_updates=0, curve_points=0, curve_samples=1, gates=())
BACKBONE = mlp(hidden=(WIDTH, WIDTH))
KEPT, FRESH = Execution(), Execution(feature_memory=0)


def columns(
    device: torch.device,
    k: int,
    sources: int | None = None,
    hidden: float | None = None,
    backbone: Backbone = BACKBONE,
    shape: Sequence[int] = DIGIT,
    classes: int = CLASSES,
) -> ProgressiveNetwork:
    """A network of k untrained columns, each of which reads the `sources` before it, or all.

    `hidden` is the width of the laterals, in terms of the features of the site.
    """
    network, example = ProgressiveNetwork(MLPAdapter(hidden=hidden)), torch.zeros(2, *shape, device=device)
    for index in range(k):
        read = range(max(0, index - (index if sources is None else sources)), index)
        network.add_column(backbone(shape, classes).to(device), example, sources=read)
    return network


def random_task(shape: Sequence[int] = DIGIT, size: int = SAMPLES, classes: int = CLASSES) -> Task:
    """Random bytes, by default as many as a task of Split-MNIST has."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (size, *shape), generator=generator, dtype=torch.uint8)
    samples = Samples(x, torch.randint(classes, (size,), generator=generator))
    return Task(
        label=0,
        name="random",
        classes=tuple(map(str, range(classes))),
        train=samples,
        val=Samples(samples.x[:0], samples.y[:0]),
        test=Samples(samples.x[:2], samples.y[:2]),
        objective=Classification(classes),
        head=0,
    )


def inputs(task: Task) -> Tensor:
    """All training inputs, normalised."""
    return task.normalisation(task.train.x)


def session_of(training: Training, device: torch.device, execution: Execution = KEPT) -> Session:
    """A session in which next to nothing is measured."""
    return Session(training=training, measurement=QUIET, seed=0, device=device, execution=execution)


def learn(
    network: ProgressiveNetwork, task: Task, device: torch.device, execution: Execution, updates: int
) -> FitRecord:
    """So many updates of the newest column by the training loop."""
    return train(network, task, session_of(Training(updates=updates, batch_size=BATCH), device, execution))


def train(
    network: ProgressiveNetwork, task: Task, session: Session, advance: Callable[[int], None] = ignore_progress
) -> FitRecord:
    """Trains the newest column by the training loop."""
    k = len(network) - 1
    forward = lambda inputs: {label: network(x, column=k) for label, x in inputs.items()}  # noqa: E731
    predict = lambda x, label: network(x, column=k)  # noqa: E731
    told = replace(session, advance=advance)
    return fit(network.column(k), forward, predict, [task], told, reading=reading_of(network, k))
