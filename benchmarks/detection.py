"""Can classification and detection share a trunk, and what does each way of sharing it cost or gain?

Real digits on canvases: first which digit it is, then boxes of digits 0 to 4, then boxes of 5 to 9 on noise. All
strategies have the same ResNet-18 with torchvision's RetinaNet head, and the same updates. Beside them the cascade,
which finds digits of whatever class, crops them and classifies the crops, with two networks for each detection.

    python benchmarks/detection.py [--quick] [--seeds 3] [--runs runs/detection]

Nothing is downloaded: the digits come with scikit-learn. The runs are kept, so that the script goes on where it was
stopped. It writes `benchmarks/results/detection.json` and `.md`, docs/figures/detection.png and the table of
docs/detection.md; with `--quick` it writes them into the folder of the runs instead.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import isnan
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import tyro

import prognet
from prognet.config import Execution, Measurement, Training
from prognet.evaluation.cascade import cascade_metrics, cascade_stream
from prognet.files import write_atomically
from prognet.report.plots.style import look
from prognet.results import RunResult, to_json
from prognet.statistics import t_interval
from prognet.streams.boxes import NO_BOX, Boxes, Detection
from prognet.streams.detection import detection_digits
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training import Session

if TYPE_CHECKING:
    from matplotlib.axes import Axes

HERE = Path(__file__).parent
PAGE, BEGIN, END = HERE.parent / "docs" / "detection.md", "<!-- results:begin -->", "<!-- results:end -->"
CHANNELS, CASCADE = 8, "cascade"
MEASUREMENT = Measurement(lca_updates=0, curve_points=4, gates=())
SHOWN, SURE = 4, 0.5


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Runs the benchmark and writes its results."""

    quick: bool = False
    """A minute or two: one seed, few canvases, few epochs."""
    seeds: int = 3
    """Seeds of initialisation and data order; the canvases are the same. About twelve minutes each on one core."""
    runs: Path = Path("runs/detection")
    """Folder of the runs."""


def main(arguments: Arguments) -> None:
    """Runs what is missing, then writes every result anew."""
    torch.set_num_threads(1)
    folder = arguments.runs / ("quick" if arguments.quick else "whole")
    stream = detection_digits(n_train=100, n_test=40) if arguments.quick else detection_digits()
    training = Training(epochs=8 if arguments.quick else 25, batch_size=8, lr=0.005, schedule="cosine")
    seeds = range(1 if arguments.quick else arguments.seeds)
    runs, cascades = {}, {}
    for seed in seeds:
        runs[seed] = carried_out(stream, training, seed, folder)
        cascades[seed] = cascaded(stream, training, seed, folder)
    text = table(stream, list(runs.values()), list(cascades.values()))
    content = {
        "training": asdict(training),
        "stream": {"arguments": stream.arguments, "digest": stream.digest},
        "runs": {seed: {run.strategy: plain(run) for run in found} for seed, found in runs.items()},
        CASCADE: cascades,
    }
    results = folder if arguments.quick else HERE / "results"
    figures = folder if arguments.quick else HERE.parent / "docs" / "figures"
    write_atomically(results / "detection.md", text.encode())
    write_atomically(results / "detection.json", (json.dumps(to_json(content)) + "\n").encode())
    draw(stream, training, folder, figures / "detection.png")
    if not arguments.quick:
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}".encode())


def strategies() -> list[prognet.Strategy]:
    """Those that are compared."""
    backbone = prognet.backbones.detection_resnet18(channels=CHANNELS)
    makers = (prognet.Independent, prognet.FineTune, prognet.MultiTask, prognet.Progressive)
    return [maker(backbone) for maker in makers]


def carried_out(stream: Stream, training: Training, seed: int, folder: Path) -> list[RunResult]:
    """The run of every strategy with this seed."""
    return [
        prognet.run(
            strategy,
            stream,
            training=training,
            measurement=MEASUREMENT,
            seed=seed,
            device="cpu",
            threads=1,
            out=folder,
        )
        for strategy in strategies()
    ]


def cascaded(stream: Stream, training: Training, seed: int, folder: Path) -> list[dict[str, float]]:
    """For each detection: the metrics of a cascade, its parameters, and the seconds of learning both networks."""
    found = []
    for task in detections(stream):
        file = folder / CASCADE / f"task-{task.label}-seed-{seed}.json"
        if not file.exists():
            pair = cascade_stream(task)
            backbone = prognet.backbones.detection_resnet18(channels=CHANNELS)
            result = prognet.run(
                prognet.Independent(backbone),
                pair,
                training=training,
                measurement=MEASUREMENT,
                seed=seed,
                device="cpu",
                threads=1,
            )
            session = Session(
                training=training,
                measurement=MEASUREMENT,
                execution=Execution(),
                seed=seed,
                device=torch.device("cpu"),
            )
            values = cascade_metrics(result.learner.predict, pair, task, session, result.learner)
            values |= {"parameters": result.costs[-1].parameters, "updates": sum(c.updates for c in result.costs)}
            values |= {"crops": float(result.accuracy[-1, 1]), "objects": float(result.accuracy[-1, 0])}
            write_atomically(file, json.dumps(values).encode())
        found.append(json.loads(file.read_text(encoding="utf-8")))
    return found


