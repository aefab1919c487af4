"""Bad input, generated: documents changed in their structure, bits turned over, and what may become of either."""

import copy
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from prognet.errors import PrognetError

T = TypeVar("T")
MARKUP = (
    "<script>alert(1)</script>",
    "\"'><img src=x onerror=alert(1)>",
    "]]><!-- --> -->",
    "{{ 7*7 }}{% raw %}",
    "$\\frac{1}{$ $x_{",
    "a\nb\tc",
    "\u202eabc\u202c\u200f",
    "\\input{/etc/passwd} & % # _ ^ ~",
    "=cmd|' /C calc'!A0",
    "a|b`c`[d](javascript:alert(1))",
    "é€\U0001f600",
    "x" * 300,
)
"""Names that mean something to HTML, SVG, a template, LaTeX, Markdown, a spreadsheet or a terminal."""


def deep(levels: int) -> Any:
    """A list in a list in a list."""
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return value


VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 7, 2**31, 2**63, -(2**63) - 1, 10**400),
    *(0.0, -0.0, 0.5, 1e308, 5e-324, math.nan, math.inf, -math.inf, 2.0**53 + 2),
    *("", "inf", "-inf", "nan", "0", "0.5", "../x", "/etc/passwd", "C:\\x", "a\0b", "\ud800", "x" * 10_000),
    *MARKUP[:3],
    *([], {}, [[]], [None], {"": None}, {"name": "os:system", "arguments": {}}, ["a", 1], [[1.0], [1.0, 2.0]]),
    *(deep(60), deep(70), deep(900)),
)
"""What stands where something else was."""


def hostile(examples: int) -> settings:
    """Settings of a test of generated input: the same examples on every machine, and no file that remembers them."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


def refused(action: Callable[[], T], *names: object) -> T | None:
    """What an action returns, or None where it raises an error of the package that says all of `names`."""
    try:
        return action()
    except PrognetError as error:
        missing = [str(name) for name in names if str(name) not in str(error)]
        assert not missing, f"{missing} is not in {str(error)[:400]!r}"
        assert str(error).strip()
        return None


@st.composite
def mutated(draw: st.DrawFn, document: dict[str, Any], times: int = 1) -> dict[str, Any]:
    """A document with `times` changes somewhere: another value, one that is gone, one more, one twice, two swapped."""
    changed = copy.deepcopy(document)
    for _ in range(draw(st.integers(1, times))):
        if not changed:
            break
        holder, key = _place(draw, changed)
        kind = draw(st.sampled_from(("replace", "replace", "replace", "delete", "add", "repeat")))
        value = copy.deepcopy(draw(st.sampled_from(VALUES)))
        if kind == "delete":
            del holder[key]
        elif kind == "add" and isinstance(holder, dict):
            holder[draw(st.sampled_from(("novelty", "", "../x", "__class__", "learner", "version")))] = value
        elif kind == "repeat" and isinstance(holder, list):
            holder.insert(key, copy.deepcopy(holder[key]))
        else:
            holder[key] = value
    return changed


def _place(draw: st.DrawFn, document: dict[str, Any]) -> tuple[Any, Any]:
    """A container within the document, and one of its keys; every level is as likely as the next."""
    holder: Any = document
    while True:
        keys = sorted(holder) if isinstance(holder, dict) else list(range(len(holder)))
        key = draw(st.sampled_from(keys))
        inner = holder[key]
        if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
            return holder, key
        holder = inner


def flipped(content: bytes, bit: int) -> bytes:
    """The same bytes but for one bit, which is counted from the first of all."""
    changed = bytearray(content)
    changed[bit // 8] ^= 1 << (bit % 8)
    return bytes(changed)


def files_below(folder: Path) -> list[Path]:
    """Every file, sorted."""
    return sorted(path for path in folder.rglob("*") if path.is_file())
