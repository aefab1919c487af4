"""The analysis of a run folder: which earlier columns every column relies on, from the stored tensors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from prognet.analysed import ANALYSIS_FILE, Look, RunAnalysis, read_analysis, write_analysis
from prognet.engine import ProgressiveNetwork
from prognet.errors import PrognetError, RunFolderError, UnwritableError
from prognet.evaluation.environment import resolve_device, threads_of
from prognet.evaluation.looking import analyse_column
from prognet.evaluation.observer import Observer, Silence
from prognet.evaluation.proof import stored_learner
from prognet.evaluation.store import RunStore
from prognet.evaluation.task_records import described, gains_to_measure, record_tasks
from prognet.results import RESULT_FILE, RunResult
from prognet.strategies.base import Backbone
from prognet.strategies.columns import TaskColumns
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream

_UNREAD = "its columns do not read each other"


@dataclass(frozen=True, slots=True)
class Analysed:
    """What became of the analysis of one run."""

    run: str
    """The run's folder, relative to the one that was analysed."""
    columns: int
    """Columns in its `analysis.json`."""
    problem: str | None
    """Why there is none; None when there is."""
    failed: bool = False
    """Whether the problem is an error, and not that the run has no laterals."""


def analyse(
    folder: str | Path,
    make_stream: Callable[[RunResult], Stream],
    *,
    look: Look | None = None,
    backbone: Backbone | None = None,
    device: str = "auto",
    observer: Observer | None = None,
) -> Iterator[Analysed]:
    """Analyses every finished run below `folder` whose columns read each other; writes an `analysis.json` beside each.

    Beside every run with a column a task, also one without laterals, it writes a `relatedness.json` and a
    `geometry.json`, where there are two classifications or more. Columns of other tasks are left out of all three.

    What has been analysed with the same settings is not analysed again, so a call that was stopped goes on.

    Args:
        folder: a run folder.
        make_stream: makes the stream of a run again; it is checked against the digest that the run recorded.
        look: how the columns are looked at; by default `Look()`.
        backbone: the backbone of the runs, where it is not one of prognet's own.
        device: `"auto"`, or a device of torch.
        observer: is told how it goes; its updates are columns.

    Returns:
        What became of each run, in turn.

    Raises:
        ConfigError: when there is no such device.
        RunFolderError: when there is no finished run below the folder, or nothing can be written.
    """
    root, look, observer = Path(folder), look or Look(), observer or Silence()
    target = resolve_device(device)
    places = sorted(path.parent for path in root.rglob(RESULT_FILE))
    if not places:
        raise RunFolderError(f"folder: required at least one finished run below {root}, found none.")
    results = {place: _loaded(place) for place in places}
    observer.begin(sum(_length(result, look) for result in results.values() if isinstance(result, RunResult)))
    streams = _Streams(make_stream)
    for place, result in results.items():
        name = str(place.relative_to(root))
        if not isinstance(result, RunResult):
            yield Analysed(name, 0, str(result), failed=True)
            continue
        observer.start(name, _length(result, look))
        try:
            with threads_of(result.environment.get("threads", 1)):
                found = _analyse_run(place, result, streams, look, backbone, target, observer)
        except UnwritableError:
            raise
        except PrognetError as error:
            observer.end(name, error)
            yield Analysed(name, 0, str(error), failed=True)
        else:
            observer.end(name, None)
            if isinstance(found, str):
                yield Analysed(name, 0, found)
            else:
                yield Analysed(name, len(found.columns), None)


def _loaded(place: Path) -> RunResult | RunFolderError:
    """The run in a folder, or why it cannot be read: it leaves the others."""
    try:
        return RunResult.load(place / RESULT_FILE)
    except RunFolderError as error:
        return error


class _Streams:
    """The streams of the runs, one at a time, since many runs share one."""

    def __init__(self, make_stream: Callable[[RunResult], Stream]) -> None:
        self._make = make_stream
        self._held: Stream | None = None

    def of(self, result: RunResult) -> Stream:
        """The stream of a run, with the samples that it had."""
        wanted = result.config.get("stream", {}).get("digest")
        if self._held is None or self._held.digest != wanted:
            self._held = None  # lest two lie in memory
            self._held = self._made(result)
            if self._held.digest != wanted:
                raise RunFolderError(
                    f"stream: required the samples of the run, digest {wanted}, found {self._held.digest} in "
                    f"{result.stream!r}, order {result.order}; name the folder of the same data."
                )
        return self._held

    def _made(self, result: RunResult) -> Stream:
        try:
            return self._make(result)
        except PrognetError:
            raise
        except Exception as error:  # whatever a configuration leads to that was changed
            raise RunFolderError(
                f"config.stream: required the stream of {result.strategy!r}, order {result.order}, seed {result.seed}, "
                f"found {error!r}; name the folder of the same data."
            ) from error


def _analyse_run(
    place: Path,
    result: RunResult,
    streams: _Streams,
    look: Look,
    backbone: Backbone | None,
    device: torch.device,
    observer: Observer,
) -> RunAnalysis | str:
    """The analysis of one run, stored; or why there is nothing to look at."""
    store, digests = RunStore(place), dict(result.digests[-1])
    if (place / ANALYSIS_FILE).exists():
        done = read_analysis(place)
        if done.settings == look.of_columns and done.digests == digests and described(place, look, digests):
            return done
    learner = stored_learner(store, result, backbone)
    if dict(learner.frozen_digests()) != digests:
        raise RunFolderError(
            f"{place}: required the frozen parts that the run recorded, found others; `prognet verify` names them."
        )
    columns = getattr(learner, "columns", None)
    if not isinstance(columns, TaskColumns):
        return _UNREAD
    columns.to(device)
    stream = streams.of(result)
    record_tasks(place, result, learner, stream, look, observer)
    if not _laterals(columns.network):
        return _UNREAD
    found, wanted = [], _wanted(columns, stream, look)
    if not wanted:
        return "none of its columns classifies"
    for label, index in wanted:
        found.append(analyse_column(columns.network, index, stream[label], look, result.seed))
        observer.advance(1)
    analysis = RunAnalysis(
        strategy=result.strategy,
        order=result.order,
        seed=result.seed,
        settings=look.of_columns,
        digests=digests,
        columns=tuple(found),
    )
    write_analysis(place, analysis)
    return analysis


def _laterals(network: ProgressiveNetwork) -> bool:
    return any(network.column(index).sources for index in range(len(network)))


def _wanted(columns: TaskColumns, stream: Stream, look: Look) -> list[tuple[int, int]]:
    """(task label, column index) of the columns that are looked at: of those that classify."""
    every = [
        (label, index)
        for label, index in sorted(columns.column_of.items())
        if isinstance(stream[label].objective, Classification)
    ]
    return every if look.columns == "all" else every[-1:]


def _length(result: RunResult, look: Look) -> int:
    return (result.n_tasks if look.columns == "all" else 1) + gains_to_measure(result, look)
