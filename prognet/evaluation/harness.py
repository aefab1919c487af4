"""The one evaluation of all strategies: learn a step of the schedule, then look at every task learned so far."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import asdict, replace
from math import nan
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import torch

from prognet.backbones import describe_backbone
from prognet.config import Execution, Measurement, Training
from prognet.errors import FrozenColumnError
from prognet.evaluation.agnostic import gates_for
from prognet.evaluation.checks import SCHEDULES, check_request
from prognet.evaluation.company import Company
from prognet.evaluation.costs import forward_flops, peak_memory, reset_peak_memory, stored_bytes
from prognet.evaluation.environment import describe_environment, resolve_device, resolve_threads
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.store import RunStore, check_same_environment, check_same_run, settle
from prognet.results import Floats, RunResult, StepCost, to_json
from prognet.strategies import Strategy, describe_strategy
from prognet.streams.schedules import Schedule
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training import Session, computing, count_parameters, evaluating, outputs_of
from prognet.training.compiling import check_compiling
from prognet.training.session import ignore_progress


def run(
    strategy: Strategy,
    stream: Stream,
    *,
    training: Training | None = None,
    measurement: Measurement | None = None,
    execution: Execution | None = None,
    seed: int = 0,
    device: str = "auto",
    threads: int | None = None,
    out: str | Path | None = None,
    advance: Callable[[int], None] = ignore_progress,
) -> RunResult:
    """Learns a stream with a strategy and evaluates it after every step on all tasks learned so far.

    The strategy itself is left as it is; the trained copy is `result.learner`. Evaluation changes nothing, and the
    digest of every frozen part is compared after every step.

    Args:
        strategy: what learns.
        stream: the tasks.
        training: how every task is learned; by default `Training()`.
        measurement: what is measured beside the accuracy matrix; by default `Measurement()`.
        execution: how it is computed; by default `Execution()`.
        seed: of initialisation, data order and dropout.
        device: `"auto"`, or a device of torch such as `"cpu"` or `"cuda:1"`.
        threads: CPU threads; None for torch's own choice. Small networks are fastest with one.
        out: folder of a comparison. The run is stored below it after every step; a finished run is read and not run
            again, an unfinished one goes on after its last finished step and ends bit-identical to an undisturbed one.
        advance: told the number of finished updates now and then, for a progress display.

    Returns:
        Everything that was recorded.

    Raises:
        ConfigError: when the settings cannot be carried out; before any work.
        RunFolderError: when the folder holds another run, or cannot be written.
        DivergedError: when a loss is not finite.
        FrozenColumnError: when a frozen part has changed.
    """
    settings = Session(
        training=training or Training(),
        measurement=measurement or Measurement(),
        execution=execution or Execution(),
        seed=seed,
        device=resolve_device(device),
        advance=advance,
    )
    return carry_out(strategy, stream, settings, resolve_threads(threads), out, Company((seed,)))


def carry_out(
    strategy: Strategy, stream: Stream, settings: Session, threads: int, out: str | Path | None, company: Company
) -> RunResult:
    """One run as `run` describes it, by itself or in company.

    Args:
        strategy: what learns.
        stream: the tasks.
        settings: training, measurement, execution, seed, device, and who is told of progress.
        threads: CPU threads.
        out: folder of a comparison, if any.
        company: the runs that are trained together with it.
    """
    check_request(strategy, stream, settings.training, settings.seed)
    start = RunResult(
        strategy=strategy.name,
        seed=settings.seed,
        order=stream.seed,
        stream=stream.name,
        tasks=tuple(task.summary for task in stream),
        schedule=(),
        metrics={},
        curves=(),
        costs=(),
        digests=(),
        config=_config(strategy, stream, settings),
        environment={**describe_environment(settings.device, threads), "together": list(company.seeds)},
    )
    store = None if out is None else RunStore.of(out, strategy.name, stream.seed, settings.seed)
    if store is not None and company.is_alone:
        settle([store])
    if store is not None and (finished := store.finished()) is not None:
        check_same_run(store, finished, start.config)
        return finished
    check_compiling(settings.execution, settings.device)
    settings = replace(settings, train_together=company.train)
    begun = start if store is None else _progress(store, start, strategy.resumable)
    with threads_of(begun.environment["threads"]):
        return _learn_stream(deepcopy(strategy), stream, settings, store, begun, company.wait)


def _learn_stream(
    learner: Strategy,
    stream: Stream,
    settings: Session,
    store: RunStore | None,
    result: RunResult,
    wait: Callable[[], None],
) -> RunResult:
    schedule, gates = schedule_of(learner, stream), gates_for(settings.measurement.gates, stream)
    if result.schedule and store is not None:
        learner = rebuild(learner, stream, result.schedule, settings, result.choices)
        gates.learn([stream[label].outline() for group in result.schedule for label in group], settings)
        store.load_weights(learner, result)
        store.load_gates(gates, result)
        settings.advance(sum(cost.updates for cost in result.costs))
    else:
        learner.prepare([task.outline() for task in stream])
    for step in range(len(result.schedule), len(schedule)):
        learner.session = replace(settings, step=step)
        result = _take_step(learner, stream, schedule[step], result)
        result = gates.after_step(result, learner, stream, learner.session, is_last=step == len(schedule) - 1)
        if store is not None:
            store.keep(learner, gates, result)
            wait()
            store.commit(result)
    if store is not None:
        store.finish(result)
    learner.session = None  # it belongs to the run, as does the observer that it holds
    return replace(result, learner=learner)


def _take_step(learner: Strategy, stream: Stream, group: Sequence[int], result: RunResult) -> RunResult:
    """Learns one group of tasks and evaluates all tasks learned so far -> the result with one more row."""
    session = learner.current_session()
    before, n_records, n_choices = count_parameters(learner), len(learner.records), len(learner.choices)
    reset_peak_memory(session.device)
    learner.learn([stream[label] for label in group])
    records = learner.records[n_records:]
    started = perf_counter()
    learned = {label for step in (*result.schedule, group) for label in step}
    metrics = evaluate(learner, stream, sorted(learned), session)
    digests = _unchanged(result, learner)
    cost = StepCost(
        parameters=count_parameters(learner),
        trainable=sum(record.trainable for record in records),
        added=count_parameters(learner) - before,
        stored_bytes=stored_bytes(learner) + learner.kept_bytes(),
        updates=sum(record.updates for record in records),
        samples=sum(record.samples for record in records),
        training_flops=float(sum(record.flops for record in records)),
        forward_flops=_forward_flops(learner, stream, group, result),
        feature_flops=float(sum(record.feature_flops for record in records)),
        seconds=sum(record.seconds for record in records),
        feature_seconds=float(sum(record.feature_seconds for record in records)),
        evaluation_seconds=perf_counter() - started + sum(record.measuring_seconds for record in records),
        peak_memory=peak_memory(session.device),
    )
    return replace(
        result,
        schedule=(*result.schedule, tuple(group)),
        metrics={name: _with_row(result.metrics.get(name), row, session.step) for name, row in metrics.items()},
        curves=(*result.curves, *(curve for record in records for curve in record.curves)),
        costs=(*result.costs, cost),
        digests=(*result.digests, digests),
        choices=(*result.choices, _merged(learner.choices[n_choices:])),
    )


def _forward_flops(learner: Strategy, stream: Stream, group: Sequence[int], result: RunResult) -> tuple[float, ...]:
    """The operations of predictions after a step: counted for the tasks of the step, and at the end for all."""
    is_last = len(result.schedule) + 1 == len(schedule_of(learner, stream))
    before = result.costs[-1].forward_flops if result.costs else [nan] * len(stream)
    learned = {label for step in (*result.schedule, group) for label in step}
    return forward_flops(
        learner, stream, sorted(learned if is_last else group), before, learner.current_session().device
    )


def evaluate(
    learner: Strategy, stream: Sequence[Task], learned: Sequence[int], session: Session
) -> dict[str, list[float]]:
    """Every metric on the test split of every learned task; changes nothing.

    Args:
        learner: the strategy.
        stream: all tasks.
        learned: labels of the tasks that were learned.
        session: the settings.

    Returns:
        By name of the metric, one value for each task of the stream, NaN for those not learned or without it.
    """
    rows: dict[str, list[float]] = {}
    with evaluating(learner), computing(session):
        for label in learned:
            task = stream[label]
            outputs = outputs_of(
                learner.predict, task, task.test, session.device, session.measurement.evaluation_batch_size
            )
            for name, value in task.objective.metrics(outputs, task.test.y).items():
                rows.setdefault(name, [nan] * len(stream))[label] = value
    return rows


def _merged(choices: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """What was decided in one step, as JSON values; several decisions have different names."""
    plain: dict[str, Any] = to_json({name: value for choice in choices for name, value in choice.items()})
    return plain


def _unchanged(result: RunResult, learner: Strategy) -> Mapping[str, str]:
    """The digests of the frozen parts, after a comparison with those of the step before."""
    digests = dict(learner.frozen_digests())
    for name, digest in (result.digests[-1] if result.digests else {}).items():
        if digests.get(name) != digest:
            raise FrozenColumnError(
                f"{learner.name}: required {name} to stay as it was frozen, digest {digest}, found {digests.get(name)} "
                f"after step {len(result.schedule)}; something wrote into a frozen part."
            )
    return digests


def _progress(store: RunStore, start: RunResult, is_resumable: bool) -> RunResult:
    """What the folder holds of this run, after checking that it is this run; `start` where nothing can go on."""
    stored = store.progress()
    if stored is None:
        return start
    check_same_run(store, stored, start.config)
    if not is_resumable:
        return start
    check_same_environment(store, stored, start.environment)
    return stored


def _config(strategy: Strategy, stream: Stream, settings: Session) -> dict[str, Any]:
    config = {
        "strategy": describe_strategy(strategy),
        "backbone": describe_backbone(strategy.backbone),
        "stream": {
            "name": stream.name,
            "heads": stream.heads,
            "arguments": dict(stream.arguments),
            "digest": stream.digest,
        },
        "training": asdict(settings.training),
        "measurement": asdict(settings.measurement),
        "execution": asdict(settings.execution),
        "seed": settings.seed,
        "order": stream.seed,
        "draw": stream.draw,
    }
    plain: dict[str, Any] = to_json(config)
    return plain


def schedule_of(strategy: Strategy, stream: Stream) -> Schedule:
    """The steps in which a strategy learns a stream."""
    return SCHEDULES[strategy.schedule](len(stream))


def _with_row(matrix: Floats | None, row: Sequence[float], steps: int) -> Floats:
    """One more row; a metric that no task had in the `steps` before begins with rows of NaN."""
    return np.concatenate([np.full((steps, len(row)), nan) if matrix is None else matrix, [row]])


@contextmanager
def threads_of(count: int) -> Iterator[None]:
    """Within the block torch computes with this number of CPU threads."""
    threads = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
