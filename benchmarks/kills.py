"""Is a finished task ever lost, or a number changed, when a comparison is killed at any moment?

    python benchmarks/kills.py --kills 200

A small comparison is killed with SIGKILL, its whole process group at once, at random moments, half of them while a file
is being written, and begun again in the same folder until it is finished; then the next folder is begun, until all
kills are used up. After every kill no run may have fewer finished steps than before, and every file that bears its
final name must be whole. In the end every run must have the bits of an undisturbed one: numbers, digests, and every
file of tensors by its SHA-256; seconds and memory may differ. Most kills hit a process that was forked from a warm one,
since importing torch would take most of the time; the others hit the real command line, with one process and with
several.

It writes `benchmarks/results/kills.json` and `kills.md`.
"""

import argparse
import json
import os
import platform
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from rich.progress import Progress
from safetensors import safe_open

from prognet import FineTune, MultiTask, Progressive, grid, verify
from prognet.backbones import mlp
from prognet.config import Execution, Measurement, Training
from prognet.evaluation.store import RunStore
from prognet.files import write_atomically
from prognet.results import RESULT_FILE
from prognet.streams import split_digits
from prognet.streams.stream import Stream

RESULTS = Path(__file__).parent / "results"
STARTS = 90.0
"""Seconds that the command line may take to begin its first run."""
TIMES = ("seconds", "feature_seconds", "evaluation_seconds", "peak_memory")


@dataclass(frozen=True)
class Size:
    """How large the comparison is."""

    seeds: int
    epochs: int


@dataclass(frozen=True)
class Way:
    """A way to carry out the comparison."""

    name: str
    share: float
    """Of all kills."""
    begin: Callable[[Path], int]
    """Begins the comparison in a folder, in a process group of its own -> its number."""
    patience: float = 0.2
    """The longest time before a kill, as a part of the time that an undisturbed comparison takes."""
    warms_up: bool = False
    """Whether the time counts from when the folder has been begun, and not at once."""


@dataclass
class Tally:
    """What was seen of one way."""

    kills: int = 0
    kills_after_progress: int = 0
    """Those before which at least one step had been finished since the last one."""
    steps_finished: int = 0
    """In disturbed comparisons, found at their kills."""
    comparisons: int = 0
    lost_steps: int = 0
    damaged_files: int = 0
    different_files: int = 0
    unproved_runs: int = 0
    undisturbed_seconds: float = 0.0
    moments: Counter[str] = field(default_factory=Counter)
    """What the kills interrupted, as far as the files tell."""

    @property
    def faults(self) -> int:
        """Everything that must not be."""
        return self.lost_steps + self.damaged_files + self.different_files + self.unproved_runs


