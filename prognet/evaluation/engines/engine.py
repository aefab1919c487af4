"""What carries out the runs of a comparison, and the engine that does it in this process."""

from abc import ABC, abstractmethod
from collections.abc import Generator, Sequence
from typing import final

from prognet.evaluation.drawing import Streams
from prognet.evaluation.observer import Observer
from prognet.evaluation.work import Plan, Report, Unit, carry_out_unit
from prognet.streams.stream import Stream


class Engine(ABC):
    """Carries out runs, here or elsewhere; which engine it is changes no number."""

    @abstractmethod
    def check(self, plan: Plan) -> None:
        """Checks that the plan can be sent where it is needed; before any work.

        Raises:
            ConfigError: when it cannot.
        """

    @abstractmethod
    def carry_out(
        self, plan: Plan, units: Sequence[Unit], streams: Streams, observer: Observer
    ) -> Generator[Report, None, None]:
        """Carries out all units.

        Args:
            plan: what they have in common.
            units: the runs.
            streams: their streams.
            observer: is told of every run that begins, and of updates; that a run has ended the caller tells it.

        Returns:
            What became of each unit, as they end; closed earlier, it ends what still goes on.

        Raises:
            UnwritableError: when a disk is full.
            ConfigError: when no worker can begin.
        """


@final
class InTurn(Engine):
    """One unit after the other, in this process."""

    def check(self, plan: Plan) -> None:
        """Has nothing to send."""

    def carry_out(
        self, plan: Plan, units: Sequence[Unit], streams: Streams, observer: Observer
    ) -> Generator[Report, None, None]:
        """Carries out all units."""
        held: tuple[int, tuple[int, ...]] | None = None
        theirs: list[Stream] = []
        for unit in units:
            for cell in unit.cells:
                observer.start(str(cell), unit.updates)
            if held != (unit.order, unit.seeds):  # the units of all strategies with the same streams are in a row
                theirs = []  # lest those before lie in memory as well
                theirs = [streams.of(unit.order, seed) for seed in unit.seeds]
                held = unit.order, unit.seeds
            yield carry_out_unit(plan, unit, theirs, observer.advance)
