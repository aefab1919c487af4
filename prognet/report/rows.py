"""The tables of the report, from a comparison."""

from math import nan
from typing import get_args

from prognet.report.comparison import COSTS, FORWARD, Comparison
from prognet.report.differences import Difference
from prognet.report.frozen import Verdict, count
from prognet.report.gates import gate_tables
from prognet.report.grid import INDEPENDENT, WIDE
from prognet.report.kinds import kind_tables
from prognet.report.measures import FURTHER, MEASURES
from prognet.report.table import Column, Table, Value
from prognet.report.units import (
    COUNT,
    LOSS,
    MEGABYTES,
    PERCENT,
    POINTS,
    PROBABILITY,
    RATIO,
    SECONDS,
    WHOLE_MEGABYTES,
    Unit,
    prefixed,
)
from prognet.statistics import Interval

_UNKNOWN = Interval(nan, nan, nan, 0)
_STRATEGY = Column("strategy", "strategy")
_POSITION = Column("task", "task", COUNT)
_INTERVALS = "Mean ± half the width of the Student t 95 % interval over seeds"
_ONE_SEED = "One seed: there are no intervals, and no difference can be told from noise"
_ZERO = "0 without decimals is exactly zero; – is undefined."

_COST_TITLES = {
    "parameters": ("parameters", COUNT),
    "trainable": ("trainable", COUNT),
    "added": ("added", COUNT),
    "stored_bytes": ("stored", MEGABYTES),
    "updates": ("updates", COUNT),
    "samples": ("samples", COUNT),
    "training_flops": ("training FLOPs", COUNT),
    "feature_flops": ("of these, frozen features", COUNT),
    "seconds": ("learning", SECONDS),
    "feature_seconds": ("of these, frozen features", SECONDS),
    "evaluation_seconds": ("evaluation", SECONDS),
    "peak_memory": ("peak memory", WHOLE_MEGABYTES),
    "gradient_norm": ("gradient length", RATIO),
    FORWARD: ("FLOPs of a prediction", COUNT),
}


def make_tables(comparison: Comparison) -> dict[str, Table]:
    """Every table of the report, by name, which is also the name of its files."""
    tables = {
        "summary": summary_table(comparison),
        "further": further_table(comparison),
        "differences-accuracy": difference_table(
            comparison.accuracy_differences, "Paired differences of average accuracy"
        ),
        "differences-learning": difference_table(
            comparison.learning_differences, "Paired differences of learning accuracy (transfer)"
        ),
        **gate_tables(comparison),
        "tasks": task_table(comparison),
        **kind_tables(comparison),
        "costs": cost_table(comparison),
        "frozen": frozen_table(comparison),
        "digests": digest_table(comparison),
    }
    return {**tables, "orders": order_table(comparison)} if comparison.disparities else tables


def summary_table(comparison: Comparison) -> Table:
    """One row per strategy, one column per measure."""
    flops = prefixed("FLOP", (summary.measures["training_flops"].mean for summary in comparison.summaries))
    columns = [Column(m.key, m.title, flops if m.key == "training_flops" else m.unit) for m in MEASURES]
    rows: list[tuple[Value, ...]] = [
        (s.name, *(s.measures[measure.key] for measure in MEASURES), float(s.seeds)) for s in comparison.summaries
    ]
    return Table(
        "Summary",
        f"{_ONE_SEED if comparison.one_seed else _INTERVALS}. {_ZERO}",
        (_STRATEGY, *columns, Column("seeds", "seeds", COUNT)),
        tuple(rows),
    )


def further_table(comparison: Comparison) -> Table:
    """One row per strategy, one column per measure beside the accuracy."""
    columns = [Column(measure.key, measure.title, measure.unit) for measure in FURTHER]
    rows: list[tuple[Value, ...]] = [
        (s.name, *(s.measures[measure.key] for measure in FURTHER), float(s.seeds)) for s in comparison.summaries
    ]
    return Table(
        "Beside the accuracy",
        f"{_ONE_SEED if comparison.one_seed else _INTERVALS}. {_ZERO}",
        (_STRATEGY, *columns, Column("seeds", "seeds", COUNT)),
        tuple(rows),
    )


def difference_table(found: tuple[Difference, ...], title: str) -> Table:
    """One row per compared pair."""
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (d.strategy, d.reference, i.mean, i.low, i.high, d.p_value, d.adjusted, float(i.n))
        for d in found
        for i in (d.interval,)
    )
    return Table(
        title,
        f"{len(found)} comparisons. Differences are paired by seed (same initialisation, data order, tasks). The "
        "95 % interval and p (paired t test) are for each comparison alone; the last p is Holm's over all "
        f"{len(found)} of this table. {_ZERO}",
        (
            _STRATEGY,
            Column("reference", "minus"),
            Column("difference", "difference", POINTS),
            Column("low", "95 % from", POINTS),
            Column("high", "95 % to", POINTS),
            Column("p", "p", PROBABILITY),
            Column("p_holm", "p, Holm", PROBABILITY),
            Column("seeds", "seeds", COUNT),
        ),
        rows,
    )


