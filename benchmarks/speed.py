"""What does a task cost? Updates of the tenth column beside those of the first, the floor, Avalanche's PNN.

    python benchmarks/speed.py [--device cpu] [--root DATA] [--parts step growth stream evaluation]

Everything is timed in pairs within one process: processor seconds of one thread on the CPU, wall time around a
synchronisation on CUDA; ratios are medians of the ratios of pairs. DATA holds MNIST as torchvision lays it out; only
`stream` reads it. It writes `benchmarks/results/speed-<device>.json` and `.md`, and the figure of docs/performance.md.

- `step`: an update of the training loop over an update of the floor (`floor.py`), columns 1, 5, 10.
- `growth`: an update of column k = 1 to 20 over one of column 1, features kept or not, two sources or all.
- `stream`: Split-MNIST from the first task to the last beside Avalanche's PNN.
- `evaluation`: predicting every task after every step, beside plain networks.
"""

import json
import os
import platform
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal, get_args

import torch
import tyro
from floor import Floor
from torch import nn

from prognet.backbones import mlp
from prognet.config import Execution, Measurement, Training
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.evaluation import run
from prognet.evaluation.harness import evaluate
from prognet.files import write_atomically
from prognet.strategies import Progressive, Start, Strategy
from prognet.strategies.columns import reading_of
from prognet.streams import Samples, Task, split_mnist
from prognet.streams.objectives import Classification
from prognet.training import Session, fit

Part = Literal["step", "growth", "stream", "evaluation"]
RESULTS, FIGURE = Path(__file__).parent / "results", Path(__file__).parent.parent / "docs" / "figures" / "speed.png"
WIDTH, BATCH, SAMPLES, CLASSES = 100, 128, 12_000, 2
QUIET = Measurement(lca_updates=0, curve_points=0, curve_samples=1, gates=())
BACKBONE = mlp(hidden=(WIDTH, WIDTH))
KEPT, FRESH = Execution(), Execution(feature_memory=0)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Times prognet and writes the results."""

    device: str = "cpu"
    """cpu or cuda."""
    root: Path = Path("data")
    """Folder with MNIST as torchvision lays it out."""
    parts: tuple[Part, ...] = get_args(Part)
    """What is timed; what is not keeps its place in the results."""
    repeats: int = 7
    """Pairs."""


def main(arguments: Arguments) -> None:
    """Times the parts and writes what was found."""
    torch.set_num_threads(1)
    device = torch.device(arguments.device)
    path = RESULTS / f"speed-{device.type}.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    measures: dict[str, Callable[[], object]] = {
        "step": lambda: [step(device, k, arguments.repeats) for k in (1, 5, 10)],
        "growth": lambda: growth(device, arguments.repeats),
        "stream": lambda: stream(device, arguments.root, max(1, arguments.repeats // 2)),
        "evaluation": lambda: [evaluation(device, k, arguments.repeats) for k in (1, 5, 10)],
    }
    for part in arguments.parts:
        content[part] = measures[part]()
        content["machine"] = machine(device)
        write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())
    write_atomically(path.with_suffix(".md"), markdown(content).encode())
    draw(content)


def step(device: torch.device, k: int, repeats: int) -> dict[str, Any]:
    """An update of column k of the training loop, features kept, over one of the floor."""
    network, task = columns(device, k), random_task(device)
    column, reading = network.column(k - 1), reading_of(network, k - 1)
    rows = {} if reading is None else reading.prepare(inputs(task)).by_site
    names = [name for name, part in column.backbone.named_modules() if isinstance(part, nn.Linear)]
    assert isinstance(column.backbone, nn.Sequential)
    floor = Floor(
        column.backbone,
        {names.index(site): column.lateral(site) for site in rows},  # type: ignore[misc]
        task.train.x.to(device),
        task.train.y.to(device),
        {names.index(site): handed[0] for site, handed in rows.items()},
    )
    ours = partial(learn, network, task, device, KEPT)
    floored = lambda updates: floor.train(updates, BATCH)  # noqa: E731
    pairs = [(per_update(ours, device), per_update(floored, device)) for _ in range(repeats)]
    return {"column": k, "ratio": median(a / b for a, b in pairs), **seconds(pairs, ("prognet", "floor"))}


def growth(device: torch.device, repeats: int) -> list[dict[str, Any]]:
    """An update of column k over one of column 1, and the pass over frozen columns, once a task."""
    found = []
    for sources in (2, None):
        first = columns(device, 1)
        for k in (1, 2, 3, 5, 10, 15, 20):
            network, task = columns(device, k, sources), random_task(device)
            base = partial(learn, first, task, device, KEPT)
            kept, fresh = (partial(learn, network, task, device, execution) for execution in (KEPT, FRESH))
            times = [tuple(per_update(work, device) for work in (kept, fresh, base)) for _ in range(repeats)]
            reading = reading_of(network, k - 1)
            x = inputs(task)[:1024]
            feature = 0.0 if reading is None else timed(lambda: reading.prepare(x), device) / len(x)  # noqa: B023
            found.append(
                {
                    "column": k,
                    "sources": sources or "all",
                    "kept": median(kept / base for kept, _, base in times),
                    "fresh": median(fresh / base for _, fresh, base in times),
                    "feature_seconds_per_sample": feature,
                    "trainable": sum(p.numel() for p in network.column(k - 1).parameters()),
                }
            )
    return found


def stream(device: torch.device, root: Path, repeats: int) -> dict[str, Any]:
    """Learning Split-MNIST, 5 tasks of 5 epochs, beside Avalanche's PNN on the same benchmark."""
    tasks = split_mnist(root=root, class_order="natural", seed=0, validation=0)
    training = Training(epochs=5, batch_size=BATCH)

    def ours(strategy: Strategy) -> None:
        run(strategy, tasks, training=training, measurement=QUIET, device=str(device), threads=1)

    scratch = Progressive(BACKBONE, adapter=MLPAdapter(), start=Start(kind="scratch"))
    works = {
        "prognet, from scratch": lambda: ours(scratch),
        "prognet, default": lambda: ours(Progressive(BACKBONE)),
        "Avalanche's PNN": lambda: avalanche_pnn(tasks.benchmark, device),
    }
    times = [{name: timed(work, device) for name, work in works.items()} for _ in range(repeats + 1)][1:]  # imports
    reference = "Avalanche's PNN"
    return {
        name: {
            "seconds": median(one[name] for one in times),
            "times_faster": median(one[reference] / one[name] for one in times),
        }
        for name in works
    }


