"""The live progress of a comparison on the terminal."""

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, final

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from prognet.evaluation.observer import Observer

if TYPE_CHECKING:
    from prognet.errors import PrognetError


@final
class Display(Observer):
    """A progress bar over all updates of a comparison, with the run that is going on and where the files are."""

    def __init__(self, out: Path, unit: str = "updates", is_silent: bool = False) -> None:
        """
        Args:
            out: where the files are written, for people to see.
            unit: what is counted.
            is_silent: whether nothing is shown, since another process shows it.
        """
        self._out = out
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True, quiet=is_silent),
        )
        self._bar = self._progress.add_task("preparing", total=None)
        self._due = 0.0
        self._going_on: list[str] = []

    def __enter__(self) -> "Display":
        self._progress.start()
        self._progress.console.print(f"files: {self._out}", highlight=False, markup=False)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def begin(self, updates: int) -> None:
        """Sets the length of the bar."""
        self._progress.update(self._bar, total=updates)

    def start(self, what: str, updates: int) -> None:
        """Names the run, and notes where the bar will stand when it is over."""
        self._due += updates
        self._going_on.append(what)
        self._name()

    def advance(self, updates: int) -> None:
        """Moves the bar."""
        self._progress.advance(self._bar, updates)

    def end(self, what: str, error: "PrognetError | None") -> None:
        """Moves the bar to where it stands after the run, however many updates that took."""
        if what in self._going_on:
            self._going_on.remove(what)
        if self._going_on:  # side by side: whoever carries them out tells of all updates
            self._name()
        else:
            self._progress.update(self._bar, completed=self._due)
        if error is not None:
            self._progress.console.print(f"failed: {what}: {error}", highlight=False, markup=False)

    def _name(self) -> None:
        """Names the run that goes on, or how many do."""
        first, others = self._going_on[0], len(self._going_on) - 1
        self._progress.update(self._bar, description=f"{first} and {others} more" if others else first)
