"""Which recipe of fine-tuning learns a new task best, and how do recipes compare with columns?

MNIST with 1,000 samples a class, then five views of it with 5, 40, 400 or 2,500 samples a class; an MLP and a small
convolutional network; five seeds, each with its own draw of the samples, its own initialisation and batches. Before,
every strategy has the same number of trials of learning rate and weight decay on another draw, judged on validation
samples of every task when it has been learned; one recipe has its fields searched with as many trials.

    python benchmarks/finetune.py --root DATA [--runs runs/finetune] [--per-class 5 40] [--backbones mlp]
    python benchmarks/finetune.py --quick

DATA holds MNIST as torchvision lays it out; `--quick` takes scikit-learn's digits, three seeds and short trainings.
Runs and searches are kept, so that the script goes on where it was stopped. It writes `finetune.json` and `finetune.md`
in `benchmarks/results` and `docs/figures/finetune.png` of all that has been run, quickly `finetune-quick.*`, and the
tables of docs/fine-tuning.md, which a quick run leaves alone where there are others.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import tyro

import prognet
from prognet.backbones import Backbone, cnn, mlp
from prognet.evaluation.recipe_search import read_recipe, search_recipe
from prognet.evaluation.tuning import tune
from prognet.files import write_atomically
from prognet.metrics import average_accuracy, forgetting, learning_accuracies, learning_curve_area
from prognet.report.plots.style import look
from prognet.results import Results, RunResult, to_json
from prognet.statistics import Interval, paired_difference, t_interval
from prognet.strategies import CopyTune, FeatureAlignment, FineTune, FineTuning, HeadOnly, Independent, Progressive
from prognet.strategies.base import Strategy
from prognet.streams import PerSeed, Stream, low_data_digits, low_data_mnist
from prognet.tuned import read_tuned, write_tuned

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
PAGE, BEGIN, END = HERE.parent / "docs" / "fine-tuning.md", "<!-- results:begin -->", "<!-- results:end -->"
OURS, PLAIN, SEARCHED, BETA = "progressive", "finetune", "finetune-searched", 10
TUNING_DRAW = 1000
"""The draw on which is searched; those that are reported are 0, 1, ..."""

RECIPES: Mapping[str, FineTuning] = {
    "finetune-slow": FineTuning(rate=0.1),
    "finetune-layerwise": FineTuning(decay=0.65),
    "finetune-gradual": FineTuning(unfreeze_every=2),
    "finetune-l2sp": FineTuning(l2_sp=0.01, head_l2=0.001),
    "finetune-reinit": FineTuning(reinit=1, rate=0.1),
    "finetune-smooth": FineTuning(smoothing=0.1, towards="prediction", dropout=0.2),
    "finetune-negatives": FineTuning(negatives=100),
    "finetune-pretext": FineTuning(pretext="rotation", pretext_updates=300),
    "finetune-lora": FineTuning(rank=8, alpha=8.0),
}
Value = Callable[[RunResult], float]
AT_THE_END: tuple[Value, ...] = (
    lambda run: 100 * average_accuracy(run.accuracy),
    lambda run: 100 * forgetting(run.accuracy),
)
"""Average accuracy on all tasks after the last one, in percent, and forgetting, in points."""


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs the benchmark and writes its results."""

    root: Path | None = None
    """Folder with MNIST as torchvision lays it out."""
    quick: bool = False
    """A small run on scikit-learn's digits, which needs no data."""
    runs: Path = Path("runs/finetune")
    """Folder of the runs."""
    per_class: tuple[int, ...] = ()
    """Samples a class; by default 5, 40, 400 and 2500, quickly 5."""
    backbones: tuple[str, ...] = ("mlp", "cnn")
    """Which of the two."""
    jobs: int = 1
    """Runs at once; the search before them takes one process."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the benchmark is."""

    stream: Callable[..., Stream]
    """(per_class, first_per_class, draw=, validation=) -> the stream."""
    first: int
    """Samples a class of the first task."""
    updates: Mapping[int, int]
    """Updates of the later tasks, by samples a class."""
    first_updates: int
    backbones: Mapping[str, Backbone]
    seeds: int
    trials: int


def size_of(arguments: Arguments) -> Size:
    """The size that is asked for."""
    if arguments.quick:
        return Size(
            stream=partial(low_data_digits, views=("rotated", "inverted", "noisy")),
            first=50,
            updates={5: 60},
            first_updates=150,
            backbones={"mlp": mlp(hidden=(32, 32)), "cnn": cnn(channels=(8, 16))},
            seeds=3,
            trials=2,
        )

    def stream(per_class: int, first: int, **others: Any) -> Stream:
        return low_data_mnist(per_class, first, root=arguments.root, **others)

    return Size(
        stream=stream,
        first=1000,
        updates={5: 200, 40: 400, 400: 600, 2500: 1500},
        first_updates=600,
        backbones={"mlp": mlp(hidden=(100, 100)), "cnn": cnn(channels=(8, 16, 32))},
        seeds=5,
        trials=6,
    )