def detections(stream: Stream) -> list[Task]:
    """The tasks that ask for boxes."""
    return [task for task in stream if isinstance(task.objective, Detection)]


def plain(run: RunResult) -> dict[str, Any]:
    """What a reader needs to compute the table anew."""
    return {
        "metrics": run.metrics,
        "parameters": run.costs[-1].parameters,
        "training_flops": sum(cost.training_flops for cost in run.costs),
        "seconds": sum(cost.seconds for cost in run.costs),
    }


def table(stream: Stream, runs: Sequence[Sequence[RunResult]], cascades: Sequence[Sequence[dict[str, float]]]) -> str:
    """One row for each strategy: after the last step, means over seeds with half of their 95 % intervals."""
    boxes = [task.label for task in detections(stream)]
    heads = [f"{task.name} ({'accuracy, %' if task.label not in boxes else 'mAP50 / mAP, %'})" for task in stream]
    lines = [
        f"{len(runs)} seed{'s' * (len(runs) > 1)}; test split after all tasks",
        "",
        f"| strategy | {' | '.join(heads)} | forgetting (points) | parameters |",
        f"|---|{'---|' * (len(heads) + 2)}",
    ]
    for place in range(len(runs[0])):
        own = [found[place] for found in runs]
        cells = [
            " / ".join(
                percent([run.metrics[name][-1, task.label] for run in own])
                for name in (["map50", "map"] if task.label in boxes else ["accuracy"])
            )
            for task in stream
        ]
        forgotten = [prognet.metrics.forgetting(run.accuracy) for run in own]
        lines.append(
            f"| {own[0].strategy} | {' | '.join(cells)} | {percent(forgotten)} | {own[0].costs[-1].parameters:,} |"
        )
    cells = [
        " / ".join(percent([found[index][name] for found in cascades]) for name in ("map50", "map"))
        for index in range(len(boxes))
    ]
    blank = [""] * (len(stream) - len(boxes))
    parameters = sum(int(one["parameters"]) for one in cascades[0])
    lines.append(f"| {CASCADE} | {' | '.join([*blank, *cells])} |  | {parameters:,} |")
    return "\n".join([*lines, ""])


def percent(values: Sequence[float]) -> str:
    """The mean of fractions in percent, with half of its 95 % interval where there is one."""
    found = t_interval([100 * value for value in values])
    if isnan(found.mean):
        return "–"
    return f"{found.mean:.1f}" if len(values) == 1 else f"{found.mean:.1f} ± {found.half_width:.1f}"


def draw(stream: Stream, training: Training, folder: Path, path: Path) -> None:
    """The first test canvases of every detection, with what is there and what the progressive network finds."""
    from matplotlib.figure import Figure

    learner = trained(stream, training, folder)
    tasks = detections(stream)
    with look():
        figure = Figure(figsize=(1.9 * SHOWN, 2.15 * len(tasks)), layout="constrained")
        every = figure.subplots(len(tasks), SHOWN, squeeze=False)
        for task, row in zip(tasks, every, strict=True):
            assert isinstance(task.objective, Detection)
            with torch.no_grad():
                found = task.objective.decode(
                    learner.predict(task.normalisation(task.test.x[:SHOWN]), task.label), SURE
                )
            for index, axes in enumerate(row):
                _canvas(axes, task, index, found[index])
            row[0].set_ylabel(task.name)
        figure.savefig(path, dpi=150, metadata={"Software": None})


def trained(stream: Stream, training: Training, folder: Path) -> prognet.Strategy:
    """The progressive network of the first seed, from its run."""
    from prognet.evaluation.proof import stored_learner
    from prognet.evaluation.store import RunStore

    result = carried_out(stream, training, 0, folder)[-1]
    learner = stored_learner(RunStore.of(folder, result.strategy, stream.seed, 0), result)
    return learner.eval()


def _canvas(axes: "Axes", task: Task, index: int, found: Boxes) -> None:
    from matplotlib.patches import Rectangle

    axes.imshow(task.test.x[index, 0], cmap="gray", vmin=0, vmax=255)
    axes.set(xticks=[], yticks=[])
    axes.grid(visible=False)
    for row in task.test.y[index].tolist():
        if row[0] != NO_BOX:
            _, left, top, right, bottom = row
            corner = (left - 0.5, top - 0.5)
            axes.add_patch(Rectangle(corner, right - left, bottom - top, fill=False, color="#56B4E9", linestyle="--"))
    for (left, top, right, bottom), label, score in zip(
        found.boxes.tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
    ):
        axes.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, fill=False, color="#E69F00"))
        axes.text(
            left,
            max(top - 1.5, 3),
            f"{task.classes[label]}: {100 * score:.0f}",
            color="#E69F00",
            fontsize=7,
        )


if __name__ == "__main__":
    main(tyro.cli(Arguments, description=__doc__))
