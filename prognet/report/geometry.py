"""How the classes of every task lie in its column: means over seeds, and the table of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from prognet.errors import RunFolderError
from prognet.related import RunGeometry, TaskGeometry
from prognet.report.estimates import Band, band
from prognet.report.grid import Key
from prognet.report.table import Column, Table, Value
from prognet.report.units import COUNT, RATIO
from prognet.results import Floats


@dataclass(frozen=True, eq=False)
class TaskShape:
    """One task: bands (sites,)."""

    task: int
    """Position, counted from 1."""
    sites: tuple[str, ...]
    within: Band
    between: Band
    ratio: Band
    """within / between."""
    shuffled: Band
    """The same with permuted labels."""
    nc1: Band
    separation: Band


@dataclass(frozen=True, eq=False)
class Shapes:
    """One strategy."""

    strategy: str
    tasks: tuple[TaskShape, ...]
    seeds: int


def make_shapes(records: Mapping[str, Mapping[Key, RunGeometry]]) -> tuple[Shapes, ...]:
    """The records of every strategy, put together: of the positions at which every run has a classification.

    Raises:
        RunFolderError: when the columns of one strategy differ in their sites.
    """
    return tuple(_shapes(name, found) for name, found in records.items())


def geometry_table(shapes: tuple[Shapes, ...]) -> Table:
    """One row per strategy, task and site."""
    rows: list[tuple[Value, ...]] = [
        (
            shape.strategy,
            float(task.task),
            site,
            task.within.at(place),
            task.between.at(place),
            task.ratio.at(place),
            task.shuffled.at(place),
            task.nc1.at(place),
            task.separation.at(place),
        )
        for shape in shapes
        for task in shape.tasks
        for place, site in enumerate(task.sites)
    ]
    return Table(
        "How classes lie in what the sites receive",
        "On test samples of the task, in its own column. Within: mean squared distance of a sample from the mean of "
        "its class; between: of a class mean from their mean; every class counts alike. Permuted: within / between "
        "with the labels permuted, what few samples give by chance. NC1: tr(S_W S_B⁺) / C. Separation: mean distance "
        "of two class means over the root of within. Mean ± half of the Student t 95 % interval over seeds.",
        (
            Column("strategy", "strategy"),
            Column("task", "task", COUNT),
            Column("site", "site"),
            Column("within", "within", RATIO),
            Column("between", "between", RATIO),
            Column("ratio", "within / between ↓", RATIO),
            Column("shuffled", "permuted", RATIO),
            Column("nc1", "NC1 ↓", RATIO),
            Column("separation", "separation ↑", RATIO),
        ),
        tuple(rows),
    )


def _shapes(strategy: str, records: Mapping[Key, RunGeometry]) -> Shapes:
    common = set.intersection(*({task.task for task in record.tasks} for record in records.values()))
    records = {
        key: replace(record, tasks=tuple(task for task in record.tasks if task.task in common))
        for key, record in records.items()
    }
    first = next(iter(records.values()))
    kinds = {tuple((task.task, task.sites) for task in record.tasks) for record in records.values()}
    if len(kinds) > 1:
        raise RunFolderError(f"{strategy}: required columns with one kind of sites, found {len(kinds)} kinds.")

    def over(place: int, value: Callable[[TaskGeometry], Floats]) -> Band:
        return band({key: value(record.tasks[place]) for key, record in records.items()})

    return Shapes(
        strategy,
        tuple(
            TaskShape(
                task.task + 1,
                task.sites,
                over(place, lambda one: one.within),
                over(place, lambda one: one.between),
                over(place, lambda one: one.ratio),
                over(place, lambda one: one.shuffled),
                over(place, lambda one: one.nc1),
                over(place, lambda one: one.separation),
            )
            for place, task in enumerate(first.tasks)
        ),
        len({seed for _, seed in records}),
    )
