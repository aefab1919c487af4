"""Comparisons: every strategy with every seed in every order of a stream, into one folder."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from prognet.backbones import describe_backbone
from prognet.config import Execution, Measurement, Training, Workers
from prognet.errors import ConfigError, PrognetError, RunFolderError
from prognet.evaluation.checks import check_comparable, check_request, require_distinct, schedule_of
from prognet.evaluation.drawing import Streams
from prognet.evaluation.engines import Engine, device_for, engine_for, threads_for, trial_device_for
from prognet.evaluation.environment import describe_environment
from prognet.evaluation.locking import comparison_locked
from prognet.evaluation.observer import Observer, Silence
from prognet.evaluation.ranks import check_workers, held_by_first, shared, silent_but_first
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.store import RunStore, check_same_run
from prognet.evaluation.work import Plan, Report, Unit
from prognet.files import remove_leftovers
from prognet.manifest import MANIFEST_FILE, Manifest, merge_manifest, write_manifest
from prognet.results import RESULT_FILE, Results, RunResult, to_json
from prognet.strategies import Strategy, describe_strategy
from prognet.streams.draws import PerSeed
from prognet.streams.stream import Stream
from prognet.training import Session
from prognet.training.budget import budget_of
from prognet.training.ranks import current_ranks

_TRIED_TASKS = 2


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
    workers: Workers | None = None,
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
        workers: what carries out the runs; by default this process, one after the other. No number depends on it, but
            for that of threads where None is asked for: several processes share the cores.

    Returns:
        The finished runs, and the failures.

    Raises:
        LockedError: when another process carries out a comparison in the folder.
        PrognetError: when the comparison cannot be carried out as a whole.
    """
    check_comparable(strategies)
    require_distinct("seeds", seeds)
    require_distinct("orders", orders)
    training, measurement, tuned = training or Training(), measurement or Measurement(), tuned or {}
    execution, workers = execution or Execution(), workers or Workers()
    target, count = device_for(workers, device, execution.deterministic), threads_for(workers, threads)
    ranks = current_ranks(target)
    check_workers(workers, ranks)
    streams = Streams(make_stream)
    first = streams.of(orders[0], seeds[0])
    here = trial_device_for(workers, target)
    session = Session(training=training, measurement=measurement, execution=execution, seed=seeds[0], device=here)
    for strategy in strategies:
        for seed in seeds:
            check_request(strategy, first, tuned.get(strategy.name, training), seed)
        shared(strategy, first, session)
        _try(strategy, first, session)
    plan = Plan(
        strategies={strategy.name: strategy for strategy in strategies},
        training=training,
        tuned=tuned,
        measurement=measurement,
        execution=execution,
        device=target,
        threads=count,
        out=Path(out),
    )
    engine = engine_for(workers, device)
    engine.check(plan)
    units = list(_units(plan, first, orders, seeds))
    manifest = replace(
        _manifest(plan, first, command, unavailable or {}),
        data={streams.name_of(orders[0], seeds[0]): first.digest},
        seeds=list(seeds),
        orders=list(orders),
    )
    del first  # lest two lie in memory
    with held_by_first(lambda: comparison_locked(plan.out), ranks):
        ranks.first_does(lambda: _begin_folder(plan, manifest))
        outcome = _carry_out(engine, plan, units, streams, silent_but_first(observer or Silence(), ranks))
        ranks.first_does(lambda: _note_failures(plan.out, manifest, units, outcome.failed))
    return outcome


def _check_methods(out: Path, strategies: Sequence[Strategy]) -> None:
    """Refuses a folder in which a name stands for other arguments: their runs would be averaged as seeds of one row."""
    for strategy in strategies:
        own = {"strategy": describe_strategy(strategy)}
        for path in sorted(out.glob(f"runs/{strategy.name}/*/{RESULT_FILE}")):
            try:
                stored = RunResult.load(path)
            except RunFolderError:  # a damaged run is refused by itself, and leaves the others
                continue
            check_same_run(RunStore(path.parent), stored, own)
            break  # all runs of a name are alike, or they would not have been begun


