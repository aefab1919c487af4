"""Making items ahead of time, in a thread."""

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from queue import Empty, Full, Queue
from threading import Event, Thread
from typing import Generic, TypeVar

Item = TypeVar("Item")
_POLL = 0.05
"""Seconds after which a thread that waits looks whether it is still wanted."""


@dataclass(frozen=True, slots=True)
class _Made(Generic[Item]):
    """An item, or why there is none."""

    item: Item | None
    error: BaseException | None = None


def ahead(items: Iterator[Item], depth: int = 2) -> Generator[Item]:
    """The items in their order, of which up to `depth` are made before they are asked for.

    What goes wrong in the making is raised here, in its place. The thread ends with the items, or when the iterator is
    closed.
    """
    made: Queue[_Made[Item]] = Queue(depth)
    unwanted = Event()
    thread = Thread(target=_make, args=(items, made, unwanted), daemon=True)
    thread.start()
    try:
        while True:
            found = made.get()
            if found.error is not None:
                if isinstance(found.error, StopIteration):
                    return
                raise found.error
            yield found.item  # type: ignore[misc]  # an item, where there is no error
    finally:
        unwanted.set()
        _drain(made)
        thread.join()


def _make(items: Iterator[Item], made: "Queue[_Made[Item]]", unwanted: Event) -> None:
    while not unwanted.is_set():
        try:
            new = _Made(next(items))
        except BaseException as error:
            new = _Made(None, error)
        while not unwanted.is_set():
            try:
                made.put(new, timeout=_POLL)
                break
            except Full:
                continue
        if new.error is not None:
            return


def _drain(made: "Queue[_Made[Item]]") -> None:
    while True:
        try:
            made.get_nowait()
        except Empty:
            return
