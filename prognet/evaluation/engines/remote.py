"""What a worker of a cluster does: it carries out a unit on its own machine and sends home what it keeps."""

import pickle
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from time import monotonic, sleep
from typing import Any, cast, final

from prognet.errors import ConfigError, PrognetError
from prognet.evaluation.engines.parcels import Mirror, Parcel
from prognet.evaluation.environment import describe_environment, resolve_device
from prognet.evaluation.store import RunStore
from prognet.evaluation.work import Plan, Report, Unit, carry_out_unit
from prognet.files import write_atomically
from prognet.streams.stream import Stream

_TELL_EVERY = 0.5  # seconds
_ASK_EVERY = 0.1  # seconds
_VERSIONS = ("prognet", "torch", "numpy")


@dataclass(frozen=True, slots=True)
class Errand:
    """A unit, and where it stands."""

    number: int
    """Of the unit, among those of the comparison."""
    attempt: int
    """How often it was begun before; letters of an earlier attempt count no more."""
    unit: Unit
    parcels: tuple[Parcel, ...]
    """For each of its runs, the files of those steps that are finished."""


@dataclass(frozen=True, slots=True)
class Letter:
    """What a run has kept."""

    number: int
    attempt: int
    place: int
    """Of the run in its unit."""
    parcel: Parcel


def versions() -> dict[str, str]:
    """The versions that all machines of a comparison have in common."""
    found = describe_environment(resolve_device("cpu"), 1)
    return {name: str(found[name]) for name in _VERSIONS}


def run_errand(required: Mapping[str, str], plan: bytes, errand: bytes, streams: Sequence[Any], mailbox: Any) -> bytes:
    """Carries out a unit as a task of Ray.

    Args:
        required: the versions of the comparison.
        plan: the `Plan`, as bytes that are not looked into before the versions are known to be the same.
        errand: the `Errand`, as bytes.
        streams: for each run of the unit a reference to the files of its stream.
        mailbox: where letters go.

    Returns:
        The `Report` as bytes, or the `PrognetError` because of which there is none.
    """
    try:
        check_versions(required, versions())
        return pickle.dumps(_carry_out(_plan_from(plan), pickle.loads(errand), streams, mailbox))
    except PrognetError as error:
        return pickle.dumps(error)


def check_versions(required: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Checks that this machine computes as the one that began the comparison.

    Raises:
        ConfigError: when a version differs.
    """
    for name, version in required.items():
        if found.get(name) != version:
            raise ConfigError(
                f"engine: required {name} {version} on every machine of the cluster, as on the one of the comparison, "
                f"found {found.get(name)}; install the same versions everywhere."
            )


def _plan_from(content: bytes) -> Plan:
    try:
        return cast(Plan, pickle.loads(content))
    except Exception as error:  # whatever an import may raise
        raise ConfigError(
            "strategies: required code that every machine of the cluster can import, found "
            f"{type(error).__name__}: {error}; install the module of the strategy and its backbone there."
        ) from error


def _carry_out(plan: Plan, errand: Errand, streams: Sequence[Any], mailbox: Any) -> Report:
    """Carries out a unit in a temporary folder, of which nothing is left."""
    unit, home = errand.unit, str(plan.out)
    device = resolve_device(str(plan.device), plan.execution.deterministic)
    with tempfile.TemporaryDirectory(prefix="prognet-") as place:
        post = Post(mailbox, errand, Path(place))
        with warnings.catch_warnings(record=True) as caught:
            report = carry_out_unit(
                plan.at(device, Path(place)), unit, [_stream_of(one) for one in streams], post.advance, post.kept
            )
        post.send_rest()
        told = dict.fromkeys((str(warning.message).replace(place, home), warning.category) for warning in caught)
        for outcome in report.outcomes:
            if isinstance(outcome, PrognetError):  # its files lie at home by now
                outcome.args = tuple(_renamed(one, place, home) for one in outcome.args)
        return replace(report, warnings=tuple(told))


def _renamed(argument: object, place: str, home: str) -> object:
    return argument.replace(place, home) if isinstance(argument, str) else argument


@final
class Post:
    """Sends home the files of the runs of a unit, and how far they are."""

    def __init__(self, mailbox: Any, errand: Errand, out: Path) -> None:
        """Makes the folders as they are at home, and says that the unit has begun.

        Args:
            mailbox: where letters go.
            errand: the unit.
            out: the folder of the comparison on this machine.
        """
        unit = errand.unit
        folders = [RunStore.of(out, unit.strategy, unit.order, seed).folder for seed in unit.seeds]
        self._mailbox, self._errand = mailbox, errand
        self._mirrors = {folder: Mirror(folder) for folder in folders}
        for mirror, parcel in zip(self._mirrors.values(), errand.parcels, strict=True):
            mirror.write(parcel)
        self._done, self._told = 0, monotonic()
        _wait_for(mailbox.tell.remote(errand.number, errand.attempt, 0))

    def advance(self, updates: int) -> None:
        """Tells the updates that are done, now and then, and does not wait until that is heard."""
        self._done += updates
        if monotonic() - self._told >= _TELL_EVERY:
            self._told = monotonic()
            self._mailbox.tell.remote(self._errand.number, self._errand.attempt, self._done)

    def kept(self, folder: Path) -> None:
        """Sends what has changed in the folder of a run, and returns when it lies in the mailbox.

        So what two runs of a unit keep arrives in the order in which they kept it.
        """
        parcel = self._mirrors[folder].changes()
        if parcel is None:
            return
        place = list(self._mirrors).index(folder)
        letter = pickle.dumps(Letter(self._errand.number, self._errand.attempt, place, parcel))
        while not _wait_for(self._mailbox.has_room.remote()):
            sleep(_ASK_EVERY)
        _wait_for(self._mailbox.put.remote(letter))

    def send_rest(self) -> None:
        """Sends what was written after the last finished step, such as the traceback of an error."""
        for folder in self._mirrors:
            self.kept(folder)


def _wait_for(reference: Any) -> Any:
    import ray

    return ray.get(reference)


@lru_cache(maxsize=4)
def _stream_of(reference: Any) -> Stream:
    """The stream whose files a reference stands for; many runs share one, and follow each other."""
    with tempfile.TemporaryDirectory(prefix="prognet-") as place:
        for name, content in _wait_for(reference).items():
            write_atomically(Path(place) / name, content)
        return Stream.load(place)
