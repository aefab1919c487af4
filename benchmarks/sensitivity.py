"""On which earlier columns does a column rely, and do the measures agree?

Rotated MNIST in the order of the angles, ten tasks 18 degrees apart, 3000 training images a task, MLP 2x100, four
epochs, three seeds: a progressive network, and the control whose earlier columns are random. Every column is then
analysed on its own test images. Neighbouring angles are alike, so a measure that finds relatedness should fall with the
distance between the tasks, and should not do so for random columns.

    python benchmarks/sensitivity.py [--runs runs/sensitivity]

The environment variable PROGNET_DATA names the folder that holds MNIST as torchvision lays it out; without it the
digits of scikit-learn take its place. The runs are kept, so that the script goes on where it was stopped. It writes
`benchmarks/results/sensitivity.json`, `benchmarks/results/sensitivity.md` and the figures of docs/analysis.md.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from prognet.analysed import ColumnAnalysis, Look, RunAnalysis, read_analysis
from prognet.backbones import mlp
from prognet.config import Measurement, Training
from prognet.engine import MLPAdapter
from prognet.evaluation import analyse, grid
from prognet.evaluation.store import RunStore
from prognet.files import write_atomically
from prognet.metrics import average_accuracy
from prognet.report import compare
from prognet.report.plots import look as figure_look
from prognet.report.plots.reliance import draw_reliances, reliance_plots
from prognet.report.reliance import read_reliances
from prognet.results import Floats, Results, load_results, to_json
from prognet.statistics import t_interval
from prognet.strategies import Progressive, ProgressiveRandom, Start
from prognet.streams import Samples, Stream, rotated_digits, rotated_mnist

HERE = Path(__file__).parent
FIGURES = HERE.parent / "docs" / "figures"
STRATEGIES = ("progressive", "progressive-random")
MEASURES: Mapping[str, str] = {
    "fisher": "AFS (%)",
    "perturbation": "APS (%)",
    "source_loss": "accuracy lost (points)",
    "similarity": "CKA (x 100)",
}
TRAINING = Training(epochs=4, batch_size=64, lr=0.001)
MEASUREMENT = Measurement(lca_updates=0, curve_points=0, gates=())
N_TRAIN, N_TEST = 3000, 1000
SHOWN = (
    "reliance-progressive",
    "reliance-last-progressive",
    "reliance-fisher-progressive",
)
"""The figures of docs/analysis.md."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs the stream, analyses it and writes the results."""

    runs: Path = Path("runs/sensitivity")
    """Folder of the runs."""
    n_tasks: int = 10
    seeds: int = 3
    samples: int = 400
    """Test images of each task that are looked at."""
    results: Path = HERE / "results"
    """Folder of the results."""
    figures: Path = FIGURES
    """Folder of the figures."""


def main(arguments: Arguments) -> None:
    """Runs and analyses what is missing, then writes every result anew."""
    backbone, adapter = mlp(hidden=(100, 100)), MLPAdapter()
    scratch = Start(kind="scratch")  # a copied column would share its features with its source from the start
    stream = make_stream(arguments.n_tasks)
    grid(
        [kind(backbone, adapter=adapter, start=scratch) for kind in (Progressive, ProgressiveRandom)],
        lambda order: stream,
        out=arguments.runs,
        seeds=range(arguments.seeds),
        training=TRAINING,
        measurement=MEASUREMENT,
        threads=1,
    )
    look = Look(samples=arguments.samples, repeats=1, batch_size=arguments.samples)
    problems = [
        f"{one.run}: {one.problem}" for one in analyse(arguments.runs, lambda run: stream, look=look) if one.problem
    ]
    if problems:
        raise SystemExit("\n".join(problems))
    results = load_results(arguments.runs)
    store = [RunStore.of(arguments.runs, run.strategy, run.order, run.seed) for run in results]
    analyses = [read_analysis(one.folder) for one in store]
    write_atomically(arguments.results / "sensitivity.md", markdown(results, analyses).encode())
    write_atomically(arguments.results / "sensitivity.json", as_json(results, analyses))
    reliances = read_reliances(arguments.runs, compare(results))
    arguments.figures.mkdir(parents=True, exist_ok=True)
    with figure_look():
        for name, figure in draw_reliances(reliance_plots(reliances)).items():
            if name in SHOWN:
                figure.savefig(arguments.figures / f"sensitivity-{name.removeprefix('reliance-')}.png", dpi=110)


def make_stream(n_tasks: int) -> Stream:
    """The rotated images, less of them: the first ones of each split."""
    root = os.environ.get("PROGNET_DATA")
    full = (
        rotated_digits(n_tasks, task_order="natural")
        if root is None
        else rotated_mnist(n_tasks, root=root, task_order="natural")
    )
    tasks = [
        replace(
            task,
            train=Samples(task.train.x[:N_TRAIN], task.train.y[:N_TRAIN]),
            val=Samples(task.val.x[:0], task.val.y[:0]),
            test=Samples(task.test.x[:N_TEST], task.test.y[:N_TEST]),
        )
        for task in full
    ]
    sizes = {"n_train": N_TRAIN, "n_test": N_TEST}
    return Stream(tasks, name=full.name, arguments={**full.arguments, **sizes})


