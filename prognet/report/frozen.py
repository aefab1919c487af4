"""The proof that nothing moved: the digests of every frozen part, compared over the steps of each run."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from prognet.results import RunResult

Verdict = Literal["unchanged", "changed", "missing", "not compared"]


@dataclass(frozen=True)
class FrozenPart:
    """One frozen part of one run, from the step after which it was first recorded to the last step."""

    strategy: str
    order: int
    seed: int
    part: str
    """Its name, e.g. `"column 0"`."""
    step: int
    """The step, counted from 0, after which its digest was first recorded."""
    digests: tuple[str | None, ...]
    """SHA-256 after that step and after every later one; None where a later step has no record of it."""

    @property
    def checks(self) -> int:
        """How many later digests were compared with the first."""
        return sum(digest is not None for digest in self.digests[1:])

    @property
    def verdict(self) -> Verdict:
        """`unchanged` only when every later step recorded the very same digest."""
        if any(digest not in (None, self.digests[0]) for digest in self.digests):
            return "changed"
        if None in self.digests:
            return "missing"
        return "unchanged" if self.checks else "not compared"


def frozen_parts(run: RunResult) -> tuple[FrozenPart, ...]:
    """Every frozen part of a run, in the order in which they were frozen."""
    first: dict[str, int] = {}
    for step, digests in enumerate(run.digests):
        for part in digests:
            first.setdefault(part, step)
    return tuple(
        FrozenPart(run.strategy, run.order, run.seed, part, step, tuple(d.get(part) for d in run.digests[step:]))
        for part, step in first.items()
    )


def count(parts: Sequence[FrozenPart], verdict: Verdict) -> int:
    """How many of the parts have this verdict."""
    return sum(part.verdict == verdict for part in parts)
