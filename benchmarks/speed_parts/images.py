"""ResNet-18 with block sites on 32x32 RGB images: columns beside a plain training loop, and beside the hardware."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.backbones import resnet18
from prognet.config import Execution, Training
from prognet.streams import Task
from prognet.training import FitRecord
from prognet.training.flops import counting_flops
from speed_parts.subjects import columns, random_task, session_of, train
from speed_parts.timing import peak_rate, per_pass

SHAPE, CLASSES, PASSES = (3, 32, 32), 10, 4


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What is trained and how it is computed."""

    channels: int
    """Of the first of the four stages; 64 is ResNet-18."""
    samples: int
    batch: int
    columns: tuple[int, ...]
    execution: Execution


ON_CPU = Setting(channels=8, samples=256, batch=64, columns=(1, 2, 5), execution=Execution())
ON_CUDA = Setting(
    channels=64,
    samples=10_000,
    batch=128,
    columns=(1, 2, 5, 10),
    execution=Execution(
        precision="bfloat16",
        channels_last=True,
        compile="default",
        feature_precision="bfloat16",
        feature_memory=48 * 1024,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What one training found."""

    rate: float
    """Images a second."""
    operations: float
    """Of an image, in an update."""
    features: float = 0.0
    """Operations of features that were kept."""


def images(device: torch.device, repeats: int) -> dict[str, Any]:
    """Images a second of plain training and of each column, alternately."""
    setting = ON_CUDA if device.type == "cuda" else ON_CPU
    task = random_task(SHAPE, setting.samples, CLASSES)
    works: dict[int, Callable[[], Outcome]] = {0: Plain(task, setting, device).outcome}
    works |= {k: column_of(k, task, setting, device) for k in setting.columns}
    found = [{k: work() for k, work in works.items()} for _ in range(repeats)]
    peak = peak_rate(device, getattr(torch, setting.execution.precision))
    return {
        "channels": setting.channels,
        "samples": setting.samples,
        "batch": setting.batch,
        "peak_operations_per_second": peak,
        "rows": [
            {
                "column": k,
                "images_per_second": median(one[k].rate for one in found),
                "of_plain": median(one[k].rate / one[0].rate for one in found),
                "of_first": median(one[k].rate / one[1].rate for one in found),
                "of_peak": median(one[k].rate * one[k].operations for one in found) / peak,
                "operations": found[0][k].operations / found[0][1].operations,
                "features_kept": found[0][k].features > 0,
            }
            for k in works
        ],
    }


def column_of(k: int, task: Task, setting: Setting, device: torch.device) -> Callable[[], Outcome]:
    """A training of column k, which reads all others, by the training loop."""
    network = columns(device, k, backbone=resnet18(setting.channels), shape=SHAPE, classes=CLASSES)
    if setting.execution.channels_last:
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    session = session_of(Training(epochs=PASSES, batch_size=setting.batch), device, setting.execution)
    records: list[FitRecord] = []

    def outcome() -> Outcome:
        seconds = per_pass(lambda advance: records.append(train(network, task, session, advance)), device)
        record = records[-1]
        operations = (record.flops - record.feature_flops) / record.samples
        return Outcome(rate=len(task.train) / seconds, operations=operations, features=record.feature_flops)

    return outcome


class Plain:
    """The same network by itself in a training loop written out by hand, data on the device."""

    def __init__(self, task: Task, setting: Setting, device: torch.device) -> None:
        self.setting, self.device = setting, device
        self.x, self.y = task.train.x.to(device), task.train.y.to(device)
        self.network: nn.Module = resnet18(setting.channels)(SHAPE, CLASSES).to(device)
        if setting.execution.channels_last:
            self.network = self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.optimiser = torch.optim.Adam(self.network.parameters(), fused=True)
        self.seen = len(self.x) // setting.batch * setting.batch

    def outcome(self) -> Outcome:
        """Images a second, and what one takes."""
        self.network.train()
        with counting_flops() as counter:
            self.loss(self.network, self.x[: self.setting.batch], self.y[: self.setting.batch]).backward()
        compiles = self.setting.execution.compile != "none"
        network = torch.compile(self.network) if compiles else self.network
        seconds = per_pass(partial(self.passes, network), self.device)
        return Outcome(rate=self.seen / seconds, operations=counter.get_total_flops() / self.setting.batch)

    def passes(self, network: nn.Module, advance: Callable[[int], None]) -> None:
        """All passes."""
        for _ in range(PASSES):
            order = torch.randperm(len(self.x)).to(self.device)
            for chosen in order[: self.seen].split(self.setting.batch):
                self.optimiser.zero_grad(set_to_none=True)
                self.loss(network, self.x.index_select(0, chosen), self.y.index_select(0, chosen)).backward()
                self.optimiser.step()
            advance(self.seen)

    def loss(self, network: nn.Module, x: Tensor, y: Tensor) -> Tensor:
        """The loss of a batch, in the precision of the setting."""
        half = self.setting.execution.precision == "bfloat16"
        with torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=half):
            logits = network(x.float().div_(255))
        return functional.cross_entropy(logits.float(), y)


def images_table(found: Mapping[str, Any]) -> list[str]:
    """Columns beside the plain loop."""
    lines = [
        "| | images a second | over the plain loop | over column 1 | operations over column 1 | of the peak | kept |",
        "|---|--:|--:|--:|--:|--:|---|",
    ]
    return lines + [
        f"| {_name(one['column'])} | {one['images_per_second']:.0f} | {one['of_plain']:.2f} | {one['of_first']:.2f} "
        f"| {one['operations']:.2f} | {one['of_peak']:.2f} | {'yes' if one['features_kept'] else ''} |"
        for one in found["rows"]
    ]


def draw_images(found: Mapping[str, Any], path: Path) -> None:
    """Images a second of the plain loop and of each column."""
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.4))
    rows = found["rows"]
    names, rates = [_name(one["column"]) for one in rows], [one["images_per_second"] for one in rows]
    bars = axes.bar(names, rates, width=0.6, color=["0.6", *["C0"] * (len(rows) - 1)])
    axes.bar_label(bars, [f"{rate:.0f}" for rate in rates], label_type="center", color="white")
    first = next(one for one in rows if one["column"] == 1)["images_per_second"]
    expected = [first / one["operations"] for one in rows[1:]]
    axes.plot(names[1:], expected, "k_", markersize=34, label="column 1, divided by operations")
    axes.set_ylabel("images a second in training")
    axes.set_ylim(0, 1.15 * max(rates))
    axes.legend(frameon=False, loc="upper right")
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def _name(column: int) -> str:
    return f"column {column}" if column else "plain ResNet-18"
