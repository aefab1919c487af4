"""Does a Ray cluster that loses a machine in the middle of a comparison end with the results of one process?

    python benchmarks/cluster.py

It starts two nodes of a cluster on this machine, each with one core (`ray start`), carries out a comparison of 24 runs
on them, and kills the second node with all its processes when ten runs have ended. Beside it, the same comparison in
one process after the other and in two at once. All weight files, accuracy matrices and digests are compared. It writes
`benchmarks/results/cluster.json` and `benchmarks/results/cluster.md`.
"""

import json
import os
import platform
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np
import psutil
import torch
import tyro

import prognet
from prognet.errors import ClusterWarning, PrognetError
from prognet.evaluation import Observer
from prognet.files import write_atomically

HERE = Path(__file__).parent
RESULT, TABLE = HERE / "results" / "cluster.json", HERE / "results" / "cluster.md"
BACKBONE = prognet.backbones.mlp(hidden=(128, 128))
STRATEGIES = (
    prognet.Progressive(BACKBONE),
    prognet.FineTune(BACKBONE),
    prognet.MultiTask(BACKBONE),
    prognet.Independent(BACKBONE),
)


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Carries out the comparisons and writes what was found."""

    seeds: int = 6
    """Of each of the four strategies."""
    tasks: int = 5
    """Tasks of the stream."""
    epochs: int = 20
    """Passes over each task."""
    kill_after: int = 10
    """Runs that have ended when the second node is killed."""
    out: Path | None = None
    """Folder of the comparisons; a temporary one by default."""


@dataclass(frozen=True, kw_only=True)
class Kill:
    """What was lost."""

    seconds: float
    """Since the comparison began."""
    runs_ended: int
    runs_under_way: tuple[str, ...]
    finished_steps: Mapping[str, int]
    """Of the runs under way, as their folders said."""
    processes: int
    """That were killed: the node and its workers."""


@dataclass
class Assassin(Observer):
    """An observer that kills a node when some runs have ended and another one is in its middle."""

    node: subprocess.Popen[bytes]
    out: Path
    after: int
    kill: Kill | None = None
    _started: float = field(default_factory=time.perf_counter)
    _ended: int = 0
    _under_way: list[str] = field(default_factory=list)

    def begin(self, updates: int) -> None:
        """Notes when it began."""
        self._started = time.perf_counter()

    def start(self, what: str, updates: int) -> None:
        """Notes a run that begins."""
        self._under_way.append(what)

    def advance(self, updates: int) -> None:
        """Kills the node, if it is time."""
        steps = {name: steps_of(self.out, name) for name in self._under_way}
        if self.kill is None and self._ended >= self.after and len(steps) > 1 and all(steps.values()):
            self.kill = Kill(
                seconds=time.perf_counter() - self._started,
                runs_ended=self._ended,
                runs_under_way=tuple(self._under_way),
                finished_steps=steps,
                processes=kill_with_children(self.node),
            )

    def end(self, what: str, error: PrognetError | None) -> None:
        """Notes a run that is over."""
        self._under_way.remove(what)
        self._ended += 1


def main() -> None:
    """Measures, prints and writes the result."""
    arguments = tyro.cli(Arguments, description=__doc__)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        token = Path(place) / "token"  # nobody else may use the cluster
        token.write_text(token_hex(32))
        os.environ |= {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN_PATH": str(token), "RAY_USAGE_STATS_ENABLED": "0"}
        out = arguments.out or Path(place)
        content = measured(arguments, out)
    write_atomically(RESULT, f"{json.dumps(content, indent=1)}\n".encode())
    text = table_of(content)
    write_atomically(TABLE, text.encode())
    sys.stdout.write(text)


def measured(arguments: Arguments, out: Path) -> dict[str, Any]:
    """All comparisons, and what they have in common."""
    before = os.getloadavg()
    one = timed(arguments, out / "jobs-1", prognet.Workers())
    two = timed(arguments, out / "jobs-2", prognet.Workers(jobs=2))
    cluster = on_a_cluster(arguments, out / "cluster")
    required = described(out / "jobs-1")
    found = {name: described(out / name) for name in ("jobs-2", "cluster")}
    return {
        "question": "Does a cluster that loses a machine end with the results of one process?",
        "runs": len(required),
        "files_of_weights": sum(len(one["weights"]) for one in required.values()),
        "equal_to_jobs_1": {name: compared(theirs, required) for name, theirs in found.items()},
        "seconds": {"jobs 1": one, "jobs 2": two, "cluster, one node killed": cluster["seconds"]},
        "jobs_2_over_jobs_1": round(two / one, 3),
        "cluster": cluster,
        "load": {
            "before": [round(number, 2) for number in before],
            "after": [round(number, 2) for number in os.getloadavg()],
            "note": "of the last 1, 5 and 15 minutes; above the number of cores, other work shares them, and wall "
            "times say little",
        },
        "settings": {key: value for key, value in asdict(arguments).items() if key != "out"},
        "versions": {
            "python": platform.python_version(),
            "torch": torch.__version__,
            "ray": version("ray"),
            "prognet": prognet.__version__,
        },
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def timed(arguments: Arguments, out: Path, workers: prognet.Workers) -> float:
    """Carries out the comparison -> its wall time in seconds, the start of processes included."""
    started = time.perf_counter()
    outcome = compare(arguments, out, workers)
    seconds = time.perf_counter() - started
    if outcome.failed:
        raise SystemExit(f"{out.name}: {dict(outcome.failed)}")
    return round(seconds, 1)


def compare(
    arguments: Arguments, out: Path, workers: prognet.Workers, observer: Observer | None = None
) -> prognet.evaluation.Outcome:
    """The comparison."""
    return prognet.grid(
        STRATEGIES,
        lambda order: prognet.streams.split_digits(n_tasks=arguments.tasks, seed=order),
        out=out,
        seeds=range(arguments.seeds),
        training=prognet.Training(epochs=arguments.epochs, batch_size=16, lr=0.01),
        device="cpu",
        threads=1,
        observer=observer,
        workers=workers,
    )


def on_a_cluster(arguments: Arguments, out: Path) -> dict[str, Any]:
    """Carries out the comparison on two nodes, of which one is killed."""
    with two_nodes() as (address, second), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assassin = Assassin(second, out, arguments.kill_after)
        started = time.perf_counter()
        outcome = compare(arguments, out, prognet.Workers(engine="ray", address=address), assassin)
        seconds = time.perf_counter() - started
    if outcome.failed or assassin.kill is None:
        raise SystemExit(f"cluster: {dict(outcome.failed) or 'nothing was killed: ask for more runs or epochs'}")
    lost = [str(warning.message) for warning in caught if issubclass(warning.category, ClusterWarning)]
    kill = replace(assassin.kill, seconds=round(assassin.kill.seconds, 1))
    return {"seconds": round(seconds, 1), "kill": asdict(kill), "told": lost}


@contextmanager
def two_nodes() -> Iterator[tuple[str, "subprocess.Popen[bytes]"]]:
    """Within the block two nodes form a cluster -> its address, and the process of the second node."""
    address = f"127.0.0.1:{free_port()}"
    settings = ["--num-cpus=1", "--num-gpus=0", "--node-ip-address=127.0.0.1", "--block"]
    head = started([f"--port={address.split(':')[1]}", "--head", "--include-dashboard=false", *settings])
    nodes = [head]
    try:
        wait_for(address)
        nodes.append(started([f"--address={address}", *settings]))
        wait_for_machines(address, 2)
        yield address, nodes[1]
    finally:
        for node in nodes:
            kill_with_children(node)


def started(options: Sequence[str]) -> "subprocess.Popen[bytes]":
    """A node, in a process of its own that ends with it."""
    ray = shutil.which("ray", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}")
    if ray is None:
        raise SystemExit("ray: required its command, found none; pip install 'prognet[ray]'")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parent)}
    return subprocess.Popen(
        [ray, "start", *options], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )


def wait_for(address: str) -> None:
    """Waits until somebody listens."""
    host, port = address.split(":")
    for _ in range(600):
        with socket.socket() as probe:
            if probe.connect_ex((host, int(port))) == 0:
                return
        time.sleep(0.2)
    raise SystemExit(f"ray: no cluster at {address} after two minutes")


def wait_for_machines(address: str, count: int) -> None:
    """Waits until the cluster has as many machines; in a process of its own, as Ray is joined once in each."""
    code = (
        "import ray, sys, time\n"
        "for _ in range(60):\n"
        "    try:\n"
        f"        ray.init(address={address!r}, log_to_driver=False, ignore_reinit_error=True)\n"
        f"        if sum(node['Alive'] for node in ray.nodes()) == {count}: sys.exit(0)\n"
        "    except ConnectionError: pass\n"
        "    time.sleep(1)\n"
        "sys.exit(1)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"ray: no cluster of {count} machines at {address}: {done.stderr[-2000:]}")


def kill_with_children(process: "subprocess.Popen[bytes]") -> int:
    """Kills a process and all that it began, at once -> how many."""
    try:
        top = psutil.Process(process.pid)
        family = [top, *top.children(recursive=True)]
    except psutil.NoSuchProcess:
        return 0
    for one in family:
        try:
            one.kill()
        except psutil.NoSuchProcess:
            continue
    process.wait()
    return len(family)


def free_port() -> int:
    """A port that nobody uses at present."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def steps_of(out: Path, run: str) -> int:
    """The finished steps of a run that is under way."""
    strategy, order, seed = run.split(", ")
    store = prognet.evaluation.store.RunStore.of(out, strategy, int(order.split()[1]), int(seed.split()[1]))
    progress = store.progress()
    return 0 if progress is None else len(progress.schedule)


