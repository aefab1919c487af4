"""The objective of a task that is fine-tuned: softer targets, and one further class for what is none of its own."""

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn import functional

from prognet.errors import ConfigError
from prognet.strategies.finetune_recipe import FineTuning
from prognet.streams.objectives import Classification, Objective
from prognet.streams.task import Task


@dataclass(frozen=True, slots=True)
class SoftClassification(Objective):
    """Cross-entropy against soft targets; metrics are those of the task itself.

    With label smoothing e the target of a sample of class y is (1 - e) [c = y] + e q_c, where q is uniform over the
    task's own classes, or the model's own prediction, taken as constant. With `negatives` there is one further class,
    C, whose logit is 0: a softmax over C + 1 logits says nothing else, since only their differences count. Targets of
    that class are not smoothed.
    """

    inner: Classification
    towards_prediction: bool
    negatives: bool
    primary = Classification.primary

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        own = self.inner.n_classes
        logits = functional.pad(output, (0, 1)) if self.negatives else output  # (B, C + 1) or (B, C)
        log_p = logits.log_softmax(dim=1)
        if self.towards_prediction:
            spread = log_p.detach().exp()
        else:
            spread = functional.pad(output.new_full((1, own), 1 / own), (0, logits.shape[1] - own))  # (1, C + 1)
        hard = functional.one_hot(target, logits.shape[1]).to(log_p.dtype)
        smoothing = label_smoothing * (target < own).to(hard.dtype).unsqueeze(1)  # (B, 1)
        return -(torch.lerp(hard, spread.expand_as(hard), smoothing) * log_p).sum(dim=1).mean()

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        return self.inner.metrics(output, target)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return self.inner.correct(output, target)


def softened(task: Task, recipe: FineTuning, negatives: bool) -> Task:
    """The task with the objective that the recipe asks for; as it is where that asks for nothing of its own.

    Raises:
        ConfigError: when it asks for softer targets, and the task is no classification.
    """
    towards = recipe.smoothing > 0 and recipe.towards == "prediction"
    if not (recipe.smoothing or negatives):
        return task
    objective = classification_of(task)
    if not (towards or negatives):
        return task
    return replace(task, objective=SoftClassification(objective, towards, negatives))


def classification_of(task: Task) -> Classification:
    """The objective of a task whose targets are to be softer, or to have a further class.

    Raises:
        ConfigError: when the task is no classification.
    """
    if not isinstance(task.objective, Classification):
        raise ConfigError(
            f"smoothing: required a classification, found {type(task.objective).__name__} in task {task.label}; leave "
            "smoothing and negatives out."
        )
    return task.objective
