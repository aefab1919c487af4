"""One step of a run: learn a group of tasks, evaluate what was learned so far, and compare what is frozen."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from math import isnan, nan
from time import perf_counter
from typing import Any

import numpy as np

from prognet.errors import DivergedError, FrozenColumnError
from prognet.evaluation.checks import schedule_of
from prognet.evaluation.costs import forward_flops, peak_memory, reset_peak_memory, stored_bytes
from prognet.results import Floats, RunResult, StepCost, to_json
from prognet.strategies import Strategy
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training import FitRecord, Session, computing, count_parameters, evaluating, outputs_of


def take_step(learner: Strategy, stream: Stream, group: Sequence[int], result: RunResult) -> RunResult:
    """Learns one group of tasks and evaluates all tasks learned so far.

    Args:
        learner: what learns, in its session; changed in place.
        stream: all tasks.
        group: labels of the tasks that are learned together.
        result: what was recorded so far.

    Returns:
        The result with one more row.

    Raises:
        DivergedError: when a loss, a parameter or an output is not finite.
        FrozenColumnError: when a frozen part has changed.
    """
    session = learner.current_session()
    before, n_records, n_choices = count_parameters(learner), len(learner.records), len(learner.choices)
    reset_peak_memory(session.device)
    learner.learn([stream[label] for label in group])
    records = learner.records[n_records:]
    started = perf_counter()
    learned = {label for step in (*result.schedule, group) for label in step}
    metrics = evaluate(learner, stream, sorted(learned), session)
    session.agree(learner, [metrics, learner.choices[n_choices:]])
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
        gradient_norm=_mean_norm(records),
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


def _mean_norm(records: Sequence[FitRecord]) -> float:
    """The mean length of the gradients over the updates in which it was measured; NaN without any."""
    measured = [record for record in records if not isnan(record.gradient_norm)]
    updates = sum(record.updates for record in measured)
    return sum(record.updates * record.gradient_norm for record in measured) / updates if updates else nan


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

    Raises:
        DivergedError: when an output is NaN; the largest of such outputs would be class 0.
    """
    rows: dict[str, list[float]] = {}
    with evaluating(learner), computing(session):
        for label in learned:
            task = stream[label]
            outputs = outputs_of(
                learner.predict, task, task.test, session.device, session.measurement.evaluation_batch_size
            )
            if bool(outputs.isnan().any()):
                raise DivergedError(
                    f"outputs for task {label}: required numbers, found NaN in {int(outputs.isnan().sum())} of "
                    f"{outputs.numel()} after the training of tasks up to {max(learned)}; no accuracy is booked for it."
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


def _with_row(matrix: Floats | None, row: Sequence[float], steps: int) -> Floats:
    """One more row; a metric that no task had in the `steps` before begins with rows of NaN."""
    return np.concatenate([np.full((steps, len(row)), nan) if matrix is None else matrix, [row]])
