"""Settings of a strategy as values: frozen dataclasses that JSON can hold."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, TypeVar

from prognet.errors import ConfigError


class Specification:
    """A frozen dataclass whose fields are JSON values."""

    def describe(self) -> dict[str, Any]:
        """`{"kind": ..., "arguments": ...}` in JSON values; `specification_from` is the inverse."""
        return {"kind": type(self).__name__, "arguments": asdict(self)}  # type: ignore[call-overload]


S = TypeVar("S", bound=Specification)


def specification_from(base: type[S], name: str, description: Mapping[str, Any]) -> S:
    """The specification that `describe` described.

    Args:
        base: what it has to be; its own class or one of its subclasses.
        name: the argument that it is given for, for messages.
        description: what `describe` returned.

    Raises:
        ConfigError: when its kind is not defined, or its arguments do not fit.
    """
    kinds = {kind.__name__: kind for kind in (base, *base.__subclasses__())}
    kind = kinds.get(description["kind"])
    if kind is None:
        raise ConfigError(
            f"{name}: required one of {sorted(kinds)}, found {description['kind']!r}; import the module that "
            "defines it."
        )
    try:
        return kind(**description["arguments"])
    except TypeError as error:
        raise ConfigError(f"{name}: required the arguments of {kind.__name__}, found {error}.") from error


def check_specification(value: object, base: type[Specification], name: str) -> None:
    """Raises ConfigError unless `value` is one of the specifications of `base`."""
    if not isinstance(value, base):
        kinds = sorted(kind.__name__ for kind in (base.__subclasses__() or [base]))
        raise ConfigError(f"{name}: required one of {kinds}, found {value!r}; e.g. {name}={kinds[0]}().")


def require_whole(name: str, value: object, least: int) -> None:
    """Raises ConfigError unless `value` is a whole number of at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{name}: required a whole number, at least {least}, found {value!r}.")