def main() -> int:
    """Kills, compares, and writes the results -> 0 when nothing was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200, help="how many")
    parser.add_argument("--seed", type=int, default=0, help="of the moments at which they happen")
    parser.add_argument("--ways", nargs="+", help="some of the ways to carry the comparison out; by default all")
    parser.add_argument("--seeds", type=int, default=3, help="of the comparison")
    parser.add_argument("--epochs", type=int, default=2, help="of every task")
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the results")
    arguments = parser.parse_args()
    torch.set_num_threads(1)  # before anything is computed: a fork has no threads but the one that forks
    os.environ["OMP_NUM_THREADS"] = "1"
    stream = split_digits(n_tasks=4, seed=0)
    every = ways_of(stream, Size(arguments.seeds, arguments.epochs))
    ways = [way for way in every if not arguments.ways or way.name in arguments.ways]
    counts = shares(arguments.kills, [way.share for way in ways])
    chance, started = random.Random(arguments.seed), time.perf_counter()
    tallies: dict[str, Tally] = {}
    with TemporaryDirectory(prefix="prognet-kills-") as place:
        compare(stream, Size(1, 1), Path(place), stack=1)  # imports what is imported late, before the first fork
    with Progress(auto_refresh=False) as progress, TemporaryDirectory(prefix="prognet-kills-") as place:
        bar = progress.add_task("kills", total=arguments.kills)
        for way, count in zip(ways, counts, strict=True):
            progress.update(bar, description=way.name, refresh=True)  # by hand: a fork and a thread do not mix
            tallies[way.name] = tally = Tally()
            for _ in kill_all(way, count, Path(place) / way.name.replace(" ", "-"), chance, tally):
                progress.update(bar, advance=1, refresh=True)
    return report(tallies, arguments.seed, time.perf_counter() - started, arguments.out)


def ways_of(stream: Stream, size: Size) -> list[Way]:
    """All ways to carry out the comparison."""
    jobs = ("--jobs", "2")
    return [
        Way("forked", 0.58, lambda folder: forked(lambda: compare(stream, size, folder, stack=1))),
        Way("forked, stacked", 0.38, lambda folder: forked(lambda: compare(stream, size, folder, size.seeds)), 0.25),
        Way("command", 0.02, lambda folder: commanded(size, folder), 0.3, warms_up=True),
        Way("command, two jobs", 0.02, lambda folder: commanded(size, folder, *jobs), 0.5, warms_up=True),
    ]


def shares(total: int, parts: list[float]) -> list[int]:
    """A number of kills for every way, at least one; the first has what is left over."""
    others = [max(1, int(total * part / sum(parts))) for part in parts[1:]]
    return [total - sum(others), *others]


def compare(stream: Stream, size: Size, folder: Path, stack: int) -> None:
    """The comparison, as a library call."""
    backbone = mlp(hidden=(24, 24), batch_norm=stack == 1, dropout=0.1 if stack == 1 else 0.0)
    outcome = grid(
        [Progressive(backbone), FineTune(backbone), MultiTask(backbone)],
        lambda order: stream,
        out=folder,
        seeds=range(size.seeds),
        training=Training(epochs=size.epochs, batch_size=16, lr=0.003),
        measurement=Measurement(curve_points=6, gates=()),
        execution=Execution(stack=stack),
        device="cpu",
        threads=1,
    )
    if outcome.failed:
        sys.stderr.write(f"{dict(outcome.failed)}\n")
        os._exit(3)


def forked(work: Callable[[], None]) -> int:
    """Does some work in a copy of this process, in a group of its own -> its number."""
    number = os.fork()
    if number:
        with suppress(ProcessLookupError, PermissionError):
            os.setpgid(number, number)  # both do it: whoever comes first
        return number
    code = 1
    try:
        os.setpgid(0, 0)
        work()
        code = 0
    except Exception as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        os._exit(code)


def commanded(size: Size, folder: Path, *options: str) -> int:
    """Begins the same kind of comparison by the command line, in a process group of its own -> its number."""
    line = ["run", "split-digits", "--strategies", "progressive", "finetune", "multitask", "--seeds", str(size.seeds)]
    line += ["--threads", "1", "--device", "cpu", "--epochs", str(size.epochs), "--out", str(folder), *options]
    command = [sys.executable, "-m", "prognet", *line]
    quiet = [(os.POSIX_SPAWN_OPEN, stream, os.devnull, os.O_WRONLY, 0) for stream in (1, 2)]
    return os.posix_spawn(sys.executable, command, os.environ, file_actions=quiet, setsid=True)


def kill_all(way: Way, kills: int, place: Path, chance: random.Random, tally: Tally) -> Iterator[None]:
    """Kills comparisons of one way, one folder after the other; yields after each kill."""
    if not kills:
        return
    started = time.perf_counter()
    require_success(way.begin(place / "undisturbed"))
    tally.undisturbed_seconds = time.perf_counter() - started
    required = fingerprints(place / "undisturbed")
    while tally.kills < kills:
        folder = place / f"round-{tally.comparisons}"
        for _ in disturbed(way, kills, folder, chance, tally):
            yield
        found = fingerprints(folder)
        different = {name for name in {*required, *found} if required.get(name) != found.get(name)}
        sys.stderr.writelines(f"{way.name}: {name} differs\n" for name in sorted(different))
        tally.different_files += len(different)
        tally.unproved_runs += unproved(folder)
        tally.comparisons += 1
        shutil.rmtree(folder)


def disturbed(way: Way, kills: int, folder: Path, chance: random.Random, tally: Tally) -> Iterator[None]:
    """Carries out one comparison with kills, as long as there are some left."""
    seen: set[str] = set()
    steps: Mapping[str, int] = {}
    while True:
        number = way.begin(folder)
        if tally.kills == kills:
            require_success(number)
            return
        if way.warms_up:
            wait_for(number, folder)
        delay = chance.uniform(0, way.patience * tally.undisturbed_seconds)
        aims = chance.random() < 0.5
        if ended_within(number, delay) or (aims and ended_before_writing(number, folder)):
            return
        os.killpg(number, signal.SIGKILL)
        os.waitpid(number, 0)
        tally.kills += 1
        tally.moments[moment(folder, seen)] += 1
        damaged = list(damages(folder))
        now = {} if damaged else finished_steps(folder)
        lost = sum(max(0, count - now.get(run, 0)) for run, count in steps.items()) if not damaged else 0
        sys.stderr.writelines(f"{way.name}: {problem}\n" for problem in damaged)
        tally.damaged_files += len(damaged)
        tally.lost_steps += lost
        gained = sum(count - steps.get(run, 0) for run, count in now.items())
        tally.kills_after_progress += gained > 0
        tally.steps_finished += max(0, gained)
        steps = now or steps
        yield


def wait_for(number: int, folder: Path) -> None:
    """Waits until a comparison has begun its work in the folder, where a kill may have left a lock, or is over."""
    lock, due = folder / ".lock", time.perf_counter() + STARTS
    stale = lock.stat().st_mtime_ns if lock.exists() else None
    while time.perf_counter() < due:
        if os.waitid(os.P_PID, number, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return
        with suppress(FileNotFoundError):
            if lock.stat().st_mtime_ns != stale:
                return
        time.sleep(0.05)
    raise SystemExit(f"process {number} has not begun its work in {folder} within {STARTS} seconds")


def ended_within(number: int, seconds: float) -> bool:
    """Whether a process ends by itself within some time; it has to end well."""
    due = time.perf_counter() + seconds
    while time.perf_counter() < due:
        done, status = os.waitpid(number, os.WNOHANG)
        if done:
            require_ended_well(number, status)
            return True
        time.sleep(0.002)
    return False


def ended_before_writing(number: int, folder: Path) -> bool:
    """Waits for the next file that is being written, for a few seconds at most -> whether the process ended before."""
    old, due = halves(folder), time.perf_counter() + 5
    while halves(folder) <= old and time.perf_counter() < due:
        if ended_within(number, 0.0005):
            return True
    return False


def halves(folder: Path) -> set[str]:
    """The names of files that are being written, or were when a kill came."""
    return {path.name for path in folder.rglob(".*.*") if path.suffix != ".lock"}


def require_success(number: int) -> None:
    """Waits for a process, which has to end well."""
    require_ended_well(number, os.waitpid(number, 0)[1])


def require_ended_well(number: int, status: int) -> None:
    """Ends the program where a process has failed by itself."""
    if status:
        raise SystemExit(f"process {number} ended with status {os.waitstatus_to_exitcode(status)}")


def run_folders(folder: Path) -> list[Path]:
    """The folders of all runs that have one."""
    return sorted(path for path in (folder / "runs").glob("*/*") if path.is_dir())


def finished_steps(folder: Path) -> dict[str, int]:
    """By run, the steps that a new process would not do again."""
    steps = {}
    for place in run_folders(folder):
        store = RunStore(place)
        result = store.finished() or store.progress()
        steps[str(place.relative_to(folder))] = 0 if result is None else len(result.schedule)
    return steps


def damages(folder: Path) -> Iterator[str]:
    """Every file that bears its final name and is not whole, and every step whose tensors are missing."""
    for path in sorted(folder.rglob("*")):
        if path.name.startswith(".") or not path.is_file():
            continue
        try:
            if path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".safetensors":
                with safe_open(path, framework="np") as file:
                    file.keys()
        except Exception as error:  # whatever a damaged file makes its reader raise
            yield f"{path}: {type(error).__name__}: {error}"
    for place in run_folders(folder):
        store = RunStore(place)
        result = store.finished() or store.progress()
        if result is not None and not (store.weights_of(result).exists() and store.proof_of(result).exists()):
            yield f"{place}: the tensors after step {len(result.schedule) - 1} are missing"


def moment(folder: Path, seen: set[str]) -> str:
    """What the last kill interrupted, as far as the files tell."""
    new = halves(folder) - seen
    seen |= new
    if not (folder / "manifest.json").exists():
        return "before the folder was begun"
    if new:
        return "while a file was written"
    if list(folder.rglob("progress.next.json")):
        return "between the keeping of a step and its counting"
    for place in run_folders(folder):
        result = RunStore(place).progress()
        if len(list(place.glob("state-*"))) > 1 or (result is None and not (place / RESULT_FILE).exists()):
            return "between the files of a step"
    return "in training or evaluation"


def fingerprints(folder: Path) -> dict[str, str]:
    """By file of a finished comparison, what has to be the same in every way it was carried out."""
    found = {}
    for place in run_folders(folder):
        for path in sorted(place.iterdir()):
            content = path.read_bytes()
            if path.name == RESULT_FILE:
                content = json.dumps(untimed(json.loads(content)), sort_keys=True).encode()
            found[str(path.relative_to(folder))] = sha256(content).hexdigest()
    return found


def untimed(document: dict[str, Any]) -> dict[str, Any]:
    """A result without its seconds and memory, and without the seal, which covers them."""
    costs = [{name: value for name, value in cost.items() if name not in TIMES} for cost in document["costs"]]
    return {**{name: value for name, value in document.items() if name != "sha256"}, "costs": costs}


def unproved(folder: Path) -> int:
    """Runs whose frozen columns are not as they were recorded; looked at in a process of its own."""

    def look() -> None:
        problems = [verdict.problem for verdict in verify(folder) if verdict.problem is not None]
        sys.stderr.writelines(f"{problem}\n" for problem in problems)
        os._exit(min(100, len(problems)))

    return os.waitstatus_to_exitcode(os.waitpid(forked(look), 0)[1])


def report(tallies: Mapping[str, Tally], seed: int, seconds: float, out: Path) -> int:
    """Writes what was found -> 0 when nothing was lost."""
    ways = {
        name: {
            "kills": tally.kills,
            "kills_after_progress": tally.kills_after_progress,
            "steps_finished": tally.steps_finished,
            "comparisons": tally.comparisons,
            "undisturbed_seconds": round(tally.undisturbed_seconds, 2),
            "finished_steps_lost": tally.lost_steps,
            "damaged_files": tally.damaged_files,
            "different_files": tally.different_files,
            "runs_not_verified": tally.unproved_runs,
            "moments": dict(tally.moments.most_common()),
        }
        for name, tally in tallies.items()
    }
    moments: Counter[str] = sum((tally.moments for tally in tallies.values()), Counter())
    content = {
        "question": "finished steps lost, and files that differ from an undisturbed comparison, after SIGKILL",
        "kills": sum(tally.kills for tally in tallies.values()),
        "faults": sum(tally.faults for tally in tallies.values()),
        "seed": seed,
        "seconds": round(seconds, 1),
        "moments": dict(moments.most_common()),
        "ways": ways,
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps(content, indent=1)
    write_atomically(out / "kills.json", f"{text}\n".encode())
    write_atomically(out / "kills.md", as_markdown(content).encode())
    sys.stdout.write(f"{text}\n")
    return 1 if content["faults"] else 0


def as_markdown(content: Mapping[str, Any]) -> str:
    """The results as two tables."""
    lines = [
        f"{content['kills']} kills in {content['seconds']:.0f} seconds; {content['faults']} faults.",
        "",
        "| way | kills | after progress | comparisons | steps lost | damaged files | other files | not verified |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, way in content["ways"].items():
        counts = ("finished_steps_lost", "damaged_files", "different_files", "runs_not_verified")
        cells = [name, way["kills"], way["kills_after_progress"], way["comparisons"], *(way[count] for count in counts)]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    lines += ["", "| the kill came | times |", "|---|---|"]
    lines += [f"| {name} | {count} |" for name, count in content["moments"].items()]
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(main())
