"""The weighting axis: how the losses of tasks that are learned together become one gradient. Frozen values.

None of them stands for the mean of the losses, which with Adam is the baseline to beat: most published gains of
gradient methods are learning-rate scale (Kurin et al. 2022, arXiv 2201.04122). Some methods take steps as long as the
sum of the gradients, others as their mean; `match_scale` brings all of them to the mean's, for comparisons.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any, TypeVar

import torch
from torch import Tensor

from prognet.errors import ConfigError, ControlUnavailableError
from prognet.strategies.specification import Specification
from prognet.training.weighting import Balance


@dataclass(frozen=True, kw_only=True)
class Weighting(Specification, ABC):
    """A way to weight losses or gradients."""

    match_scale: bool = False
    """Whether a step is brought to the length of the one of the mean: for weights of losses their sum is 1, and a
    combined gradient has the length of the mean gradient."""

    @abstractmethod
    def start(self, labels: Sequence[int], device: torch.device) -> Balance:
        """The weighting of one training.

        Args:
            labels: the tasks that are learned together.
            device: where their losses are.
        """


def torchjd(module: str) -> Any:
    """A module of torchjd; importing it asks for solvers that none of this needs."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module(f"torchjd.{module}")


T = TypeVar("T")


def with_extra(name: str, extra: str, make: Callable[[], T]) -> T:
    """What `make` makes with an extra of torchjd.

    Raises:
        ControlUnavailableError: when the extra is not installed.
    """
    try:
        return make()
    except ImportError as error:
        raise ControlUnavailableError(
            f"weighting: required the packages of torchjd[{extra}] for {name}, found {error}; "
            f"pip install 'torchjd[{extra}]', or choose another weighting."
        ) from error


def require_all(name: str, present: Iterable[int], labels: Sequence[int]) -> None:
    """Raises ConfigError when a batch lacks samples of a task, for a weighting that compares all of them."""
    if absent := sorted(set(labels) - set(present)):
        raise ConfigError(
            f"weighting: required samples of every task in every batch for {name}, found none of tasks {absent} in "
            "one; use sampling=0.0, a larger batch_size, or a weighting that leaves absent tasks out."
        )


def silenced(combine: Callable[[Tensor], Tensor], message: str) -> Callable[[Tensor], Tensor]:
    """The same function without those warnings of other packages that begin with `message`."""

    def quiet(rows: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message)
            return combine(rows)

    return quiet
