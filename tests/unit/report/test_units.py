from math import nan

import pytest

from prognet.report.units import COUNT, LOSS, PERCENT, POINTS, PROBABILITY, RATIO, SECONDS, Unit, prefixed


@pytest.mark.parametrize(
    ("unit", "value", "text"),
    [
        (PERCENT, 0.98765, "98.77"),
        (PERCENT, nan, "–"),
        (PERCENT, 0.0, "0"),
        (PERCENT, -0.0, "0"),
        (POINTS, 0.0123, "+1.23"),
        (POINTS, -0.0123, "\N{MINUS SIGN}1.23"),
        (POINTS, -1e-9, "0.00"),
        (LOSS, 0.16, "16.00"),
        (RATIO, 1.0, "1.000"),
        (COUNT, 1234567.0, "1\N{NARROW NO-BREAK SPACE}234\N{NARROW NO-BREAK SPACE}567"),
        (SECONDS, 9.04, "9.0"),
        (PROBABILITY, 0.0, "< 0.001"),
        (PROBABILITY, 0.0009, "< 0.001"),
        (PROBABILITY, 0.001, "0.001"),
        (PROBABILITY, nan, "–"),
    ],
)
def test_text(unit: Unit, value: float, text: str) -> None:
    assert unit.text(value) == text


@pytest.mark.parametrize(("value", "text"), [(nan, ""), (0.0, "± 0"), (0.0123, "± 1.23"), (1e-9, "± 0.00")])
def test_half_width(value: float, text: str) -> None:
    assert POINTS.half(value) == text


@pytest.mark.parametrize(
    ("values", "label", "text"),
    [
        ([3e9, 1.2e12], "GFLOP", "3.0"),
        ([nan, 0.0, 4.5e3], "kFLOP", "3\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000.0"),
        ([12.0], "FLOP", "3\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000"),
        ([], "FLOP", "3\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000\N{NARROW NO-BREAK SPACE}000"),
    ],
)
def test_one_prefix_serves_the_whole_column(values: list[float], label: str, text: str) -> None:
    unit = prefixed("FLOP", values)
    assert unit.label == label
    assert unit.text(3e9) == text


def test_counts_that_never_vary_have_no_half_width() -> None:
    assert COUNT.half(0.0) == ""
    assert COUNT.half(2.0) == "± 2"
