"""Who watches a comparison or a search: told what begins, how far it is, and how it ended."""

from abc import ABC, abstractmethod
from typing import final

from prognet.errors import PrognetError


class Observer(ABC):
    """Somebody who watches a comparison, such as a progress display."""

    @abstractmethod
    def begin(self, updates: int) -> None:
        """The whole comparison will take this number of updates."""

    @abstractmethod
    def start(self, what: str, updates: int) -> None:
        """A run begins; it takes this number of updates at most, and none where it is finished already."""

    @abstractmethod
    def advance(self, updates: int) -> None:
        """Some updates are done."""

    @abstractmethod
    def end(self, what: str, error: PrognetError | None) -> None:
        """A run is over, well or not."""


@final
class Silence(Observer):
    """An observer that says nothing."""

    def begin(self, updates: int) -> None:
        """Says nothing."""

    def start(self, what: str, updates: int) -> None:
        """Says nothing."""

    def advance(self, updates: int) -> None:
        """Says nothing."""

    def end(self, what: str, error: PrognetError | None) -> None:
        """Says nothing."""