def main(arguments: Arguments) -> None:
    """Runs what is missing, then writes every result anew."""
    size, name = size_of(arguments), "finetune-quick" if arguments.quick else "finetune"
    runs = arguments.runs / ("quick" if arguments.quick else "full")
    for backbone in arguments.backbones:
        for per_class in arguments.per_class or tuple(size.updates):
            carry_out(size, backbone, per_class, runs / f"{backbone}-{per_class}", arguments.jobs)
    cells = {
        (backbone, per_class): Results(found)
        for backbone in size.backbones
        for per_class in size.updates
        if (found := finished(runs / f"{backbone}-{per_class}", size))
    }
    text = "\n".join(table(results, *cell, size.seeds, size.trials) for cell, results in cells.items())
    content = [plain(results, *cell, runs / f"{cell[0]}-{cell[1]}") for cell, results in cells.items()]
    write_atomically(HERE / "results" / f"{name}.json", (json.dumps(to_json(content)) + "\n").encode())
    write_atomically(HERE / "results" / f"{name}.md", text.encode())
    picture = HERE.parent / "docs" / "figures" / f"{name}.png"
    with look():
        figure(cells).savefig(picture, dpi=110)
    if not (arguments.quick and (HERE / "results" / "finetune.json").exists()):
        source = "scikit-learn's digits, quick" if arguments.quick else "MNIST"
        fill_page(f"![Accuracy on new tasks, {source}](figures/{name}.png)\n\nFrom {source}.\n\n{text}")


