"""What keeps plugins of Avalanche 0.6.0 from defects of theirs: listeners beside them, told of the same events.

None of them changes what a method means; each is void where its defect is gone.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch


def with_repairs(plugin: Any) -> list[Any]:
    """A method's plugin, with what keeps it from a defect of Avalanche 0.6.0."""
    match type(plugin).__name__:
        case "SynapticIntelligencePlugin":
            return [plugin, _OwnCopies(plugin)]
        case "MASPlugin":
            return [_NonZeroLoss(), plugin]
        case "AGEMPlugin":
            return [_NoMissingGradients(), plugin]
        case "ReplayPlugin":  # which calls a function of its own that warns whenever it is called
            plugin.storage_policy.update = partial(_update, plugin.storage_policy)
        case "NoneType":
            return []
    return [plugin]


@dataclass(frozen=True)
class _OwnCopies:
    """On the CPU, Avalanche's SI holds views of the living parameters where it needs copies of them, so that nothing
    ever differs from them, all importances stay zero, and it is plain fine-tuning."""

    plugin: Any

    def before_training_exp(self, strategy: Any, **_: Any) -> None:
        _copy(self.plugin.ewc_data[0].values())

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        _copy(self.plugin.syn_data["old_theta"].values())


class _NonZeroLoss:
    """Avalanche's MAS takes a loss of exactly zero, which a task that is learned well has, for a missing one."""

    def before_backward(self, strategy: Any, **_: Any) -> None:
        strategy.loss = strategy.loss + torch.finfo(strategy.loss.dtype).tiny


class _NoMissingGradients:
    """Avalanche's AGEM projects no gradient that is missing, as those of earlier tasks' heads are, so that what is left
    of the projected gradient can still point against what was kept."""

    def after_backward(self, strategy: Any, **_: Any) -> None:
        for parameter in strategy.model.parameters():
            if parameter.requires_grad and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)


def _update(policy: Any, strategy: Any, **_: Any) -> None:
    policy.post_adapt(strategy, strategy.experience)


def _copy(stored: Iterable[Any]) -> None:
    for item in stored:
        item.data = item.data.clone()
