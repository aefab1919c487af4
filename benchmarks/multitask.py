"""What do architectures, weightings and samplings of multi-task learning give over one network for each task?

    python benchmarks/multitask.py --root DATA [--runs runs/multitask] [--jobs 2] [--device auto]
    python benchmarks/multitask.py --root DATA --quick

DATA holds MNIST as torchvision lays it out. Three streams: MultiMNIST, two overlaid digits, of which one task names the
left and one the right one; Split-MNIST, five tasks of two digits and of very different sizes; Rotated-MNIST, five
angles. Every weighting is brought to the scale of the mean (`match_scale`), and every method has the same search for a
learning rate: each rate with three seeds that are not reported, judged by their mean validation loss. What has
been trained is kept, so that the script goes on where it was stopped. It writes `multitask.json` and `multitask.md` in
`benchmarks/results`, `docs/figures/multitask.png`, and the tables of docs/multi-task.md; quickly all of them below the
folder of the runs.
"""

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from importlib.util import find_spec
from math import inf
from pathlib import Path
from statistics import fmean
from time import perf_counter, process_time
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import tyro
from torch import Tensor, nn

import prognet
from prognet.backbones import Backbone, mlp
from prognet.errors import DivergedError
from prognet.evaluation.engines.pool import worker_processes
from prognet.files import write_atomically
from prognet.metrics import delta_m
from prognet.report.plots.style import look
from prognet.seeds import derive_seed
from prognet.statistics import Interval, paired_difference, t_interval
from prognet.strategies import Independent, MultiTask, Progressive, Strategy
from prognet.strategies import multitask as mt
from prognet.streams import Samples, Stream, Task, from_arrays, rotated_mnist, split_mnist
from prognet.streams.overlaid import overlaid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
RESULTS, FIGURES = HERE / "results", HERE.parent / "docs" / "figures"
PAGE, BEGIN, END = HERE.parent / "docs" / "multi-task.md", "<!-- results:begin -->", "<!-- results:end -->"
SINGLE, SAMPLED = "independent", "sampling"
EVERY_RATE: Mapping[str, Sequence[str]] = {"multi-mnist": (SINGLE, "hard", "progressive")}
"""Methods that are shown at each of the rates too, since their searches may find different ones."""
UNEVEN = (1200, 900, 600, 300, 150)
"""Training samples of the tasks of Split-MNIST."""

Make = Callable[[Backbone], Strategy]
ARCHITECTURES: Mapping[str, mt.Architecture] = {
    "stems": mt.Stems(),
    "soft": mt.Soft(),
    "cross-stitch": mt.CrossStitch(),
    "cross-stitch, earlier": mt.CrossStitch(reads="earlier"),
    "attention": mt.Attention(),
    "adversarial": mt.Adversarial(),
    "added": mt.Added(),
    "concatenated": mt.Concatenated(),
    "film": mt.FiLM(),
}
WEIGHTINGS: Mapping[str, type[mt.Weighting]] = {
    "uncertainty": mt.Uncertainty,
    "dwa": mt.DWA,
    "random": mt.RandomWeights,
    "famo": mt.FAMO,
    "gradnorm": mt.GradNorm,
    "pcgrad": mt.PCGrad,
    "mgda": mt.MGDA,
    "imtl-g": mt.IMTLG,
    "aligned": mt.AlignedMTL,
    "upgrad": mt.UPGrad,
    **({"cagrad": mt.CAGrad} if find_spec("cvxpy") and find_spec("clarabel") else {}),
    **({"nash": mt.NashMTL} if find_spec("cvxpy") and find_spec("ecos") else {}),
}


def methods() -> dict[str, Make]:
    """Every method by its name: single networks, then one axis away from hard sharing with the mean at a time."""
    return {
        SINGLE: Independent,
        "progressive": Progressive,
        "hard": MultiTask,
        **{name: _shared(architecture) for name, architecture in ARCHITECTURES.items()},
        **{f"hard, {name}": _weighted(kind) for name, kind in WEIGHTINGS.items()},
        **{f"hard, {SAMPLED} {alpha:g}": _sampled(alpha) for alpha in (0.5, 1.0)},
    }


def _shared(architecture: mt.Architecture) -> Make:
    return lambda backbone: MultiTask(backbone, architecture=architecture)


def _weighted(kind: type[mt.Weighting]) -> Make:
    return lambda backbone: MultiTask(backbone, weighting=kind(match_scale=True))