def described(out: Path) -> dict[str, dict[str, Any]]:
    """By run: its accuracy matrix, digests, and the SHA-256 of every file of tensors."""
    results = {f"{one.strategy}, order {one.order}, seed {one.seed}": one for one in prognet.load_results(out)}
    return {
        name: {
            "accuracy": result.accuracy,
            "digests": [dict(step) for step in result.digests],
            "weights": hashes(out / "runs" / result.strategy / f"order-{result.order}-seed-{result.seed}"),
        }
        for name, result in results.items()
    }


def hashes(folder: Path) -> dict[str, str]:
    """By name the SHA-256 of every file of tensors in a folder."""
    return {path.name: sha256(path.read_bytes()).hexdigest() for path in sorted(folder.glob("*.safetensors"))}


def compared(found: Mapping[str, Mapping[str, Any]], required: Mapping[str, Mapping[str, Any]]) -> dict[str, int]:
    """How many runs agree in each respect."""
    names = required.keys() & found.keys()
    return {
        "accuracy": sum(
            np.array_equal(found[name]["accuracy"], required[name]["accuracy"], equal_nan=True) for name in names
        ),
        "digests": sum(found[name]["digests"] == required[name]["digests"] for name in names),
        "weights": sum(found[name]["weights"] == required[name]["weights"] for name in names),
    }


