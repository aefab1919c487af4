"""Figures from a comparison: each function makes one; none shows, saves or trains."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from prognet.report.comparison import Comparison
from prognet.report.gates import TITLES
from prognet.report.plots.confusion import gate_confusion, gates_measured
from prognet.report.plots.cost import cost_against_accuracy, growth
from prognet.report.plots.learning import learning_curves
from prognet.report.plots.matrices import accuracy_matrices
from prognet.report.plots.over_tasks import average_accuracy, forgetting_curves
from prognet.report.plots.style import look
from prognet.report.plots.transfer import transfer

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["PLOTS", "Plot", "draw", "look", "plots_for"]

_BANDS = "Bands are Student t 95 % intervals over seeds."


@dataclass(frozen=True)
class Plot:
    """One figure of the report."""

    name: str
    """Also the name of its files."""
    title: str
    caption: str
    draw: "Callable[[Comparison], Figure]"


PLOTS: tuple[Plot, ...] = (
    Plot(
        "average-accuracy",
        "Average accuracy as tasks arrive",
        f"Mean test accuracy over the tasks seen so far. {_BANDS} A joint schedule has one point, after all tasks.",
        average_accuracy,
    ),
    Plot(
        "forgetting-curves",
        "Forgetting: accuracy on each task as tasks arrive",
        "One panel a task; a line begins in the step in which the task was learned, and a line that stays level "
        f"forgets nothing. {_BANDS}",
        forgetting_curves,
    ),
    Plot(
        "accuracy-matrices",
        "Accuracy matrices",
        "R in percent, mean over seeds: row i when i tasks were seen, column j the accuracy on task j. Empty cells are "
        "tasks not learned yet. A joint schedule has one row.",
        accuracy_matrices,
    ),
    Plot(
        "transfer",
        "Transfer per task",
        "Learning accuracy minus that of independent networks (filled) and of independent networks widened to the "
        "parameters of the progressive column (open), paired by seed, with 95 % intervals. Above zero, earlier tasks "
        "helped. The axes of the panels differ.",
        transfer,
    ),
    Plot(
        "learning-curves",
        "Learning curves",
        "Test accuracy on each task over the mini-batches of learning it; linear for the first 10 updates, then "
        f"logarithmic. {_BANDS} Strategies that learn several tasks in the same updates are left out: their curves are "
        "not comparable.",
        learning_curves,
    ),
    Plot(
        "growth",
        "Growth of parameters and operations",
        "After each task: all parameters held, floating point operations of training so far, and operations to predict "
        "one sample (mean over the tasks seen). Means over seeds.",
        growth,
    ),
    Plot(
        "cost-accuracy",
        "Cost against accuracy",
        "Average accuracy after the last task against parameters, training operations and seconds; bars are 95 % "
        "intervals over seeds. Up and to the left is better.",
        cost_against_accuracy,
    ),
)


def plots_for(comparison: Comparison) -> tuple[Plot, ...]:
    """The figures of every comparison, and one for each gate that was measured in this one."""
    gates = (
        Plot(
            f"gate-{gate}",
            f"Which task was chosen without a label: {TITLES[gate]}",
            "After the last step, per true task (row) the share of its test samples for which the gate chose each task "
            "(column), in percent, mean over seeds; a row adds up to 100. On the diagonal the right task was chosen.",
            partial(gate_confusion, gate=gate),
        )
        for gate in gates_measured(comparison)
    )
    return (*PLOTS, *gates)


def draw(comparison: Comparison) -> "dict[str, Figure]":
    """Every figure of the report, by name."""
    with look():
        return {plot.name: plot.draw(comparison) for plot in plots_for(comparison)}
