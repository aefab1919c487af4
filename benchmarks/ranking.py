"""Every strategy of the catalogue on one stream, in the one table of the report.

Scikit-learn's digits, 100 samples a class, then five views of them with 5 samples a class; an MLP; five seeds, each
with its own draw of the samples, its own initialisation and batches. Before, every strategy has the same trials of
learning rate and weight decay on another draw, judged by what is learned on validation samples.

    python benchmarks/ranking.py [--runs runs/ranking] [--jobs 2] [--quick]

Nothing is downloaded. The runs and the search are kept, so that the script goes on where it was stopped. It writes
`ranking.json` and `ranking.md` in `benchmarks/results`, `docs/figures/ranking.png` and the table of docs/ranking.md;
quickly all of them below the folder of the runs.
"""

import json
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import tyro

import prognet
from prognet.backbones import mlp
from prognet.catalogue import STRATEGIES, resolve
from prognet.evaluation.tuning import tune
from prognet.files import write_atomically
from prognet.report import compare, to_markdown
from prognet.report.leaderboard import Place, leaderboard, places
from prognet.report.plots.style import look
from prognet.results import Results, to_json
from prognet.strategies.base import Strategy
from prognet.streams import PerSeed, low_data_digits
from prognet.tuned import read_tuned, write_tuned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
RESULTS, DOCS = HERE / "results", HERE.parent / "docs"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
BACKBONE = mlp(hidden=(64, 64))
TUNING_DRAW = 1000
"""The draw on which is searched; those that are reported are 0, 1, ..."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs the benchmark and writes its results."""

    runs: Path = Path("runs/ranking")
    """Folder of the runs and of the search."""
    jobs: int = 1
    """Runs at once; the search before them takes one process."""
    quick: bool = False
    """Two seeds and few updates, to see that everything works."""


@dataclass(frozen=True)
class Size:
    """How much is trained."""

    training: prognet.Training
    trials: int
    seeds: int


FULL = Size(prognet.Training(updates=100, first_updates=300, batch_size=50, first_batch_size=100), trials=3, seeds=5)
QUICK = Size(replace(FULL.training, updates=5, first_updates=5), trials=1, seeds=2)


def main(arguments: Arguments) -> None:
    """Runs what is missing, then writes every result anew."""
    size, out = (QUICK, arguments.runs / "quick") if arguments.quick else (FULL, arguments.runs / "full")
    carry_out(size, out, arguments.jobs)
    results = prognet.load_results(out)
    found = places(compare(results))
    text = to_markdown(leaderboard(found))
    sys.stdout.write(text)
    tables, figures = (out, out) if arguments.quick else (RESULTS, DOCS / "figures")
    write_atomically(tables / "ranking.md", text.encode())
    write_atomically(tables / "ranking.json", (json.dumps(to_json(plain(results, size, out))) + "\n").encode())
    with look():
        figure(found).savefig(figures / "ranking.png", dpi=110)
    if not arguments.quick:
        page = DOCS / "ranking.md"
        before, rest = page.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(page, f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}".encode())


def every_strategy() -> list[Strategy]:
    """All of the catalogue, with one backbone."""
    return [resolve(entry.target)(BACKBONE) for entry in STRATEGIES.values()]


def carry_out(size: Size, out: Path, jobs: int) -> None:
    """Searches and runs, as far as it has not been done."""
    tuned = out / "tuned.json"
    if not tuned.exists():
        # as many samples to be learned from as later on, and as many again to be judged by
        stream = low_data_digits(10, 100, draw=TUNING_DRAW, validation=0.5, views=("rotated", "noisy"))
        found = tune(
            every_strategy(),
            stream,
            training=size.training,
            trials=size.trials,
            judged_by="learning",
            threads=1,
            device="cpu",
        )
        write_tuned(tuned, found)
    prognet.grid(
        every_strategy(),
        PerSeed(lambda order, seed: low_data_digits(5, 100, seed=order, draw=seed)),
        out=out,
        seeds=range(size.seeds),
        training=size.training,
        tuned=read_tuned(tuned),
        measurement=prognet.Measurement(lca_updates=0, curve_points=0, gates=()),
        device="cpu",
        threads=1,
        workers=prognet.Workers(jobs=jobs),
    )


def figure(found: tuple[Place, ...]) -> "Figure":
    """Average accuracy with intervals, the best first; filled where it may be as good as the first."""
    from matplotlib import pyplot

    drawing, axis = pyplot.subplots(figsize=(7.5, 0.2 * len(found) + 1.2), layout="constrained")
    for row, place in enumerate(found):
        accuracy, behind = place.summary.measures["average_accuracy"], place.behind.interval
        near = row == 0 or behind.mean + behind.half_width >= 0
        colour = "#0072B2" if place.summary.name.startswith("progressive") else "#555555"
        axis.errorbar(
            100 * accuracy.mean,
            row,
            xerr=100 * accuracy.half_width,
            color=colour,
            marker="o",
            markerfacecolor=colour if near else "white",
        )
    axis.set_yticks(range(len(found)), [place.summary.name for place in found])
    axis.invert_yaxis()
    axis.set_xlabel("average accuracy on all tasks after the last one (%)")
    return drawing


def plain(results: Results, size: Size, out: Path) -> dict[str, object]:
    """What a reader needs to compute the table anew."""
    first = next(iter(results))
    return {
        "command": "python benchmarks/ranking.py",
        "environment": first.environment,
        "stream": first.config["stream"],
        "trials": size.trials,
        "search": json.loads((out / "tuned.json").read_text(encoding="utf-8")),
        "runs": [
            {
                "strategy": run.strategy,
                "seed": run.seed,
                "training": run.config["training"],
                "accuracy": run.accuracy,
                "parameters": run.costs[-1].parameters,
                "training_flops": [cost.training_flops for cost in run.costs],
                "seconds": [cost.seconds for cost in run.costs],
            }
            for run in results
        ],
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
