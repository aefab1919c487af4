from math import isnan, log

import pytest
import torch

from prognet.streams.objectives import Classification

LOGITS = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 0.0], [0.0, 4.0]])
TRUTH = torch.tensor([0, 0, 1, 1])
# Predictions 0, 1, 0, 1: one of two right in each class.


def test_metrics_computed_by_hand() -> None:
    metrics = Classification(2).metrics(LOGITS, TRUTH)
    assert metrics["accuracy"] == 0.5
    # per class: precision 1/2, recall 1/2, F1 1/2
    assert metrics["macro_f1"] == 0.5
    # logit differences (class 1 minus class 0): truth 0 has -2 and 1, truth 1 has -3 and 4; of the four pairs
    # (1, 0) the positive is greater in (4, -2) and (4, 1) only
    assert metrics["auroc"] == 0.5
    # -log softmax: log(1 + e^-2), log(1 + e^1), log(1 + e^3), log(1 + e^-4)
    expected = sum(log(1 + 2.718281828459045**z) for z in (-2, 1, 3, -4)) / 4
    assert metrics["cross_entropy"] == pytest.approx(expected, abs=1e-9)


def test_correct_tells_each_sample_and_averages_to_the_primary_metric() -> None:
    objective = Classification(2)
    assert objective.correct(LOGITS, TRUTH).tolist() == [1.0, 0.0, 0.0, 1.0]
    assert objective.correct(LOGITS, TRUTH).mean() == objective.metrics(LOGITS, TRUTH)[objective.primary]


def test_three_classes_are_one_against_the_rest() -> None:
    logits = torch.eye(3) * 5
    metrics = Classification(3).metrics(logits, torch.tensor([0, 1, 2]))
    assert (metrics["accuracy"], metrics["macro_f1"], metrics["auroc"]) == (1.0, 1.0, 1.0)


def test_f1_counts_a_class_that_was_never_predicted_as_zero() -> None:
    # class 0: precision 1/2, recall 1, F1 2/3; class 1: F1 0
    metrics = Classification(2).metrics(torch.tensor([[1.0, 0.0], [1.0, 0.0]]), torch.tensor([0, 1]))
    assert metrics["macro_f1"] == pytest.approx(1 / 3)


def test_auroc_is_nan_without_every_class_or_with_outputs_that_are_no_numbers() -> None:
    assert isnan(Classification(2).metrics(LOGITS[:2], TRUTH[:2])["auroc"])
    assert isnan(Classification(2).metrics(LOGITS * torch.nan, TRUTH)["auroc"])


def test_loss_is_cross_entropy_with_the_smoothing_over_the_own_classes() -> None:
    output, target = torch.tensor([[log(3.0), 0.0]]), torch.tensor([0])
    objective = Classification(2)
    assert objective.loss(output, target).item() == pytest.approx(-log(0.75))
    # smoothing 0.2 over two classes: targets 0.9 and 0.1
    expected = -0.9 * log(0.75) - 0.1 * log(0.25)
    assert objective.loss(output, target, label_smoothing=0.2).item() == pytest.approx(expected, abs=1e-6)
