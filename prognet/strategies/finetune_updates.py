"""What a recipe makes of a trunk and a head: which parameters learn when, how fast, and at what price."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.engine.low_rank import LowRank
from prognet.engine.stages import Stage, modules_in, parameters_in
from prognet.errors import ConfigError
from prognet.strategies.finetune_recipe import FineTuning
from prognet.training import Forward, Penalised, Procedure, RateGroup


class TunedParts:
    """A trunk, a head, and perhaps adapters while one task is learned by a recipe.

    Args:
        recipe: the recipe.
        trunk: the trunk; put into the state in which it learns, or does not.
        head: the head of the task.
        stages: the stages of the trunk, from the input to the output.
        adapters: low-rank adapters of the trunk.

    Raises:
        ConfigError: when the trunk has fewer stages than are to begin anew, or one of them cannot.
    """

    def __init__(
        self, recipe: FineTuning, trunk: nn.Module, head: nn.Module, stages: Sequence[Stage], adapters: LowRank | None
    ) -> None:
        check_stages(recipe, len(stages))
        self.recipe, self.trunk, self.head, self.adapters = recipe, trunk, head, adapters
        self.kept, self.anew = stages[: len(stages) - recipe.reinit], stages[len(stages) - recipe.reinit :]
        self._height = len(stages)
        for stage in self.anew:
            begin_anew(trunk, stage)
        self.is_frozen = recipe.trunk == "frozen" or adapters is not None
        self._learnable = [parameter for parameter in self._kept_parameters() if parameter.requires_grad]
        if self.is_frozen:
            trunk.eval()
            self._let_learn(0)
        self._start = [p.detach().clone() for p in self._kept_parameters()] if recipe.l2_sp else []

    @property
    def learning(self) -> nn.Module:
        """The module that is handed to the training loop: without the trunk where nothing of it learns."""
        parts = [self.head] if self.adapters is None else [self.head, self.adapters]
        return nn.ModuleList(parts if self.is_frozen and not self.anew else [self.trunk, *parts])

    @property
    def procedure(self) -> Procedure:
        """How the updates depart from plain ones."""
        return Procedure(before_pass=self._before_pass(), groups=self._groups(), alone=self.recipe != FineTuning())

    def forward(self, features: Callable[[Tensor], Tensor]) -> Forward:
        """The outputs of a batch with dropout and penalty, where `features` are those of the trunk."""

        def outputs(inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor] | Penalised:
            said = {label: self.head(self._dropped(features(x))) for label, x in inputs.items()}
            penalty = self.penalty()
            return said if penalty is None else Penalised(said, penalty)

        return outputs

    def penalty(self) -> Tensor | None:
        """The penalties of what is kept and of what is fresh, (); None without any."""
        recipe = self.recipe
        if not any((recipe.l2, recipe.l1, recipe.l2_sp, recipe.head_l2, recipe.head_l1)):
            return None
        kept, fresh = self._kept_parameters(), self._fresh_parameters()
        terms: list[Tensor] = []
        if recipe.l2:
            terms += [recipe.l2 / 2 * w.square().sum() for w in kept]
        if recipe.l1:
            terms += [recipe.l1 * w.abs().sum() for w in kept]
        if recipe.l2_sp:
            terms += [recipe.l2_sp / 2 * (w - w0).square().sum() for w, w0 in zip(kept, self._start, strict=True)]
        if recipe.head_l2:
            terms += [recipe.head_l2 / 2 * w.square().sum() for w in fresh]
        if recipe.head_l1:
            terms += [recipe.head_l1 * w.abs().sum() for w in fresh]
        return torch.stack(terms).sum() if terms else None

    def release(self) -> None:
        """Lets all of a trunk that learns learn again, for the next task."""
        if not self.is_frozen:
            self._let_learn(len(self.kept))

    def _dropped(self, features: Tensor) -> Tensor:
        return functional.dropout(features, self.recipe.dropout) if self.recipe.dropout else features

    def _groups(self) -> tuple[RateGroup, ...]:
        recipe = self.recipe
        if self.is_frozen or recipe.rate == recipe.decay == 1:
            return ()
        return tuple(
            RateGroup([*parameters_in(self.trunk, [stage])], recipe.rate * recipe.decay ** (self._height - index))
            for index, stage in enumerate(self.kept)
        )

    def _before_pass(self) -> Callable[[int], None] | None:
        every = self.recipe.unfreeze_every
        if every is not None:
            return lambda number: self._let_learn(number // every)
        return (lambda number: self._let_learn(0)) if self.is_frozen and self.anew else None

    def _let_learn(self, count: int) -> None:
        """Lets `count` of the kept stages learn, from the top; the others stand still, in evaluation mode."""
        below = self.kept[: max(0, len(self.kept) - count)]
        for parameter in self._learnable:  # what the backbone itself has frozen stays so
            parameter.requires_grad_(True)
        for parameter in parameters_in(self.trunk, below):
            parameter.requires_grad_(False)
            parameter.grad = None
        for module in modules_in(self.trunk, below):
            module.training = False

    def _kept_parameters(self) -> list[nn.Parameter]:
        return list(parameters_in(self.trunk, self.kept))

    def _fresh_parameters(self) -> list[nn.Parameter]:
        adapters = [] if self.adapters is None else [*self.adapters.parameters()]
        return [*parameters_in(self.trunk, self.anew), *self.head.parameters(), *adapters]


def check_stages(recipe: FineTuning, count: int) -> None:
    """Raises ConfigError when more stages are to begin anew than the trunk has."""
    if recipe.reinit > count:
        raise ConfigError(f"reinit: required at most {count}, the stages of the trunk, found {recipe.reinit}.")


def begin_anew(network: nn.Module, stage: Stage) -> None:
    """Initialises a stage anew, every layer as its class does: children first, which their parent may set otherwise.

    Raises:
        ConfigError: when a module with parameters has no way to.
    """
    owners = (name.rpartition(".")[0] for name in stage.parameters)
    names = dict.fromkeys([*stage.modules, *owners])
    for name in sorted(names, key=_depth, reverse=True):
        module = network.get_submodule(name)
        reset = getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None)
        if callable(reset):
            reset()
        elif next(module.parameters(recurse=False), None) is not None:
            raise ConfigError(
                f"reinit: required layers that can be initialised anew, found a {type(module).__name__} at {name!r} "
                "with parameters of its own and no reset_parameters(); write one, or begin fewer stages anew."
            )


def _depth(name: str) -> int:
    """How many modules are around the one of this name."""
    return len(name.split(".")) if name else 0
