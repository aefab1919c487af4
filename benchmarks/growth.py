"""What do source sets, narrow columns, bottlenecks, pruning and a budget cost in accuracy, and save in parameters?

    python benchmarks/growth.py

Fifty tasks made from scikit-learn's digits: five orders of the pixels, ten tasks each in a mixed sequence, every task
turned by an angle of its own and with few samples, so that nine other tasks are related to it and forty are not. It
writes `benchmarks/results/growth.json`, `benchmarks/results/growth.md`, `docs/figures/growth.png` and the tables of
`docs/growth.md`. Nothing is forgotten, so each task is tested once, when it has been learned.
"""

import json
import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
import tyro

import prognet
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.evaluation.engines.pool import worker_processes
from prognet.files import write_atomically
from prognet.report.plots.style import look
from prognet.seeds import derive_seed
from prognet.statistics import Interval, paired_difference, t_interval
from prognet.strategies import (
    ConstantWidth,
    Independent,
    LastSources,
    Progressive,
    PruneLaterals,
    RootWidth,
    Strategy,
    TopSources,
)
from prognet.strategies.growth import Width
from prognet.strategies.sources import Sources
from prognet.strategies.start import Start
from prognet.streams import Stream, from_arrays, permuted_digits
from prognet.streams.pixels import permute_pixels, rotate
from prognet.training import Session, count_parameters, evaluating, outputs_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
RESULT, TABLE = HERE / "results" / "growth.json", HERE / "results" / "growth.md"
FIGURE = HERE.parent / "docs" / "figures" / "growth.png"
PAGE = HERE.parent / "docs" / "growth.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

FAMILIES, LEARNED_FROM, VALIDATION, LARGEST_TURN = 5, 150, 1 / 3, 45.0
HIDDEN = (32, 32)
TRAINING = prognet.Training(epochs=15, batch_size=50, lr=0.01)
MEASUREMENT = prognet.Measurement(lca_updates=0, curve_points=0, curve_samples=1)
BUDGET_PER_TASK = 5000
SHOWN = (1, 2, 5, 10, 20, 30, 40, 50)

Make = Callable[[Any, int], Strategy]
"""(backbone, number of tasks) -> what learns them."""


def progressive(
    backbone: Any,
    *,
    adapter: MLPAdapter | None = None,
    sources: Sources | None = None,
    width: Width | None = None,
    budget: int | None = None,
    prune: PruneLaterals | None = None,
) -> Progressive:
    """A progressive network with equation 2 whose columns begin from scratch, so that only its growth is compared."""
    return Progressive(
        backbone,
        adapter=adapter or MLPAdapter(),
        sources=sources,
        width=width,
        budget=budget,
        prune=prune,
        start=Start(kind="scratch"),
    )


VARIANTS: Mapping[str, Make] = {
    "independent": lambda backbone, n: Independent(backbone),
    "all": lambda backbone, n: progressive(backbone),
    "last 1": lambda backbone, n: progressive(backbone, sources=LastSources(1)),
    "top 1, k-NN": lambda backbone, n: progressive(backbone, sources=TopSources(1, by="knn")),
    "top 1, ridge": lambda backbone, n: progressive(backbone, sources=TopSources(1, by="ridge")),
    "top 1, AFS": lambda backbone, n: progressive(backbone, sources=TopSources(1, by="afs", trial=20)),
    "top 3, k-NN": lambda backbone, n: progressive(backbone, sources=TopSources(3, by="knn")),
    "top 1, k-NN, closure 3": lambda backbone, n: progressive(backbone, sources=TopSources(1, by="knn", closure=3)),
    "all, 1/sqrt(k) wide": lambda backbone, n: progressive(backbone, width=RootWidth()),
    "top 1, k-NN, half wide": lambda backbone, n: progressive(
        backbone, sources=TopSources(1), width=ConstantWidth(0.5)
    ),
    "all, bottleneck 1/4": lambda backbone, n: progressive(backbone, adapter=MLPAdapter(hidden=0.25)),
    "all, pruned": lambda backbone, n: progressive(backbone, prune=PruneLaterals(drop=0.005)),
    "top 3, k-NN, budget": lambda backbone, n: progressive(
        backbone, sources=TopSources(3, by="knn"), budget=n * BUDGET_PER_TASK
    ),
}
COUNTED = ("independent", "all", "last 1", "top 3, k-NN", "all, 1/sqrt(k) wide", "all, bottleneck 1/4")
"""Variants whose parameters do not depend on data; they are also counted for an MLP 2x100 on 28x28 pixels."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Trains all variants and writes their results."""

    tasks: int = 50
    """Tasks of the long stream."""
    seeds: int = 3
    """Seeds of the long stream; each has data of its own."""
    few_tasks: int = 10
    """Tasks of the short stream."""
    few_seeds: int = 5
    """Seeds of the short stream."""
    runs: Path = Path("runs/growth")
    """Folder of what has been trained; it is not trained again."""
    jobs: int = 1
    """Processes that train."""


