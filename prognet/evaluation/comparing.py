"""Comparisons: every strategy with every seed in every order of a stream, into one folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from prognet.backbones import describe_backbone
from prognet.config import Execution, Measurement, Training
from prognet.errors import ConfigError, PrognetError
from prognet.evaluation.checks import check_comparable, check_request, require_distinct, schedule_of
from prognet.evaluation.drawing import Streams
from prognet.evaluation.environment import describe_environment, resolve_device, resolve_threads
from prognet.evaluation.observer import Observer, Silence
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.replication import run_together
from prognet.manifest import Manifest, merge_manifest, write_manifest
from prognet.results import Results, RunResult, to_json
from prognet.strategies import Strategy
from prognet.streams.draws import PerSeed
from prognet.streams.stream import Stream
from prognet.training import Session
from prognet.training.budget import budget_of

_TRIED_TASKS = 2


@dataclass(frozen=True, slots=True)
class Cell:
    """One run of a comparison."""

    strategy: str
    order: int
    seed: int

    def __str__(self) -> str:
        return f"{self.strategy}, order {self.order}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a comparison."""

    results: Results
    failed: Mapping[str, str]
    """Runs that ended with an error, by name, with the message."""


def grid(
    strategies: Sequence[Strategy],
    make_stream: Callable[[int], Stream] | PerSeed,
    *,
    out: str | Path,
    seeds: Sequence[int] = range(5),
    orders: Sequence[int] = (0,),
    training: Training | None = None,
    tuned: Mapping[str, Training] | None = None,
    measurement: Measurement | None = None,
    execution: Execution | None = None,
    device: str = "auto",
    threads: int | None = None,
    observer: Observer | None = None,
    command: Sequence[str] = (),
    unavailable: Mapping[str, str] | None = None,
) -> Outcome:
    """Runs every strategy with every seed in every order, into one folder; what is finished there is not run again.

    Before any training, the folder is compared with what is asked for, and every strategy builds its networks for the
    first tasks, so that what cannot work is refused at once. A run that fails does not stop the others, but for a disk
    that is full.

    Args:
        strategies: with different names and one backbone.
        make_stream: the stream for an order, which is its seed, e.g. `lambda order: split_digits(seed=order)`; in a
            `PerSeed` for an order and a seed, which is its draw, so that every seed has samples of its own.
        out: the folder.
        seeds: seeds of initialisation and data order, and of the draw of a stream that is drawn.
        orders: seeds of the stream.
        training: how every task is learned.
        tuned: by name of the strategy, the training that replaces it.
        measurement: what is measured.
        execution: how it is computed.
        device: where to train.
        threads: CPU threads; None for torch's own choice.
        observer: is told how it goes.
        command: the command line to note in the folder.
        unavailable: controls that are left out, with the reason, to note in the folder.

    Returns:
        The finished runs, and the failures.

    Raises:
        PrognetError: when the comparison cannot be carried out as a whole.
    """
    check_comparable(strategies)
    require_distinct("seeds", seeds)
    require_distinct("orders", orders)
    training, measurement, tuned = training or Training(), measurement or Measurement(), tuned or {}
    execution = execution or Execution()
    target, count = resolve_device(device), resolve_threads(threads)
    streams = Streams(make_stream)
    first = streams.of(orders[0], seeds[0])
    session = Session(training=training, measurement=measurement, execution=execution, seed=seeds[0], device=target)
    for strategy in strategies:
        for seed in seeds:
            check_request(strategy, first, tuned.get(strategy.name, training), seed)
        _try(strategy, first, session)
    runs = _Runs(strategies, streams, orders, seeds, training, tuned, measurement, execution, target, count, Path(out))
    manifest = merge_manifest(Path(out), runs.manifest(command, unavailable or {}))
    write_manifest(Path(out), manifest)
    outcome = runs.carry_out(observer or Silence())
    others = {name: reason for name, reason in manifest.failed.items() if name not in runs.names()}
    write_manifest(Path(out), replace(manifest, failed={**others, **outcome.failed}))
    return outcome


