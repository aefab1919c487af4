"""Weightings that look at the losses alone: one backward pass, as for their mean."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prognet.errors import ConfigError
from prognet.ranges import NOT_NEGATIVE, POSITIVE, require_number
from prognet.strategies.multitask.weighting import Weighting, require_all, torchjd
from prognet.training.weighting import LossBalance, Parts


@dataclass(frozen=True, kw_only=True)
class FixedWeights(Weighting):
    """The mean over the samples of their losses, times the weight of their task.

    Raises:
        ConfigError: when a weight is no finite number of at least 0, or all of them are 0.
    """

    weights: Sequence[float] | None = None
    """A factor for each task, by its label; None for 1."""

    def __post_init__(self) -> None:
        if self.weights is None:
            return
        try:
            weights = tuple(self.weights)
        except TypeError:  # a single number
            weights = ()
        if not all(weight in NOT_NEGATIVE for weight in weights) or not any(weights):
            raise ConfigError(
                f"weights: required finite numbers, at least 0 and not all of them 0, found {self.weights!r}; give one "
                "for each task, e.g. weights=(1, 0.5)."
            )
        object.__setattr__(self, "weights", tuple(float(weight) for weight in weights))

    def start(self, labels: Sequence[int], device: torch.device) -> LossBalance:
        if self.weights is not None and max(labels) >= len(self.weights):
            raise ConfigError(
                f"weights: required one for each of the tasks {list(labels)}, found {len(self.weights)} of them."
            )
        weights = {label: 1.0 if self.weights is None else self.weights[label] for label in labels}
        return _Scalarised(
            lambda losses: torch.stack([weights[label] * loss for label, loss in losses.items()]).mean(),
            self.match_scale,
        )


@dataclass(frozen=True, kw_only=True)
class Uncertainty(Weighting):
    """Kendall, Gal & Cipolla 2018 (arXiv 1705.07115): sum_t exp(-s_t) / 2 l_t + s_t / 2, with a learned s_t a task.

    s_t is the logarithm of a variance; it begins at 0. With SGD and losses that go to 0 the weights of the published
    form explode, so s_t has an Adam of its own here.

    Raises:
        ConfigError: when the learning rate is not above 0.
    """

    lr: float = 0.001
    """The learning rate of every s_t."""

    def __post_init__(self) -> None:
        require_number("lr", self.lr, POSITIVE)

    def start(self, labels: Sequence[int], device: torch.device) -> LossBalance:
        make = torchjd("scalarization").UW
        terms = {label: make(1).to(device) for label in labels}  # one a task, so that a task may be absent
        learned = [parameter for term in terms.values() for parameter in term.parameters()]
        return _Scalarised(
            lambda losses: torch.stack([terms[label](loss.view(1)) for label, loss in losses.items()]).sum(),
            self.match_scale,
            learned,
            self.lr,
        )


@dataclass(frozen=True, kw_only=True)
class DWA(Weighting):
    """Dynamic weight average, Liu, Johns & Davison 2019 (arXiv 1803.10704): tasks whose loss falls slowly weigh more.

    lambda_t = T softmax_t(L_t(e - 1) / L_t(e - 2) / temperature), of the mean losses of the last two passes; 1 in the
    first two.

    Raises:
        ConfigError: when the temperature is not above 0.
    """

    temperature: float = 2.0
    """The larger, the more even."""

    def __post_init__(self) -> None:
        require_number("temperature", self.temperature, POSITIVE)

    def start(self, labels: Sequence[int], device: torch.device) -> LossBalance:
        return _Complete("DWA", torchjd("scalarization").DWA(self.temperature), labels, self.match_scale)


@dataclass(frozen=True, kw_only=True)
class RandomWeights(Weighting):
    """Lin et al. 2022 (arXiv 2111.10603): softmax of a standard normal draw in every update; a litmus test."""

    def start(self, labels: Sequence[int], device: torch.device) -> LossBalance:
        draw = torchjd("scalarization").Random()
        return _Scalarised(lambda losses: draw(torch.stack(list(losses.values()))), self.match_scale)


@dataclass(frozen=True, kw_only=True)
class FAMO(Weighting):
    """Liu et al. 2023 (arXiv 2306.03792): all losses are to fall at the same relative rate.

    Every batch is looked at once more after its update, so that a forward pass is added to each.

    Raises:
        ConfigError: when a number is out of its range.
    """

    lr: float = 0.025
    """The learning rate of the logits of the weights."""
    decay: float = 0.001
    """Their weight decay."""

    def __post_init__(self) -> None:
        require_number("lr", self.lr, POSITIVE)
        require_number("decay", self.decay, NOT_NEGATIVE)

    def start(self, labels: Sequence[int], device: torch.device) -> LossBalance:
        make = torchjd("scalarization").FAMO
        scalarizer = make(len(labels), lr=self.lr, weight_decay=self.decay).to(device)
        return _Famo("FAMO", scalarizer, labels, self.match_scale)


class _Scalarised(LossBalance):
    """A function from the losses to one number."""

    def __init__(
        self,
        function: Callable[[Mapping[int, Tensor]], Tensor],
        match_scale: bool,
        learned: Sequence[nn.Parameter] = (),
        lr: float = 0.0,
    ) -> None:
        super().__init__(match_scale, learned, lr)
        self._function = function

    def scalar(self, losses: Mapping[int, Tensor]) -> Tensor:
        return self._function(losses)


class _Complete(LossBalance):
    """A scalarizer of torchjd that compares all tasks, and rolls its history on after every pass."""

    def __init__(self, name: str, scalarizer: Any, labels: Sequence[int], match_scale: bool) -> None:
        super().__init__(match_scale)
        self._name, self._scalarizer, self._labels = name, scalarizer, labels

    def scalar(self, losses: Mapping[int, Tensor]) -> Tensor:
        require_all(self._name, losses, self._labels)
        found: Tensor = self._scalarizer(torch.stack([losses[label] for label in self._labels]))
        return found

    def after_pass(self) -> None:
        if hasattr(self._scalarizer, "step"):
            self._scalarizer.step()


class _Famo(_Complete):
    """The weights move by what an update did to the losses of its own batch."""

    def after_step(self, again: Callable[[], Parts]) -> None:
        with torch.no_grad():
            parts = again()
        self._scalarizer.update(len(parts) * torch.stack([parts[label] for label in self._labels]))
