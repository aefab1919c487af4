"""Ten seeds that are trained together, beside the same ten one by one."""

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import torch

from prognet.backbones import mlp
from prognet.config import Execution, Training
from prognet.evaluation import grid
from prognet.strategies import Independent, Progressive, Strategy
from prognet.streams import permuted_digits
from prognet.streams.stream import Stream
from speed_parts.timing import timed

SEEDS = 10
EPOCHS = 10
BATCHES = (16, 64)
NETWORKS = (("independent", 1, 32), ("independent", 1, 100), ("progressive", 5, 32))
"""Strategy, tasks and hidden units."""


def seeds(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """All ten digits, one task with one network, and five tasks with a progressive one."""
    return [
        {"strategy": strategy, "n_tasks": n_tasks, "units": units, "batch": batch}
        | together(strategy, n_tasks, units, batch, device, repeats)
        for strategy, n_tasks, units in NETWORKS
        for batch in BATCHES
    ]


def together(name: str, n_tasks: int, units: int, batch: int, device: torch.device, repeats: int) -> dict[str, float]:
    """Whole comparisons, from the first update to the last file, and the learning in them."""
    backbone = mlp(hidden=(units, units))
    strategy = Independent(backbone) if name == "independent" else Progressive(backbone)
    training = Training(epochs=EPOCHS, batch_size=batch)
    stream = permuted_digits(n_tasks, seed=0)
    carried_out(strategy, stream, Training(epochs=1), SEEDS, device)  # what torch loads at the first use
    pairs = [[carried_out(strategy, stream, training, stack, device) for stack in (1, SEEDS)] for _ in range(repeats)]
    return {
        "one_by_one_seconds": median(alone[0] for alone, _ in pairs),
        "together_seconds": median(stacked[0] for _, stacked in pairs),
        "ratio": median(alone[0] / stacked[0] for alone, stacked in pairs),
        "learning_ratio": median(alone[1] / stacked[1] for alone, stacked in pairs),
    }


def carried_out(
    strategy: Strategy, stream: Stream, training: Training, stack: int, device: torch.device
) -> tuple[float, float]:
    """Seconds of a comparison, and those of them in which it learned."""
    learned: list[float] = []

    def work(folder: Path) -> None:
        outcome = grid(
            [strategy],
            lambda order: stream,
            out=folder,
            seeds=range(SEEDS),
            training=training,
            execution=Execution(stack=stack),
            device=str(device),
            threads=1,
        )
        learned.append(sum(cost.seconds for result in outcome.results for cost in result.costs))

    with TemporaryDirectory() as folder:
        whole = timed(lambda: work(Path(folder)), device)
    return whole, learned[0]


def seeds_table(rows: Sequence[dict[str, Any]]) -> list[str]:
    """As Markdown."""
    return [
        "| network | tasks | batch | one by one (s) | together (s) | times as fast | its learning alone |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {row['strategy']}, 64-{row['units']}-{row['units']}-10 | {row['n_tasks']} | {row['batch']} "
            f"| {row['one_by_one_seconds']:.2f} | {row['together_seconds']:.2f} | {row['ratio']:.2f} "
            f"| {row['learning_ratio']:.2f} |"
            for row in rows
        ),
    ]
