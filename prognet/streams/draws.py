"""Streams that are drawn: another subset of the samples for every seed of a comparison."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from prognet.streams.stream import Stream


@dataclass(frozen=True, slots=True)
class PerSeed:
    """Makes the stream of an order and a seed; `prognet.grid` then makes a stream for every seed.

    Args:
        make: from the order and the seed to a stream with `seed=order` and `draw=seed`, for instance
            `lambda order, seed: low_data_digits(seed=order, draw=seed)`.
    """

    make: Callable[[int, int], "Stream"]

    def __call__(self, order: int, seed: int = 0) -> "Stream":
        """The stream of this order, as it is drawn for this seed."""
        return self.make(order, seed)