@dataclass(frozen=True, kw_only=True)
class Course:
    """One variant on one stream, task by task."""

    variant: str
    seed: int
    accuracy: list[float]
    """Test accuracy of each task, when it has been learned and ever after."""
    parameters: list[int]
    """Of the whole network after each task."""
    sources: list[int]
    """Columns that each column reads."""
    closure: list[int]
    """Columns that are run for each task's prediction, beside its own."""
    related: list[float | None]
    """Share of the sources that are of the task's own family; None without sources."""
    updates: int
    """Of all training, trials included."""
    seconds: float
    """Wall time of it all."""


def main(arguments: Arguments) -> None:
    """Trains what is missing, then writes every result anew."""
    with worker_processes(arguments.jobs) as pool:
        few = train(arguments.few_tasks, arguments.few_seeds, arguments.runs, pool)
        many = train(arguments.tasks, arguments.seeds, arguments.runs, pool)
    counted = mnist_parameters(arguments.tasks)
    text = "\n".join([summary(few), summary(many), over_tasks(many), sizes(counted)])
    sys.stdout.write(text)
    write_atomically(RESULT, as_json(few, many, counted))
    write_atomically(TABLE, text.encode())
    before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
    write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}".encode())
    FIGURE.parent.mkdir(parents=True, exist_ok=True)
    with look():
        figure(many).savefig(FIGURE, dpi=110)


def train(n_tasks: int, seeds: int, runs: Path, pool: ProcessPoolExecutor) -> "list[Course]":
    """Every variant with every seed."""
    cells = [(name, n_tasks, seed, runs) for seed in range(seeds) for name in VARIANTS]
    return list(pool.map(course_of, *zip(*cells, strict=True)))


def course_of(name: str, n_tasks: int, seed: int, runs: Path) -> "Course":
    """What is in the folder of a variant with a seed, or is trained now."""
    path = runs / f"{list(VARIANTS).index(name):02d}-{n_tasks}-tasks-seed-{seed}.json"
    if not path.exists():
        torch.set_num_threads(1)
        stream, families = mixture(n_tasks, seed)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps(asdict(learned(name, stream, families, seed))).encode())
    return Course(**json.loads(path.read_text()))


