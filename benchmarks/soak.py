"""Fifty tasks end to end: what each of them takes, and what the process holds after it, beside the prediction.

    python benchmarks/soak.py

A stream of fifty tasks (scikit-learn's digits, the pixels of each task in an order of its own) is learned through
`prognet.run` with a run folder, once with all sources and once with at most three, each in one process from the first
task to the last. A third run, with at most three, is killed after its 25th task and goes on in another process; it has
to end with the bits of the second. It writes `benchmarks/results/soak.json`, `soak.md`, `docs/figures/soak.png` and the
tables of `docs/scale.md`. Processor seconds of one thread; operations and calls do not depend on the machine.
"""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import tyro
from soak_parts.drawing import figure
from soak_parts.tables import tables
from soak_parts.watching import Book, Watched
from speed_parts.timing import machine

import prognet
from prognet.analysis import column_costs
from prognet.capacity import Capacity, Rates, Workload, fit_rates, grid_capacity, run_capacity
from prognet.files import write_atomically
from prognet.report.plots.style import look
from prognet.results import RunResult
from prognet.streams import Stream, from_arrays, permuted_digits

HERE = Path(__file__).parent
RESULT, TABLE = HERE / "results" / "soak.json", HERE / "results" / "soak.md"
FIGURE, PAGE = HERE.parent / "docs" / "figures" / "soak.png", HERE.parent / "docs" / "scale.md"
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"

BACKBONE = prognet.backbones.mlp(hidden=(64, 64))
TRAINING = prognet.Training(epochs=4, batch_size=50, lr=0.01)
MEASUREMENT = prognet.Measurement(gates=())
LEARNED_FROM, TESTED_ON, VALIDATION, AT_MOST = 600, 300, 0.1, 3
CALIBRATED = range(2, 20)
"""Tasks whose seconds give the rates; the first two have costs of their own, such as imports."""

