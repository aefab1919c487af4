"""The engine of many machines: every unit is a task of Ray, and what it keeps comes home through a mailbox.

No disk is shared. The files of every finished step are written into the folder of the comparison as soon as they
arrive; where a worker or its machine dies, the unit is sent again with those files and goes on from there.
"""

import pickle
import tempfile
import warnings
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic
from typing import Any, final

from prognet.config import Workers
from prognet.errors import ClusterWarning, ConfigError, PrognetError, RunError, UnwritableError, WorkerLostError
from prognet.evaluation.drawing import Streams
from prognet.evaluation.engines.connecting import Outlook, connected, require_ray, require_slots
from prognet.evaluation.engines.delivering import Mail, Shelf, gist, packed_by_value
from prognet.evaluation.engines.engine import Engine
from prognet.evaluation.engines.parcels import Mirror, Parcel
from prognet.evaluation.engines.remote import Errand, Letter, run_errand, versions
from prognet.evaluation.engines.shipping import StreamFiles
from prognet.evaluation.locking import runs_locked
from prognet.evaluation.observer import Observer
from prognet.evaluation.store import RunStore
from prognet.evaluation.work import Plan, Report, Unit, carry_out_unit
from prognet.results import RESULT_FILE

_DEATHS = 5
"""Of a unit's workers, without a finished step in between, until the unit counts as failed."""
_PAUSE = 2.0  # seconds more after every death: the cluster may not know yet that a machine is gone
_LOOK_EVERY = 0.2  # seconds


@final
class Cluster(Engine):
    """Several units at once, as tasks of a Ray cluster."""

    def __init__(self, workers: Workers) -> None:
        """
        Args:
            workers: the cluster, and what it sets aside for a run.

        Raises:
            ConfigError: when Ray is not installed.
        """
        require_ray()
        self._workers = workers

    def check(self, plan: Plan) -> None:
        """Checks that the plan has a form as bytes; functions without a name have one too."""
        packed_by_value(plan)

    def carry_out(
        self, plan: Plan, units: Sequence[Unit], streams: Streams, observer: Observer
    ) -> Generator[Report, None, None]:
        """Carries out all units; those whose runs are finished are read here, for which no cluster is needed."""
        to_do = []
        for unit in units:
            if all((folder / RESULT_FILE).exists() for folder in _folders(plan, unit)):
                yield _finished(plan, unit, streams, observer)
            else:
                to_do.append(unit)
        if to_do:
            yield from self._with_ray(plan, to_do, streams, observer)

    def _with_ray(
        self, plan: Plan, units: Sequence[Unit], streams: Streams, observer: Observer
    ) -> Generator[Report, None, None]:
        with ExitStack() as block:
            place = block.enter_context(tempfile.TemporaryDirectory(prefix="prognet-"))
            block.enter_context(connected(self._workers))
            require_slots(self._workers)
            files = StreamFiles(Path(place), streams, units)
            shift = _Shift(plan, units, files, self._workers, observer)
            block.callback(shift.close)
            yield from shift.work_off()


