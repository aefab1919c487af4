"""What is sent to a worker: the plan as bytes, and streams as files."""

import pickle
import shutil
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import cast

from prognet.errors import ConfigError
from prognet.evaluation.drawing import Streams
from prognet.evaluation.work import Plan, Unit
from prognet.streams.stream import Stream


def packed(plan: Plan) -> bytes:
    """The plan as bytes, for another process of this program; they are never written into a file.

    Raises:
        ConfigError: when a strategy, or its backbone, has no such form.
    """
    for name, strategy in plan.strategies.items():
        try:
            pickle.dumps(strategy)
        except Exception as error:  # whatever an object of somebody's own may raise
            raise ConfigError(
                f"strategies: required what can be sent to another process, found in {name!r} {type(error).__name__}: "
                f"{error}; make the backbone a function that stands in a module, or use jobs=1."
            ) from error
    return pickle.dumps(plan)


def unpacked(content: bytes) -> Plan:
    """The plan that `packed` made bytes of.

    Raises:
        ConfigError: when this process does not find the code of a strategy or its backbone.
    """
    try:
        return cast(Plan, pickle.loads(content))
    except Exception as error:  # whatever an import may raise
        raise ConfigError(
            f"strategies: required code that a worker can import, found {type(error).__name__}: {error}; write the "
            "strategy and its backbone into a module, not into a console or a notebook, or use jobs=1."
        ) from error


class StreamFiles:
    """The streams of the units that are being worked on, as folders; each lies there as long as it is needed."""

    def __init__(self, folder: Path, streams: Streams, units: Iterable[Unit]) -> None:
        """
        Args:
            folder: where they lie.
            streams: the streams.
            units: all that will need one; `released` is called once for each.
        """
        self._folder, self._streams = folder, streams
        self._needed: dict[str, int] = {}
        for unit in units:
            for name in self._names(unit):
                self._needed[name] = self._needed.get(name, 0) + 1

    def of(self, unit: Unit) -> list[Path]:
        """The folder of the stream of each run of a unit.

        Raises:
            StreamError: when a task has an objective that has no form on disk.
            RunFolderError: when it cannot be written.
        """
        places = [self._folder / name for name in self._names(unit)]
        for place, seed in zip(places, unit.seeds, strict=True):
            if not place.exists():
                self._streams.of(unit.order, seed).save(place)
        return places

    def released(self, unit: Unit) -> None:
        """Lets go of the streams of a unit that is over."""
        for name in self._names(unit):
            self._needed[name] -= 1
            if not self._needed[name]:
                shutil.rmtree(self._folder / name, ignore_errors=True)

    def _names(self, unit: Unit) -> list[str]:
        return [self._streams.name_of(unit.order, seed) for seed in unit.seeds]


@lru_cache(maxsize=16)
def stream_in(folder: Path) -> Stream:
    """The stream of a folder; the last ones are kept in memory, since many runs share one.

    Raises:
        StreamError: when a file is missing or damaged.
    """
    return Stream.load(folder)
