"""What columns take: parameters, files, tables of features, and the most that a training holds at one time."""

from collections.abc import Callable, Sequence
from itertools import accumulate
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from prognet.config import Training
from prognet.engine import ProgressiveNetwork
from prognet.strategies.columns import reading_of
from prognet.training.features import Shelf
from speed_parts.subjects import BATCH, KEPT, SAMPLES, WIDTH, columns, learn, random_task, session_of

MIB, SITES, SINGLE = 2**20, 2, 4
"""Bytes of a MiB, sites of the network at which a column reads, bytes of a number in single precision."""


def memory(device: torch.device) -> list[dict[str, Any]]:
    """Columns 1, 2, 5 and 10, which read all before them."""
    found = []
    for k in (1, 2, 5, 10):
        network, task = columns(device, k), random_task()
        trainable = sum(p.numel() for p in network.column(k - 1).parameters())
        predicted = SITES * (k - 1) * WIDTH * SAMPLES * SINGLE
        state = 3 * trainable * SINGLE  # gradients and both moments of Adam
        data = 0 if device.type == "cpu" else task.train.x.numel()  # on the CPU it lies there before
        updates = -(-SAMPLES // BATCH)
        peak = held_at_most(lambda: learn(network, task, device, KEPT, updates), device)  # noqa: B023
        found.append(
            {
                "column": k,
                "trainable": trainable,
                "parameters": sum(p.numel() for p in network.parameters()),
                "stored_bytes": stored(network),
                "tables_predicted": predicted,
                "tables": tables(network, k, device),
                "held_predicted": predicted + state + data,
                "held": peak,
            }
        )
    return found


def tables(network: ProgressiveNetwork, k: int, device: torch.device) -> int:
    """Bytes of the table of the training samples for column k."""
    reading, task = reading_of(network, k - 1), random_task()
    if reading is None:
        return 0
    table = Shelf(reading, session_of(Training(), device)).table_of(task, task.train)
    return 0 if table is None else sum(h.untyped_storage().nbytes() for h in table.rows.tensors)


def stored(network: ProgressiveNetwork) -> int:
    """Bytes of the files of a network."""
    with TemporaryDirectory() as folder:
        network.save(folder)
        return sum(file.stat().st_size for file in Path(folder).rglob("*") if file.is_file())


def held_at_most(work: Callable[[], object], device: torch.device) -> int:
    """The most bytes that torch's allocator has given out at one time during some work, beyond those before it."""
    if device.type == "cuda":
        before = torch.cuda.memory_allocated(device)
        torch.cuda.reset_peak_memory_stats(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        work()
    events = [one for one in profile.profiler.kineto_results.events() if one.name() == "[memory]"]
    given = (one.nbytes() for one in sorted(events, key=lambda one: one.start_ns()))  # negative where given back
    return max(accumulate(given), default=0)


def memory_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Columns."""
    lines = [
        "| column | trained parameters | parameters of the network | files | table, predicted | table "
        "| held in training, predicted | held |",
        "|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    sizes = ("stored_bytes", "tables_predicted", "tables", "held_predicted", "held")
    return lines + [
        f"| {one['column']} | {one['trainable']:,} | {one['parameters']:,} | "
        + " | ".join(f"{one[size] / MIB:.1f}" for size in sizes)
        + " |"
        for one in found
    ]


def draw_memory(found: Sequence[dict[str, Any]], path: Path) -> None:
    """Predicted and found, against the number of the column."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.4))
    x = [one["column"] for one in found]
    lines = (("held", "held in training", "C0"), ("tables", "of it tables of features", "C1"))
    for key, label, colour in lines:
        axes.plot(x, [one[key] / MIB for one in found], "o", color=colour, label=label)
        axes.plot(x, [one[f"{key}_predicted"] / MIB for one in found], "--", color=colour, label="predicted")
    axes.plot(x, [one["stored_bytes"] / MIB for one in found], "s", color="C2", label="files of the network")
    axes.set_xlabel("column")
    axes.set_ylabel("MiB")
    axes.set_ylim(bottom=0)
    axes.set_xticks(x)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
