"""An update beside the floor, and an update of column k beside one of column 1."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from floor import Floor
from torch import nn

from prognet.config import Execution, Training
from prognet.engine import ProgressiveNetwork
from prognet.strategies.columns import reading_of
from prognet.streams import Task
from speed_parts.subjects import BATCH, FRESH, KEPT, columns, inputs, learn, random_task, session_of, train
from speed_parts.timing import per_pass, per_update, seconds, timed

COLUMNS, PASSES = (1, 2, 5, 10, 20), 4
SETTINGS: tuple[tuple[int | None, float | None], ...] = ((2, None), (2, 0.25), (None, None))
"""Sources, and the width of the laterals in terms of the features of the site."""


def steps(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """Columns 1, 5 and 10 beside the floor."""
    return [step(device, k, repeats) for k in (1, 5, 10)]


def step(device: torch.device, k: int, repeats: int) -> dict[str, Any]:
    """An update of column k of the training loop, features kept, over one of the floor."""
    network, task = columns(device, k), random_task()
    column, reading = network.column(k - 1), reading_of(network, k - 1)
    rows = {} if reading is None else reading.prepare(inputs(task).to(device)).by_site
    names = [name for name, part in column.backbone.named_modules() if isinstance(part, nn.Linear)]
    assert isinstance(column.backbone, nn.Sequential)
    floor = Floor(
        column.backbone,
        {names.index(site): column.lateral(site) for site in rows},  # type: ignore[misc]
        task.train.x.to(device),
        task.train.y.to(device),
        {names.index(site): handed[0] for site, handed in rows.items()},
    )
    ours = partial(learn, network, task, device, KEPT)
    floored = lambda updates: floor.train(updates, BATCH)  # noqa: E731
    pairs = [(per_update(ours, device), per_update(floored, device)) for _ in range(repeats)]
    return {"column": k, "ratio": median(a / b for a, b in pairs), **seconds(pairs, ("prognet", "floor"))}


def growth(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """An update of column k over one of column 1, and the pass over frozen columns, once a task."""
    return [row for sources, hidden in SETTINGS for row in growth_of(device, sources, hidden, repeats)]


def growth_of(device: torch.device, sources: int | None, hidden: float | None, repeats: int) -> list[dict[str, Any]]:
    """The same with one setting of the sources and the laterals."""
    found, task, first = [], random_task(), columns(device, 1)
    first_operations = operations(first, task, device)
    for k in COLUMNS:
        network = columns(device, k, sources, hidden)
        works = [
            partial(pass_seconds, *what, task, device) for what in ((network, KEPT), (network, FRESH), (first, KEPT))
        ]
        times = [[work() for work in works] for _ in range(repeats)]
        found.append(
            {
                "column": k,
                "sources": sources or "all",
                "hidden": hidden or 1.0,
                "operations": operations(network, task, device) / first_operations,
                "kept": median(kept / base for kept, _, base in times),
                "fresh": median(fresh / base for _, fresh, base in times),
                "feature_seconds_per_sample": feature_seconds(network, k, device),
                "trainable": sum(p.numel() for p in network.column(k - 1).parameters()),
            }
        )
    return found


def pass_seconds(network: ProgressiveNetwork, execution: Execution, task: Task, device: torch.device) -> float:
    """Of a pass over the samples in which the newest column learns."""
    session = session_of(Training(epochs=PASSES, batch_size=BATCH), device, execution)
    return per_pass(lambda advance: train(network, task, session, advance), device)


def operations(network: ProgressiveNetwork, task: Task, device: torch.device) -> float:
    """Operations of an update, a sample, as they are counted in a training that keeps features."""
    record = learn(network, task, device, KEPT, updates=-(-len(task.train) // BATCH))  # enough to make a table
    return (record.flops - record.feature_flops) / record.samples


def feature_seconds(network: ProgressiveNetwork, k: int, device: torch.device) -> float:
    """Of a sample, in the pass over the frozen columns that column k reads."""
    reading = reading_of(network, k - 1)
    x = inputs(random_task())[:1024].to(device)
    return 0.0 if reading is None else timed(lambda: reading.prepare(x), device) / len(x)


def steps_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Columns beside the floor."""
    lines = ["| column | prognet (ms) | floor (ms) | ratio |", "|--:|--:|--:|--:|"]
    return lines + [
        f"| {one['column']} | {1e3 * one['prognet_seconds']:.2f} | {1e3 * one['floor_seconds']:.2f} "
        f"| {one['ratio']:.2f} |"
        for one in found
    ]


def growth_table(found: Sequence[dict[str, Any]]) -> list[str]:
    """Columns beside the first one."""
    lines = [
        "| column | sources | hidden width | operations | features kept | not kept | pass over frozen columns "
        "(µs a sample) |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    return lines + [
        f"| {one['column']} | {one['sources']} | {'n' if one['hidden'] == 1 else 'n/4'} | {one['operations']:.2f} "
        f"| {one['kept']:.2f} | {one['fresh']:.2f} | {1e6 * one['feature_seconds_per_sample']:.1f} |"
        for one in found
    ]


def draw_growth(found: Sequence[dict[str, Any]], path: Path) -> None:
    """The cost of an update against the number of the column."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for (sources, hidden), colour in zip(SETTINGS, ("C1", "C2", "C0"), strict=True):
        name = f"{sources or 'all'} sources" + ("" if hidden is None else ", hidden width n/4")
        rows = [one for one in found if (one["sources"], one["hidden"]) == (sources or "all", hidden or 1.0)]
        lines = (("kept", "-", ", features kept"), ("fresh", "--", ", computed in every update"))
        for key, style, ending in lines:
            if hidden is None or key == "kept":
                x, y = [one["column"] for one in rows], [one[key] for one in rows]
                axes.plot(x, y, style, color=colour, marker=".", label=name + ending)
        if rows:
            x, y = [one["column"] for one in rows], [one["operations"] for one in rows]
            axes.plot(x, y, ":", color=colour, linewidth=1)
    axes.plot([], [], ":", color="grey", label="operations, features kept")
    axes.set_xlabel("column")
    axes.set_ylabel("cost of an update, column 1 = 1")
    axes.set_yscale("log", base=2)
    axes.set_yticks([1, 2, 4, 8, 16, 32], ["1", "2", "4", "8", "16", "32"])
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.legend(frameon=False, fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)