Run = Literal["all", "bounded", "killed"]
SOURCES: Mapping[Run, int | None] = {"all": None, "bounded": AT_MOST, "killed": AT_MOST}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Learns the streams that are missing and writes the results."""

    tasks: int = 50
    """Tasks of the stream."""
    runs: Path = Path("runs/soak")
    """Folder of the runs; what is there is not run again."""
    only: Run | None = None
    """Learn this stream in this process and write nothing else; used by the benchmark itself."""


def main(arguments: Arguments) -> None:
    """Learns what is missing, each in a process of its own, then writes every result anew."""
    if arguments.only is not None:
        return learn(arguments.only, arguments.tasks, arguments.runs / arguments.only)
    kill_after = arguments.tasks // 2
    for name in SOURCES:
        soak(name, arguments, kill_after if name == "killed" else None)
    content = found_in(arguments.runs, arguments.tasks, kill_after)
    text = tables(content)
    sys.stdout.write(text)
    write_atomically(RESULT, f"{json.dumps(content, indent=1)}\n".encode())
    write_atomically(TABLE, text.encode())
    if PAGE.exists():
        before, rest = PAGE.read_text(encoding="utf-8").split(BEGIN)
        write_atomically(PAGE, f"{before}{BEGIN}\n{text}{END}{rest.split(END)[1]}".encode())
    with look():
        figure(content).savefig(FIGURE, dpi=110)
    return None


def stream(n_tasks: int) -> Stream:
    """Permuted digits with fewer samples a task."""
    whole = permuted_digits(n_tasks, seed=0, validation=0)
    return from_arrays(
        [
            (task.train.x[:LEARNED_FROM], task.train.y[:LEARNED_FROM], task.test.x[:TESTED_ON], task.test.y[:TESTED_ON])
            for task in whole
        ],
        seed=0,
        validation=VALIDATION,
    )


def learn(name: Run, n_tasks: int, out: Path) -> None:
    """The stream from the first task, or from where it was left, to the last."""
    torch.set_num_threads(1)
    most = SOURCES[name]
    book = Book(out / "book.jsonl", out / "runs")
    out.mkdir(parents=True, exist_ok=True)
    sources = None if most is None else prognet.LastSources(most)
    strategy = Watched(BACKBONE, book, sources, "progressive")
    started = time.process_time()
    data = stream(n_tasks)
    result = prognet.run(
        strategy,
        data,
        training=TRAINING,
        measurement=MEASUREMENT,
        device="auto" if torch.cuda.is_available() else "cpu",
        threads=1,
        out=out,
        seed=0,
    )
    book.end()  # while the result holds what has been learned
    assert result.learner is not None
    (out / "whole.json").write_text(json.dumps({"process_seconds": time.process_time() - started}))


def soak(name: Run, arguments: Arguments, kill_after: int | None) -> None:
    """Learns a stream in a process of its own; kills it after some tasks, where that is asked for, and begins again."""
    folder = arguments.runs / name
    command = [sys.executable, __file__, "--only", name, "--tasks", str(arguments.tasks), "--runs", str(arguments.runs)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    if kill_after is not None and not (folder / "book.jsonl").exists():
        with subprocess.Popen(command, env=environment) as child:
            while len(lines_of(folder)) < kill_after and child.poll() is None:
                time.sleep(0.05)
            child.send_signal(signal.SIGKILL)
    if not (folder / "whole.json").exists():
        subprocess.run(command, env=environment, check=True)


def lines_of(folder: Path) -> list[dict[str, Any]]:
    """What has been written down of a run, one entry for every task; of a task that was begun twice the later one."""
    path = folder / "book.jsonl"
    lines = path.read_text().splitlines() if path.exists() else []
    entries = {entry["step"]: entry for entry in map(json.loads, lines)}
    return [entries[step] for step in sorted(entries)]


def found_in(runs: Path, n_tasks: int, kill_after: int) -> dict[str, Any]:
    """Everything that was measured, and beside it what was predicted."""
    measured = {name: (lines_of(runs / name), result_of(runs / name)) for name in SOURCES}
    counted = {name: predicted(most, measured[name][1]) for name, most in SOURCES.items()}
    seconds = {name: [sum(entry["cpu"].values()) for entry in lines] for name, (lines, _) in measured.items()}
    used = {step for step in CALIBRATED if step < n_tasks}
    rates = fit_rates([(counted[name], {k: seconds[name][k] for k in used}) for name in ("all", "bounded")])
    documents = {name: curve_of(lines) for name, (lines, _) in measured.items()}
    bits = {name: sha256(one_file(runs / name, "state-*.safetensors")).hexdigest() for name in SOURCES}
    return {
        "machine": machine(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
        "tasks": n_tasks,
        "killed_after": kill_after,
        "same_bits": bits["killed"] == bits["bounded"] and same(measured["killed"][1], measured["bounded"][1]),
        "rates": asdict(rates),
        "calibrated": [min(used), max(used)],
        "runs": {name: one_run(*measured[name], counted[name], rates) for name in SOURCES},
        "longer": longer(measured["all"][1], rates, documents),
        "grids": grids(measured["all"][1], rates),
    }


def curve_of(lines: Sequence[Mapping[str, Any]]) -> list[float]:
    """Bytes of a run's documents as a polynomial of second degree in the number of tasks."""
    sizes = [entry["documents_bytes"] for entry in lines[:-1]]  # the last one is another document
    return [float(value) for value in np.polyfit(np.arange(1, len(sizes) + 1), sizes, 2)]


def longer(result: RunResult, rates: Rates, documents: Mapping[str, Sequence[float]]) -> list[dict[str, Any]]:
    """Streams of the same tasks with 100 and 1,000 of them."""
    found = []
    for n_tasks in (50, 100, 1000):
        for title, most, closure in (("all", None, None), ("3, chain", AT_MOST, None), ("3, closure 10", AT_MOST, 10)):
            one = predicted(most, result, n_tasks, closure)
            found.append(
                {
                    "title": title,
                    "tasks": n_tasks,
                    "parameters": one.parameters[-1],
                    "stored": one.stored_bytes[-1],
                    "written": one.written_bytes[-1],
                    "tables": one.feature_bytes.max(),
                    "prediction": one.prediction_flops[-1],
                    "learning": float((one.training_flops + one.measuring_flops).sum()),
                    "evaluating": float(one.evaluation_flops.sum()),
                    "documents": float(np.polyval(documents["all" if most is None else "bounded"], n_tasks)),
                    "hours": float(rates.seconds(one).sum()) / 3600,
                }
            )
    return found