def avalanche_pnn(benchmark: Any, device: torch.device) -> None:
    """Avalanche's own model and loop, without evaluation, which would break its columns.

    Its output layer has no laterals, so that it computes less.
    """
    from avalanche.models import PNN
    from avalanche.training.plugins import EvaluationPlugin
    from avalanche.training.supervised import PNNStrategy

    model = PNN(num_layers=2, in_features=784, hidden_features_per_column=WIDTH, adapter="mlp")
    strategy = PNNStrategy(
        model=model,
        optimizer=torch.optim.Adam(model.parameters(), lr=1e-3),
        train_mb_size=BATCH,
        train_epochs=5,
        device=device,
        evaluator=EvaluationPlugin(),
    )
    for experience in benchmark.train_stream:
        strategy.train(experience)


def evaluation(device: torch.device, k: int, repeats: int) -> dict[str, Any]:
    """Predicting the test samples of k tasks, each by its column, over predicting them by plain networks."""
    network, task = columns(device, k), random_task(device)
    strategy = Progressive(BACKBONE, adapter=MLPAdapter())
    strategy.columns.network = network
    strategy.columns._column_of = {label: label for label in range(k)}
    tasks = [replace(task, label=label, test=task.train) for label in range(k)]
    session = Session(training=Training(), measurement=QUIET, seed=0, device=device)

    def plain() -> None:
        with torch.no_grad():
            for label, one in enumerate(tasks):
                for x in torch.split(inputs(one), QUIET.evaluation_batch_size):
                    network.column(label).backbone(x)

    ours = lambda: evaluate(strategy, tasks, range(k), session)  # noqa: E731
    pairs = [(timed(ours, device), timed(plain, device)) for _ in range(repeats)]
    return {"tasks": k, "ratio": median(a / b for a, b in pairs), **seconds(pairs, ("prognet", "plain"))}


def learn(network: ProgressiveNetwork, task: Task, device: torch.device, execution: Execution, updates: int) -> None:
    """So many updates of the newest column by the training loop."""
    k = len(network) - 1
    session = Session(
        training=Training(updates=updates, batch_size=BATCH),
        measurement=QUIET,
        seed=0,
        device=device,
        execution=execution,
    )
    forward = lambda inputs: {label: network(x, column=k) for label, x in inputs.items()}  # noqa: E731
    predict = lambda x, label: network(x, column=k)  # noqa: E731
    fit(network.column(k), forward, predict, [task], session, reading=reading_of(network, k))


def columns(device: torch.device, k: int, sources: int | None = None) -> ProgressiveNetwork:
    """A network of k untrained columns, each of which reads the `sources` before it, or all."""
    network, example = ProgressiveNetwork(MLPAdapter()), torch.zeros(2, 1, 28, 28, device=device)
    for index in range(k):
        read = range(max(0, index - (index if sources is None else sources)), index)
        network.add_column(BACKBONE((1, 28, 28), CLASSES).to(device), example, sources=read)
    return network


