"""Accuracy with and without task labels, side by side: what the gates of the runs made of it."""

from collections.abc import Mapping
from dataclasses import dataclass
from math import nan

import numpy as np

from prognet.inference import GateRecord
from prognet.report.comparison import Comparison
from prognet.report.estimates import Band, band, interval
from prognet.report.grid import Grid, Key
from prognet.report.table import Column, Table, Value
from prognet.report.units import COUNT, PERCENT, POINTS
from prognet.results import Floats, RunResult
from prognet.statistics import Interval

TITLES: Mapping[str, str] = {
    "confidence": "maximum confidence",
    "entropy": "lowest entropy",
    "autoencoder": "auto-encoders (Expert Gate)",
}
"""The gates that the report knows, in its order, with their names for people."""


@dataclass(frozen=True, eq=False)
class GateSummary:
    """One gate with one strategy, after the last step: means over seeds with their intervals."""

    strategy: str
    gate: str
    seeds: int
    aware: Interval
    """Average accuracy with the task label, of the runs that measured the gate."""
    agnostic: Interval
    """Average accuracy without it."""
    difference: Interval
    """Without minus with, within each run."""
    chosen: Interval
    """The share of test samples whose own task was chosen, mean over tasks."""
    aware_per_task: Band
    """(T,)"""
    agnostic_per_task: Band
    """(T,)"""
    shares: Floats
    """(T, T): for each true task (row) the share of its test samples by chosen task, mean over seeds."""
    parameters: float
    """What the gate itself holds."""
    shared_names: bool
    """Whether tasks share names of classes."""


def gate_summaries(grid: Grid) -> tuple[GateSummary, ...]:
    """One for each strategy and gate that was measured after the last step, in the order of the report's rows."""
    cells = {
        (strategy, gate): {key: (run, record) for key, run in runs.items() if (record := _measured(run).get(gate))}
        for strategy, runs in grid.runs.items()
        for gate in TITLES
    }
    return tuple(_summary(strategy, gate, found) for (strategy, gate), found in cells.items() if found)


def gate_table(comparison: Comparison) -> Table:
    """One row per strategy and gate."""
    rows: tuple[tuple[Value, ...], ...] = tuple(
        (s.strategy, TITLES[s.gate], s.aware, s.agnostic, s.difference, s.chosen, s.parameters, float(s.seeds))
        for s in gate_summaries(comparison.grid)
    )
    return Table(
        "Without task labels",
        "Average accuracy after the last step, with the task label given and with a gate that has to choose the task. "
        "Right task: the share of test samples whose own task was chosen, mean over tasks. The gate's parameters are "
        "its own, and no part of the strategy's. Mean ± half the width of the Student t 95 % interval over seeds, "
        "where there are several; differences are taken within a run.",
        (
            Column("strategy", "strategy"),
            Column("gate", "gate"),
            Column("with_label", "ACC, label given ↑", PERCENT),
            Column("without_label", "ACC, no label ↑", PERCENT),
            Column("difference", "difference", POINTS),
            Column("right_task", "right task ↑", PERCENT),
            Column("gate_parameters", "gate's parameters", COUNT),
            Column("seeds", "seeds", COUNT),
        ),
        rows,
    )


def gate_task_table(comparison: Comparison) -> Table:
    """One row per strategy and task position, one column per gate."""
    found = gate_summaries(comparison.grid)
    gates = tuple(dict.fromkeys(summary.gate for summary in found))
    by_cell = {(summary.strategy, summary.gate): summary for summary in found}
    rows: list[tuple[Value, ...]] = []
    for strategy in dict.fromkeys(summary.strategy for summary in found):
        own = [by_cell.get((strategy, gate)) for gate in gates]
        first = next(summary for summary in own if summary)
        rows += [
            (
                strategy,
                float(task + 1),
                name or "varies with the order",
                first.aware_per_task.at(task),
                *(s.agnostic_per_task.at(task) if s else Interval(nan, nan, nan, 0) for s in own),
            )
            for task, name in enumerate(comparison.grid.task_names)
        ]
    return Table(
        "Without task labels, per task",
        "Accuracy on the test split of each task after the last step: with the label given, and by gate without it. "
        "Mean ± half the width of the Student t 95 % interval over seeds, where there are several.",
        (
            Column("strategy", "strategy"),
            Column("task", "task", COUNT),
            Column("name", "name"),
            Column("with_label", "label given", PERCENT),
            *(Column(gate, TITLES[gate], PERCENT) for gate in gates),
        ),
        tuple(rows),
    )


def gate_tables(comparison: Comparison) -> dict[str, Table]:
    """The tables about gates by name; none where no run measured one."""
    if not gate_summaries(comparison.grid):
        return {}
    return {"task-agnostic": gate_table(comparison), "task-agnostic-tasks": gate_task_table(comparison)}


def gate_notes(comparison: Comparison) -> tuple[str, ...]:
    """What has to be known about the numbers with and without labels."""
    found = gate_summaries(comparison.grid)
    if not found:
        return ("The label of a task is given at test time: these are task-incremental numbers.",)
    told = [
        "The label of a task is given at test time, but for what stands under “Without task labels”: all other numbers "
        "are task-incremental.",
        "Without a label, a prediction counts as right when the predicted class has the name of the true one. Gates "
        "see test inputs and outputs only; the auto-encoder gate has learned from the training inputs of every task.",
    ]
    if any(summary.shared_names for summary in found):
        told.append(
            "Tasks of this stream share names of classes, so a prediction may be right in the wrong task, as it should "
            "be where the classes are the same in every task. Where one name means different things in different tasks "
            "the accuracy without labels is too high; “right task” does not depend on names."
        )
    return tuple(told)


def _measured(run: RunResult) -> dict[str, GateRecord]:
    last = len(run.schedule) - 1
    return {name: record for name, record in run.gates.items() if last in record.measured}


def _summary(strategy: str, gate: str, cells: Mapping[Key, tuple[RunResult, GateRecord]]) -> GateSummary:
    aware = {key: run.accuracy[-1] for key, (run, _) in cells.items()}
    agnostic = {key: record.accuracy[-1] for key, (_, record) in cells.items()}
    shares = {key: record.shares(len(run.schedule) - 1) for key, (run, record) in cells.items()}
    return GateSummary(
        strategy=strategy,
        gate=gate,
        seeds=len({seed for _, seed in cells}),
        aware=_mean(aware),
        agnostic=_mean(agnostic),
        difference=_mean({key: agnostic[key] - aware[key] for key in cells}),
        chosen=_mean({key: np.diagonal(matrix) for key, matrix in shares.items()}),
        aware_per_task=band(aware),
        agnostic_per_task=band(agnostic),
        shares=band(shares).mean,
        parameters=float(np.mean([record.parameters[-1] for _, record in cells.values()])),
        shared_names=any(record.shared_names for _, record in cells.values()),
    )


def _mean(values: Mapping[Key, Floats]) -> Interval:
    return interval({key: float(np.mean(row)) for key, row in values.items()})
