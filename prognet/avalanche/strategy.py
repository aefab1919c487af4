"""A strategy of Avalanche for progressive networks."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from prognet.avalanche.module import ProgressiveModule
from prognet.errors import ConfigError
from prognet.streams.bridge import import_avalanche

_TEMPLATES: Any = import_avalanche("avalanche.training.templates")
_EVALUATION: Any = import_avalanche("avalanche.training.plugins.evaluation")


class ProgressiveStrategy(_TEMPLATES.SupervisedTemplate):  # type: ignore[misc]
    """Trains a `ProgressiveModule` on one experience after another, with plugins, metrics and loggers of Avalanche.

    The optimiser holds the parameters of the newest column only, and forgets its state when a column is added. After
    every training experience the frozen columns are checked. Early and repeated evaluation, of whatever tasks, changes
    nothing.
    """

    optimizer: Any

    def __init__(
        self,
        *,
        model: nn.Module,
        optimizer: Optimizer,
        criterion: Callable[[Tensor, Tensor], Tensor] | None = None,
        train_mb_size: int = 1,
        train_epochs: int = 1,
        eval_mb_size: int | None = None,
        device: str | torch.device = "cpu",
        plugins: Sequence[Any] | None = None,
        evaluator: Any = _EVALUATION.default_evaluator,
        eval_every: int = -1,
        peval_mode: str = "epoch",
    ) -> None:
        """The arguments of every strategy of Avalanche.

        Args:
            model: a `ProgressiveModule`, or a module around one, such as a compiled one, that takes inputs and labels.
            optimizer: any optimiser of `model.parameters()` with one parameter group.
            criterion: the loss; None for cross-entropy.
            train_mb_size: samples in a mini-batch of training.
            train_epochs: passes over each training experience.
            eval_mb_size: samples in a mini-batch of evaluation; None for `train_mb_size`.
            device: where to train.
            plugins: plugins of Avalanche.
            evaluator: metrics and loggers, as an `EvaluationPlugin`; None for none.
            eval_every: how often to evaluate while training: -1 never, 0 after each experience, n every n epochs.
            peval_mode: `"epoch"` or `"iteration"`, the unit of `eval_every`.

        Raises:
            ConfigError: when the model holds no `ProgressiveModule`, or the optimiser has several groups.
        """
        self.progressive = _progressive_in(model)
        if len(optimizer.param_groups) != 1:
            raise ConfigError(
                f"optimizer: required one parameter group, found {len(optimizer.param_groups)}; the parameters of a "
                "new column cannot know to which one they belong."
            )
        super().__init__(
            model=model,
            optimizer=optimizer,
            criterion=nn.CrossEntropyLoss() if criterion is None else criterion,
            train_mb_size=train_mb_size,
            train_epochs=train_epochs,
            eval_mb_size=eval_mb_size,
            device=device,
            plugins=plugins,
            evaluator=evaluator,
            eval_every=eval_every,
            peval_mode=peval_mode,
        )

    def forward(self) -> Any:
        """The model's outputs for the mini-batch; every model here takes task labels."""
        return self.model(self.mb_x, self.mb_task_id)

    def make_optimizer(self, reset_optimizer_state: bool = False, **_: Any) -> None:
        """Hands the optimiser the parameters that can learn, those of the newest column; Avalanche passes the rest."""
        self.optimized_param_id = {name: p for name, p in self.model.named_parameters() if p.requires_grad}
        (group,) = self.optimizer.param_groups
        wanted = list(self.optimized_param_id.values())
        if reset_optimizer_state or [id(p) for p in group["params"]] != [id(p) for p in wanted]:
            group["params"] = wanted
            self.optimizer.state.clear()

    def __getstate__(self) -> dict[str, Any]:
        state, kind = dict(vars(self)), type(self.optimizer)
        if (
            getattr(torch.optim, kind.__name__, None) is kind
        ):  # dill, which Avalanche saves with, cannot find its module
            state["optimizer"] = (kind.__name__, self.optimizer.__getstate__())
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(state["optimizer"], tuple):
            name, content = state["optimizer"]
            kind = getattr(torch.optim, name)
            self.optimizer = kind.__new__(kind)
            self.optimizer.__setstate__(content)

    def _after_training_exp(self, **kwargs: Any) -> None:
        self.progressive.network.check_frozen()
        super()._after_training_exp(**kwargs)


def _progressive_in(model: object) -> ProgressiveModule:
    for part in model.modules() if isinstance(model, nn.Module) else ():
        if isinstance(part, ProgressiveModule):
            return part
    raise ConfigError(
        f"model: required a ProgressiveModule, or a module around one, found a {type(model).__name__}; make one with "
        "ProgressiveModule(backbone)."
    )
