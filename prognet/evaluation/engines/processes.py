"""The engine of one machine: every unit in a process of its own, several at once.

The processes are those of Python's own pool, begun anew rather than forked, since CUDA and threads do not survive a
fork. When one dies, all of its pool do, and the runs go on from their last finished step in a new one.
"""

import tempfile
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import final

import torch

from prognet.errors import ConfigError, WorkerLostError
from prognet.evaluation.drawing import Streams
from prognet.evaluation.engines.engine import Engine
from prognet.evaluation.engines.pool import Errand, Pool
from prognet.evaluation.engines.shipping import StreamFiles, packed
from prognet.evaluation.engines.tally import NOT_BEGUN, begin_tally, read_tally
from prognet.evaluation.observer import Observer
from prognet.evaluation.work import Plan, Report, Unit

_ATTEMPTS = 3
_LOOK_EVERY = 0.2  # seconds


@final
class Processes(Engine):
    """Several units at once, each in a process of this machine."""

    def __init__(self, jobs: int, devices: Sequence[torch.device]) -> None:
        """
        Args:
            jobs: how many at once.
            devices: what they share.
        """
        self._jobs = jobs
        self._devices = devices

    def check(self, plan: Plan) -> None:
        """Checks that the plan has a form as bytes."""
        packed(plan)

    def carry_out(
        self, plan: Plan, units: Sequence[Unit], streams: Streams, observer: Observer
    ) -> Generator[Report, None, None]:
        """Carries out all units; those whose worker may have died by their doing once more by themselves."""
        content = packed(plan)
        with tempfile.TemporaryDirectory(prefix="prognet-") as place:
            files = StreamFiles(Path(place), streams, units)
            shift = _Shift(content, units, files, Path(place) / "tally", self._devices, observer)
            suspects: list[int] = []
            yield from shift.work_off(self._jobs, suspects)
            for number in suspects:
                yield shift.by_itself(number)


class _Shift:
    """The units of one comparison while they are worked off; each is known by its number."""

    def __init__(
        self,
        plan: bytes,
        units: Sequence[Unit],
        files: StreamFiles,
        tally: Path,
        devices: Sequence[torch.device],
        observer: Observer,
    ) -> None:
        self._plan, self._units, self._files, self._tally = plan, units, files, tally
        self._devices, self._observer = devices, observer
        self._told = [0] * len(units)
        self._given: dict[int, torch.device] = {}
        begin_tally(tally, len(units))

    def work_off(self, jobs: int, suspects: list[int]) -> Iterator[Report]:
        """Carries out all units but those that were at work when a worker died, which are added to `suspects`."""
        waiting = deque(range(len(self._units)))
        while waiting:
            with Pool(jobs) as pool:
                yield from self._with(pool, jobs, waiting, suspects)

    def by_itself(self, number: int) -> Report:
        """Carries out a unit alone, so that it is known whose worker dies; after some deaths it counts as failed."""
        for _ in range(_ATTEMPTS):
            with Pool(1) as pool:
                running = {self._send(pool, number, ()): number}
                while not wait(running, _LOOK_EVERY).done:
                    self._tell([number])
                try:
                    return self._ended(number, next(iter(running)).result())
                except BrokenProcessPool:
                    continue
        unit = self._units[number]
        error = WorkerLostError(
            f"jobs: required a process that lives as long as its run, found {_ATTEMPTS} that died in {unit.cells[0]}; "
            "mostly the system ends them for want of memory: use fewer jobs, or a smaller batch. Finished steps are "
            "kept."
        )
        return self._ended(number, Report(unit, [error] * len(unit.cells)))

    def _with(self, pool: Pool, jobs: int, waiting: deque[int], suspects: list[int]) -> Iterator[Report]:
        """Works off what waits, until it is done or a worker has died."""
        running: dict[Future[Report], int] = {}
        is_whole = True
        while running or (waiting and is_whole):
            while waiting and is_whole and len(running) < jobs:
                self._begin(waiting[0])
                running[self._send(pool, waiting[0], list(running.values()))] = waiting[0]
                waiting.popleft()
            done, _ = wait(running, _LOOK_EVERY, FIRST_COMPLETED)
            self._tell(list(running.values()))
            for future in done:
                number = running.pop(future)
                try:
                    yield self._ended(number, future.result())
                except BrokenProcessPool:
                    is_whole = False
                    suspects.append(number)
        if not is_whole and all(count == NOT_BEGUN for count in read_tally(self._tally)):
            raise ConfigError(
                "jobs: required processes that begin, found that all of them died before their first run; in a script, "
                "call prognet below `if __name__ == '__main__':`."
            )

    def _begin(self, number: int) -> None:
        for cell in self._units[number].cells:
            self._observer.start(str(cell), self._units[number].updates)

    def _send(self, pool: Pool, number: int, others: Sequence[int]) -> Future[Report]:
        """Gives a unit to a worker, with the device that the fewest of the others have."""
        unit = self._units[number]
        device = min(self._devices, key=[self._given.get(other) for other in others].count)
        self._given[number] = device
        return pool.send(Errand(self._plan, unit, tuple(self._files.of(unit)), str(device), self._tally, number))

    def _tell(self, numbers: Sequence[int]) -> None:
        """Tells the observer what workers have done since it was told last."""
        done = read_tally(self._tally)
        for number in numbers:
            self._tell_of(number, done[number])

    def _tell_of(self, number: int, updates: int) -> None:
        if updates > self._told[number]:  # a unit that is begun again is behind for a while
            self._observer.advance(updates - self._told[number])
            self._told[number] = updates

    def _ended(self, number: int, report: Report) -> Report:
        """Lets go of what a unit needed, and tells the observer of the updates that it did not take."""
        self._tell_of(number, self._units[number].updates * len(report.unit.seeds))
        self._files.released(report.unit)
        return report
