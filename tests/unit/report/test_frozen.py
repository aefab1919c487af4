import pytest

from prognet.report.frozen import count, frozen_parts
from tests.helpers.results import make_run

A, B = "a" * 64, "b" * 64


@pytest.mark.parametrize(
    ("digests", "verdict", "checks"),
    [
        (({"column 0": A}, {"column 0": A}, {"column 0": A}), "unchanged", 2),
        (({"column 0": A}, {"column 0": B}, {"column 0": A}), "changed", 2),  # also when the last equals the first
        (({"column 0": A}, {"column 0": A}, {"column 0": B}), "changed", 2),
        (({"column 0": A}, {}, {"column 0": A}), "missing", 1),
        (({"column 0": A}, {}, {"column 0": B}), "changed", 1),
        (({}, {}, {"column 0": A}), "not compared", 0),
    ],
)
def test_verdict(digests: tuple[dict[str, str], ...], verdict: str, checks: int) -> None:
    (part,) = frozen_parts(make_run(n_tasks=3, digests=digests))
    assert (part.part, part.verdict, part.checks) == ("column 0", verdict, checks)


def test_every_part_begins_at_the_step_that_froze_it() -> None:
    parts = frozen_parts(make_run(n_tasks=3))
    assert [(part.part, part.step, part.checks) for part in parts] == [
        ("column 0", 0, 2),
        ("column 1", 1, 1),
        ("column 2", 2, 0),
    ]
    assert count(parts, "unchanged") == 2
    assert count(parts, "not compared") == 1


def test_a_strategy_that_freezes_nothing_has_no_parts() -> None:
    assert frozen_parts(make_run("finetune")) == ()
