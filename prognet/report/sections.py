"""Sections of the page that stand where there is something for them: figures and tables under one title."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from prognet.report.comparison import Comparison
from prognet.report.geometry import geometry_table, make_shapes
from prognet.report.leaderboard import leaderboard, places
from prognet.report.negative import against_alone, delta_table, negative_table
from prognet.report.plots.reliance import ReliancePlot
from prognet.report.plots.tasks import geometry_plots, negative_plots, relatedness_plots
from prognet.report.relatedness import pair_table, ranking_table, read_geometries, read_relatednesses
from prognet.report.table import Table


@dataclass(frozen=True, eq=False)
class Section:
    """One section."""

    anchor: str
    title: str
    short: str
    """In the contents."""
    plots: tuple[ReliancePlot, ...]
    tables: Mapping[str, Table]
    """By name, which is also the name of their files."""


def make_sections(folder: Path, comparison: Comparison, unread: frozenset[Path] = frozenset()) -> tuple[Section, ...]:
    """The sections for which there is something, in their order on the page; the files `unread` are passed over.

    Raises:
        RunFolderError: when a record below the folder is damaged, or belongs to another run.
    """
    return tuple(
        section
        for section in (
            _leaderboard(comparison),
            _negative(comparison),
            _relatedness(folder, comparison, unread),
            _geometry(folder, comparison, unread),
        )
        if section is not None
    )


def _leaderboard(comparison: Comparison) -> Section | None:
    found = places(comparison)
    return Section("ranking", "Ranking", "Ranking", (), {"leaderboard": leaderboard(found)}) if found else None


def _negative(comparison: Comparison) -> Section | None:
    found = against_alone(comparison)
    if not found:
        return None
    tables = {
        "delta-m": delta_table(found),
        "negative-transfer": negative_table(found, comparison.grid.task_names),
    }
    return Section("alone", "Against learning alone", "Against alone", negative_plots(found), tables)


def _relatedness(folder: Path, comparison: Comparison, unread: frozenset[Path]) -> Section | None:
    found = read_relatednesses(folder, comparison, unread)
    if not found:
        return None
    tables = {"ranking": ranking_table(found)} if any(one.ranking for one in found) else {}
    tables["relatedness"] = pair_table(found)
    return Section("relatedness", "How tasks are related", "Relatedness", relatedness_plots(found), tables)


def _geometry(folder: Path, comparison: Comparison, unread: frozenset[Path]) -> Section | None:
    found = make_shapes(read_geometries(folder, comparison, unread))
    if not found:
        return None
    tables = {"geometry": geometry_table(found)}
    return Section("geometry", "How classes lie in the features", "Classes", geometry_plots(found), tables)
