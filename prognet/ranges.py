"""Ranges of numbers, and the check that an argument lies in one."""

from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from typing import TypeGuard

from prognet.errors import ConfigError


def is_number(value: object) -> TypeGuard[int | float]:
    """Whether a value is a finite number, and no truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


@dataclass(frozen=True, slots=True)
class Range:
    """Some of the finite numbers: `value in range` is False for whatever is no number, too."""

    words: str
    """What a message says that is required."""
    fits: Callable[[float], bool]

    def __contains__(self, value: object) -> bool:
        return is_number(value) and self.fits(value)


POSITIVE = Range("a finite number above 0", lambda value: value > 0)
NOT_NEGATIVE = Range("a finite number, at least 0", lambda value: value >= 0)
SHARE = Range("a number in [0, 1)", lambda value: 0 <= value < 1)
FACTOR = Range("a number above 0, at most 1", lambda value: 0 < value <= 1)


def require_number(name: str, value: object, range_: Range) -> None:
    """Raises ConfigError unless `value`, the argument `name`, is a number in the range."""
    if value not in range_:
        raise ConfigError(f"{name}: required {range_.words}, found {value!r}.")