@dataclass(frozen=True)
class _Runs:
    """The cells of a comparison, and all that they have in common."""

    strategies: Sequence[Strategy]
    streams: Streams
    orders: Sequence[int]
    seeds: Sequence[int]
    training: Training
    tuned: Mapping[str, Training]
    measurement: Measurement
    execution: Execution
    device: torch.device
    threads: int
    out: Path

    def carry_out(self, observer: Observer) -> Outcome:
        """All runs, one after the other."""
        first = self.streams.of(self.orders[0], self.seeds[0])  # the others are as large
        updates = {strategy.name: self._updates(strategy, first) for strategy in self.strategies}
        observer.begin(len(self.orders) * len(self.seeds) * sum(updates.values()))
        results: list[RunResult] = []
        failed: dict[str, str] = {}
        for strategy, streams, cells in self._cells():
            for cell in cells:
                observer.start(str(cell), updates[strategy.name])
            for cell, outcome in zip(cells, self._outcomes(strategy, streams, cells, observer), strict=True):
                if isinstance(outcome, RunResult):
                    results.append(replace(outcome, learner=None))  # the tensors are in the folder
                    observer.end(str(cell), None)
                else:
                    failed[str(cell)] = f"{type(outcome).__name__}: {outcome}"
                    observer.end(str(cell), outcome)
        return Outcome(Results(results), failed)

    def manifest(self, command: Sequence[str], unavailable: Mapping[str, str]) -> Manifest:
        """What the folder will say of the comparison."""
        first = self.streams.of(self.orders[0], self.seeds[0])
        return Manifest(
            command=list(command),
            stream=to_json({"name": first.name, "heads": first.heads, "arguments": dict(first.arguments)}),
            data={self.streams.name_of(self.orders[0], self.seeds[0]): first.digest},
            backbone=describe_backbone(self.strategies[0].backbone),
            training=to_json(asdict(self.training)),
            measurement=to_json(asdict(self.measurement)),
            execution=to_json(asdict(self.execution)),
            tuned={name: to_json(asdict(one)) for name, one in self.tuned.items()},
            strategies=[strategy.name for strategy in self.strategies],
            seeds=list(self.seeds),
            orders=list(self.orders),
            unavailable=dict(unavailable),
            environment=describe_environment(self.device, self.threads),
        )

    def names(self) -> set[str]:
        """The names of all runs."""
        return {
            str(Cell(strategy.name, order, seed))
            for strategy in self.strategies
            for order in self.orders
            for seed in self.seeds
        }

    def _outcomes(
        self, strategy: Strategy, streams: Sequence[Stream], cells: Sequence[Cell], observer: Observer
    ) -> Sequence[RunResult | PrognetError]:
        """What became of runs with one strategy in one order; a disk that is full ends everything."""
        settings = Session(
            training=self.tuned.get(strategy.name, self.training),
            measurement=self.measurement,
            execution=self.execution,
            seed=cells[0].seed,
            device=self.device,
            advance=observer.advance,
        )
        seeds = [cell.seed for cell in cells]
        return run_together(strategy, streams, settings, seeds, self.threads, self.out)

    def _cells(self) -> Iterator[tuple[Strategy, Sequence[Stream], Sequence[Cell]]]:
        """Every strategy with the runs that are trained together, and their streams."""
        size = self.execution.stack
        for order in self.orders:
            for seeds in (self.seeds[start : start + size] for start in range(0, len(self.seeds), size)):
                streams = [self.streams.of(order, seed) for seed in seeds]
                for strategy in self.strategies:
                    yield strategy, streams, [Cell(strategy.name, order, seed) for seed in seeds]

    def _updates(self, strategy: Strategy, stream: Stream) -> int:
        return updates_of(strategy, stream, self.tuned.get(strategy.name, self.training))


def updates_of(strategy: Strategy, stream: Stream, training: Training) -> int:
    """The updates that a strategy takes to learn a stream, without early stopping."""
    steps = [[stream[label] for label in group] for group in schedule_of(strategy, stream)]
    return sum(budget_of(training, tasks).updates for tasks in steps)  # sampling does not change it


def _try(strategy: Strategy, stream: Stream, session: Session) -> None:
    """Builds what the strategy needs for the first tasks, so that an error comes before any training."""
    try:
        _build(strategy, stream, session)
    except PrognetError:
        raise
    except Exception as error:  # whatever a backbone of somebody's own may raise
        raise ConfigError(
            f"backbone: required a function (input_shape, n_classes) -> nn.Module that works for the first tasks in "
            f"{strategy.name!r}, found {type(error).__name__}: {error}; try it on a batch of two samples of shape "
            f"{stream[0].input_shape}."
        ) from error


def _build(strategy: Strategy, stream: Stream, session: Session) -> None:
    tasks = stream[:_TRIED_TASKS]
    steps = [group for group in schedule_of(strategy, stream) if max(group) < len(tasks)]
    learner = rebuild(strategy, tasks, tuple(steps) or (tuple(range(len(tasks))),), session)
    learner.eval()
    with torch.no_grad():
        for task in tasks:
            x = task.normalisation(task.train.x[:2].to(session.device))
            outputs = learner.predict(x, task.label)
            wanted = task.objective.output_shape(task.n_classes)
            if tuple(outputs.shape) != (len(x), *wanted):
                shape = ", ".join(map(str, wanted))
                raise ConfigError(
                    f"backbone: required an output of shape (B, {shape}) for task {task.label}, found "
                    f"{tuple(outputs.shape)} with B = {len(x)}; its last layer must have n_classes outputs."
                )