def grids(result: RunResult, rates: Rates) -> list[dict[str, Any]]:
    """Ten thousand runs of 5, 50 and 1,000 tasks."""
    found = []
    for n_tasks, most, closure, title in (
        (5, None, None, "5 tasks, all sources"),
        (50, None, None, "50 tasks, all sources"),
        (50, AT_MOST, None, "50 tasks, at most 3"),
        (50, AT_MOST, 10, "50 tasks, at most 3, closure 10"),
        (1000, AT_MOST, 10, "1,000 tasks, at most 3, closure 10"),
    ):
        runs = [(10_000, predicted(most, result, n_tasks, closure))]
        each = [grid_capacity(runs, rates, jobs) for jobs in (1, 16, 128, 1024)]
        found.append(
            {
                "title": title,
                "runs": 10_000,
                "hours": [one.hours for one in each],
                "kept": each[0].kept_bytes,
                "written": each[0].written_bytes,
                "files": each[0].files,
            }
        )
    return found


def predicted(most: int | None, result: RunResult, n_tasks: int | None = None, closure: int | None = None) -> Capacity:
    """What the capacity model says of a run, or of one with another number of the same tasks."""
    task = result.tasks[0]
    adapter = prognet.Progressive(BACKBONE).adapter
    return run_capacity(
        column_costs(BACKBONE, task.input_shape, task.n_classes, adapter=adapter),
        Workload(
            tasks=n_tasks or len(result.tasks),
            train=task.n_train,
            test=task.n_test,
            validation=task.n_val,
            sources=most,
            closure=closure,
            training=TRAINING,
            measurement=MEASUREMENT,
        ),
    )


def one_run(lines: Sequence[Mapping[str, Any]], result: RunResult, counted: Capacity, rates: Rates) -> dict[str, Any]:
    """Columns of numbers, one for every task: measured, and under `predicted` what the model says."""
    flat = [{**entry, **{f"cpu_{part}": value for part, value in entry["cpu"].items()}} for entry in lines]
    keys = [key for key in flat[0] if key not in ("cpu", "wall", "step")]
    costs = result.costs
    return {
        **{key: [entry[key] for entry in flat] for key in keys},
        "cpu_seconds": [sum(entry["cpu"].values()) for entry in lines],
        "wall_seconds": [sum(entry["wall"].values()) for entry in lines],
        "feature_seconds": [cost.feature_seconds for cost in costs],
        "parameters": [cost.parameters for cost in costs],
        "stored_bytes": [cost.stored_bytes for cost in costs],
        "training_flops": [cost.training_flops for cost in costs],
        "prediction_flops": list(costs[-1].forward_flops),
        "peak_memory": [cost.peak_memory for cost in costs],
        "accuracy": float(np.nanmean(result.accuracy[-1])),
        "forgetting": float(np.nanmax(np.diag(result.accuracy) - result.accuracy[-1])),
        "predicted": {
            **{key: value.tolist() for key, value in vars_of(counted).items()},
            "cpu_seconds": rates.seconds(counted).tolist(),
        },
    }


def vars_of(counted: Capacity) -> dict[str, Any]:
    """The arrays of a prediction, by name."""
    return {name: getattr(counted, name) for name in Capacity.__slots__}


def result_of(folder: Path) -> RunResult:
    """The one result below a folder."""
    (result,) = prognet.load_results(folder)
    return result


def one_file(folder: Path, form: str) -> bytes:
    """The one file of a form below a folder."""
    (path,) = folder.rglob(form)
    return path.read_bytes()


def same(found: RunResult, required: RunResult) -> bool:
    """Whether two runs have the same numbers, but for seconds and memory."""
    return (
        found.digests == required.digests
        and found.curves == required.curves
        and found.choices == required.choices
        and all(np.array_equal(found.metrics[name], required.metrics[name], equal_nan=True) for name in found.metrics)
    )


if __name__ == "__main__":
    main(tyro.cli(Arguments))
