"""Soft targets and the further class, against sums written by hand."""

from dataclasses import replace
from math import exp, log

import pytest
import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from prognet.errors import ConfigError
from prognet.strategies.finetune_objective import SoftClassification, softened
from prognet.strategies.finetune_recipe import FineTuning
from prognet.streams.objectives import Classification, Objective
from tests.helpers.streams import make_task

LOGITS = [[1.0, -0.5, 0.25], [0.0, 2.0, 1.0]]
CLASSES = 3


def log_softmax(logits: list[float]) -> list[float]:
    total = log(sum(exp(z) for z in logits))
    return [z - total for z in logits]


def loss_of(kind: SoftClassification, targets: list[int], smoothing: float) -> Tensor:
    return kind.loss(torch.tensor(LOGITS, dtype=torch.float64), torch.tensor(targets), smoothing)


def test_towards_the_prediction_by_hand() -> None:
    kind = SoftClassification(Classification(CLASSES), towards_prediction=True, negatives=False)
    losses = []
    for logits, target in zip(LOGITS, (2, 1), strict=True):
        log_p = log_softmax(logits)
        q = [0.7 * (c == target) + 0.3 * exp(log_p[c]) for c in range(CLASSES)]
        losses.append(-sum(a * b for a, b in zip(q, log_p, strict=True)))
    assert loss_of(kind, [2, 1], 0.3).item() == pytest.approx(sum(losses) / 2, abs=1e-12)


def test_the_prediction_in_the_target_is_taken_as_constant() -> None:
    kind = SoftClassification(Classification(CLASSES), towards_prediction=True, negatives=False)
    logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
    kind.loss(logits, torch.tensor([2, 1]), 0.3).backward()  # type: ignore[no-untyped-call]
    p = logits.detach().softmax(1)
    hard = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    # the gradient of a cross-entropy against constant targets q is p - q, and here p - q = 0.7 (p - y)
    assert logits.grad is not None
    torch.testing.assert_close(logits.grad, 0.7 * (p - hard) / 2)


def test_without_smoothing_it_is_the_cross_entropy() -> None:
    kind = SoftClassification(Classification(CLASSES), towards_prediction=True, negatives=False)
    required = cross_entropy(torch.tensor(LOGITS, dtype=torch.float64), torch.tensor([0, 1]))
    torch.testing.assert_close(loss_of(kind, [0, 1], 0.0), required)


def test_the_further_class_has_the_logit_zero() -> None:
    kind = SoftClassification(Classification(CLASSES), towards_prediction=False, negatives=True)
    wanted = [-log_softmax([*LOGITS[0], 0.0])[3], -log_softmax([*LOGITS[1], 0.0])[1]]
    assert loss_of(kind, [3, 1], 0.0).item() == pytest.approx(sum(wanted) / 2, abs=1e-12)


def test_with_it_smoothing_stays_on_the_tasks_own_classes() -> None:
    kind = SoftClassification(Classification(CLASSES), towards_prediction=False, negatives=True)
    first, second = log_softmax([*LOGITS[0], 0.0]), log_softmax([*LOGITS[1], 0.0])
    wanted = [-(0.7 + 0.1) * first[0] - 0.1 * first[1] - 0.1 * first[2], -second[3]]
    assert loss_of(kind, [0, 3], 0.3).item() == pytest.approx(sum(wanted) / 2, abs=1e-12)


def test_metrics_are_those_of_the_task() -> None:
    kind = SoftClassification(Classification(CLASSES), towards_prediction=True, negatives=True)
    logits, y = torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), torch.arange(20) % 3
    assert kind.metrics(logits, y) == Classification(CLASSES).metrics(logits, y)
    assert torch.equal(kind.correct(logits, y), Classification(CLASSES).correct(logits, y))
    assert kind.primary == "accuracy"


def test_a_task_keeps_its_objective_where_nothing_is_asked_of_it() -> None:
    task = make_task(0, 3)
    assert softened(task, FineTuning(), negatives=False) is task
    assert softened(task, FineTuning(smoothing=0.1), negatives=False) is task  # the loop smooths uniformly itself
    assert softened(task, FineTuning(towards="prediction"), negatives=False) is task
    found = softened(task, FineTuning(smoothing=0.1, towards="prediction"), negatives=False).objective
    assert found == SoftClassification(Classification(3), True, False)
    assert softened(task, FineTuning(), negatives=True).objective == SoftClassification(Classification(3), False, True)


class Distance(Objective):
    """No classification."""

    primary = "accuracy"

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return output.sum()

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        return {}

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return target


def test_softer_targets_of_something_else_are_refused() -> None:
    task = replace(make_task(0, 3), objective=Distance())
    assert softened(task, FineTuning(), negatives=False) is task
    with pytest.raises(ConfigError, match="smoothing: required a classification, found Distance in task 0"):
        softened(task, FineTuning(smoothing=0.1), negatives=False)
