import matplotlib as mpl
import pytest

from prognet.report.plots.style import look, styles
from tests.helpers.results import EVERYONE


def test_a_strategy_looks_the_same_in_every_comparison() -> None:
    together = styles(EVERYONE)
    assert all(styles([name])[name] == together[name] for name in EVERYONE)


def test_strategies_differ_in_colour_and_also_without_it() -> None:
    found = list(styles([*EVERYONE, "progressive-paper", "mine", "yours"]).values())
    assert len({style.colour for style in found}) == len(found)
    assert len({(style.dashes, style.marker) for style in found}) == len(found)


def test_unknown_names_are_styled_by_rank_and_not_by_position() -> None:
    assert (
        styles(["b", "a"]) == styles(["a", "progressive", "b"]) | {}
        or styles(["b", "a"])["a"] == styles(["a", "b"])["a"]
    )
    assert styles(["b", "progressive", "a"])["a"] == styles(["a", "b"])["a"]
    assert styles(["b", "a"])["b"] != styles(["b", "a"])["a"]


def contrast_with_white(colour: str) -> float:
    """The contrast ratio of WCAG 2.1 between a colour and white."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (p / 12.92 if p <= 0.03928 else ((p + 0.055) / 1.055) ** 2.4 for p in parts)
    return 1.05 / (0.2126 * red + 0.7152 * green + 0.0722 * blue + 0.05)


@pytest.mark.parametrize("name", [*EVERYONE, "progressive-paper", "unknown"])
def test_colours_show_on_white(name: str) -> None:
    assert contrast_with_white(styles([name])[name].colour) > 2


def test_the_look_is_left_behind() -> None:
    before = dict(mpl.rcParams)
    with look():
        assert mpl.rcParams["svg.hashsalt"] == "prognet"
    assert dict(mpl.rcParams) == before