def _begin_folder(plan: Plan, manifest: Manifest) -> None:
    """Writes the manifest of what will be run, beside that of what was run before."""
    remove_leftovers(plan.out, MANIFEST_FILE)
    merged = merge_manifest(plan.out, manifest)
    _check_methods(plan.out, list(plan.strategies.values()))
    write_manifest(plan.out, merged)


def _note_failures(out: Path, manifest: Manifest, units: Sequence[Unit], failed: Mapping[str, str]) -> None:
    """Writes which of the runs that were carried out have failed; nothing changes for others."""
    names = {str(cell) for unit in units for cell in unit.cells}
    manifest = merge_manifest(out, manifest)  # somebody may have removed it
    others = {name: reason for name, reason in manifest.failed.items() if name not in names}
    write_manifest(out, replace(manifest, failed={**others, **failed}))


def _carry_out(engine: Engine, plan: Plan, units: Sequence[Unit], streams: Streams, observer: Observer) -> Outcome:
    """All runs; what became of them is in the order of the units, in whichever they end."""
    observer.begin(sum(unit.updates * len(unit.seeds) for unit in units))
    reports: dict[Unit, Report] = {}
    with closing(engine.carry_out(plan, units, streams, observer)) as ending:  # also by Ctrl-C
        for report in ending:
            reports[report.unit] = report
            report.repeat_warnings()
            for cell, outcome in zip(report.unit.cells, report.outcomes, strict=True):
                observer.end(str(cell), None if isinstance(outcome, RunResult) else outcome)
    ended = [pair for unit in units for pair in zip(unit.cells, reports[unit].outcomes, strict=True)]
    return Outcome(
        Results([outcome for _, outcome in ended if isinstance(outcome, RunResult)]),
        {str(cell): f"{type(e).__name__}: {e}" for cell, e in ended if not isinstance(e, RunResult)},
    )


def _units(plan: Plan, first: Stream, orders: Sequence[int], seeds: Sequence[int]) -> Iterator[Unit]:
    """Every strategy with the runs that are trained together; those with the same stream follow each other."""
    updates = {
        name: updates_of(strategy, first, plan.training_of(name)) for name, strategy in plan.strategies.items()
    }  # streams of other orders and draws are as large
    for order in orders:
        for start in range(0, len(seeds), plan.execution.stack):
            together = tuple(seeds[start : start + plan.execution.stack])
            yield from (Unit(name, order, together, count) for name, count in updates.items())


def _manifest(plan: Plan, first: Stream, command: Sequence[str], unavailable: Mapping[str, str]) -> Manifest:
    """What the folder will say of the comparison, but for its seeds and orders."""
    return Manifest(
        command=list(command),
        stream=to_json({"name": first.name, "heads": first.heads, "arguments": dict(first.arguments)}),
        backbone=describe_backbone(next(iter(plan.strategies.values())).backbone),
        training=to_json(asdict(plan.training)),
        measurement=to_json(asdict(plan.measurement)),
        execution=to_json(asdict(plan.execution)),
        tuned={name: to_json(asdict(one)) for name, one in plan.tuned.items()},
        strategies=list(plan.strategies),
        seeds=[],
        orders=[],
        unavailable=dict(unavailable),
        environment=describe_environment(plan.device, plan.threads),
    )


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
            f"{' or '.join(str(shape) for shape in dict.fromkeys(task.input_shape for task in stream))}."
        ) from error


def _build(strategy: Strategy, stream: Stream, session: Session) -> None:
    first_of = {task.input_shape: task.label for task in reversed(stream)}
    tasks = stream[: max(_TRIED_TASKS, *(label + 1 for label in first_of.values()))]  # every shape is tried
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