def mixture(n_tasks: int, seed: int) -> tuple[Stream, list[int]]:
    """The stream of a seed, and the family of each task; in every block of five tasks each family occurs once."""
    plain = permuted_digits(1, validation=0)[0]
    random = np.random.default_rng(derive_seed(seed, "mixture"))
    blocks = [random.permutation(FAMILIES) for _ in range(-(-n_tasks // FAMILIES))]
    families = [int(family) for family in np.concatenate(blocks)[:n_tasks]]
    order = [torch.from_numpy(random.permutation(64)) if family else torch.arange(64) for family in range(FAMILIES)]
    arrays = []
    for family in families:
        angle = float(random.uniform(-LARGEST_TURN, LARGEST_TURN))
        chosen = torch.from_numpy(random.permutation(len(plain.train))[:LEARNED_FROM])
        train, test = rotate(plain.train.x[chosen], angle), rotate(plain.test.x, angle)
        arrays.append(
            (
                permute_pixels(train, order[family]),
                plain.train.y[chosen],
                permute_pixels(test, order[family]),
                plain.test.y,
            )
        )
    return from_arrays(arrays, seed=seed, validation=VALIDATION), families


def learned(name: str, stream: Stream, families: Sequence[int], seed: int) -> Course:
    """Learns a stream with a variant."""
    started = perf_counter()
    strategy = VARIANTS[name](prognet.backbones.mlp(hidden=HIDDEN), len(stream))
    strategy.prepare([task.outline() for task in stream])
    assert isinstance(strategy, Progressive | Independent)
    network = strategy.columns.network
    course = Course(
        variant=name, seed=seed, accuracy=[], parameters=[], sources=[], closure=[], related=[], updates=0, seconds=0
    )
    for step, task in enumerate(stream):
        session = Session(training=TRAINING, measurement=MEASUREMENT, seed=seed, device=torch.device("cpu"), step=step)
        strategy.session = session
        strategy.learn([task])
        with evaluating(strategy):
            outputs = outputs_of(strategy.predict, task, task.test, session.device, 256)
        read = network.column(step).sources
        course.accuracy.append(float((outputs.argmax(1) == task.test.y).double().mean()))
        course.parameters.append(count_parameters(strategy))
        course.sources.append(len(read))
        course.closure.append(len(network.closure([step])) - 1)
        same = [families[source] == families[step] for source in read]
        course.related.append(float(np.mean(same)) if same else None)
    updates = sum(record.updates for record in strategy.records)
    return Course(**{**asdict(course), "updates": updates, "seconds": perf_counter() - started})


def mnist_parameters(n_tasks: int) -> dict[str, list[int]]:
    """Parameters after each task, for an MLP 2x100 on ten classes of 28x28 pixels, without any numbers."""
    backbone = prognet.backbones.mlp(hidden=(100, 100))
    found: dict[str, list[int]] = {}
    for name in COUNTED:
        strategy = VARIANTS[name](backbone, n_tasks)
        network = ProgressiveNetwork(strategy.adapter if isinstance(strategy, Progressive) else None)
        found[name] = []
        with torch.device("meta"):
            for k in range(n_tasks):
                width = 1 / np.sqrt(k + 1) if "wide" in name else 1.0
                count = {"independent": 0, "last 1": 1, "top 3, k-NN": 3}.get(name, k)
                example = torch.zeros(2, 1, 28, 28)
                sources = range(max(0, k - count), k)
                network.add_column(backbone((1, 28, 28), 10, width=float(width)), example, sources=list(sources))
                found[name].append(count_parameters(network))
    return found


def summary(courses: Sequence[Course]) -> str:
    """Accuracy and size of every variant after the last task, averaged over the seeds."""
    n, seeds = len(courses[0].accuracy), len({course.seed for course in courses})
    lines = [
        f"**{n} tasks, {seeds} seeds; mean ± half of the 95 % interval.**",
        "",
        "| variant | accuracy (%) | over independent (points) | over all (points) | parameters | per task "
        "| columns run | related (%) |",
        "|---|---|---|---|---|---|---|---|",
    ]
    bases = {name: _means(courses, name) for name in ("independent", "all")}
    for name in dict.fromkeys(course.variant for course in courses):
        mine = _of(courses, name)
        accuracy = _means(courses, name)
        size = float(np.mean([course.parameters[-1] for course in mine]))
        run = 1 + float(np.mean([course.closure for course in mine]))
        shares = [share for course in mine for share in course.related[FAMILIES:] if share is not None]
        related = f"{100 * np.mean(shares):.0f}" if shares else "–"
        gains = [
            "" if name == other else points(paired_difference(accuracy, base).interval, "+.2f")
            for other, base in bases.items()
        ]
        lines.append(
            f"| {name} | {points(t_interval(accuracy), '.2f')} | {' | '.join(gains)} | {size:,.0f} | {size / n:,.0f} "
            f"| {run:.1f} | {related} |"
        )
    return "\n".join([*lines, ""])


def over_tasks(courses: Sequence[Course]) -> str:
    """Parameters and accuracy of the tasks so far, after some numbers of tasks."""
    shown = [n for n in SHOWN if n <= len(courses[0].accuracy)]
    lines = [
        "**Parameters (thousands) / average accuracy (%) after K tasks.**",
        "",
        f"| variant | {' | '.join(f'K = {n}' for n in shown)} |",
        f"|---|{'---|' * len(shown)}",
    ]
    for name in dict.fromkeys(course.variant for course in courses):
        mine = _of(courses, name)
        cells = [
            f"{np.mean([course.parameters[n - 1] for course in mine]) / 1000:.1f} / "
            f"{100 * np.mean([course.accuracy[:n] for course in mine]):.1f}"
            for n in shown
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def sizes(counted: Mapping[str, Sequence[int]]) -> str:
    """Parameters of the larger network."""
    shown = [n for n in SHOWN if n <= len(next(iter(counted.values())))]
    lines = [
        "**Parameters (thousands) after K tasks, MLP 2x100 on 28x28 pixels and ten classes; nothing is trained.**",
        "",
        f"| variant | {' | '.join(f'K = {n}' for n in shown)} |",
        f"|---|{'---|' * len(shown)}",
    ]
    for name, values in counted.items():
        lines.append(f"| {name} | {' | '.join(f'{values[n - 1] / 1000:,.0f}' for n in shown)} |")
    return "\n".join([*lines, ""])


def points(interval: Interval, form: str) -> str:
    """A fraction with its interval, times 100."""
    return f"{100 * interval.mean:{form}} ± {100 * interval.half_width:.2f}"


def figure(courses: Sequence[Course]) -> "Figure":
    """Parameters and accuracy against the number of tasks, and one against the other."""
    from matplotlib import pyplot

    names = list(dict.fromkeys(course.variant for course in courses))
    drawn, axes = pyplot.subplots(1, 3, figsize=(11.5, 4.6), layout="constrained")
    colours = {name: pyplot.get_cmap("tab20")(index) for index, name in enumerate(names)}
    x = np.arange(1, len(courses[0].accuracy) + 1)
    placed: list[int] = []
    for index, name in enumerate(names):
        mine = _of(courses, name)
        style: dict[str, Any] = {"color": colours[name], "linestyle": ("-", "--", ":", "-.")[index % 4], "label": name}
        size = np.mean([course.parameters for course in mine], axis=0)
        mean = 100 * np.mean([np.cumsum(course.accuracy) / x for course in mine], axis=0)
        axes[0].plot(x, size / 1000, **style)
        axes[1].plot(x, mean, **style)
        end = t_interval([100 * float(np.mean(course.accuracy)) for course in mine])
        beside = placed.count(round(size[-1]))  # variants of one size stand side by side
        placed.append(round(size[-1]))
        axes[2].errorbar(
            [size[-1] / 1000 * 1.07**beside],
            [end.mean],
            yerr=[end.half_width],
            color=colours[name],
            marker="osD^"[index % 4],
            ls="none",
        )
    axes[0].set(xlabel="tasks K", ylabel="thousand parameters", title="parameters of the whole network", ylim=(0, 900))
    axes[1].set(xlabel="tasks K", ylabel="%", title="accuracy, average over the first K tasks")
    axes[2].set(
        xlabel="thousand parameters", ylabel="%", title="after the last task, with 95 % intervals", xscale="log"
    )
    axes[2].xaxis.set_major_formatter("{x:.0f}")
    axes[2].xaxis.set_minor_formatter("")
    axes[2].set_xticks([100, 200, 500, 1000, 2000])
    drawn.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    return drawn


def as_json(few: Sequence[Course], many: Sequence[Course], counted: Mapping[str, Sequence[int]]) -> bytes:
    """All that the tables and the figure are made from."""
    content = {
        "command": "python benchmarks/growth.py",
        "training": asdict(TRAINING),
        "hidden": HIDDEN,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "few_tasks": [asdict(course) for course in few],
        "many_tasks": [asdict(course) for course in many],
        "mnist_parameters": counted,
    }
    return (json.dumps(content) + "\n").encode()


def _means(courses: Sequence[Course], name: str) -> list[float]:
    return [float(np.mean(course.accuracy)) for course in _of(courses, name)]


def _of(courses: Sequence[Course], name: str) -> list[Course]:
    return [course for course in courses if course.variant == name]


if __name__ == "__main__":
    main(tyro.cli(Arguments))
