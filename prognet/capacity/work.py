"""What the arithmetic begins with: what a column needs by the number of its sources, and the work of a run."""

from dataclasses import dataclass, field

import numpy as np

from prognet.config import Execution, Measurement, Training
from prognet.errors import ConfigError
from prognet.results import Floats


@dataclass(frozen=True, kw_only=True, slots=True)
class BySources:
    """A number that depends on how many columns s a column reads: `alone` for none, else `alone + joint + s * each`."""

    alone: float
    joint: float = 0.0
    each: float = 0.0

    def of(self, sources: Floats) -> Floats:
        """The number for each number of sources (K,) -> (K,)."""
        return self.alone + np.where(sources > 0, self.joint + self.each * sources, 0.0)


@dataclass(frozen=True, kw_only=True, slots=True)
class ColumnCosts:
    """What one column needs, by the number of its sources; all columns have the same backbone and the same shapes."""

    parameters: BySources
    """Backbone and adapters."""
    stored_bytes: BySources
    """Of all parameters and buffers."""
    tensors: BySources
    """Parameters and buffers, each counted once."""
    feature_values: BySources
    """Numbers a sample that its sources hand over to its adapters."""
    forward_flops: BySources
    """Operations a sample of the column alone, what its sources received being given."""
    update_flops: BySources
    """Operations a sample of a forward and a backward pass, with prepared features."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """The work of one run: K tasks of the same size, learned one after the other by one column each.

    Raises:
        ConfigError: when a number is out of its range.
    """

    tasks: int
    """K."""
    train: int
    """Training samples of each task."""
    test: int
    """Test samples of each task."""
    validation: int = 0
    """Validation samples of each task."""
    sources: int | None = None
    """m: columns that a column reads at most; None for all earlier ones."""
    closure: int | None = None
    """Columns that are run for a prediction beside the own one, at most; None for all earlier ones, which is also the
    chain of `LastSources(m)`."""
    compares_trunks: bool = True
    """Whether every earlier trunk is looked at before a task is learned, as the default `Start()` does."""
    solves_output: bool = True
    """Whether an output lateral is solved on the features of all sources, as that of the default adapter is."""
    training: Training = field(default_factory=Training)
    measurement: Measurement = field(default_factory=Measurement)
    execution: Execution = field(default_factory=Execution)

    def __post_init__(self) -> None:
        for name, least in (("tasks", 1), ("train", 1), ("test", 0), ("validation", 0)):
            require(getattr(self, name) >= least, name, f"a whole number, at least {least}", getattr(self, name))
        for name in ("sources", "closure"):
            value = getattr(self, name)
            require(value is None or value >= 0, name, "None or a whole number, at least 0", value)

    @property
    def updates(self) -> int:
        """Updates of a task; the first one may have a number of its own, which is not looked at."""
        given = self.training.updates
        return self.training.epochs * -(-self.train // self.training.batch_size) if given is None else given

    @property
    def curve(self) -> int:
        """Test samples on which the learning curve is measured."""
        return min(self.test, self.measurement.curve_samples)

    @property
    def points(self) -> int:
        """Points of the learning curve: before the first update, after each of the first, and the further ones."""
        asked = self.measurement.lca_updates + self.measurement.curve_points
        return 1 + min(self.updates, asked)

    @property
    def seen(self) -> float:
        """Training samples that a task sees, with repetitions."""
        epoch = -(-self.train // self.training.batch_size)
        return self.updates / epoch * self.train


def require(condition: bool, argument: str, required: str, found: object) -> None:
    """Raises ConfigError unless a condition on an argument holds."""
    if not condition:
        raise ConfigError(f"{argument}: required {required}, found {found!r}.")
