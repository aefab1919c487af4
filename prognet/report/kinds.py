"""Tasks that are no classifications: which metric stands in their cells, and a table of all their metrics."""

import numpy as np

from prognet.report.comparison import Comparison
from prognet.report.estimates import interval
from prognet.report.table import Column, Table, Value
from prognet.report.units import COUNT, RATIO
from prognet.results import PRIMARY_METRIC

_VALUE = Column("value", "value", RATIO)


def primary_metrics(comparison: Comparison) -> dict[str, list[str]]:
    """The names of the tasks by the metric that R holds of them, for the first run of the first strategy."""
    found: dict[str, list[str]] = {}
    for task in comparison.grid.first(comparison.names[0]).tasks:
        found.setdefault(task.primary, []).append(task.name)
    return found


def measured(comparison: Comparison) -> str:
    """What R holds, for the axes of figures: accuracy, the one metric that all tasks have, or several."""
    found = primary_metrics(comparison)
    return next(iter(found)) if len(found) == 1 else "primary metric"


def kind_notes(comparison: Comparison) -> list[str]:
    """What accuracy means where not every task is a classification; nothing where every one is."""
    found = primary_metrics(comparison)
    if set(found) == {PRIMARY_METRIC}:
        return []
    parts = "; ".join(f"{metric}: {', '.join(names)}" for metric, names in found.items())
    return [
        "Not every task is a classification. Where this page says accuracy, each task's primary metric is meant, which "
        f"lies in [0, 1] ({parts}). A mean over tasks adds up different metrics: read the tasks one by one, in the "
        "table “Every metric of every task”."
    ]


def kind_tables(comparison: Comparison) -> dict[str, Table]:
    """Every metric of every task after the last step, in its own unit; none where every task is a classification."""
    if set(primary_metrics(comparison)) == {PRIMARY_METRIC}:
        return {}
    rows: list[tuple[Value, ...]] = []
    for name in comparison.names:
        cells = comparison.grid.runs[name]
        metrics = dict.fromkeys(metric for run in cells.values() for metric in run.metrics)
        for label in range(comparison.grid.n_tasks):
            for metric in metrics:
                known = {key: run.metrics[metric] for key, run in cells.items() if metric in run.metrics}
                values = {key: float(matrix[-1, label]) for key, matrix in known.items()}
                if not np.isnan(list(values.values())).all():
                    rows.append((name, float(label + 1), metric, interval(values)))
    table = Table(
        "Every metric of every task",
        "On the test split after the last step, each in its own unit: rmse and mae in that of the targets (of the "
        "number that is named, where there are several), all others as fractions or in nats. Mean over seeds with "
        "the Student t 95 % interval.",
        (Column("strategy", "strategy"), Column("task", "task", COUNT), Column("metric", "metric"), _VALUE),
        tuple(rows),
    )
    return {"task-metrics": table}
