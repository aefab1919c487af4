"""Who a run is trained together with."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prognet.training.session import train_alone


def go_on() -> None:
    """Waits for nobody."""


@dataclass(frozen=True, slots=True)
class Company:
    """The runs that are trained together, as one of them sees it; by default it is alone."""

    seeds: tuple[int, ...]
    """The seeds of all of them, in order; nothing else tells them apart."""
    train: Callable[[Any, Any], bool] = train_alone
    """Trains a run on its batches together with the others, and says whether it did so."""
    wait: Callable[[], None] = go_on
    """Waits until all have come as far."""

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return len(self.seeds) == 1
