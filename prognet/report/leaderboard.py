"""All strategies in one list, the best first, with what each of them costs."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import isnan, nan

from prognet import metrics
from prognet.report.comparison import Comparison, Summary
from prognet.report.differences import paired
from prognet.report.measures import ACCURACY, FURTHER, LEARNING, MEASURES, Measure
from prognet.report.table import Column, Table, Value
from prognet.report.units import COUNT, POINTS, PROBABILITY, prefixed
from prognet.statistics import PairedDifference, holm

_COSTS = ("parameters", "training_flops", "seconds")


@dataclass(frozen=True, eq=False)
class Place:
    """A strategy in the list."""

    summary: Summary
    rank: float
    """From 1; strategies with the same mean share one. NaN where the mean is undefined."""
    behind: PairedDifference
    """Its average accuracy minus that of the first, paired by seed."""
    adjusted: float
    """The p value of that after Holm's correction over the list."""


def places(comparison: Comparison) -> tuple[Place, ...]:
    """The strategies by average accuracy after the last step, the best first; empty where there is one only.

    Those whose average is undefined, as of a task without a value, come last.
    """
    order = sorted(comparison.summaries, key=lambda one: (isnan(_mean(one)), -_mean(one)))
    if len(order) < 2:
        return ()
    values = {
        name: {key: metrics.average_accuracy(run.accuracy) for key, run in runs.items()}
        for name, runs in comparison.grid.runs.items()
    }
    first = values[order[0].name]
    behind = [paired(values[one.name], first) for one in order]
    adjusted = holm([difference.p_value for difference in behind[1:]])
    return tuple(
        Place(one, _rank(one, order), behind[place], float(corrected))
        for place, (one, corrected) in enumerate(zip(order, [nan, *adjusted], strict=True))
    )


def leaderboard(found: tuple[Place, ...]) -> Table:
    """One row per strategy."""
    shown = [ACCURACY, LEARNING, *(_measure(key) for key in ("forgetting_since_learning", *_COSTS))]
    flops = prefixed("FLOP", (place.summary.measures["training_flops"].mean for place in found))
    rows: list[tuple[Value, ...]] = [
        (
            place.rank,
            place.summary.name,
            *(place.summary.measures[measure.key] for measure in shown[:1]),
            place.behind.interval,
            place.adjusted,
            *(place.summary.measures[measure.key] for measure in shown[1:]),
            float(place.summary.seeds),
        )
        for place in found
    ]
    columns = [Column(m.key, m.title, flops if m.key == "training_flops" else m.unit) for m in shown]
    return Table(
        "All strategies, by average accuracy",
        "What may be as good as the first is where the interval of the difference, paired by seed, holds zero: a rank "
        "alone says little. The interval is for each strategy alone, p is Holm's over the list; both make too much of "
        "the first, which was chosen for being first. Parameters are those after the last step, FLOPs and seconds "
        "those of all learning.",
        (
            Column("rank", "rank", COUNT),
            Column("strategy", "strategy"),
            columns[0],
            Column("behind", "minus the first", POINTS),
            Column("p_holm", "p, Holm", PROBABILITY),
            *columns[1:],
            Column("seeds", "seeds", COUNT),
        ),
        tuple(rows),
    )


def _mean(one: Summary) -> float:
    return one.measures[ACCURACY.key].mean


def _rank(one: Summary, all_of_them: Sequence[Summary]) -> float:
    return nan if isnan(_mean(one)) else float(1 + sum(_mean(other) > _mean(one) for other in all_of_them))


def _measure(key: str) -> Measure:
    return next(measure for measure in (*MEASURES, *FURTHER) if measure.key == key)
