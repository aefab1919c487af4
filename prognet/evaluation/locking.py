"""Locks on folders: one process works in a folder, and the next one is told who does.

The locks are those of the operating system (flock). They belong to the process and vanish with it, however it ends, so
that a kill leaves nothing that blocks. The file that is locked lies hidden beside the folder of a run, or in the folder
of a comparison; it is removed when the work is done, and where a kill has left it, it means nothing.
"""

import errno
import json
import os
import socket
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from prognet.errors import LockedError, RunFolderError, UnwritableError

WAIT = 5.0
"""Seconds to wait for a lock: a process that has just been killed may take a moment to die."""

_WITHOUT_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK, errno.EINVAL}


@contextmanager
def comparison_locked(folder: Path) -> Iterator[None]:
    """Within the block no other process carries out a comparison in this folder; the folder is made.

    Args:
        folder: of the comparison.

    Raises:
        LockedError: when another process is at work in it.
        UnwritableError: when the folder cannot be written.
        RunFolderError: when its file system has no locks.
    """
    with _locked(folder, folder / ".lock"):
        yield


@contextmanager
def runs_locked(folders: Iterable[Path]) -> Iterator[None]:
    """Within the block no other process carries out one of these runs.

    Args:
        folders: of the runs.

    Raises:
        LockedError: when another process carries one of them out.
        UnwritableError: when a folder cannot be written.
        RunFolderError: when their file system has no locks.
    """
    with ExitStack() as held:
        for folder in sorted(folders):  # in one order, so that no two processes wait for each other
            held.enter_context(_locked(folder, folder.with_name(f".{folder.name}.lock")))
        yield


@contextmanager
def _locked(folder: Path, path: Path) -> Iterator[None]:
    lock = FileLock(path, timeout=WAIT, thread_local=False, fallback_to_soft=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock.acquire()
    except Timeout as error:
        raise LockedError(
            f"{folder}: required a folder in which no other process is at work, found {_holder(path)} in it; wait "
            "until that one has ended, or choose another folder."
        ) from error
    except OSError as error:
        if error.errno in _WITHOUT_LOCKS:
            raise RunFolderError(
                f"{folder}: required a file system with locks (flock), found one without ({error.strerror or error}); "
                "choose a folder on another one, or mount it with locks."
            ) from error
        raise UnwritableError(
            f"{path}: could not be written ({error.strerror or error}); make the folder writable or choose another "
            "folder, then run the same command again: finished work is kept."
        ) from error
    try:
        with suppress(OSError):  # it only tells others who is at work
            path.write_text(json.dumps({"host": socket.gethostname(), "pid": os.getpid(), "since": _now()}))
        yield
    finally:
        with suppress(OSError):  # while it is held: whoever has opened it by now looks for a new one
            path.unlink()
        lock.release()


def _holder(path: Path) -> str:
    """Who holds a lock, in words, as far as it is known."""
    try:
        said = json.loads(path.read_text())
        return f"process {said['pid']} on {said['host']}, since {said['since']},"
    except (OSError, ValueError, KeyError, TypeError):
        return "another process"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
