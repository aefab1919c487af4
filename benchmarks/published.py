"""How do prognet's numbers stand beside published ones?

Split-MNIST (5 tasks, MLP 2x100, a head per task) and Permuted-MNIST (10 tasks, MLP 2x256, one shared head), each with
one epoch and five seeds. Every strategy sees the same batches and has the same, untuned learning rate.

    python benchmarks/published.py --root DATA [--runs runs/published]

DATA holds MNIST as torchvision lays it out. The runs are kept, so that the script goes on where it was stopped. It
writes `benchmarks/results/<stream>.json`, `benchmarks/results/<stream>.md`, the figures that the README shows, and the
table between the markers of the README.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from prognet import cli
from prognet.files import write_atomically
from prognet.metrics import average_accuracy, forgetting, learning_accuracy
from prognet.report import figures
from prognet.results import Results, RunResult, load_results, to_json
from prognet.statistics import Interval, paired_difference, t_interval

HERE = Path(__file__).parent
README, FIGURES = HERE.parent / "README.md", HERE.parent / "docs" / "figures"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
SEEDS = 5
STRATEGIES = (
    "progressive",
    "progressive-scratch",
    "copytune",
    "independent",
    "independent-wide",
    "progressive-random",
    "multitask",
    "finetune",
    "finetune-head",
)


@dataclass(frozen=True)
class Benchmark:
    """One stream, with what has been published on one like it."""

    stream: str
    title: str
    options: Sequence[str]
    published: Sequence[tuple[str, str]]
    """What, and its average accuracy in percent."""
    setup: str
    """How the published figures were made, where that differs from ours."""


BENCHMARKS = (
    Benchmark(
        stream="split-mnist",
        title="Split-MNIST, 5 tasks in the natural order of the classes, a head per task, MLP 2x100, batch 10",
        options=("--backbone", "mlp(hidden=(100,100))", "--class-order", "natural", "--validation", "0"),
        published=(
            ("PNN (Mammoth; its laterals never run)", "99.23 ± 0.20"),
            ("joint", "99.51 ± 0.07"),
            ("fine-tuning", "94.94 ± 2.18"),
        ),
        setup="Buzzega et al. 2020, supplement, MLP 2x100, one epoch, batch 10, SGD with lr 0.1; quoted from memory",
    ),
    Benchmark(
        stream="permuted-mnist",
        title="Permuted-MNIST, 10 tasks, one shared head, MLP 2x256, batch 64",
        options=("--backbone", "mlp(hidden=(256,256))", "--heads", "shared", "--batch-size", "64"),
        published=(
            ("PNN (linear laterals)", "93.55 ± 0.07"),
            ("multi-task", "95.38"),
            ("fine-tuning", "47.95 ± 1.32"),
            ("A-GEM (replay)", "89.12 ± 0.15"),
        ),
        setup="Chaudhry et al. 2019, MLP 2x256, one epoch, batch 10, SGD, 17 tasks; from the printed notebook outputs",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs the benchmarks and writes their results."""

    root: Path
    """Folder with MNIST as torchvision lays it out."""
    runs: Path = Path("runs/published")
    """Folder of the runs."""


def main(arguments: Arguments) -> None:
    """Runs what is missing, then writes every result anew."""
    sections = []
    for benchmark in BENCHMARKS:
        out = arguments.runs / benchmark.stream
        line = ["run", benchmark.stream, "--root", str(arguments.root), *benchmark.options, "--seeds", str(SEEDS)]
        if cli.main([*line, "--strategies", *STRATEGIES, "--out", str(out)]) != 0:
            raise SystemExit(f"{benchmark.stream}: not all runs ended well; see above.")
        results = load_results(out)
        text = markdown(benchmark, results)
        sections.append(text)
        write_atomically(HERE / "results" / f"{benchmark.stream}.md", text.encode())
        write_atomically(HERE / "results" / f"{benchmark.stream}.json", as_json(benchmark, results))
        for name in ("forgetting-curves", "accuracy-matrices"):
            FIGURES.mkdir(parents=True, exist_ok=True)
            figures(results)[name].savefig(FIGURES / f"{benchmark.stream}-{name}.png", dpi=110)
    fill_readme("\n".join(sections))


def markdown(benchmark: Benchmark, results: Results) -> str:
    """The table of one benchmark: ours with 95 % intervals over seeds, then the published figures."""
    lines = [
        f"**{benchmark.title}.** One epoch, Adam, lr 0.001, {SEEDS} seeds; mean ± half of the 95 % interval.",
        "",
        "| strategy | average accuracy (%) | learning accuracy (%) | progressive learns better by (points) "
        "| forgetting (points) | parameters |",
        "|---|---|---|---|---|---|",
    ]
    learned = {
        name: [learning_accuracy(run.accuracy) for run in results if run.strategy == name] for name in STRATEGIES
    }
    for name in STRATEGIES:
        runs = [run for run in results if run.strategy == name]
        cells = [percent([average_accuracy(run.accuracy) for run in runs]), percent(learned[name])]
        cells.append("" if name == STRATEGIES[0] else gain(learned[STRATEGIES[0]], learned[name]))
        lost = "–" if len(runs[0].schedule) < 2 else percent([forgetting(run.accuracy) for run in runs])
        lines.append(f"| {name} | {' | '.join(cells)} | {lost} | {runs[0].costs[-1].parameters:,} |")
    lines += [f"| *published:* {what} | {value} | | | | |" for what, value in benchmark.published]
    return "\n".join([*lines, "", f"Published figures: {benchmark.setup}.", ""])


def percent(values: Sequence[float]) -> str:
    """Fractions as per cent with the 95 % interval of their mean; an exact zero stays one."""
    if not any(values):
        return "0"
    interval: Interval = t_interval([100 * value for value in values])
    return f"{interval.mean:.2f} ± {interval.half_width:.2f}"


def gain(ours: Sequence[float], theirs: Sequence[float]) -> str:
    """The difference paired by seed, in points, with its 95 % interval."""
    interval = paired_difference([100 * value for value in ours], [100 * value for value in theirs]).interval
    return f"{interval.mean:+.2f} ± {interval.half_width:.2f}"


def as_json(benchmark: Benchmark, results: Results) -> bytes:
    """What a reader needs to compute the table anew: every accuracy matrix, with settings, versions and costs."""
    first: RunResult = results[0]
    content = {
        "benchmark": benchmark.title,
        "command": f"python benchmarks/published.py  # {benchmark.stream}",
        "environment": first.environment,
        "training": first.config["training"],
        "backbone": first.config["backbone"],
        "stream": first.config["stream"],
        "runs": [
            {
                "strategy": run.strategy,
                "seed": run.seed,
                "order": run.order,
                "accuracy": run.accuracy,
                "parameters": [cost.parameters for cost in run.costs],
                "training_flops": [cost.training_flops for cost in run.costs],
                "digests": run.digests[-1],
            }
            for run in results
        ],
    }
    return (json.dumps(to_json(content)) + "\n").encode()


def fill_readme(text: str) -> None:
    """Puts the tables between the markers of the README."""
    page = README.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    write_atomically(README, f"{before}{BEGIN}\n{text}{END}{after}".encode())


if __name__ == "__main__":
    main(tyro.cli(Arguments))
