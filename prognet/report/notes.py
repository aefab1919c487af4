"""What the numbers do not say: notes that hold for this comparison, each made from its runs."""

from math import isnan

from prognet.report.comparison import Comparison, Summary
from prognet.report.differences import Difference
from prognet.report.disparity import same_tasks
from prognet.report.facts import differing_settings
from prognet.report.frozen import count
from prognet.report.gates import gate_notes
from prognet.report.grid import CUMULATIVE, INDEPENDENT, JOINT, PROGRESSIVE, WIDE, Grid, is_drawn
from prognet.report.inputs import input_notes
from prognet.report.kinds import kind_notes
from prognet.report.measures import ACCURACY
from prognet.report.units import LOSS, PERCENT, POINTS, PROBABILITY, Unit
from prognet.statistics import Interval

_FEW = 5


def alarms(comparison: Comparison) -> tuple[str, ...]:
    """What a reader must know before any number: frozen parts that moved, runs that are missing."""
    moved = [(s.name, count(s.frozen, "changed")) for s in comparison.summaries if count(s.frozen, "changed")]
    lost = [(s.name, count(s.frozen, "missing")) for s in comparison.summaries if count(s.frozen, "missing")]
    missing = comparison.grid.missing
    found = [f"{name}: {number} frozen parts have changed since they were frozen." for name, number in moved]
    found += [f"{name}: {number} frozen parts have no digest after a later step." for name, number in lost]
    if missing:
        cells = ", ".join(f"{name} (order {order}, seed {seed})" for name, order, seed in missing)
        found.append(
            f"The grid is not complete: {len(missing)} runs are missing: {cells}. Rows are means over the runs that "
            "there are, and differences use the runs that both strategies have."
        )
    return tuple(found)


def findings(comparison: Comparison) -> tuple[str, ...]:
    """Every strategy's accuracy and forgetting in a sentence, and progressive against the others."""
    sentences = [_finding(summary) for summary in comparison.summaries]
    compared = [found for found in comparison.accuracy_differences if found.strategy == PROGRESSIVE]
    return (*sentences, *(_against(difference) for difference in compared))


def notes(comparison: Comparison) -> tuple[str, ...]:
    """The limits of the comparison, in words."""
    grid = comparison.grid
    found = [*_seed_notes(len(grid.seeds), is_drawn(grid)), *_order_notes(grid), *_reference_notes(grid.strategies)]
    if any(len(group) > 1 for summary in comparison.summaries for group in summary.schedule):
        found.append(
            "Joint and cumulative schedules learn several tasks in the same updates. Their learning curves are not "
            "comparable with one task's own, so LCA and the transfer ratio are undefined for them. A joint schedule "
            "has one step, so nothing can be forgotten: forgetting and BWT are undefined, not zero."
        )
    if differing_settings(grid):
        found.append("Not all rows were run with the same settings; the list under “What was run” says which differ.")
    found += [
        *kind_notes(comparison),
        *input_notes(comparison),
        *gate_notes(comparison),
        "Intervals and p values are of single comparisons; only the column “p, Holm” accounts for their number, within "
        "its own table. An interval that contains zero shows no difference, and does not show that there is none.",
        "The forward transfer of Lopez-Paz & Ranzato is not reported: it needs predictions for tasks that were not "
        "learned yet, and a network without a column or head for a task has none.",
        "Seconds and memory depend on the machine and on what else it did.",
    ]
    return tuple(found)


def _finding(summary: Summary) -> str:
    accuracy, forgetting = summary.measures[ACCURACY.key], summary.measures["forgetting"]
    text = f"{summary.name}: average accuracy {_with_half(PERCENT, accuracy)} %"
    if isnan(forgetting.mean):
        return f"{text}; forgetting is undefined."
    exactly = forgetting.mean == 0 and (forgetting.n == 1 or forgetting.half_width == 0)
    return f"{text}; forgetting {'exactly 0' if exactly else _with_half(LOSS, forgetting)} points."


def _against(difference: Difference) -> str:
    interval = difference.interval
    text = f"{PROGRESSIVE} minus {difference.reference}: {POINTS.text(interval.mean)} points of average accuracy"
    if isnan(difference.adjusted):
        return f"{text}."
    p = PROBABILITY.text(difference.adjusted)
    bounds = f"95 % interval {POINTS.text(interval.low)} to {POINTS.text(interval.high)}"
    return f"{text}, {bounds}, Holm's p {p if p.startswith('<') else f'= {p}'}."


def _with_half(unit: Unit, interval: Interval) -> str:
    return f"{unit.text(interval.mean)} {unit.half(interval.half_width)}".rstrip()


def _seed_notes(seeds: int, drawn: bool) -> list[str]:
    varied = "training samples, initialisation and data order" if drawn else "initialisation and data order"
    if seeds == 1:
        return [
            "There is one seed. Nothing here has an interval, and no difference can be told from the luck of an "
            f"initialisation: run at least {_FEW} seeds before you conclude anything."
        ]
    few = [f"There are {seeds} seeds: intervals are wide, and p values coarse."] if seeds < _FEW else []
    return [
        *few,
        f"Intervals are over {seeds} seeds ({varied}). They say nothing about another test set, "
        "another stream or other settings.",
    ]


def _order_notes(grid: Grid) -> list[str]:
    if len(grid.orders) == 1:
        return ["There is one order of the tasks: how much it matters was not measured."]
    averaged = f"Values are averaged over {len(grid.orders)} orders within each seed before an interval is made."
    if same_tasks(grid):
        return [averaged]
    return [
        averaged,
        "The orders hold different tasks, so a disparity between orders has no meaning and is not reported.",
    ]


def _reference_notes(names: tuple[str, ...]) -> list[str]:
    absent = {
        INDEPENDENT: "transfer and the transfer ratio are undefined",
        WIDE: "what is called transfer may be the effect of more parameters",
        JOINT: "HAT's ρ is undefined and there is no upper bound",
        CUMULATIVE: "intransigence is undefined",
    }
    return [f"There is no run of {name}: {effect}." for name, effect in absent.items() if name not in names]
