"""Runs that differ in nothing but the seed, trained together."""

import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from prognet.errors import NotStackableError, PrognetError, StackingWarning, UnwritableError
from prognet.evaluation.company import Company
from prognet.evaluation.environment import threads_of
from prognet.evaluation.failing import attempt
from prognet.evaluation.harness import carry_out
from prognet.evaluation.locking import runs_locked
from prognet.evaluation.lockstep import Job, in_lockstep
from prognet.evaluation.store import RunStore, readable, settle
from prognet.results import RunResult
from prognet.strategies import Strategy
from prognet.streams.stream import Stream
from prognet.training import Session
from prognet.training.batches import BatchSource
from prognet.training.determinism import deterministic
from prognet.training.loop import Run
from prognet.training.together import train_stacked


@dataclass(frozen=True, slots=True, eq=False)
class _Training:
    """A run that is ready to be trained."""

    run: Run
    source: BatchSource


@dataclass(frozen=True, slots=True)
class _Meeting:
    """A run that waits until all have come as far."""


_Question = _Training | _Meeting
_Job = Job[_Question, RunResult | PrognetError]


def run_together(
    strategy: Strategy,
    streams: Sequence[Stream],
    settings: Session,
    seeds: Sequence[int],
    threads: int,
    out: Path | None,
) -> list[RunResult | PrognetError]:
    """Runs a strategy with several seeds. Their trainings are carried out together where that is possible.

    Each run has the numbers that it has alone but for rounding. A kill leaves all of them at the same step, from which
    they go on together. One that fails leaves the others.

    Args:
        strategy: what learns.
        streams: the stream for every seed; the same one, or draws of it.
        settings: those of every run, but for the seed.
        seeds: the seeds.
        threads: CPU threads.
        out: folder of the comparison, if any.

    Returns:
        For each seed the result, or the error that ended the run, whatever code it came from.

    Raises:
        UnwritableError: when a disk is full.
    """
    stores = [
        RunStore.of(out, strategy.name, stream.seed, seed)
        for stream, seed in zip(streams, seeds, strict=True)
        if out is not None
    ]
    if len(seeds) == 1:
        folder = stores[0].folder if stores else None
        alone = Company(tuple(seeds))
        return [attempt(lambda: carry_out(strategy, streams[0], settings, threads, out, alone), folder, settings)]
    try:
        with runs_locked([] if all(store.is_over for store in stores) else [store.folder for store in stores]):
            settle(stores)
            return _stacked(strategy, streams, settings, seeds, threads, out, stores)
    except UnwritableError:
        raise
    except PrognetError as error:  # of what they have in common: a folder that is locked, or a file that is damaged
        return [error for _ in seeds]


def _stacked(
    strategy: Strategy,
    streams: Sequence[Stream],
    settings: Session,
    seeds: Sequence[int],
    threads: int,
    out: Path | None,
    stores: Sequence[RunStore],
) -> list[RunResult | PrognetError]:
    """The runs side by side, in folders that are locked and settled."""
    begun = [result for store in readable(stores) if (result := store.progress()) is not None]
    threads = begun[0].environment["threads"] if begun else threads

    def work_of(place: int, stream: Stream, seed: int) -> Callable[[_Job], RunResult | PrognetError]:
        own, folder = replace(settings, seed=seed), stores[place].folder if stores else None

        def work(job: _Job) -> RunResult | PrognetError:
            company = Company(
                tuple(seeds),
                train=lambda run, source: bool(job.ask(_Training(run, source))),
                wait=lambda: _meet(job),
            )
            return attempt(lambda: carry_out(strategy, stream, own, threads, out, company), folder, own)

        return work

    works = [work_of(place, *pair) for place, pair in enumerate(zip(streams, seeds, strict=True))]
    said: set[str] = set()

    def warn(reason: str) -> None:
        if reason not in said:
            said.add(reason)
            text = f"{strategy.name}: its seeds are trained one by one, since {reason}."
            warnings.warn(text, StackingWarning, stacklevel=2)

    with threads_of(threads), deterministic(settings.execution, settings.device):
        return in_lockstep(works, lambda jobs: _answers(jobs, warn))


def _meet(job: _Job) -> None:
    job.ask(_Meeting())


def _answers(jobs: Sequence[_Job], warn: Callable[[str], None]) -> Mapping[_Job, object]:
    """Trains those that are ready, like ones together; when there are none, lets all go on that wait."""
    groups: dict[Any, list[tuple[_Job, _Training]]] = {}
    for job in jobs:
        if isinstance(job.question, _Training):
            groups.setdefault(_likeness(job.question.run), []).append((job, job.question))
    if not groups:
        return dict.fromkeys(jobs)
    answers: dict[_Job, object] = {}
    for group in groups.values():
        trained = zip(group, _train([job for job, _ in group], [ready for _, ready in group], warn), strict=True)
        answers |= {job: error or True for (job, _), error in trained}
    return answers


def _train(jobs: Sequence[_Job], ready: Sequence[_Training], warn: Callable[[str], None]) -> Sequence[Exception | None]:
    """Trains like runs, together if that can be done -> for each the error that ended its training, if any."""
    if len(ready) > 1:
        try:
            return train_stacked([one.run for one in ready], [one.source for one in ready])
        except NotStackableError as reason:
            warn(str(reason))
        except Exception as error:  # it belongs to all of them, which are told
            return [error] * len(ready)
    return [_train_alone(job, one) for job, one in zip(jobs, ready, strict=True)]


def _train_alone(job: _Job, ready: _Training) -> Exception | None:
    try:
        job.within(lambda: ready.run.train(ready.source))
    except Exception as error:  # it belongs to the run, which is told
        return error
    return None


def _likeness(run: Run) -> tuple[object, ...]:
    """What runs have in common that can be trained together."""
    shapes = ((name, p.shape, p.requires_grad) for name, p in run.module.named_parameters())
    return (tuple(run.tasks), run.budget.updates, *shapes)
