"""The one evaluation of all strategies: learn a step of the schedule, then look at every task learned so far."""

from collections.abc import Callable
from copy import deepcopy
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from prognet.backbones import describe_backbone
from prognet.config import Execution, Measurement, Training
from prognet.evaluation.agnostic import gates_for
from prognet.evaluation.checks import check_request, schedule_of
from prognet.evaluation.company import Company
from prognet.evaluation.environment import describe_environment, resolve_threads, threads_of
from prognet.evaluation.failing import explaining_memory, locating_divergence
from prognet.evaluation.locking import runs_locked
from prognet.evaluation.ranks import check_same_request, held_by_first, joined, shared, store_for
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.stepping import take_step
from prognet.evaluation.store import RunStore, check_same_environment, check_same_run, settle
from prognet.results import RunResult, to_json
from prognet.seeds import derive_seed
from prognet.strategies import Strategy, describe_strategy
from prognet.streams.stream import Stream
from prognet.training import Session
from prognet.training.compiling import check_compiling
from prognet.training.determinism import deterministic, seeded
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
        RunFolderError: when the folder holds another run, or cannot be written; `LockedError` when another process
            carries out the same run.
        DivergedError: when a loss, a parameter or an output is not finite.
        MemoryExhaustedError: when memory is exhausted; says what to reduce. Other errors of torch, or of code of
            one's own, come as they were raised.
        FrozenColumnError: when a frozen part has changed.
        DeterminismError: when it has to be deterministic, and an operation cannot be.
    """
    execution = execution or Execution()
    settings = Session(
        training=training or Training(),
        measurement=measurement or Measurement(),
        execution=execution,
        seed=seed,
        device=joined(device, execution.deterministic),
        advance=advance,
    )
    with explaining_memory(settings):
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
    settings, ranks = shared(strategy, stream, settings)
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
        environment={
            **describe_environment(settings.device, threads),
            "together": list(company.seeds),
            "processes": ranks.count,
        },
    )
    check_same_request(start.config, threads, ranks)
    plain = None if out is None else RunStore.of(out, strategy.name, stream.seed, settings.seed)
    store = store_for(plain, ranks)
    if store is not None and store.is_over and (finished := _finished(store, start)) is not None:
        return finished  # nobody changes it again, so it is read without a lock
    check_compiling(settings.execution, settings.device)
    settings = replace(settings, train_together=company.train)
    own = [plain] if plain is not None and company.is_alone else []  # a company has been locked and settled together
    with held_by_first(lambda: runs_locked([one.folder for one in own]), ranks):
        ranks.first_does(lambda: settle(own))
        if store is not None and (finished := _finished(store, start)) is not None:
            store.tidy(finished)  # it was killed at its very end, or finished by another process by now
            return finished
        begun = start if store is None else _progress(store, start, strategy.resumable)
        with (
            threads_of(begun.environment["threads"]),
            deterministic(settings.execution, settings.device),
            seeded(derive_seed(settings.seed, "run"), settings.device),
        ):
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
        with seeded(derive_seed(settings.seed, step, "step"), settings.device):
            with locating_divergence(step, len(schedule), None if store is None else store.folder):
                result = take_step(learner, stream, schedule[step], result)
            result = gates.after_step(result, learner, stream, learner.session, is_last=step == len(schedule) - 1)
        settings.agree(gates, result.metrics)
        if store is not None:
            result = store.keep(learner, gates, result)
            settings.kept(store.folder)
            wait()
            store.commit(result)
            settings.kept(store.folder)
    if store is not None:
        store.finish(result)
        settings.kept(store.folder)
    learner.session = None  # it belongs to the run, as does the observer that it holds
    return replace(result, learner=learner)


def _finished(store: RunStore, start: RunResult) -> RunResult | None:
    """The result that the folder holds of this run, after checking that it is this run."""
    finished = store.finished()
    if finished is not None:
        check_same_run(store, finished, start.config)
    return finished


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
