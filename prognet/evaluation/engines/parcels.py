"""The files of a run on their way between two machines: its folder here, and its like on the machine that computes it.

A parcel holds what has changed since the last one. It is written in an order in which a kill at any moment leaves a run
that can go on: tensors first, then the documents that name them; what is gone is removed last, documents first.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import final

from prognet.errors import RunFolderError, UnwritableError
from prognet.evaluation.store import NEXT_FILE, PROGRESS_FILE
from prognet.files import shown, write_atomically
from prognet.results import RESULT_FILE

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\.(safetensors|json|txt)", re.ASCII)
"""Neither a lock, nor a file that is being written, nor anything outside the folder."""
_LATE = (NEXT_FILE, PROGRESS_FILE, RESULT_FILE)
"""Documents that name tensors, in the order in which a run writes them."""

_Stamp = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class Parcel:
    """What has changed in the folder of a run."""

    files: Mapping[str, bytes]
    """The content of those that are new or have changed, by name."""
    names: frozenset[str]
    """All that the folder holds, changed or not."""

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(map(len, self.files.values()))


@final
class Mirror:
    """A folder that is to hold the same files as one on another machine, with which it exchanges parcels."""

    def __init__(self, folder: Path) -> None:
        """
        Args:
            folder: it need not exist.
        """
        self._folder = folder
        self._seen: dict[str, _Stamp] = {}

    def changes(self) -> Parcel | None:
        """What has changed here since the last parcel, sent or written; None where nothing has.

        Raises:
            RunFolderError: when a file cannot be read.
        """
        found = self._stamps()
        try:
            files = {
                name: (self._folder / name).read_bytes()
                for name, stamp in found.items()
                if self._seen.get(name) != stamp
            }
        except OSError as error:
            raise RunFolderError(
                f"{error.filename}: required a file that can be read, to send it, found none ({error.strerror})."
            ) from error
        if not files and found.keys() == self._seen.keys():
            return None
        self._seen = found
        return Parcel(files, frozenset(found))

    def write(self, parcel: Parcel) -> None:
        """Makes this folder hold what the parcel says; written a second time, it changes nothing.

        Only files that came or went with a parcel are ever removed.

        Raises:
            RunFolderError: when a name is none of a file of a run, or a parcel before this one is missing; nothing is
                written then.
            UnwritableError: when the disk is full or the folder cannot be written.
        """
        self._check(parcel)
        for name in sorted(parcel.files, key=_rank):
            write_atomically(self._folder / name, parcel.files[name])
        for name in sorted(self._seen.keys() - parcel.names, key=_rank, reverse=True):
            self._remove(self._folder / name)
        self._seen = {name: stamp for name, stamp in self._stamps().items() if name in parcel.names}

    def _check(self, parcel: Parcel) -> None:
        for name in sorted(parcel.names | parcel.files.keys()):
            if not _NAME.fullmatch(name) or name not in parcel.names:
                raise RunFolderError(
                    f"{self._folder}: required the names of files of a run in what arrived, found {shown(name)}; "
                    "nothing of it was written."
                )
        if missing := parcel.names - parcel.files.keys() - self._seen.keys():
            raise RunFolderError(
                f"{self._folder}: required all files of the run in what arrived, found no {min(missing)}; something "
                "before it was lost: nothing of it was written."
            )

    def _stamps(self) -> dict[str, _Stamp]:
        """What tells the content of each file from others; every new one is another file, since writes are atomic."""
        if not self._folder.is_dir():
            return {}
        names = [path.name for path in self._folder.iterdir() if _NAME.fullmatch(path.name) and path.is_file()]
        stats = {name: (self._folder / name).stat() for name in names}
        return {name: (stat.st_ino, stat.st_mtime_ns, stat.st_size) for name, stat in stats.items()}

    def _remove(self, path: Path) -> None:
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise UnwritableError(
                f"{path}: could not be removed ({error.strerror or error}); make the folder writable, then run the "
                "same command again: finished work is kept."
            ) from error


def _rank(name: str) -> int:
    """Where in the order of writing a file stands."""
    return _LATE.index(name) + 1 if name in _LATE else 0