def fill_page(text: str) -> None:
    """Puts the tables between the markers of docs/fine-tuning.md."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{after}".encode())


def strategies_of(backbone: Backbone) -> list[Strategy]:
    """Everything that is compared, but for the recipe that is searched."""
    recipes = [FineTune(backbone, recipe=recipe, name=name) for name, recipe in RECIPES.items()]
    others = [CopyTune(backbone), FeatureAlignment(backbone), Independent(backbone)]
    return [Progressive(backbone), FineTune(backbone), HeadOnly(backbone), *recipes, *others]


def carry_out(size: Size, backbone: str, per_class: int, out: Path, jobs: int) -> None:
    """Searches and runs one cell, as far as it has not been done."""
    training = prognet.Training(
        updates=size.updates[per_class], first_updates=size.first_updates, batch_size=50, first_batch_size=100
    )
    make, searched = size.backbones[backbone], out / "recipe.json"
    execution = prognet.Execution(channels_last=backbone == "cnn")  # twice as fast on the CPU
    if not (out / "tuned.json").exists() or not searched.exists():
        # as many samples to be learned from as later on, and as many again to be judged by
        stream = size.stream(
            2 * per_class, 2 * size.first, draw=TUNING_DRAW, validation=0.5, views=("rotated", "noisy")
        )
        settings: dict[str, Any] = {"training": training, "trials": size.trials, "judged_by": "learning"}
        settings |= {"threads": 1, "device": "cpu", "execution": execution}
        write_tuned(out / "tuned.json", tune(strategies_of(make), stream, **settings))
        search_recipe(make, stream, **settings).save(searched)
    recipe, with_training = read_recipe(searched)
    strategies = [*strategies_of(make), FineTune(make, recipe=recipe, name=SEARCHED)]
    prognet.grid(
        strategies,
        PerSeed(lambda order, seed: size.stream(per_class, size.first, seed=order, draw=seed)),
        out=out,
        seeds=range(size.seeds),
        training=training,
        tuned={**read_tuned(out / "tuned.json"), SEARCHED: with_training},
        measurement=prognet.Measurement(lca_updates=BETA, curve_points=4, gates=()),
        execution=execution,
        device="cpu",
        threads=1,
        workers=prognet.Workers(jobs=jobs),
    )


def finished(out: Path, size: Size) -> list[RunResult]:
    """The runs of a cell that is complete; none otherwise."""
    if not (out / "recipe.json").exists():
        return []
    found = list(prognet.load_results(out))
    return found if len(found) == size.seeds * (len(strategies_of(mlp())) + 1) else []


def new_tasks(run: RunResult) -> float:
    """Mean accuracy, in percent, on all tasks but the first, each when it has been learned."""
    return 100 * float(learning_accuracies(run.accuracy)[1:].mean())


def start(run: RunResult) -> float:
    """LCA, in percent: the mean accuracy after 0 to 10 updates, over all tasks but the first."""
    curves = [curve for curve in run.curves if curve.task > 0]
    return 100 * fmean(learning_curve_area(curve.updates, curve.accuracy, BETA) for curve in curves)


def per_seed(results: Iterable[RunResult], strategy: str, value: Value) -> list[float]:
    """A value of each seed."""
    return [value(run) for run in sorted(results, key=lambda run: run.seed) if run.strategy == strategy]


def names_in(results: Iterable[RunResult]) -> list[str]:
    """The strategies, the best on new tasks first."""
    runs = list(results)
    return sorted({run.strategy for run in runs}, key=lambda name: (-fmean(per_seed(runs, name, new_tasks)), name))


def table(results: Results, backbone: str, per_class: int, seeds: int, trials: int) -> str:
    """One row for each strategy: means over seeds with half of their 95 % intervals, differences paired by seed."""
    lines = [
        f"**{backbone}, {per_class} samples a class**, {seeds} seeds, {trials} trials of the rates for each strategy",
        "",
        f"| strategy | new tasks (%) | better than {PLAIN} by | than {OURS} by | LCA{BETA} (%) "
        "| all tasks at the end (%) | forgetting (points) | parameters added by the last task | seconds a run |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name in names_in(results):
        runs = [run for run in results if run.strategy == name]
        cells = [
            said(t_interval(per_seed(results, name, new_tasks))),
            *("" if name == other else difference(results, name, other) for other in (PLAIN, OURS)),
            *(said(t_interval(per_seed(results, name, value))) for value in (start, *AT_THE_END)),
            f"{runs[0].costs[-1].added:,}",
            f"{fmean(sum(cost.seconds for cost in run.costs) for run in runs):.1f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def said(found: Interval, form: str = ".2f") -> str:
    """A mean with half of its 95 % interval."""
    return f"{found.mean:{form}} ± {found.half_width:.2f}"


def difference(results: Results, ours: str, theirs: str) -> str:
    """The mean difference on new tasks in points, paired by seed, with half of its 95 % interval."""
    found = paired_difference(per_seed(results, ours, new_tasks), per_seed(results, theirs, new_tasks))
    return said(found.interval, "+.2f")


def figure(cells: Mapping[tuple[str, int], Results]) -> "Figure":
    """The accuracy on new tasks with intervals: a panel for each backbone and number of samples."""
    from matplotlib import pyplot as plt

    backbones, sizes = sorted({cell[0] for cell in cells}), sorted({cell[1] for cell in cells})
    shape = (len(backbones), len(sizes))
    drawing, axes = plt.subplots(*shape, figsize=(4.2 * shape[1], 4.2 * shape[0]), squeeze=False, layout="constrained")
    for row, backbone in enumerate(backbones):
        for column, per_class in enumerate(sizes):
            panel, results = axes[row][column], cells.get((backbone, per_class))
            if results is None:  # not run so far
                panel.set_axis_off()
                continue
            panel.set_title(f"{backbone}, {per_class} samples a class")
            panel.set_xlabel("accuracy on new tasks (%)")
            names = names_in(results)[::-1]
            for place, name in enumerate(names):
                found = t_interval(per_seed(results, name, new_tasks))
                colour = "#0072B2" if name == OURS else "#D55E00" if name.startswith("finetune") else "#555555"
                panel.errorbar(found.mean, place, xerr=found.half_width, fmt="o", color=colour)
            panel.set_yticks(range(len(names)), names)
    return drawing


def plain(results: Results, backbone: str, per_class: int, out: Path) -> dict[str, object]:
    """What a reader needs to compute the table anew, with the budget of both searches."""
    first = next(iter(results))
    tuned, recipe = (json.loads((out / f"{name}.json").read_text(encoding="utf-8")) for name in ("tuned", "recipe"))
    return {
        "backbone": backbone,
        "per_class": per_class,
        "environment": first.environment,
        "stream": first.config["stream"],
        "search": {"tuned": tuned, "recipe": recipe},
        "strategies": {run.strategy: run.config["strategy"] for run in results},
        "runs": [
            {
                "strategy": run.strategy,
                "seed": run.seed,
                "training": run.config["training"],
                "tasks": [task.name for task in run.tasks],
                "accuracy": run.accuracy,
                "lca": [learning_curve_area(curve.updates, curve.accuracy, BETA) for curve in run.curves],
                "seconds": sum(cost.seconds for cost in run.costs),
                "added": [cost.added for cost in run.costs],
                "choices": run.choices,
            }
            for run in results
        ],
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
