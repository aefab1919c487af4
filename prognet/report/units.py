"""How numbers are written for people: a scale, a number of digits, a sign; the undefined as an en dash."""

from collections.abc import Iterable
from dataclasses import dataclass
from math import isnan, nan

UNDEFINED = "–"
MINUS, THIN = "\N{MINUS SIGN}", "\N{NARROW NO-BREAK SPACE}"
_PREFIXES = ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))


@dataclass(frozen=True, slots=True)
class Unit:
    """How the numbers of one column are written."""

    label: str = ""
    """Unit after scaling, e.g. `"%"`; empty for a pure number."""
    scale: float = 1.0
    digits: int = 2
    signed: bool = False
    """Whether positive numbers carry a plus sign, as differences do."""
    least: float = 0.0
    """Numbers from 0 up to this one are written as "< least"; 0 for none."""
    counted: bool = False
    """Whether numbers that are the same for every seed go without an interval, as counts do."""

    def text(self, value: float) -> str:
        """The number as text; an exact zero has no decimals, an undefined value is an en dash."""
        if isnan(value):
            return UNDEFINED
        scaled = value * self.scale
        if 0 <= scaled < self.least:
            return f"< {self.least:g}"
        if scaled == 0:
            return "0"
        text = f"{abs(scaled):,.{self.digits}f}".replace(",", THIN)
        if not text.strip("0."):  # rounds to zero: no sign
            return text
        return f"{MINUS}{text}" if scaled < 0 else f"+{text}" if self.signed else text

    def half(self, value: float) -> str:
        """The half-width of an interval as text; empty where there is none, and for counts that never vary."""
        if isnan(value) or (value == 0 and self.counted):
            return ""
        if value == 0:
            return "± 0"
        return f"± {abs(value) * self.scale:,.{self.digits}f}".replace(",", THIN)


PERCENT = Unit("%", 100.0)
POINTS = Unit("points", 100.0, signed=True)
LOSS = Unit("points", 100.0)
RATIO = Unit(digits=3)
NATS = Unit("nats", digits=3)
COUNT = Unit(digits=0, counted=True)
SECONDS = Unit("s", digits=1)
PROBABILITY = Unit(digits=3, least=0.001)
MEGABYTES = Unit("MB", 1e-6, counted=True)
WHOLE_MEGABYTES = Unit("MB", 1e-6, digits=0, counted=True)


def prefixed(label: str, values: Iterable[float], digits: int = 1) -> Unit:
    """One unit for a whole column, with the largest prefix that leaves its smallest positive value at 1 or more."""
    smallest = min((value for value in values if value > 0), default=nan)
    factor, prefix = next(((f, p) for f, p in _PREFIXES if smallest >= f), (1.0, ""))
    return Unit(f"{prefix}{label}", 1 / factor, digits if prefix else 0, counted=True)