def task_table(comparison: Comparison) -> Table:
    """One row per strategy and task position."""
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            summary.name,
            float(task + 1),
            name or "varies with the order",
            summary.accuracy.at(-1, task),
            summary.learning.at(task),
            summary.forgetting.at(task),
            *(summary.transfer[r].at(task) if r in summary.transfer else _UNKNOWN for r in (INDEPENDENT, WIDE)),
        )
        for summary in comparison.summaries
        for task, name in enumerate(comparison.grid.task_names)
    )
    return Table(
        "Per task",
        "Tasks by their position. Transfer is the learning accuracy minus that of the reference, paired by "
        f"seed. {_ONE_SEED if comparison.one_seed else _INTERVALS}. {_ZERO}",
        (
            _STRATEGY,
            _POSITION,
            Column("name", "name"),
            Column("accuracy", "final accuracy", PERCENT),
            Column("learning_accuracy", "learning accuracy", PERCENT),
            Column("forgetting", "forgetting, from best", LOSS),
            Column("transfer_independent", f"transfer, to {INDEPENDENT}", POINTS),
            Column("transfer_independent_wide", f"transfer, to {WIDE}", POINTS),
        ),
        rows,
    )


def cost_table(comparison: Comparison) -> Table:
    """One row per strategy and step."""
    names = (*COSTS, FORWARD)
    columns = [Column(name, _COST_TITLES[name][0], _cost_unit(comparison, name)) for name in names]
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (summary.name, float(step + 1), float(seen), *(summary.costs[name].at(step) for name in names))
        for summary in comparison.summaries
        for step, seen in enumerate(summary.seen)
    )
    return Table(
        "Costs per step",
        "What each step of the schedule cost, mean over seeds. Trainable and added count the parameters that the step "
        "trained and added; a prediction is of one sample, mean over the tasks seen; peak memory is the allocator's on "
        "CUDA and elsewhere the whole process's so far; the length of a gradient is the mean over the updates of a "
        "strategy that weights the losses of tasks.",
        (_STRATEGY, Column("step", "step", COUNT), Column("tasks_seen", "tasks seen", COUNT), *columns),
        rows,
    )


def frozen_table(comparison: Comparison) -> Table:
    """One row per strategy that froze anything: how many parts were compared, and how many moved."""
    kinds: tuple[Verdict, ...] = get_args(Verdict)
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            summary.name,
            float(len(summary.frozen)),
            float(sum(part.checks for part in summary.frozen)),
            *(float(count(summary.frozen, kind)) for kind in kinds),
        )
        for summary in comparison.summaries
        if summary.frozen
    )
    return Table(
        "Frozen parts",
        "SHA-256 over all that decides a frozen part's output is taken after every step and compared with the first "
        "one. A part frozen by the last step has nothing after it to be compared with.",
        (
            _STRATEGY,
            Column("parts", "frozen parts", COUNT),
            Column("checks", "comparisons", COUNT),
            *(Column(kind.replace(" ", "_"), kind, COUNT) for kind in kinds),
        ),
        rows,
    )


def digest_table(comparison: Comparison) -> Table:
    """One row per frozen part of every run, with its first and its last digest."""
    parts = [part for summary in comparison.summaries for part in summary.frozen]
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (
            part.strategy,
            float(part.order),
            float(part.seed),
            part.part,
            float(part.step + 1),
            part.verdict,
            float(part.checks),
            part.digests[0] or "",
            part.digests[-1] or "none",
        )
        for part in parts
    )
    return Table(
        "Digests",
        "SHA-256 of every frozen part after the step that froze it and after the last step.",
        (
            _STRATEGY,
            Column("order", "order", COUNT),
            Column("seed", "seed", COUNT),
            Column("part", "part"),
            Column("frozen_after_step", "frozen after step", COUNT),
            Column("verdict", "since frozen"),
            Column("checks", "comparisons", COUNT),
            Column("first", "first digest"),
            Column("last", "last digest"),
        ),
        rows,
    )


def order_table(comparison: Comparison) -> Table:
    """One row per strategy: how much the order of the tasks matters."""
    return Table(
        "Order disparity",
        "Per task the largest difference of its final accuracy between orders, within a seed; then the mean (AOPD) "
        "and the largest (MOPD) over tasks, and the mean over seeds (Yoon et al. 2020, APD).",
        (_STRATEGY, Column("average", "AOPD ↓", LOSS), Column("maximum", "MOPD ↓", LOSS)),
        tuple((found.strategy, found.average, found.maximum) for found in comparison.disparities),
    )


def _cost_unit(comparison: Comparison, name: str) -> Unit:
    if not name.endswith("flops"):
        return _COST_TITLES[name][1]
    return prefixed("FLOP", (float(v) for summary in comparison.summaries for v in summary.costs[name].mean))