def markdown(results: Results, analyses: Sequence[RunAnalysis]) -> str:
    """The setting, every measure against the distance between tasks, and how the measures agree."""
    first = results[0]
    parts = [
        f"**{first.stream}, {first.n_tasks} tasks in the order of the angles, {first.tasks[0].n_train} training "
        f"samples a task, {len({run.seed for run in results})} seeds.** Mean ± half of the 95 % interval over seeds; "
        "distance 1 is the task before. Of random columns the distance says only which of them it is.",
        "",
        "Average accuracy: "
        + ", ".join(
            f"{name} {percent([average_accuracy(run.accuracy) for run in results if run.strategy == name])} %"
            for name in STRATEGIES
        )
        + ".",
        "",
    ]
    for name in STRATEGIES:
        parts += distance_table(name, [analysis for analysis in analyses if analysis.strategy == name])
    return "\n".join([*parts, *agreement_table(analyses)])


def distance_table(name: str, analyses: Sequence[RunAnalysis]) -> list[str]:
    """Every measure of a source against how many tasks earlier it was learned: mean over tasks, then over seeds."""
    n_tasks = len(analyses[0].columns)
    lines = [f"| {name}: distance | {' | '.join(MEASURES.values())} |", "|--:|" + "--:|" * len(MEASURES)]
    for distance in range(1, n_tasks):
        cells = [
            percent(
                [
                    np.mean([of_sources(column, measure)[-distance] for column in analysis.columns[distance:]])
                    for analysis in analyses
                ]
            )
            for measure in MEASURES
        ]
        lines.append(f"| {distance} | {' | '.join(cells)} |")
    own = percent([np.mean([column.fisher[:, -1].mean() for column in found.columns[1:]]) for found in analyses])
    lost = percent([np.mean([column.total_loss for column in found.columns[1:]]) for found in analyses])
    return [
        *lines,
        "",
        f"Mean over tasks 2 to {n_tasks}: own share by AFS {own} %; without any lateral {lost} points lost.",
        "",
    ]


def agreement_table(analyses: Sequence[RunAnalysis]) -> list[str]:
    """How the measures rank the sources of a column: Spearman's correlation, mean over tasks with three sources."""
    from scipy.stats import spearmanr

    lines = ["| rank correlation over the sources of a column | " + " | ".join(STRATEGIES) + " |", "|---|--:|--:|"]
    names = list(MEASURES)
    for one, other in ((0, 1), (0, 2), (1, 2), (0, 3), (2, 3)):
        cells = []
        for strategy in STRATEGIES:
            by_seed = [
                np.nanmean(
                    [
                        spearmanr(of_sources(column, names[one]), of_sources(column, names[other])).statistic
                        for column in analysis.columns[3:]
                    ]
                )
                for analysis in analyses
                if analysis.strategy == strategy
            ]
            interval = t_interval(by_seed)
            cells.append(f"{interval.mean:.2f} ± {interval.half_width:.2f}")
        titles = [MEASURES[names[index]].split(" (")[0] for index in (one, other)]
        lines.append(f"| {titles[0]} and {titles[1]} | {' | '.join(cells)} |")
    return [*lines, ""]


def of_sources(column: ColumnAnalysis, measure: str) -> Floats:
    """One number for each source in the order of the tasks, the column itself left out; mean over sites."""
    values: Floats = getattr(column, measure)
    return (values if values.ndim == 1 else values.mean(axis=0))[:-1]


def percent(values: Sequence[float | np.floating]) -> str:
    """Fractions as per cent with the 95 % interval of their mean."""
    interval = t_interval([100 * float(value) for value in values])
    return f"{interval.mean:.1f} ± {interval.half_width:.1f}"


def as_json(results: Results, analyses: Sequence[RunAnalysis]) -> bytes:
    """What a reader needs to compute the tables and draw the figures anew."""
    first = results[0]
    content = {
        "benchmark": "python benchmarks/sensitivity.py",
        "environment": first.environment,
        "training": first.config["training"],
        "backbone": first.config["backbone"],
        "stream": first.config["stream"],
        "accuracy": [{"strategy": run.strategy, "seed": run.seed, "accuracy": run.accuracy} for run in results],
        "analyses": [rounded(to_json(asdict(analysis))) for analysis in analyses],
    }
    return (json.dumps(to_json(content)) + "\n").encode()


def rounded(value: Any) -> Any:
    """Four decimals, which is finer than a test of 400 images."""
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    if isinstance(value, list):
        return [rounded(item) for item in value]
    return round(value, 4) if isinstance(value, float) else value


if __name__ == "__main__":
    main(tyro.cli(Arguments))
