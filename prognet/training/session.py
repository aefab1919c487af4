"""What a strategy is told when it learns, and what it reports of it: plain values."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from math import nan
from pathlib import Path
from typing import Any

import torch

from prognet.config import Execution, Measurement, Training
from prognet.results import LearningCurve


def ignore_progress(updates: int) -> None:
    """The observer that does nothing."""


def ignore_files(folder: Path) -> None:
    """Does nothing with the files of a run."""


def agree_alone(learner: Any, said: Any) -> None:
    """Compares with nobody."""


def train_alone(run: Any, source: Any) -> bool:
    """Leaves the training of a run to the run itself."""
    return False


@dataclass(frozen=True, kw_only=True, slots=True)
class Session:
    """One step of a run, as a strategy sees it."""

    training: Training
    measurement: Measurement
    seed: int
    device: torch.device
    execution: Execution = field(default_factory=Execution)
    step: int = 0
    """Step of the schedule, counted from 0."""
    choice: Mapping[str, Any] | None = None
    """What a stored run decided at this step; None where it is to be decided."""
    advance: Callable[[int], None] = ignore_progress
    """Told the number of updates that were done since it was told last."""
    kept: Callable[[Path], None] = ignore_files
    """Told the folder of the run whenever its files have changed and are whole."""
    train_together: Callable[[Any, Any], bool] = train_alone
    """Trains a run on its batches together with others, and says whether it did so."""
    make_run: Callable[..., Any] | None = None
    """Makes the run of every training, where processes share its batches; None where there is one process."""
    agree: Callable[[Any, Any], None] = agree_alone
    """Told what has learned and what was measured, JSON values: all processes must have come to the same."""

    def without_training(self) -> "Session":
        """The session in which everything is built as ever and nothing is trained: how a saved run is rebuilt."""
        training = replace(self.training, epochs=0, updates=None, first_updates=None)
        return replace(self, training=training, advance=ignore_progress, train_together=train_alone)


@dataclass(frozen=True, kw_only=True, slots=True)
class FitRecord:
    """What one call of `fit` did."""

    curves: tuple[LearningCurve, ...]
    trainable: int
    """Parameters that were trained."""
    updates: int
    samples: int
    """Training samples seen, with repetitions."""
    flops: float
    """Operations of all forward and backward passes: counted in the first batch, and in the first one after other
    parameters began to learn, in proportion to the samples."""
    seconds: float
    """Wall time without the measurements."""
    feature_flops: float = 0.0
    """Those of `flops` that went into features of frozen columns, which are computed once."""
    feature_seconds: float = 0.0
    """That part of `seconds`."""
    gradient_norm: float = nan
    """The mean length of the gradients, where the losses of the tasks were weighted; NaN otherwise."""
    measuring_seconds: float
    """Wall time of learning curves and validation."""


@contextmanager
def computing(session: Session) -> Iterator[None]:
    """Within the block products are computed in the precision that the session asks for."""
    if session.execution.precision == "float32":
        yield
        return
    with torch.autocast(session.device.type, dtype=getattr(torch, session.execution.precision)):
        yield


def synchronise(device: torch.device) -> None:
    """Waits until the device has done what it was given, so that times are true."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
