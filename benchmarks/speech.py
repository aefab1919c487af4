"""Do spoken digits of one language help to learn those of the next, from few samples and from many?

Digits in English, then German, French, Spanish and Italian, spoken by espeak-ng and heard as log-mel pictures; the test
split has other voices. English has 60 samples a class, the later languages 2, 5 or 60. One small convolutional network,
one learning rate for all strategies; five seeds, each with its own draw of the samples, initialisation and batches.

    python benchmarks/speech.py [--runs runs/speech] [--per-class 2 5]
    python benchmarks/speech.py --quick

It needs the program espeak-ng and nothing else; `--quick` has three languages, three seeds and short trainings. Words
and runs are kept, so that the script goes on where it was stopped. It writes `speech.json` and `speech.md` in
`benchmarks/results` and `docs/figures/speech.png` of all that has been run, quickly `speech-quick.*`, and the tables of
docs/speech.md, which a quick run leaves alone where there are others.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

import tyro

import prognet
from prognet.backbones import cnn
from prognet.files import write_atomically
from prognet.metrics import average_accuracy, forgetting, learning_curve_area
from prognet.report.plots.style import look, styles
from prognet.results import Results, RunResult, to_json
from prognet.statistics import Interval, paired_difference, t_interval
from prognet.strategies import CopyTune, FineTune, Independent, IndependentWide, MultiTask, Progressive
from prognet.strategies.base import Strategy
from prognet.streams import PerSeed, Stream, spoken_digits

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = Path(__file__).parent
PAGE, BEGIN, END = HERE.parent / "docs" / "speech.md", "<!-- results:begin -->", "<!-- results:end -->"
REFERENCE, BETA = "independent", 10
BACKBONE = cnn(channels=(8, 16, 32), batch_norm=True)
Value = Callable[[RunResult], float]


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs the benchmark and writes its results."""

    quick: bool = False
    """A small run of a minute or two."""
    runs: Path = Path("runs/speech")
    """Folder of the words and the runs."""
    per_class: tuple[int, ...] = ()
    """Samples a class of the later languages; by default 2, 5 and 60, quickly 5."""


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large the benchmark is."""

    languages: tuple[str, ...]
    updates: Mapping[int, int]
    """Updates of the later tasks, by samples a class."""
    first_updates: int
    seeds: int
    test: int
    """Test samples a class."""


FULL = Size(
    languages=("en", "de", "fr", "es", "it"), updates={2: 100, 5: 100, 60: 200}, first_updates=300, seeds=5, test=16
)
QUICK = Size(languages=("en", "de", "es"), updates={5: 50}, first_updates=150, seeds=3, test=16)


def main(arguments: Arguments) -> None:
    """Runs what is missing, then writes every result anew."""
    size, name = (QUICK, "speech-quick") if arguments.quick else (FULL, "speech")
    runs = arguments.runs / ("quick" if arguments.quick else "full")
    for per_class in arguments.per_class or tuple(size.updates):
        carry_out(size, per_class, runs / str(per_class), arguments.runs / "words")
    cells = {per_class: found for per_class in size.updates if (found := finished(runs / str(per_class), size))}
    text = "\n".join(table(results, per_class, size) for per_class, results in cells.items())
    content = [plain(results, per_class) for per_class, results in cells.items()]
    write_atomically(HERE / "results" / f"{name}.json", (json.dumps(to_json(content)) + "\n").encode())
    write_atomically(HERE / "results" / f"{name}.md", text.encode())
    with look():
        figure(cells).savefig(HERE.parent / "docs" / "figures" / f"{name}.png", dpi=110)
    if not (arguments.quick and (HERE / "results" / "speech.json").exists()):
        fill_page(f"![Accuracy on later languages](figures/{name}.png)\n\n{text}")


def fill_page(text: str) -> None:
    """Puts the tables between the markers of docs/speech.md."""
    page = PAGE.read_text(encoding="utf-8")
    before, rest = page.split(BEGIN)
    _, after = rest.split(END)
    write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{after}".encode())


def strategies() -> list[Strategy]:
    """Everything that is compared."""
    kinds = (Progressive, CopyTune, FineTune, MultiTask, Independent, IndependentWide)
    return [kind(BACKBONE) for kind in kinds]


def carry_out(size: Size, per_class: int, out: Path, words: Path) -> None:
    """Runs one number of samples, as far as it has not been done."""
    chosen: dict[str, Any] = {"languages": size.languages, "test": size.test, "root": words}

    def make(order: int, seed: int) -> Stream:
        return spoken_digits(per_class, seed=order, draw=seed, **chosen)

    outcome = prognet.grid(
        strategies(),
        PerSeed(make),
        out=out,
        seeds=range(size.seeds),
        training=prognet.Training(
            updates=size.updates[per_class], first_updates=size.first_updates, batch_size=32, lr=0.003
        ),
        measurement=prognet.Measurement(lca_updates=BETA, curve_points=4, gates=()),
        device="cpu",
        threads=1,
    )
    if outcome.failed:
        raise SystemExit(f"{out}: not all runs ended well: {dict(outcome.failed)}")


def finished(out: Path, size: Size) -> Results | None:
    """The runs of a cell that is complete; None otherwise."""
    if not out.exists():
        return None
    found = prognet.load_results(out)
    return found if len(found) == size.seeds * len(strategies()) else None


def learned(run: RunResult) -> list[float]:
    """Accuracy, in percent, on each task when it has been learned; of joint learning there is one time only."""
    R = run.accuracy
    return [100 * float(R[min(task, len(R) - 1), task]) for task in range(R.shape[1])]


def later(run: RunResult) -> float:
    """Mean accuracy, in percent, on all languages but the first, each when it has been learned."""
    return fmean(learned(run)[1:])


def at_the_end(run: RunResult) -> float:
    """Average accuracy, in percent, on all languages after the last one."""
    return 100 * average_accuracy(run.accuracy)


def forgotten(run: RunResult) -> float:
    """Forgetting, in points."""
    return 100 * forgetting(run.accuracy)


def start(run: RunResult) -> float:
    """LCA, in percent: the mean accuracy after 0 to 10 updates, over all languages but the first."""
    curves = [curve for curve in run.curves if curve.task > 0]
    return 100 * fmean(learning_curve_area(curve.updates, curve.accuracy, BETA) for curve in curves)


def per_seed(results: Iterable[RunResult], strategy: str, value: Value) -> list[float]:
    """A value of each seed."""
    return [value(run) for run in sorted(results, key=lambda run: run.seed) if run.strategy == strategy]


def table(results: Results, per_class: int, size: Size) -> str:
    """One row for each strategy: means over seeds with half of their 95 % intervals, differences paired by seed."""
    lines = [
        f"**{per_class} samples a class in the later languages, 60 in the first**, {size.updates[per_class]} updates, "
        f"{size.seeds} seeds",
        "",
        f"| strategy | later languages (%) | better than {REFERENCE} by | LCA{BETA} (%) | all languages at the end (%) "
        "| forgetting (points) | parameters of the last task | seconds a run |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in [strategy.name for strategy in strategies()]:
        runs = [run for run in results if run.strategy == name]
        sequential = len(runs[0].accuracy) > 1
        cells = [
            said(t_interval(per_seed(results, name, later))),
            "" if name == REFERENCE else difference(results, name),
            said(t_interval(per_seed(results, name, start))) if sequential else "",
            said(t_interval(per_seed(results, name, at_the_end))),
            said(t_interval(per_seed(results, name, forgotten))) if sequential else "",
            f"{runs[0].costs[-1].added:,}" if sequential else "",
            f"{fmean(sum(cost.seconds for cost in run.costs) for run in runs):.1f}",
        ]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def said(found: Interval, form: str = ".1f") -> str:
    """A mean with half of its 95 % interval."""
    return f"{found.mean:{form}} ± {found.half_width:.1f}"


def difference(results: Results, name: str) -> str:
    """The mean difference on later languages in points, paired by seed, with half of its 95 % interval."""
    found = paired_difference(per_seed(results, name, later), per_seed(results, REFERENCE, later))
    return said(found.interval, "+.1f")


def figure(cells: Mapping[int, Results]) -> "Figure":
    """The accuracy on every language when it has been learned, with intervals: a panel for each number of samples."""
    from matplotlib import pyplot as plt

    names = [strategy.name for strategy in strategies()]
    drawing, axes = plt.subplots(
        1, len(cells), figsize=(1.5 + 3.4 * len(cells), 3.6), sharey=True, squeeze=False, layout="constrained"
    )
    for panel, (per_class, results) in zip(axes[0], cells.items(), strict=True):
        languages = [task.name for task in results[0].tasks]
        for rank, (name, style) in enumerate(styles(names).items()):
            for place in range(1, len(languages)):
                found = t_interval(per_seed(results, name, lambda run, place=place: learned(run)[place]))  # type: ignore[misc]
                panel.errorbar(
                    place + 0.13 * (rank - (len(names) - 1) / 2),
                    found.mean,
                    yerr=found.half_width,
                    color=style.colour,
                    marker=style.marker,
                    label=name if place == 1 else None,
                )
        panel.set_title(f"{per_class} samples a class")
        panel.set_xticks(range(1, len(languages)), languages[1:])
        panel.grid(axis="x", visible=False)
    axes[0][0].set_ylim(top=102)
    axes[0][0].set_ylabel("accuracy when learned (%)")
    drawing.legend(
        *axes[0][0].get_legend_handles_labels(), loc="outside lower center", ncols=3 if len(cells) == 1 else len(names)
    )
    return drawing


def plain(results: Results, per_class: int) -> dict[str, object]:
    """What a reader needs to compute the table anew."""
    first = results[0]
    return {
        "per_class": per_class,
        "environment": first.environment,
        "stream": first.config["stream"],
        "training": first.config["training"],
        "backbone": first.config["backbone"],
        "strategies": {run.strategy: run.config["strategy"] for run in results},
        "runs": [
            {
                "strategy": run.strategy,
                "seed": run.seed,
                "tasks": [task.name for task in run.tasks],
                "accuracy": run.accuracy,
                "lca": [learning_curve_area(curve.updates, curve.accuracy, BETA) for curve in run.curves],
                "seconds": sum(cost.seconds for cost in run.costs),
                "added": [cost.added for cost in run.costs],
            }
            for run in results
        ],
    }


if __name__ == "__main__":
    main(tyro.cli(Arguments))