def table_of(content: Mapping[str, Any]) -> str:
    """The result as a page."""
    runs, kill = content["runs"], content["cluster"]["kill"]
    rows = [
        f"| {name} | {found['accuracy']} of {runs} | {found['digests']} of {runs} | {found['weights']} of {runs} |"
        for name, found in content["equal_to_jobs_1"].items()
    ]
    times = [f"| {name} | {seconds} |" for name, seconds in content["seconds"].items()]
    under_way = ", ".join(f"{name} (step {steps} finished)" for name, steps in kill["finished_steps"].items())
    lines = [
        f"A comparison of {runs} runs, in one process (jobs 1), in two processes (jobs 2), and on a Ray cluster of two",
        f"nodes with one core each on one machine. The second node was killed (SIGKILL, {kill['processes']} processes) "
        f"after {kill['seconds']} s,",
        f"when {kill['runs_ended']} runs had ended and these were under way: {under_way}.",
        "",
        "| equal to jobs 1, bit for bit | accuracy matrices | digests | weight files (SHA-256) |",
        "|---|---:|---:|---:|",
        *rows,
        "",
        "| | wall time in s |",
        "|---|---:|",
        *times,
        "",
        f"Two jobs take {content['jobs_2_over_jobs_1']} of the time of one. {content['machine']}; load before "
        f"{content['load']['before']}, after {content['load']['after']}",
        f"({content['load']['note']}). Start-up of processes and workers is included.",
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
