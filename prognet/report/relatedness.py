"""How the tasks of a run are related, and how well each cheap measure of it ranks what was gained."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from prognet.errors import RunFolderError
from prognet.related import (
    GEOMETRY_FILE,
    PAIR_MEASURES,
    RELATEDNESS_FILE,
    Record,
    RunGeometry,
    RunRelatedness,
    read_geometry,
    read_relatedness,
)
from prognet.report.comparison import Comparison
from prognet.report.estimates import Band, band
from prognet.report.grid import Key
from prognet.report.ranking import Ranking, rankings
from prognet.report.table import Column, Table, Value
from prognet.report.units import COUNT, POINTS, RATIO, Unit

CORRELATION = Unit(digits=2)
SHARE = Unit("%", 100.0)
_TITLES = {measure.key: measure.title for measure in PAIR_MEASURES}


@dataclass(frozen=True, eq=False)
class Relatedness:
    """One strategy: means over seeds, matrices (T, T) with rows the earlier task and columns the later one."""

    strategy: str
    values: Mapping[str, Band]
    shuffled: Mapping[str, Band]
    gain: Band
    samples: tuple[int, ...]
    seeds: int
    ranking: tuple[Ranking, ...]
    """Empty where no gain was measured."""


def read_records(
    folder: Path, comparison: Comparison, file: str, read: Callable[[Path], Record], unread: frozenset[Path]
) -> dict[str, dict[Key, Record]]:
    """The records of one kind below a run folder, by strategy in the order of the report's rows, and by run.

    Raises:
        RunFolderError: when one is damaged, or belongs to another run than the one beside it.
    """
    found: dict[str, dict[Key, Record]] = {}
    for path in sorted({*folder.rglob(file)} - unread):
        record = read(path.parent)
        run = comparison.grid.runs.get(record.strategy, {}).get((record.order, record.seed))
        if run is None or dict(run.digests[-1]) != dict(record.digests):
            raise RunFolderError(
                f"{path}: required the record of the run beside it, found one of other frozen parts; run `prognet "
                "analyse` again."
            )
        found.setdefault(record.strategy, {})[record.order, record.seed] = record
    for name, records in found.items():
        kinds = {repr(sorted(record.settings.items())) for record in records.values()}
        if len(kinds) > 1:
            raise RunFolderError(
                f"{name}: required records with one kind of settings, found {' and '.join(sorted(kinds))}; run "
                "`prognet analyse` again on all of them."
            )
    return {name: found[name] for name in comparison.names if name in found}


def read_relatednesses(
    folder: Path, comparison: Comparison, unread: frozenset[Path] = frozenset()
) -> tuple[Relatedness, ...]:
    """What is known of pairs of tasks below a run folder, one for each strategy; the files `unread` are passed over.

    Raises:
        RunFolderError: as `read_records`.
    """
    records = read_records(folder, comparison, RELATEDNESS_FILE, read_relatedness, unread)
    return tuple(make_relatedness(name, found) for name, found in records.items())


def read_geometries(
    folder: Path, comparison: Comparison, unread: frozenset[Path] = frozenset()
) -> dict[str, dict[Key, RunGeometry]]:
    """What is known of the classes below a run folder, by strategy and run; the files `unread` are passed over.

    Raises:
        RunFolderError: as `read_records`.
    """
    return read_records(folder, comparison, GEOMETRY_FILE, read_geometry, unread)


def make_relatedness(strategy: str, records: Mapping[Key, RunRelatedness]) -> Relatedness:
    """The records of one strategy, put together."""
    first = next(iter(records.values()))
    gain = band({key: record.gain for key, record in records.items()})
    return Relatedness(
        strategy,
        {name: band({key: record.values[name] for key, record in records.items()}) for name in first.values},
        {name: band({key: record.shuffled[name] for key, record in records.items()}) for name in first.values},
        gain,
        first.samples,
        len({seed for _, seed in records}),
        () if np.isnan(gain.mean).all() else rankings(records),
    )


def ranking_table(found: Sequence[Relatedness]) -> Table:
    """One row per strategy and measure."""
    rows: list[tuple[Value, ...]] = [
        (
            one.strategy,
            rank.title,
            rank.weighted_tau,
            rank.spearman,
            rank.spearman_shuffled,
            rank.within,
            rank.within_shuffled,
            rank.picked,
            rank.picked_shuffled,
            float(rank.pairs),
            float(rank.targets),
        )
        for one in found
        for rank in one.ranking
    ]
    return Table(
        "How well cheap measures rank the measured gain",
        "Weighted tau and Spearman: over all pairs of a run. Within a target: Kendall's tau among the sources of one "
        "task, mean over the tasks with at least two. Choice: gain with the source that the measure names, minus the "
        "mean over all sources. Shuffled: the same with labels permuted, or inputs of both tasks mixed. Signs are "
        "turned so that 1 is best for every measure. Mean ± half of the Student t 95 % interval over seeds; pairs of "
        "one run share tasks, so that they are fewer than they seem.",
        (
            Column("strategy", "strategy"),
            Column("measure", "measure"),
            Column("weighted_tau", "weighted τ ↑", CORRELATION),
            Column("spearman", "Spearman ↑", CORRELATION),
            Column("spearman_shuffled", "shuffled", CORRELATION),
            Column("within", "τ within a target ↑", CORRELATION),
            Column("within_shuffled", "shuffled", CORRELATION),
            Column("picked", "choice ↑", POINTS),
            Column("picked_shuffled", "shuffled", POINTS),
            Column("pairs", "pairs", COUNT),
            Column("targets", "targets", COUNT),
        ),
        tuple(rows),
    )


def pair_table(found: Sequence[Relatedness]) -> Table:
    """One row per strategy and pair of tasks."""
    keys = [measure.key for measure in PAIR_MEASURES]
    rows: list[tuple[Value, ...]] = [
        (
            one.strategy,
            float(s + 1),
            float(t + 1),
            *([one.gain.at(s, t)] if one.ranking else []),
            *(one.values[key].at(s, t) for key in keys),
        )
        for one in found
        for t in range(1, len(one.samples))
        for s in range(t)
    ]
    gained = any(one.ranking for one in found)
    samples = sorted({count for one in found for count in one.samples})
    return Table(
        "How tasks are related",
        f"On {' or '.join(map(str, samples))} training samples of each task. Measured gain: test accuracy of a column "
        "that reads the earlier task's column, minus that of a column alone, with the same start and batches. Mean ± "
        "half of the Student t 95 % interval over seeds.",
        (
            Column("strategy", "strategy"),
            Column("source", "earlier task", COUNT),
            Column("target", "later task", COUNT),
            *([Column("gain", "measured gain", POINTS)] if gained else []),
            *(Column(key, _TITLES[key], SHARE if key == "lookahead" else RATIO) for key in keys),
        ),
        tuple(rows),
    )
