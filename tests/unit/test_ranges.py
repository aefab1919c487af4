"""Ranges of numbers: what lies in each of them, and what is said of the rest."""

from math import inf, nan
from typing import Any

import pytest

from prognet.errors import ConfigError
from prognet.ranges import FACTOR, NOT_NEGATIVE, POSITIVE, SHARE, Range, is_number, require_number


@pytest.mark.parametrize(
    ("range_", "inside", "outside"),
    [
        (POSITIVE, (1e-300, 1, 1e300), (0, -1)),
        (NOT_NEGATIVE, (0, 0.0, 5), (-1e-300, -1)),
        (SHARE, (0, 0.999), (1, -0.1)),
        (FACTOR, (1e-300, 1), (0, 1.001)),
    ],
    ids=["positive", "not negative", "share", "factor"],
)
def test_what_lies_in_a_range(range_: Range, inside: tuple[float, ...], outside: tuple[float, ...]) -> None:
    assert all(value in range_ for value in inside)
    assert not any(value in range_ for value in (*outside, inf, -inf, nan, True, False, "1", None, [1], 1j))
    for value in inside:
        require_number("rate", value, range_)


@pytest.mark.parametrize("value", [inf, nan, "x", None, True, (1,)])
def test_what_does_not_is_named(value: Any) -> None:
    assert not is_number(value)
    with pytest.raises(ConfigError) as caught:
        require_number("rate", value, POSITIVE)
    assert str(caught.value) == f"rate: required a finite number above 0, found {value!r}."
