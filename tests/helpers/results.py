"""Results without training: seeded numbers of the right shape, in which finetune forgets and nothing else does."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from prognet.results import Floats, LearningCurve, Results, RunResult, StepCost, TaskSummary
from prognet.seeds import derive_seed

FROZEN = ("progressive", "independent", "progressive-random", "independent-wide", "progressive-linear")
EVERYONE = (
    "progressive",
    "finetune",
    "multitask",
    "independent",
    "independent-wide",
    "progressive-random",
    "finetune-head",
    "progressive-linear",
    "multitask-cumulative",
)
UPDATES = (*range(11), 20, 30, 45, 60, 90, 120)
LEVEL: Mapping[str, float] = {
    "progressive": 0.985,
    "finetune": 0.975,
    "multitask": 0.99,
    "independent": 0.98,
    "independent-wide": 0.981,
    "progressive-random": 0.978,
    "finetune-head": 0.90,
    "multitask-cumulative": 0.992,
}


def make_schedule(strategy: str, n_tasks: int) -> tuple[tuple[int, ...], ...]:
    """Joint for multitask, cumulative for multitask-cumulative, sequential for every other strategy."""
    if strategy == "multitask":
        return (tuple(range(n_tasks)),)
    if strategy == "multitask-cumulative":
        return tuple(tuple(range(step + 1)) for step in range(n_tasks))
    return tuple((task,) for task in range(n_tasks))


def make_accuracy(strategy: str, seed: int, order: int, schedule: Sequence[Sequence[int]], n_tasks: int) -> Floats:
    """(steps, T): learned at the strategy's level, then constant, but for finetune, which loses with every step."""
    noise = np.random.default_rng(derive_seed(seed, "accuracy", strategy, order))
    matrix = np.full((len(schedule), n_tasks), np.nan)
    learned = np.clip(LEVEL.get(strategy, 0.95) + 0.006 * noise.standard_normal(n_tasks), 0, 1)
    start = {task: step for step, group in reversed(list(enumerate(schedule))) for task in group}
    for task, first in start.items():
        age = np.arange(len(schedule) - first)
        loss = 0.3 * (1 - np.exp(-age / 3)) if strategy == "finetune" else 0.0 * age
        matrix[first:, task] = np.clip(learned[task] - loss, 0, 1)
    return matrix


def make_run(
    strategy: str = "progressive", seed: int = 0, order: int = 0, n_tasks: int = 5, **changes: Any
) -> RunResult:
    """One whole run; `changes` replace fields of the result, as in `dataclasses.replace`."""
    schedule = make_schedule(strategy, n_tasks)
    accuracy = make_accuracy(strategy, seed, order, schedule, n_tasks)
    run = RunResult(
        strategy=strategy,
        seed=seed,
        order=order,
        stream="synthetic",
        tasks=tuple(_task((label + order) % n_tasks, label) for label in range(n_tasks)),
        schedule=schedule,
        metrics={"accuracy": accuracy, "cross_entropy": -np.log(np.maximum(accuracy, 0.01))},
        curves=_curves(schedule, accuracy),
        costs=tuple(_cost(strategy, seed, step, group, n_tasks) for step, group in enumerate(schedule)),
        digests=make_digests(strategy, seed, order, n_tasks),
        config={
            "strategy": {"name": strategy, "arguments": {}},
            "backbone": {"name": "mlp", "arguments": {"hidden": [64]}},
            "stream": {"name": "synthetic", "arguments": {"n_tasks": n_tasks}},
            "training": {"epochs": 5, "batch_size": 64, "lr": 0.001},
            "measurement": {"lca_updates": 10, "curve_points": 6},
            "seed": seed,
            "order": order,
            "device": "cpu",
        },
        environment={"prognet": "0.1.0", "python": "3.11", "torch": "2.15", "device": "cpu", "threads": 1},
    )
    return replace(run, **changes)


def make_results(
    strategies: Sequence[str] = EVERYONE[:5], seeds: int = 5, orders: int = 1, n_tasks: int = 5
) -> Results:
    """A full grid of runs, sorted as `load_results` sorts them."""
    cells = [(name, order, seed) for name in strategies for order in range(orders) for seed in range(seeds)]
    return Results([make_run(name, seed, order, n_tasks) for name, order, seed in sorted(cells)])


def run_with(
    matrix: Sequence[Sequence[float]], strategy: str = "progressive", seed: int = 0, order: int = 0
) -> RunResult:
    """A run with this accuracy matrix, which is square for every strategy but multitask."""
    accuracy = np.array(matrix, dtype=np.float64)
    return make_run(strategy, seed, order, accuracy.shape[1], metrics={"accuracy": accuracy})


def make_digests(strategy: str, seed: int, order: int, n_tasks: int) -> tuple[Mapping[str, str], ...]:
    """After each step the digests of all columns so far, which never change; none where nothing is frozen."""
    steps = len(make_schedule(strategy, n_tasks))
    if strategy not in FROZEN:
        return tuple({} for _ in range(steps))
    values = [f"{derive_seed(seed, 'digest', strategy, order, column):064x}" for column in range(steps)]
    return tuple({f"column {column}": values[column] for column in range(step + 1)} for step in range(steps))


def _task(place: int, label: int) -> TaskSummary:
    name = f"{2 * place} {2 * place + 1}"
    return TaskSummary(
        label=label, name=name, n_classes=2, input_shape=(64,), head=label, n_train=300, n_val=30, n_test=70
    )


def _curves(schedule: Sequence[Sequence[int]], accuracy: Floats) -> tuple[LearningCurve, ...]:
    return tuple(
        LearningCurve(
            step=step,
            task=task,
            updates=UPDATES,
            accuracy=tuple(float(0.5 + (accuracy[step, task] - 0.5) * (1 - np.exp(-update / 8))) for update in UPDATES),
            joint=len(group) > 1,
        )
        for step, group in enumerate(schedule)
        for task in group
    )


def _cost(strategy: str, seed: int, step: int, group: Sequence[int], n_tasks: int) -> StepCost:
    grows = strategy in FROZEN
    parameters = 5_000 + (5_000 * step + (300 * step**2 if strategy.startswith("progressive") else 0)) * grows
    seen = n_tasks if strategy == "multitask" else step + 1
    forward = 1e4 * (1 + (step if strategy.startswith("progressive") else 0))
    return StepCost(
        parameters=parameters,
        trainable=5_000 + 100 * step,
        added=5_000 if grows or not step else 0,
        stored_bytes=4 * parameters,
        updates=120 * len(group),
        samples=7_680 * len(group),
        training_flops=3 * forward * 7_680 * len(group),
        forward_flops=tuple(forward if task < seen else float("nan") for task in range(n_tasks)),
        feature_flops=1e6 * step,
        feature_seconds=0.05 * step,
        seconds=1.5 * len(group) + 0.1 * (derive_seed(seed, "seconds", strategy, step) % 7),
        evaluation_seconds=0.2,
        peak_memory=300_000_000 + 1_000_000 * step,
        gradient_norm=2.5 if strategy.startswith("multitask") else float("nan"),
    )