def _sampled(alpha: float) -> Make:
    return lambda backbone: MultiTask(backbone, sampling=alpha)


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    images: int
    """Training images of MultiMNIST, seen once for each task in an epoch."""
    per_angle: int
    """Training images of a task of Rotated-MNIST."""
    test: int
    """Test images of a task at most."""
    epochs: int
    seeds: int
    search_seeds: tuple[int, ...]
    """Seeds of the search for a learning rate, none of which is reported."""
    rates: tuple[float, ...]
    """Learning rates that are tried; the last one where there is no search."""


FULL = Size(
    images=10_000,
    per_angle=2000,
    test=10_000,
    epochs=8,
    seeds=5,
    search_seeds=(1000, 1001, 1002),
    rates=(0.001, 0.01, 0.003),
)
QUICK = Size(images=500, per_angle=100, test=500, epochs=1, seeds=2, search_seeds=(), rates=(0.001,))


@dataclass(frozen=True)
class Setting:
    """One stream, and what has been published about it."""

    title: str
    batch_size: int
    backbone: Backbone
    published: Sequence[tuple[str, str, str]] = ()
    """What, its accuracy in percent (mean of the tasks), and of each task."""
    setup: str = ""


def lenet(shape: Sequence[int], n_classes: int) -> nn.Sequential:
    """The network of Sener & Koltun 2018 up to its first dense layer, and a linear head."""
    return nn.Sequential(
        *(nn.Conv2d(shape[0], 10, 5), nn.MaxPool2d(2), nn.ReLU()),
        *(nn.Conv2d(10, 20, 5), nn.MaxPool2d(2), nn.ReLU(), nn.Flatten()),
        *(nn.Linear(320, 50), nn.ReLU(), nn.Linear(50, n_classes)),
    )


