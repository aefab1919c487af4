"""What one earlier column is worth to a task, measured: the task is learned with it, and alone."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import torch
from torch import Tensor, nn

from prognet.engine import Adapter, MLPAdapter, ProgressiveNetwork
from prognet.engine.probe import Sites
from prognet.results import Floats
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, example_of, network_for
from prognet.strategies.columns import reading_of
from prognet.streams.task import Task
from prognet.training import Session, evaluating, fit, outputs_of, seeded


@dataclass(frozen=True, eq=False)
class Gains:
    """Of T tasks; rows are the source, columns the target, NaN for what is no pair, or has inputs of other shapes."""

    alone: Floats
    """(T,): the primary metric on the test split of a column that reads nothing."""
    accuracy: Floats
    """(T, T): that of a column that reads the source's."""
    columns: Mapping[int, nn.Module] = field(default_factory=dict, repr=False)
    """By task label, the column that learned alone."""

    @property
    def gain(self) -> Floats:
        """(T, T): with the source minus alone."""
        return self.accuracy - self.alone


def measure_gains(
    network: ProgressiveNetwork,
    column_of: Mapping[int, int],
    tasks: Sequence[Task],
    backbone: Backbone,
    session: Session,
    *,
    adapter: Adapter | None = None,
    sites: Sites = None,
    advance: Callable[[int], None] = lambda columns: None,
) -> Gains:
    """Learns every task but the first alone, and with each earlier column that sees inputs of its shape as one source.

    All columns of a task begin with the same parameters and see the same batches; with the default adapter a column
    that has a source says, before its first update, exactly what the column alone says. The source stays frozen, and
    what it reads itself is run with it.

    Args:
        network: holds the earlier columns; it is left as it is.
        column_of: the index of each task's column, by label.
        tasks: the tasks, in order; a task is a source for those behind it.
        backbone: makes the columns.
        session: how they are learned.
        adapter: of the lateral connections; by default `MLPAdapter()`, learned from U = 0.
        sites: names or globs of the sites; None for the defaults.
        advance: told 1 for every column that has been learned.

    Raises:
        DivergedError: when a loss is not finite.
        SiteError: when the backbone does not fit the columns there are.
    """
    n = max(task.label for task in tasks) + 1
    alone, accuracy = np.full(n, np.nan), np.full((n, n), np.nan)
    kept: dict[int, nn.Module] = {}
    for task in tasks[1:]:
        others = [other for other in tasks if other.label < task.label and other.input_shape == task.input_shape]
        for other in (None, *others):
            read = () if other is None else (column_of[other.label],)
            found, column = _learned(network, task, backbone, session, adapter or MLPAdapter(), sites, read)
            if other is None:
                alone[task.label], kept[task.label] = found, column
            else:
                accuracy[other.label, task.label] = found
            advance(1)
    return Gains(alone, accuracy, kept)


def _learned(
    network: ProgressiveNetwork,
    task: Task,
    backbone: Backbone,
    session: Session,
    adapter: Adapter,
    sites: Sites,
    sources: Sequence[int],
) -> tuple[float, nn.Module]:
    """The primary metric on the test split, and the column."""
    trial = ProgressiveNetwork(adapter)
    if sources:
        trial.columns.extend(network.columns)
    quiet = replace(session.measurement, lca_updates=0, curve_points=0, curve_samples=1)
    own = replace(session, measurement=quiet, step=task.label)
    with seeded(derive_seed(session.seed, task.label, "backbone"), session.device):
        module = network_for(backbone, task).to(session.device)
    with seeded(derive_seed(session.seed, task.label, "adapters"), session.device):
        k = trial.add_column(module, example_of(task), sites, sources=sources)
    trial.column(k).to(session.device)

    def predict(x: Tensor, label: int) -> Tensor:
        out: Tensor = trial(x, column=k)
        return out

    fit(
        trial.column(k),
        lambda inputs: {label: predict(part, label) for label, part in inputs.items()},
        predict,
        [task],
        own,
        reading=reading_of(trial, k),
    )
    with evaluating(trial), torch.no_grad():
        size = session.measurement.evaluation_batch_size
        outputs = outputs_of(predict, task, task.test, session.device, size)
        found = task.objective.metrics(outputs, task.test.y.to(outputs.device))[task.objective.primary]
    trial.column(k).freeze()
    return found, trial.column(k)
