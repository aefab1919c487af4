"""Does a progressive network learn a new task from few samples better than its rivals?

MNIST with 1,000 samples a class, then five views of it with 5, 40 or 400 samples a class; ten seeds, each with its own
draw of the samples, its own initialisation and batches. The tasks come in their natural order, the unrelated one last,
and for 5 and 40 a class in two further orders as well. Every choice of the default progressive network was made on
other draws and seeds, with a plain tensor loop.

    python benchmarks/low_data.py --root DATA [--runs runs/low-data] [--per-class 5 40 400]

DATA holds MNIST as torchvision lays it out. The runs are kept, so that the script goes on where it was stopped. It
writes `benchmarks/results/low-data.json` and `benchmarks/results/low-data.md`, and the tables of docs/start.md.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

import tyro

from prognet import cli
from prognet.files import write_atomically
from prognet.metrics import learning_accuracies, learning_curve_area
from prognet.results import Results, RunResult, load_results, to_json
from prognet.statistics import paired_difference, t_interval

HERE = Path(__file__).parent
PAGE, BEGIN, END = HERE.parent / "docs" / "start.md", "<!-- results:begin -->", "<!-- results:end -->"
SEEDS, BETA = 10, 10
OURS, REFERENCE, UNRELATED = "progressive", "independent", "permuted"
STRATEGIES = (
    OURS,
    "copytune",
    REFERENCE,
    "independent-wide",
    "progressive-random",
    "progressive-shuffled",
    "progressive-scratch",
    "finetune",
)
ORDERS = {"natural": 1, "seeded": 2}

Value = Callable[[RunResult], float]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs the benchmark and writes its results."""

    root: Path
    """Folder with MNIST as torchvision lays it out."""
    runs: Path = Path("runs/low-data")
    """Folder of the runs."""
    per_class: tuple[int, ...] = (5, 40, 400)
    """Samples a class."""


def main(arguments: Arguments) -> None:
    """Runs what is missing, then writes every result anew."""
    tables, content = [], []
    for per_class in arguments.per_class:
        for task_order in ORDERS if per_class < 400 else ("natural",):
            results = carried_out(arguments, per_class, task_order)
            tables.append(table(results, per_class, task_order))
            content.append(plain(results, per_class, task_order))
    write_atomically(HERE / "results" / "low-data.md", "\n".join(tables).encode())
    fill_page("\n".join(tables))
    write_atomically(HERE / "results" / "low-data.json", (json.dumps(to_json(content)) + "\n").encode())


def fill_page(text: str) -> None:
    """Puts the tables between the markers of docs/start.md."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{after}".encode())


def carried_out(arguments: Arguments, per_class: int, task_order: str) -> Results:
    """The runs with so many samples a class, in such orders of the tasks."""
    out = arguments.runs / f"{per_class}-{task_order}"
    line = ["run", f"low-data-mnist-{per_class}", "--root", str(arguments.root), "--task-order", task_order]
    settings = ["--seeds", str(SEEDS), "--orders", str(ORDERS[task_order]), "--curve-points", "4"]
    if cli.main([*line, *settings, "--strategies", *STRATEGIES, "--out", str(out)]) != 0:
        raise SystemExit(f"{out}: not all runs ended well; see above.")
    return load_results(out)


def new_tasks(run: RunResult) -> float:
    """Mean learning accuracy, in percent, on all tasks but the first."""
    return 100 * float(learning_accuracies(run.accuracy)[1:].mean())


def unrelated(run: RunResult) -> float:
    """Learning accuracy, in percent, on the task whose pixels are permuted."""
    label = next(task.label for task in run.tasks if task.name == UNRELATED)
    return 100 * float(learning_accuracies(run.accuracy)[label])


def start(run: RunResult) -> float:
    """LCA, in percent: the mean accuracy after 0 to 10 updates, over all tasks but the first."""
    curves = [curve for curve in run.curves if curve.task > 0]
    return 100 * fmean(learning_curve_area(curve.updates, curve.accuracy, BETA) for curve in curves)


def per_seed(results: Results, strategy: str, value: Value) -> list[float]:
    """A value of each seed, as the mean over orders."""
    runs = [run for run in results if run.strategy == strategy]
    return [fmean(value(run) for run in runs if run.seed == seed) for seed in sorted({run.seed for run in runs})]


def table(results: Results, per_class: int, task_order: str) -> str:
    """One row for each strategy: means over seeds with half of their 95 % intervals, differences paired by seed."""
    orders = f"{ORDERS[task_order]} seeded orders" if task_order == "seeded" else "natural order"
    lines = [
        f"**{per_class} samples a class, {orders} of the tasks**, {SEEDS} seeds; mean over tasks 2 to 6",
        "",
        "| strategy | accuracy (%) | progressive is better by | better than independent by "
        f"| on the unrelated task by | LCA{BETA} (%) | parameters of the last column |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in STRATEGIES:
        cells = [
            interval(per_seed(results, name, new_tasks)),
            "" if name == OURS else difference(results, OURS, name, new_tasks),
            "" if name == REFERENCE else difference(results, name, REFERENCE, new_tasks),
            "" if name == REFERENCE else difference(results, name, REFERENCE, unrelated),
            interval(per_seed(results, name, start)),
            f"{next(run for run in results if run.strategy == name).costs[-1].added:,}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def interval(values: Sequence[float]) -> str:
    """The mean of per cents, with half of its 95 % interval."""
    found = t_interval(values)
    return f"{found.mean:.2f} ± {found.half_width:.2f}"


def difference(results: Results, ours: str, theirs: str, value: Value) -> str:
    """The mean difference in points, paired by seed, with half of its 95 % interval."""
    found = paired_difference(per_seed(results, ours, value), per_seed(results, theirs, value)).interval
    return f"{found.mean:+.2f} ± {found.half_width:.2f}"


def plain(results: Results, per_class: int, task_order: str) -> dict[str, object]:
    """What a reader needs to compute the table anew."""
    first = results[0]
    return {
        "per_class": per_class,
        "task_order": task_order,
        "environment": first.environment,
        "training": first.config["training"],
        "backbone": first.config["backbone"],
        "strategies": {run.strategy: run.config["strategy"] for run in results},
        "runs": [
            {
                "strategy": run.strategy,
                "order": run.order,
                "seed": run.seed,
                "tasks": [task.name for task in run.tasks],
                "accuracy": learning_accuracies(run.accuracy),
                "lca": [learning_curve_area(curve.updates, curve.accuracy, BETA) for curve in run.curves],
                "choices": run.choices,
                "digests": run.digests[-1],
            }
            for run in results
        ],
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