SETTINGS: Mapping[str, Setting] = {
    "multi-mnist": Setting(
        "MultiMNIST, two digits in one image, LeNet",
        256,
        lenet,
        (
            ("single networks (Sener & Koltun)", "96.57", "97.23 / 95.90"),
            ("uniform (Sener & Koltun)", "95.73", "96.46 / 94.99"),
            ("uncertainty (Sener & Koltun)", "95.88", "96.47 / 95.29"),
            ("GradNorm (Sener & Koltun)", "95.56", "96.27 / 94.84"),
            ("MGDA-UB (Sener & Koltun)", "96.58", "97.26 / 95.90"),
            ("unitary (Kurin et al.)", "94.76 ± 0.44", ""),
            ("IMTL (Kurin et al.)", "94.87 ± 0.25", ""),
            ("MGDA (Kurin et al.)", "94.78 ± 0.20", ""),
            ("PCGrad (Kurin et al.)", "94.79 ± 0.36", ""),
            ("random weights (Kurin et al.)", "94.30 ± 0.30", ""),
        ),
        "Sener & Koltun 2018, table 3: LeNet with two dense layers a task, 60,000 images of their own making, SGD, 100 "
        "epochs, one run; Kurin et al. 2022, figure 7c: the same network with dropout, regularised, Adam with lr 0.01, "
        "100 epochs, 95 % interval of 10 runs. Here: 8 epochs, no dropout, one dense layer less, overlays of our own; "
        "plausible, not a reproduction",
    ),
    "split-mnist": Setting(f"Split-MNIST, 5 tasks of {UNEVEN} samples, MLP 2x100", 64, mlp(hidden=(100, 100))),
    "rotated-mnist": Setting("Rotated-MNIST, 5 angles, a head for each, MLP 2x100", 64, mlp(hidden=(100, 100))),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Trains what is missing, then writes every result anew."""

    root: Path
    """Folder with MNIST as torchvision lays it out."""
    runs: Path = Path("runs/multitask")
    """Folder of what has been trained; it is not trained again."""
    quick: bool = False
    """A few samples, one epoch and two seeds, to see that everything works."""
    images: int = FULL.images
    """Training images of MultiMNIST."""
    jobs: int = 1
    """Processes that train."""
    device: str = "cpu"
    """Where to train."""


@dataclass(frozen=True, kw_only=True)
class Trained:
    """What came of one training."""

    stream: str
    method: str
    seed: int
    rate: float
    accuracy: list[float]
    """Of each task, after the last step."""
    validation: float
    """The last validation loss, mean over the trainings of the run."""
    parameters: int
    flops: float
    """Operations of training."""
    gradient_norm: float | None
    """The mean length of the gradients, where a weighting measured it."""
    seconds: float
    """Of one CPU core, evaluation included."""


def main(arguments: Arguments) -> None:
    """Searches, trains, and writes the table, the figure and the numbers."""
    size = QUICK if arguments.quick else replace(FULL, images=arguments.images)
    runs = arguments.runs / ("quick" if arguments.quick else f"images-{size.images}")
    started = perf_counter()
    uneven = ("split-mnist",)  # elsewhere all samplings are the same
    cells = [(name, method) for name in SETTINGS for method in methods() if name in uneven or SAMPLED not in method]
    with worker_processes(arguments.jobs) as pool:
        futures = [pool.submit(of_method, *cell, size, arguments.root, runs, arguments.device) for cell in cells]
        further = [
            pool.submit(at_every_rate, name, method, size, arguments.root, runs, arguments.device)
            for name, found in EVERY_RATE.items()
            for method in found
        ]
        trained = [item for future in futures for item in future.result()]
        everywhere = [item for future in further for item in future.result()]
    text = "\n".join(
        table(name, [item for item in trained if item.stream == name], size)
        + rate_table([item for item in everywhere if item.stream == name])
        for name in SETTINGS
    )
    sys.stdout.write(f"{text}\n{perf_counter() - started:.0f} seconds\n")
    results, figures = (runs, runs) if arguments.quick else (RESULTS, FIGURES)
    write_atomically(results / "multitask.json", as_json(trained, everywhere, size, arguments.device))
    write_atomically(results / "multitask.md", text.encode())
    with look():
        figure(trained).savefig(figures / "multitask.png", dpi=110)
    if not arguments.quick:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}".encode())


def of_method(name: str, method: str, size: Size, root: Path, runs: Path, device: str) -> "list[Trained]":
    """One method on one stream: the search for its learning rate, then every seed."""

    def validation(rate: float) -> float:
        try:
            tried = [trained_at(name, method, seed, rate, size, root, runs, device) for seed in size.search_seeds]
        except DivergedError:
            return inf
        return fmean(item.validation for item in tried)

    rate = min(size.rates, key=validation) if size.search_seeds else size.rates[-1]
    return [trained_at(name, method, seed, rate, size, root, runs, device) for seed in range(size.seeds)]


def at_every_rate(name: str, method: str, size: Size, root: Path, runs: Path, device: str) -> "list[Trained]":
    """One method on one stream, every seed at every rate, but for the rates at which a training diverges."""
    found: list[Trained] = []
    for rate in sorted(size.rates):
        try:
            found += [trained_at(name, method, seed, rate, size, root, runs, device) for seed in range(size.seeds)]
        except DivergedError:
            continue
    return found


def trained_at(
    name: str, method: str, seed: int, rate: float, size: Size, root: Path, runs: Path, device: str
) -> Trained:
    """One training, or what is kept of it."""
    torch.set_num_threads(1)
    path = runs / name / f"{method.replace(', ', '-').replace(' ', '-')}-{rate:g}-seed-{seed}.json"
    if not path.exists():
        stream = stream_of(name, size, root, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(train(name, method, stream, seed, rate, size, device))).encode())
    return Trained(**json.loads(path.read_text()))


def train(name: str, method: str, stream: Stream, seed: int, rate: float, size: Size, device: str) -> Trained:
    """One training."""
    setting = SETTINGS[name]
    training = prognet.Training(epochs=size.epochs, batch_size=setting.batch_size, lr=rate)
    measurement = prognet.Measurement(lca_updates=0, curve_points=0, curve_samples=1, evaluation_batch_size=1000)
    strategy = methods()[method](setting.backbone)
    started = process_time()
    result = prognet.run(strategy, stream, training=training, measurement=measurement, seed=seed, device=device)
    norm = result.costs[-1].gradient_norm
    return Trained(
        stream=name,
        method=method,
        seed=seed,
        rate=rate,
        accuracy=[float(value) for value in result.accuracy[-1]],
        validation=float(np.mean([curve.validation[-1] for curve in result.curves])),
        parameters=result.costs[-1].parameters,
        flops=sum(cost.training_flops for cost in result.costs),
        gradient_norm=None if np.isnan(norm) else norm,
        seconds=process_time() - started,
    )


@lru_cache(maxsize=8)
def stream_of(name: str, size: Size, root: Path, seed: int) -> Stream:
    """A stream with the draw of a seed; the last ones are kept."""
    return STREAMS[name](size, root, seed)


def multi_mnist(size: Size, root: Path, seed: int) -> Stream:
    """Two tasks on the same images: the left digit and the right one; a draw of pairs for every seed."""
    plain = rotated_mnist(1, root=root, validation=0.0)[0]
    train, test = (
        paired(samples, derive_seed(seed, split), count)
        for samples, split, count in ((plain.train, "train", size.images), (plain.test, "test", size.test))
    )
    return from_arrays([(train[0], train[i], test[0], test[i]) for i in (1, 2)], names=["left", "right"], seed=seed)


def paired(samples: Samples, seed: int, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Images of two digits, the labels of the left ones, and those of the right ones."""
    generator = torch.Generator().manual_seed(seed)
    left, right = (torch.randperm(len(samples), generator=generator)[:count] for _ in range(2))
    return overlaid(samples.x, left, right), samples.y[left], samples.y[right]


def uneven_split(size: Size, root: Path, seed: int) -> Stream:
    """Split-MNIST with fewer and fewer samples, drawn by the seed from all classes of a task."""
    scale = size.per_angle / FULL.per_angle
    arrays = []
    for task, wanted in zip(split_mnist(root=root, validation=0.0, class_order="natural"), UNEVEN, strict=True):
        generator = torch.Generator().manual_seed(derive_seed(seed, task.label, "draw"))
        chosen = torch.randperm(len(task.train), generator=generator)[: max(20, round(wanted * scale))]
        assert len(torch.unique(task.train.y[chosen])) == task.n_classes  # tasks are stored sorted by class
        arrays.append(drawn(task, chosen, size))
    return from_arrays(arrays, seed=seed)


def few_rotated(size: Size, root: Path, seed: int) -> Stream:
    """Rotated-MNIST with some samples of every angle, drawn by the seed."""
    arrays = []
    for task in rotated_mnist(5, root=root, validation=0.0, task_order="natural"):
        generator = torch.Generator().manual_seed(derive_seed(seed, task.label, "draw"))
        chosen = torch.randperm(len(task.train), generator=generator)[: size.per_angle]
        arrays.append(drawn(task, chosen, size))
    return from_arrays(arrays, seed=seed)


def drawn(task: Task, chosen: Tensor, size: Size) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Some training samples of a task, and as many test samples as are wanted, in an order of their own."""
    tested = torch.randperm(len(task.test), generator=torch.Generator().manual_seed(task.label))[: size.test]
    return task.train.x[chosen], task.train.y[chosen], task.test.x[tested], task.test.y[tested]


STREAMS: Mapping[str, Callable[[Size, Path, int], Stream]] = {
    "multi-mnist": multi_mnist,
    "split-mnist": uneven_split,
    "rotated-mnist": few_rotated,
}


def table(name: str, trained: Sequence[Trained], size: Size) -> str:
    """One stream: accuracy, what is gained over single networks, and what it costs."""
    setting, alone = SETTINGS[name], _of(trained, SINGLE)
    searched = f"lr from {size.rates} by validation loss, mean of {len(size.search_seeds)} other seeds"
    rates = searched if size.search_seeds else f"lr {size.rates[-1]:g}"
    lines = [
        f"**{setting.title}.** {size.epochs} epochs, batch {setting.batch_size}, Adam, {rates}; {size.seeds} seeds, "
        "mean ± half of the 95 % interval. Below zero over single networks is negative transfer.",
        "",
        "| method | accuracy (%) | each task (%) | over single (points) | Δ_m (%) | tasks below single | lr "
        "| mean gradient length | parameters | GFLOPs | CPU seconds |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for method in dict.fromkeys(item.method for item in trained):
        mine = _of(trained, method)
        gain, relative, harmed = ("", "", "")
        if method != SINGLE:
            gain = points(paired_difference(_means(mine), _means(alone)).interval, "+.2f")
            relative = points(
                t_interval([delta_m(m.accuracy, s.accuracy) for m, s in zip(mine, alone, strict=True)]), "+.2f"
            )
            harmed = str(_harmed(mine, alone))
        each = " / ".join(f"{100 * value:.2f}" for value in np.mean([item.accuracy for item in mine], axis=0))
        lines.append(
            f"| {method} | {points(t_interval(_means(mine)), '.2f')} | {each} | {gain} | {relative} | {harmed} "
            f"| {mine[0].rate:g} | {length_of(mine)} | {mine[0].parameters:,} | {mine[0].flops / 1e9:,.0f} "
            f"| {np.mean([item.seconds for item in mine]):.1f} |"
        )
    lines += [f"| *published:* {what} | {mean} | {each} | | | | | | | | |" for what, mean, each in setting.published]
    return "\n".join([*lines, "", *([f"Published figures: {setting.setup}.", ""] if setting.setup else [])])


def rate_table(trained: Sequence[Trained]) -> str:
    """Some methods at equal rates: accuracy, and what is gained over single networks at that rate; "" for none."""
    if not trained:
        return ""
    rates = sorted({item.rate for item in trained})
    lines = [
        "The same at equal rates: accuracy (%), and points over single networks at that rate.",
        "",
        "| method | " + " | ".join(f"lr {rate:g} | over single" for rate in rates) + " |",
        "|---|" + "---|" * (2 * len(rates)),
    ]
    for method in dict.fromkeys(item.method for item in trained):
        cells = []
        for rate in rates:
            mine, alone = (
                _means([item for item in _of(trained, name) if item.rate == rate]) for name in (method, SINGLE)
            )
            compared = bool(mine and alone) and method != SINGLE
            gain = points(paired_difference(mine, alone).interval, "+.2f") if compared else ""
            cells.append(f"{points(t_interval(mine), '.2f') if mine else 'diverged'} | {gain}")
        lines.append(f"| {method} | {' | '.join(cells)} |")
    return "\n".join(["", *lines, ""])


def length_of(mine: Sequence[Trained]) -> str:
    """The mean length of the combined gradients, where a weighting measured it."""
    lengths = [item.gradient_norm for item in mine if item.gradient_norm is not None]
    return f"{np.mean(lengths):.2f}" if lengths else ""


def _harmed(mine: Sequence[Trained], alone: Sequence[Trained]) -> int:
    """Tasks whose difference to the single network lies below zero with its whole interval."""
    M, S = (np.array([item.accuracy for item in items]) for items in (mine, alone))
    found = [paired_difference(own, other).interval for own, other in zip(M.T, S.T, strict=True)]
    return sum(interval.mean + interval.half_width < 0 for interval in found)


def points(interval: Interval, form: str) -> str:
    """A fraction with its interval, times 100."""
    return f"{100 * interval.mean:{form}} ± {100 * interval.half_width:.2f}"


def figure(trained: Sequence[Trained]) -> "Figure":
    """What every method gains over single networks, paired by seed, with 95 % intervals: one panel a stream."""
    from matplotlib import pyplot

    names = [name for name in dict.fromkeys(item.method for item in trained) if name != SINGLE]
    drawn, axes = pyplot.subplots(1, len(SETTINGS), figsize=(11.5, 6), layout="constrained", sharey=True)
    for axis, stream in zip(axes, SETTINGS, strict=True):
        here = [item for item in trained if item.stream == stream]
        alone = _means(_of(here, SINGLE))
        for place, name in enumerate(names):
            if not (mine := _of(here, name)):
                continue
            interval = paired_difference(_means(mine), alone).interval
            colour = "#0072B2" if name in ARCHITECTURES else "#000000" if "," not in name else "#D55E00"
            axis.errorbar(100 * interval.mean, place, xerr=100 * interval.half_width, color=colour, marker="o")
        axis.axvline(0, color="#7F7F7F", linewidth=0.8)
        axis.set(title=stream, xlabel="points over single networks")
    axes[0].set_yticks(range(len(names)), names)
    axes[0].invert_yaxis()
    return drawn


def as_json(trained: Sequence[Trained], everywhere: Sequence[Trained], size: Size, device: str) -> bytes:
    """All that the tables and the figure are made from."""
    content: dict[str, Any] = {
        "command": "python benchmarks/multitask.py --root DATA"
        + (" --quick" if size == QUICK else "" if size == FULL else f" --images {size.images}"),
        "size": asdict(size),
        "versions": {"python": platform.python_version(), "torch": torch.__version__, "device": device},
        "trained": [asdict(item) for item in trained],
        "at_every_rate": [asdict(item) for item in everywhere],
    }
    return (json.dumps(content) + "\n").encode()


def _of(trained: Sequence[Trained], method: str) -> list[Trained]:
    return [item for item in trained if item.method == method]


def _means(trained: Sequence[Trained]) -> list[float]:
    return [float(np.mean(item.accuracy)) for item in trained]


if __name__ == "__main__":
    main(tyro.cli(Arguments))
