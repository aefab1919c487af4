"""What processes do together in the tests; every function returns what can be saved."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache, partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from prognet.backbones import mlp
from prognet.config import Execution, Training, Workers
from prognet.errors import PrognetError
from prognet.evaluation import Observer, grid
from prognet.evaluation.ranks import joined
from prognet.results import RunResult
from prognet.strategies import FineTune, FineTuning, Independent, MultiTask, Strategy
from prognet.strategies.multitask import PCGrad, Soft, Stems
from prognet.strategies.wrapped import ewc
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training import fit, seeded
from prognet.training.distributed import DistributedRun
from tests.helpers.processes import Ended, together, values
from tests.helpers.runs import KINDS, NORMED, PLAIN, TRAINING, from_scratch, make_session, quick_run, tensors
from tests.helpers.streams import make_stream, make_task

RAGGED = (41, 37, 43)
"""Training samples of three tasks, of which no batch of 16 can be shared evenly."""
Learned = tuple[RunResult, Mapping[str, Tensor]]

SHARED: Mapping[str, Callable[[], Learned]] = {
    "progressive": lambda: learned(from_scratch(PLAIN)),
    "progressive, solved and copied": lambda: learned(KINDS["progressive"](PLAIN)),
    "finetune": lambda: learned(KINDS["finetune"](PLAIN)),
    "multitask": lambda: learned(KINDS["multitask"](PLAIN)),
    "multitask, batches that lack tasks": lambda: learned(
        KINDS["multitask"](PLAIN), training=Training(batch_size=2, updates=9, lr=0.01, weight_decay=0.1)
    ),
    "independent": lambda: learned(KINDS["independent"](PLAIN)),
    "one sample": lambda: learned(KINDS["finetune"](PLAIN), training=Training(batch_size=1, updates=7, lr=0.01)),
    "augmented": lambda: learned(KINDS["finetune"](PLAIN), training=replace(TRAINING, augment=("flip",))),
    "clipped": lambda: learned(from_scratch(PLAIN), training=replace(TRAINING, clip_norm=0.1, label_smoothing=0.1)),
    "stopped early": lambda: learned(
        KINDS["finetune"](PLAIN), training=Training(epochs=9, batch_size=16, lr=0.1, patience=1)
    ),
}
"""Runs that end as in one process, to rounding."""


def learned(strategy: Strategy, stream: Stream | None = None, **changes: Any) -> Learned:
    """What a run comes to: its result, and every number of its learner; none where a finished run is read."""
    result = quick_run(strategy, stream or make_stream(sizes=RAGGED), **changes)
    return replace(result, learner=None), {} if result.learner is None else tensors(result.learner)


def all_shared() -> dict[str, Any]:
    """Everything that can be done without a folder, for one start of the processes."""
    return {
        **{name: make() for name, make in SHARED.items()},
        "normed": learned(from_scratch(NORMED)),
        "normed, first task": learned(from_scratch(NORMED), make_stream((2,), RAGGED[:1])),
        "descended": descended((5, 8)),
        "shaken": learned(Shaken(PLAIN), make_stream()),
        "not shaken": learned(Independent(PLAIN), make_stream()),
        "statistics": statistics(),
        "drawn": drawn(),
        "refusals": refusals(),
        "disagreements": disagreements(),
        "diverged": diverged(),
    }


def shared_by_two() -> list[Mapping[str, Any]]:
    """What `all_shared` comes to in each of two processes; they are started once."""
    return values(_ended())


@cache
def _ended() -> list[Ended]:
    return together(all_shared)


@cache
def alone(name: str) -> Learned:
    """One of the runs of `SHARED`, by this process alone."""
    return SHARED[name]()


class Heads(nn.Module):
    """A linear map for each task, of inputs that are made flat."""

    def __init__(self, tasks: Sequence[Task]) -> None:
        super().__init__()
        self.maps = nn.ModuleList(nn.Linear(task.train.x[0].numel(), task.n_classes) for task in tasks)

    def forward(self, x: Tensor, label: int) -> Tensor:
        out: Tensor = self.maps[label](x.flatten(1))
        return out


def descended(sizes: Sequence[int], updates: int = 3, is_shared: bool = True) -> dict[str, Tensor]:
    """The tensors of `Heads` after updates with all samples of some tasks each, by plain descent at rate 1."""
    joined("cpu")
    tasks = [make_task(label, 2 + label, size, n_val=0) for label, size in enumerate(sizes)]
    training = Training(optimiser="sgd", lr=1.0, batch_size=sum(sizes), epochs=updates)
    session = replace(make_session(training), make_run=DistributedRun if is_shared else None)
    heads = make_heads(tasks)
    forward = partial(map_each, heads)
    fit(heads, forward, heads, tasks, session, sampling=1.0)  # as many samples of each as there are
    return tensors(heads)


def map_each(heads: nn.Module, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
    """The outputs of a batch that may hold several tasks."""
    return {label: heads(x, label) for label, x in inputs.items()}


def make_heads(tasks: Sequence[Task]) -> Heads:
    """`Heads` with fixed numbers."""
    with seeded(3, torch.device("cpu")):
        return Heads(tasks)


class Normed(nn.Module):
    """A norm of the inputs, which moves nothing but its own statistics, and a linear map."""

    def __init__(self, input_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(16)
        self.map = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.map(self.norm(x.flatten(1)))
        return out


def statistics() -> Mapping[str, Tensor]:
    """The tensors of a network with a norm after one update with a batch of 7 samples."""
    training = Training(updates=1, batch_size=7, lr=0.01)
    return learned(Independent(Normed), make_stream((2,), (7,)), training=training)[1]


class Noisy(nn.Module):
    """Draws a number in every forward pass of training, and notes it."""

    seen: list[float] = []

    def __init__(self, input_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        self.map = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.append(torch.rand(()).item())
        out: Tensor = self.map(x.flatten(1))
        return out


def drawn() -> list[float]:
    """The random numbers that a network draws while it learns two tasks."""
    Noisy.seen.clear()
    learned(Independent(Noisy), make_stream((2, 3)))
    return list(Noisy.seen)


NINE = Training(epochs=1, batch_size=9)
"""Three samples of each of three tasks, which two processes cannot share by two and two."""


def refusals() -> dict[str, str]:
    """What processes cannot share, and how it is refused."""
    recipe, images = FineTuning(unfreeze_every=1), make_stream()
    grids: dict[str, dict[str, Any]] = {
        "stack": {"execution": Execution(stack=2)},
        "jobs": {"workers": Workers(jobs=2)},
    }
    return {
        "wrapped": error_of(lambda: quick_run(ewc(PLAIN), images)),
        "recipe": error_of(lambda: quick_run(FineTune(PLAIN, recipe=recipe), images)),
        "weighting": error_of(lambda: quick_run(MultiTask(PLAIN, weighting=PCGrad()), images)),
        "penalty": error_of(lambda: quick_run(MultiTask(PLAIN, architecture=Soft()), images)),
        "compile": error_of(lambda: quick_run(FineTune(PLAIN), images, execution=Execution(compile="default"))),
        "norm": error_of(lambda: quick_run(FineTune(NORMED), images, training=Training(batch_size=3))),
        "norms of tasks": error_of(lambda: quick_run(MultiTask(NORMED, architecture=Stems()), images, training=NINE)),
        **{
            name: error_of(partial(grid, [FineTune(PLAIN)], lambda order: images, out="nowhere", device="cpu", **more))
            for name, more in grids.items()
        },
    }


class Touched(Independent):
    """Something writes into the first column while the second one is learned, in one of the processes."""

    def learn(self, tasks: Any) -> None:
        super().learn(tasks)
        if len(self.columns.network) == 2 and is_second() and len(tasks[0].train):
            with torch.no_grad():
                next(self.columns.network.column(0).parameters()).view(-1)[0] += 1e-6


class Shaken(Independent):
    """Begins otherwise in one of the processes, as it may on a device that does not compute the same bits twice."""

    def build(self, task: Task, purpose: str = "backbone", width: float = 1.0) -> nn.Module:
        network = super().build(task, purpose, width)
        if is_second():
            with torch.no_grad():
                next(network.parameters()).view(-1)[0] += 1e-6
        return network


class Swayed(Independent):
    """Predicts otherwise in one of the processes."""

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        out = super().predict(x, task_label)
        return out.flip(1) if is_second() and not torch.is_grad_enabled() else out


def disagreements() -> dict[str, str]:
    """Processes that come to different numbers, and how they are told."""
    other = Training(epochs=2, batch_size=16, lr=0.01, patience=1)
    return {
        "column": error_of(lambda: quick_run(Touched(PLAIN), make_stream())),
        "metrics": error_of(lambda: quick_run(Swayed(PLAIN), make_stream())),
        "validation": error_of(lambda: quick_run(Swayed(PLAIN), make_stream(), training=other)),
        "seed": error_of(lambda: quick_run(Independent(PLAIN), make_stream(), seed=int(is_second()))),
    }


class Bursting(nn.Module):
    """Says what is no number where an input is large."""

    def __init__(self, input_shape: tuple[int, ...], n_classes: int) -> None:
        super().__init__()
        self.map = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.map(x.flatten(1)) ** 2).exp()
        return out


def diverged() -> str:
    """The error that ends a training with one sample that no share but its own has a loss for."""
    task = make_task(0, 2, 41)
    x = task.train.x.clone()
    x[17] = 1e3
    stream = Stream([replace(task, train=replace(task.train, x=x))], name="patterns", heads="per-task")
    return error_of(lambda: quick_run(Independent(Bursting), stream, training=Training(updates=2, batch_size=41)))


def is_second() -> bool:
    """Whether this is the second of several processes."""
    return os.environ.get("RANK") == "1"


def error_of(work: Callable[[], Any]) -> str:
    """The error that ends it, with its type; nothing where it comes to its end."""
    try:
        work()
    except PrognetError as error:
        return f"{type(error).__name__}: {error}"
    return ""


def in_a_folder(out: str, kill_at: int = 0) -> Learned:
    """A run in a folder of which each process has its own; the first process dies at one of its writes, if at all."""
    writes, replace_file = [], Path.replace

    def killing(path: Path, target: Any) -> Path:
        writes.append(target)
        if len(writes) == kill_at and not is_second():
            os._exit(9)
        return replace_file(path, target)

    Path.replace = killing  # type: ignore[method-assign,assignment]
    try:
        return learned(KINDS["progressive"](NORMED), out=f"{out}-{os.environ.get('RANK', 'alone')}")
    finally:
        Path.replace = replace_file  # type: ignore[method-assign]


def refused_folder(out: str) -> str:
    """The error that ends a run in a folder that cannot be made, in this process."""
    return error_of(lambda: in_a_folder(out))


class Failing(Independent):
    """Has a fault that shows in one of the processes only."""

    def learn(self, tasks: Sequence[Task]) -> None:
        if is_second() and len(tasks[0].train):
            raise ValueError("a fault")
        super().learn(tasks)


def failing(out: str) -> None:
    """A comparison of which one process alone has an error."""
    strategies = [Failing(PLAIN), Independent(PLAIN, name="next")]
    grid(strategies, lambda order: make_stream(), out=out, seeds=range(1), training=TRAINING, device="cpu", threads=1)


class Told(Observer):
    """Notes the names of the runs that begin and end."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def begin(self, updates: int) -> None:
        """Notes nothing."""

    def start(self, what: str, updates: int) -> None:
        """Notes the run."""
        self.names.append(f"begins: {what}")

    def advance(self, updates: int) -> None:
        """Notes nothing."""

    def end(self, what: str, error: PrognetError | None) -> None:
        """Notes the run."""
        self.names.append(f"ends: {what}")


def compared(out: str) -> tuple[list[RunResult], Mapping[str, str], list[str]]:
    """A comparison in which one strategy diverges: its results, its failures, and whom each process has told."""
    told = Told()
    outcome = grid(
        [Independent(mlp(hidden=(8,))), FineTune(mlp(hidden=(8,)))],
        lambda order: make_stream(),
        out=f"{out}-{os.environ['RANK']}",
        seeds=range(1),
        training=TRAINING,
        tuned={"independent": Training(epochs=1, optimiser="sgd", lr=1e30)},
        device="cpu",
        threads=1,
        observer=told,
    )
    return list(outcome.results), outcome.failed, told.names
