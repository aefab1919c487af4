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

    def __init__(self, out: Path, unit: str = "updates") -> None:
        """
        Args:
            out: where the files are written, for people to see.
            unit: what is counted.
        """
        self._out = out
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn(unit),
            TimeElapsedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._bar = self._progress.add_task("preparing", total=None)
        self._due = 0.0

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
        self._progress.update(self._bar, description=what)

    def advance(self, updates: int) -> None:
        """Moves the bar."""
        self._progress.advance(self._bar, updates)

    def end(self, what: str, error: "PrognetError | None") -> None:
        """Moves the bar to where it stands after the run, however many updates that took."""
        self._progress.update(self._bar, completed=self._due)
        if error is not None:
            self._progress.console.print(f"failed: {what}: {error}", highlight=False, markup=False)