class _Shift:
    """The units of one comparison while they are worked off; each is known by its number."""

    def __init__(
        self,
        plan: Plan,
        units: Sequence[Unit],
        files: StreamFiles,
        workers: Workers,
        observer: Observer,
    ) -> None:
        import ray

        self._plan, self._units, self._observer = plan, units, observer
        self._content, self._versions = ray.put(packed_by_value(plan)), versions()
        self._shelf = Shelf(files)
        self._mail = Mail()
        self._outlook = Outlook(workers)
        self._task = ray.remote(run_errand).options(
            num_cpus=workers.cpus_per_run,
            num_gpus=workers.gpus_per_run,
            max_retries=0,  # Ray would begin again with the files of the beginning
            scheduling_strategy="SPREAD",
        )
        self._waiting = deque(range(len(units)))
        self._running: dict[Any, int] = {}
        self._attempts, self._deaths = [0] * len(units), [0] * len(units)
        self._not_before = [0.0] * len(units)
        self._mirrors: dict[int, list[Mirror]] = {}
        self._locks: dict[int, ExitStack] = {}
        self._begun: set[int] = set()
        self._told = [0] * len(units)

    def work_off(self) -> Iterator[Report]:
        """Carries out all units."""
        import ray

        while self._waiting or self._running:
            room = self._outlook.slots()
            yield from self._send_some(2 * max(1, room) - len(self._running))
            done, _ = ray.wait(list(self._running), timeout=_LOOK_EVERY) if self._running else ([], [])
            self._read_mail()  # before the answers: whatever a worker sent lies in the mailbox when it ends
            for reference in done:
                number = self._running.pop(reference)
                if (report := self._report_of(number, reference)) is not None:
                    yield self._ended(number, report)

    def close(self) -> None:
        """Ends what still goes on, and writes what has arrived by then."""
        import ray

        for reference in self._running:
            ray.cancel(reference, force=True)
        with suppress(PrognetError):  # whatever ended the comparison is being told already
            self._read_mail()
        self._mail.close()
        for lock in self._locks.values():
            lock.close()

    def _send_some(self, room: int) -> Iterator[Report]:
        """Gives Ray units, so that it has twice as many as its machines hold."""
        due = [number for number in self._waiting if self._not_before[number] <= monotonic()]
        for number in due[: max(0, room)]:
            self._waiting.remove(number)
            unit = self._units[number]
            try:
                self._send(number, unit)
            except UnwritableError:
                raise
            except PrognetError as error:  # a folder that another process works in, or a file that cannot be read
                yield self._ended(number, Report(unit, [error] * len(unit.cells)))

    def _send(self, number: int, unit: Unit) -> None:
        """Gives a unit to Ray, with the files of those steps that are finished."""
        folders = _folders(self._plan, unit)
        if number not in self._locks:
            self._locks[number] = ExitStack()
            self._locks[number].enter_context(runs_locked(folders))
        self._mirrors[number] = [Mirror(folder) for folder in folders]
        parcels = [mirror.changes() or Parcel({}, frozenset()) for mirror in self._mirrors[number]]
        errand = pickle.dumps(Errand(number, self._attempts[number], unit, tuple(parcels)))
        reference = self._task.remote(self._versions, self._content, errand, self._shelf.of(unit), self._mail.box)
        self._running[reference] = number

    def _read_mail(self) -> None:
        """Writes what has arrived, and tells the observer of updates; letters of an earlier attempt are too late."""
        for (number, attempt), updates in self._mail.fetch().items():
            if attempt == self._attempts[number]:
                self._begin(number)
                self._tell_of(number, updates)
        while self._mail.letters:
            letter: Letter = pickle.loads(self._mail.letters[0])
            if letter.attempt == self._attempts[letter.number]:
                self._mirrors[letter.number][letter.place].write(letter.parcel)
                self._deaths[letter.number] = 0
            self._mail.letters.popleft()  # not before it is written: Ctrl-C may come in between

    def _report_of(self, number: int, reference: Any) -> Report | None:
        """What a task has returned; None where its worker has died and the unit waits for another one."""
        import ray

        unit = self._units[number]
        try:
            answer: Report | PrognetError = pickle.loads(ray.get(reference))
        except ray.exceptions.RayTaskError as error:
            answer = self._explained(number, error)
        except ray.exceptions.RayError as error:
            return self._lost(number, gist(error))
        if isinstance(answer, ConfigError):
            raise answer
        if isinstance(answer, UnwritableError):  # that of the worker's machine; another one may have room
            return self._lost(number, str(answer))
        return answer if isinstance(answer, Report) else Report(unit, [answer] * len(unit.cells))

    def _explained(self, number: int, error: Exception) -> PrognetError:
        """What other code raised in a worker: before its unit has begun, no worker can begin."""
        cause = getattr(error, "cause", None) or error  # without the worker's traceback
        reason = f"{type(cause).__name__}: {gist(cause)}"
        if number in self._begun:
            return RunError(f"{reason}; carry out this run by itself, with jobs=1, to see where.")
        return ConfigError(
            f"engine: required prognet {self._versions['prognet']} and the same Python on every machine of the "
            f"cluster, found a worker that cannot begin ({reason})."
        )

    def _lost(self, number: int, reason: str) -> Report | None:
        """Lets a unit be sent again, or fail after some deaths in a row."""
        unit = self._units[number]
        self._attempts[number] += 1
        self._deaths[number] += 1
        if self._deaths[number] < _DEATHS:
            self._not_before[number] = monotonic() + _PAUSE * self._deaths[number]
            self._waiting.appendleft(number)
            text = f"{unit.cells[0]}: its worker was lost ({reason}); it goes on after its last finished step."
            warnings.warn(text, ClusterWarning, stacklevel=2)
            return None
        error = WorkerLostError(
            f"engine: required a worker that lives as long as its run, found {_DEATHS} in a row that ended in "
            f"{unit.cells[0]} without a further step, the last one by: {reason.rstrip('.')}. Finished steps are kept."
        )
        return Report(unit, [error] * len(unit.cells))

    def _begin(self, number: int) -> None:
        if number not in self._begun:
            self._begun.add(number)
            for cell in self._units[number].cells:
                self._observer.start(str(cell), self._units[number].updates)

    def _tell_of(self, number: int, updates: int) -> None:
        if updates > self._told[number]:  # a unit that is begun again is behind for a while
            self._observer.advance(updates - self._told[number])
            self._told[number] = updates

    def _ended(self, number: int, report: Report) -> Report:
        """Lets go of what a unit needed, and tells the observer of the updates that it did not take."""
        self._begin(number)
        self._tell_of(number, self._units[number].updates * len(report.unit.seeds))
        self._shelf.released(report.unit)
        self._mirrors.pop(number, None)
        self._locks.pop(number, ExitStack()).close()
        return report


def _finished(plan: Plan, unit: Unit, streams: Streams, observer: Observer) -> Report:
    """The report of a unit whose runs are all finished."""
    for cell in unit.cells:
        observer.start(str(cell), unit.updates)
    report = carry_out_unit(plan, unit, [streams.of(unit.order, seed) for seed in unit.seeds])
    observer.advance(unit.updates * len(unit.seeds))
    return report


def _folders(plan: Plan, unit: Unit) -> list[Path]:
    return [RunStore.of(plan.out, unit.strategy, unit.order, seed).folder for seed in unit.seeds]