def random_task(device: torch.device) -> Task:
    """Random bytes of the size of a task of Split-MNIST."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randint(256, (SAMPLES, 1, 28, 28), generator=generator, dtype=torch.uint8)
    samples = Samples(x, torch.randint(CLASSES, (SAMPLES,), generator=generator))
    few = Samples(samples.x[:2], samples.y[:2])
    none = Samples(samples.x[:0], samples.y[:0])
    return Task(
        label=0,
        name="random",
        classes=("a", "b"),
        train=samples,
        val=none,
        test=few,
        objective=Classification(CLASSES),
        head=0,
    )


def inputs(task: Task) -> torch.Tensor:
    """All training inputs, normalised."""
    return task.normalisation(task.train.x)


def per_update(work: Callable[[int], object], device: torch.device, short: int = 100, long: int = 400) -> float:
    """Seconds of one update: what a long training takes more than a short one; both see every sample."""
    return (timed(lambda: work(long), device) - timed(lambda: work(short), device)) / (long - short)


def timed(work: Callable[[], object], device: torch.device) -> float:
    """Processor seconds on the CPU, wall time on CUDA."""
    if device.type == "cpu":
        started = time.process_time()
        work()
        return time.process_time() - started
    torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    torch.cuda.synchronize(device)
    return time.perf_counter() - started


def seconds(pairs: Sequence[tuple[float, float]], names: tuple[str, str]) -> dict[str, float]:
    """The median seconds of both sides."""
    return {f"{name}_seconds": median(pair[side] for pair in pairs) for side, name in enumerate(names)}


def markdown(content: dict[str, Any]) -> str:
    """The tables."""
    lines: list[str] = []
    if "step" in content:
        lines += ["| column | prognet (ms) | floor (ms) | ratio |", "|--:|--:|--:|--:|"]
        lines += [
            f"| {one['column']} | {1e3 * one['prognet_seconds']:.2f} | {1e3 * one['floor_seconds']:.2f} "
            f"| {one['ratio']:.2f} |"
            for one in content["step"]
        ]
    if "growth" in content:
        lines += ["", "| column | sources | features kept | not kept | pass over frozen columns (µs a sample) |"]
        lines += ["|--:|--:|--:|--:|--:|"]
        lines += [
            f"| {one['column']} | {one['sources']} | {one['kept']:.2f} | {one['fresh']:.2f} "
            f"| {1e6 * one['feature_seconds_per_sample']:.1f} |"
            for one in content["growth"]
        ]
    if "stream" in content:
        lines += ["", "| Split-MNIST, 5 epochs a task | seconds | times as fast |", "|---|--:|--:|"]
        lines += [
            f"| {name} | {one['seconds']:.2f} | {one['times_faster']:.1f} |" for name, one in content["stream"].items()
        ]
    if "evaluation" in content:
        lines += ["", "| tasks evaluated | prognet (s) | plain networks (s) | ratio |", "|--:|--:|--:|--:|"]
        lines += [
            f"| {one['tasks']} | {one['prognet_seconds']:.3f} | {one['plain_seconds']:.3f} | {one['ratio']:.2f} |"
            for one in content["evaluation"]
        ]
    return "\n".join([*lines, ""])


def draw(content: dict[str, Any]) -> None:
    """The cost of an update against the number of the column."""
    if "growth" not in content:
        return
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4))
    for sources, colour in (("all", "C0"), (2, "C1")):
        rows = [one for one in content["growth"] if one["sources"] == sources]
        for key, style in (("kept", "-"), ("fresh", "--")):
            label = f"{sources} sources, features {'kept' if key == 'kept' else 'computed in every update'}"
            axes.plot([r["column"] for r in rows], [r[key] for r in rows], style, color=colour, marker=".", label=label)
    axes.set_xlabel("column")
    axes.set_ylabel("cost of an update, column 1 = 1")
    axes.set_ylim(bottom=0)
    axes.set_xticks([1, 5, 10, 15, 20])
    axes.legend(frameon=False)
    figure.tight_layout()
    figure.savefig(FIGURE, dpi=110)


def machine(device: torch.device) -> dict[str, Any]:
    """Where it was measured."""
    name = (
        torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()}, {os.cpu_count()} cores"
    )
    return {"device": name, "threads": 1, "python": platform.python_version(), "torch": torch.__version__}


if __name__ == "__main__":
    main(tyro.cli(Arguments))
