"""A whole stream beside Avalanche's PNN, and the evaluation of many tasks."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from prognet.config import Training
from prognet.engine import MLPAdapter
from prognet.evaluation import run
from prognet.evaluation.stepping import evaluate
from prognet.strategies import Progressive, Start, Strategy
from prognet.streams import split_mnist
from speed_parts.subjects import BACKBONE, BATCH, QUIET, WIDTH, columns, inputs, random_task, session_of
from speed_parts.timing import seconds, timed


def stream(device: torch.device, root: Path, repeats: int) -> dict[str, Any]:
    """Learning Split-MNIST, 5 tasks of 5 epochs, beside Avalanche's PNN on the same benchmark."""
    tasks = split_mnist(root=root, class_order="natural", seed=0, validation=0)
    training = Training(epochs=5, batch_size=BATCH)

    def ours(strategy: Strategy) -> None:
        run(strategy, tasks, training=training, measurement=QUIET, device=str(device), threads=1)

    scratch = Progressive(BACKBONE, adapter=MLPAdapter(), start=Start(kind="scratch"))
    works = {
        "prognet, from scratch": lambda: ours(scratch),
        "prognet, default": lambda: ours(Progressive(BACKBONE)),
        "Avalanche's PNN": lambda: avalanche_pnn(tasks.benchmark, device),
    }
    times = [{name: timed(work, device) for name, work in works.items()} for _ in range(repeats + 1)][1:]  # imports
    reference = "Avalanche's PNN"
    return {
        name: {
            "seconds": median(one[name] for one in times),
            "times_faster": median(one[reference] / one[name] for one in times),
        }
        for name in works
    }


def avalanche_pnn(benchmark: Any, device: torch.device) -> None:
    """Avalanche's own model and loop, without evaluation, which would break its columns.

    Its output layer has no laterals, so that it computes less.
    """
    from avalanche.models import PNN
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import PNNStrategy

    model = PNN(num_layers=2, in_features=784, hidden_features_per_column=WIDTH, adapter="mlp")
    strategy = PNNStrategy(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train_mb_size=BATCH,
        train_epochs=5,
        device=device,
        evaluator=EvaluationPlugin(),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)


def evaluations(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Predicting 1, 5 and 10 tasks."""
    return [evaluation(device, k, repeats) for k in (1, 5, 10)]


def evaluation(device: torch.device, k: int, repeats: int) -> dict[str, Any]:
    """Predicting the test samples of k tasks, each by its column, over predicting them by plain networks."""
    network, task = columns(device, k), random_task()
    strategy = Progressive(BACKBONE, adapter=MLPAdapter())
    strategy.columns.network = network
    strategy.columns._column_of = {label: label for label in range(k)}
    tasks = [replace(task, label=label, test=task.train) for label in range(k)]
    session = session_of(Training(), device)

    def plain() -> None:
        with torch.no_grad():
            for label, one in enumerate(tasks):
                for x in torch.split(inputs(one).to(device), QUIET.evaluation_batch_size):
                    network.column(label).backbone(x)

    ours = lambda: evaluate(strategy, tasks, range(k), session)  # noqa: E731
    pairs = [(timed(ours, device), timed(plain, device)) for _ in range(repeats)]
    return {"tasks": k, "ratio": median(a / b for a, b in pairs), **seconds(pairs, ("prognet", "plain"))}


def stream_table(found: Mapping[str, dict[str, Any]]) -> list[str]:
    """Whole streams."""
    lines = ["| Split-MNIST, 5 epochs a task | seconds | times as fast |", "|---|--:|--:|"]
    return lines + [f"| {name} | {one['seconds']:.2f} | {one['times_faster']:.1f} |" for name, one in found.items()]


def evaluations_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Evaluations."""
    lines = ["| tasks evaluated | prognet (s) | plain networks (s) | ratio |", "|--:|--:|--:|--:|"]
    return lines + [
        f"| {one['tasks']} | {one['prognet_seconds']:.3f} | {one['plain_seconds']:.3f} | {one['ratio']:.2f} |"
        for one in found
    ]
