"""The streams of a comparison, one for every order, or for every order and seed."""

from collections.abc import Callable

from prognet.errors import ConfigError
from prognet.streams.draws import PerSeed
from prognet.streams.stream import Stream


class Streams:
    """The streams of a comparison, each made when it is asked for; the last one is kept."""

    def __init__(self, make_stream: Callable[[int], Stream] | PerSeed) -> None:
        self._make = make_stream
        self._name: str | None = None
        self._stream: Stream | None = None

    def of(self, order: int, seed: int) -> Stream:
        """The stream for a run with this order and seed.

        Raises:
            ConfigError: when it was made with another seed or draw.
        """
        name = self.name_of(order, seed)
        if self._stream is None or name != self._name:
            self._stream, self._name = self._new(order, seed), name
        return self._stream

    def name_of(self, order: int, seed: int) -> str:
        """What tells the data of this order and seed from the others."""
        return f"order-{order}-seed-{seed}" if isinstance(self._make, PerSeed) else str(order)

    def _new(self, order: int, seed: int) -> Stream:
        if not isinstance(self._make, PerSeed):
            stream = self._make(order)
        elif (stream := self._make(order, seed)).draw != seed:
            raise ConfigError(
                f"make_stream: required a stream with draw {seed} for seed {seed}, found draw {stream.draw}; hand the "
                "seed on to the builder of the stream as its draw."
            )
        if stream.seed != order:
            raise ConfigError(
                f"make_stream: required a stream with seed {order} for order {order}, found seed {stream.seed}; hand "
                "the order on to the builder of the stream as its seed."
            )
        return stream
