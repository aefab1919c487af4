"""Fine-tuning: one trunk that goes on learning, by a recipe if wished, and the control in which it stops."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from prognet.engine.digest import module_digest
from prognet.engine.low_rank import LowRank
from prognet.engine.stages import Stage, stages_of
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, Strategy, example_of, network_for, require_one_input, single
from prognet.strategies.finetune_negatives import KeptInputs
from prognet.strategies.finetune_objective import classification_of, softened
from prognet.strategies.finetune_recipe import FineTuning
from prognet.strategies.finetune_updates import TunedParts, check_stages
from prognet.strategies.heads import SharedTrunk
from prognet.strategies.specification import check_specification
from prognet.strategies.start_pretext import learn_pretext
from prognet.streams.task import Task
from prognet.training import seeded


class FineTune(Strategy):
    """A shared trunk with a head per task, learned one task after the other; without a recipe the usual lower bound."""

    kind = "FineTune"

    def __init__(self, backbone: Backbone, *, recipe: FineTuning | None = None, name: str = "finetune") -> None:
        """
        Args:
            backbone: makes the network; it is split at its output layer.
            recipe: how tasks that begin from something learned are fine-tuned; None for plain training of everything.
            name: the name in results and figures.

        Raises:
            ConfigError: when the recipe is none.
        """
        super().__init__(backbone, name)
        if recipe is not None:
            check_specification(recipe, FineTuning, "recipe")
        self.recipe = recipe
        self.shared = SharedTrunk()
        self.adapters = nn.ModuleDict()
        """Those that tasks keep, by label."""
        self.kept: KeptInputs | None = None

    def prepare(self, tasks: Sequence[Task]) -> None:
        require_one_input(tasks, self)
        recipe = FineTuning() if self.recipe is None else self.recipe
        if recipe.smoothing:
            for task in tasks if recipe.begins_learned else tasks[1:]:
                classification_of(task)
        if recipe.reinit:
            with seeded(0, torch.device("cpu")):
                network = network_for(self.backbone, tasks[0])
            check_stages(recipe, len(stages_of(network, example_of(tasks[0]))) - 1)

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        network, is_first = self.build(task), self.shared.trunk is None
        stages = () if self.recipe is None else stages_of(network, example_of(task))[:-1]
        head = self.shared.add(task, network, example_of(task))
        if self.recipe is None or (is_first and not self.recipe.begins_learned):
            self.fit(self.shared.parts_of(task.label), tasks)
        else:
            if is_first and self.recipe.pretext is not None:
                self.records.append(learn_pretext(self._trunk(), task, self.recipe, self.current_session()))
            self._fit_by(self.recipe, task, head, stages)
        if self.recipe is not None:
            self._end(self.recipe, task)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        head, key = self.shared.head_for(task_label), str(task_label)
        if key not in self.adapters:
            return self.shared.predict(x, task_label)
        out: Tensor = head(self.adapters[key](self._trunk(), x))
        return out

    def frozen_digests(self) -> Mapping[str, str]:
        if self.recipe is None or not self.recipe.keeps_trunk or self.shared.trunk is None:
            return {}
        adapters = {f"adapters {key}": module_digest(part) for key, part in self.adapters.items()}
        return {**digests_on_a_trunk(self.shared), **adapters}

    def arguments(self) -> Mapping[str, Any]:
        return {} if self.recipe is None else {"recipe": self.recipe.describe()}

    def _fit_by(self, recipe: FineTuning, task: Task, head: nn.Module, stages: Sequence[Stage]) -> None:
        """Fine-tunes the trunk, as it is, and the head."""
        session, trunk = self.current_session(), self._trunk()
        with seeded(derive_seed(session.seed, task.label, "fine-tuning"), session.device):
            adapters = LowRank(trunk, recipe.rank, recipe.alpha) if recipe.rank else None
            parts = TunedParts(recipe, trunk, head, stages, adapters)
        if adapters is not None:
            self.adapters[str(task.label)] = adapters
        negatives = self.kept if 0 < len(task.train) < recipe.scarce * task.n_classes else None
        learned = softened(task, recipe, negatives is not None)
        if negatives is not None:
            learned = negatives.added_to(learned)
        if recipe.smoothing:
            self.session = replace(session, training=replace(session.training, label_smoothing=recipe.smoothing))
        try:
            forward = parts.forward(trunk if adapters is None else lambda x: adapters(trunk, x))
            self.fit(parts.learning, [learned], forward, procedure=parts.procedure)
        finally:
            self.session = session
        parts.release()
        if adapters is not None and recipe.merge:
            adapters.merge(trunk)
            del self.adapters[str(task.label)]

    def _end(self, recipe: FineTuning, task: Task) -> None:
        """What follows a task that has been learned."""
        if recipe.keeps_trunk:
            self.shared.freeze_trunk()
        if recipe.negatives:
            if self.kept is None:
                self.kept = KeptInputs(recipe.negatives, task.input_shape).to(self.current_session().device)
            self.kept.keep(task, self.current_session().seed)

    def _trunk(self) -> nn.Module:
        trunk = self.shared.trunk
        assert trunk is not None  # a task has been added
        return trunk


class HeadOnly(Strategy):
    """Head-only fine-tuning: the trunk learns the first task and is frozen; later tasks train a head on it."""

    kind = "HeadOnly"

    def __init__(self, backbone: Backbone, *, name: str = "finetune-head") -> None:
        """The arguments of `FineTune`, without a recipe."""
        super().__init__(backbone, name)
        self.shared = SharedTrunk()

    def prepare(self, tasks: Sequence[Task]) -> None:
        require_one_input(tasks, self)

    def learn(self, tasks: Sequence[Task]) -> None:
        task = single(tasks, self)
        is_first = self.shared.trunk is None
        head = self.shared.add(task, self.build(task), example_of(task))
        self.fit(self.shared.parts_of(task.label) if is_first else head, tasks)
        self.shared.freeze_trunk()

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)

    def frozen_digests(self) -> Mapping[str, str]:
        return {} if self.shared.trunk is None else digests_on_a_trunk(self.shared)


def digests_on_a_trunk(shared: SharedTrunk) -> dict[str, str]:
    """The digests of a trunk that no longer learns and of its heads."""
    # A single head may be one that all tasks share and go on training: it counts as frozen once there is another.
    own = shared.heads.items() if len(shared.heads) > 1 else ()
    heads = {f"head {key}": module_digest(head) for key, head in own}
    assert shared.trunk is not None
    return {"trunk": module_digest(shared.trunk), **heads}
