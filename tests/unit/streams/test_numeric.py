"""Regression and multi-label objectives: values by hand, and what holds for all numbers."""

import re
from math import isnan, log, sqrt

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from prognet.errors import ConfigError
from prognet.streams.numeric import MultiLabel, Regression

TRAINING = torch.tensor([0.0, 2.0, 4.0, 6.0])
# mean 3, variance (9 + 1 + 1 + 9) / 4 = 5; z^2 is 9/5, 1/5, 1/5, 9/5, of which at most 1 counts: mean 0.6
NUMBERS = Regression.of(TRAINING)
LOGITS = torch.tensor([[1.0, -1.0], [2.0, 3.0]])
TRUTH = torch.tensor([[1.0, 1.0], [0.0, 1.0]])


def test_the_scale_is_that_of_the_training_targets() -> None:
    assert NUMBERS.mean == (3.0,)
    assert NUMBERS.std == pytest.approx((sqrt(5),))
    assert NUMBERS.by_mean == pytest.approx(0.4)
    assert NUMBERS.chance(1) == NUMBERS.by_mean


def test_metrics_of_a_regression_by_hand() -> None:
    output, target = torch.tensor([[0.5], [1.0]]), torch.tensor([3.0, 3.0 + sqrt(5)])  # z of the targets: 0 and 1
    found = NUMBERS.metrics(output, target)
    assert list(found) == ["skill", "r2", "rmse", "mae"]
    assert found["skill"] == pytest.approx(1 - 0.25 / 2)
    assert found["r2"] == pytest.approx(1 - 0.125 / 0.5)
    assert found["rmse"] == pytest.approx(sqrt(0.125 * 5))
    assert found["mae"] == pytest.approx(0.25 * sqrt(5))


def test_one_wild_prediction_costs_one_sample_of_skill_and_all_of_r2() -> None:
    found = NUMBERS.metrics(torch.tensor([[100.0], [1.0]]), torch.tensor([3.0, 3.0 + sqrt(5)]))
    assert found["skill"] == pytest.approx(0.5)
    assert found["r2"] == pytest.approx(1 - 5000 / 0.5)


def test_predicting_the_training_mean_has_the_skill_of_chance_and_no_r2() -> None:
    found = NUMBERS.metrics(torch.zeros(4, 1), TRAINING)
    assert found["skill"] == pytest.approx(NUMBERS.by_mean)
    assert found["r2"] == pytest.approx(0, abs=1e-12)


def test_r2_is_undefined_where_every_target_is_the_training_mean() -> None:
    assert isnan(NUMBERS.metrics(torch.ones(2, 1), torch.tensor([3.0, 3.0]))["r2"])


def test_the_loss_is_that_of_standardised_targets_whatever_the_smoothing() -> None:
    output = torch.tensor([[0.5], [1.0]])
    target = torch.tensor([3.0, 3.0 + sqrt(5)])
    assert NUMBERS.loss(output, target).item() == pytest.approx(0.125)
    assert NUMBERS.loss(output, target, label_smoothing=0.3).item() == pytest.approx(0.125)


def test_two_numbers_in_different_units_weigh_alike() -> None:
    metres = torch.tensor([[0.0, 0.0], [2.0, 2000.0], [4.0, 4000.0], [6.0, 6000.0]])
    both = Regression.of(metres)
    off = torch.zeros(4, 2)
    first, second = ((off + step) for step in (torch.tensor([0.3, 0.0]), torch.tensor([0.0, 0.3])))
    middle = torch.tensor(both.mean).expand(4, 2)
    assert both.loss(first, middle).item() == pytest.approx(both.loss(second, middle).item())


def test_each_number_has_its_error_in_its_own_unit() -> None:
    targets = torch.tensor([[0.0, 0.0], [2.0, 2000.0], [4.0, 4000.0], [6.0, 6000.0]])
    both = Regression.of(targets)
    found = both.metrics(torch.tensor([[0.3, -0.1]]).expand(4, 2), torch.tensor(both.mean).expand(4, 2))
    assert list(found) == ["skill", "r2", "rmse_0", "rmse_1", "mae_0", "mae_1"]
    assert [found["rmse_0"], found["mae_0"]] == pytest.approx([0.3 * sqrt(5)] * 2)
    assert [found["rmse_1"], found["mae_1"]] == pytest.approx([0.1 * 1000 * sqrt(5)] * 2)


def test_outputs_are_given_in_the_unit_of_the_targets() -> None:
    z = (TRAINING - 3) / sqrt(5)
    assert torch.allclose(NUMBERS.in_units(z[:, None])[:, 0], TRAINING, atol=1e-6)


@pytest.mark.parametrize("y", [torch.ones(5), torch.tensor([1.0, torch.nan]), torch.tensor([[0.0, 1.0], [1.0, 1.0]])])
def test_training_targets_that_do_not_vary_are_refused(y: Tensor) -> None:
    with pytest.raises(ConfigError, match="y: required training targets that are finite and differ between samples"):
        Regression.of(y)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.tuples(st.floats(-50, 50), st.floats(-50, 50)), min_size=1, max_size=8))
def test_correct_lies_between_0_and_1_and_averages_to_the_skill(pairs: list[tuple[float, float]]) -> None:
    output, target = (torch.tensor([pair[place] for pair in pairs]) for place in (0, 1))
    correct = NUMBERS.correct(output[:, None], target)
    assert correct.shape == (len(pairs),)
    assert ((correct >= 0) & (correct <= 1)).all()
    assert correct.mean().item() == pytest.approx(NUMBERS.metrics(output[:, None], target)["skill"], abs=1e-5)


@settings(deadline=None, max_examples=25)
@given(st.lists(st.lists(st.booleans(), min_size=3, max_size=3), min_size=1, max_size=6), st.integers(0, 100))
def test_right_labels_average_to_the_label_accuracy(truth: list[list[bool]], seed: int) -> None:
    target = torch.tensor(truth, dtype=torch.float32)
    output = torch.randn(target.shape, generator=torch.Generator().manual_seed(seed))
    found = MultiLabel(3).metrics(output, target)["label_accuracy"]
    assert MultiLabel(3).correct(output, target).mean().item() == pytest.approx(found, abs=1e-6)
    assert 0 <= found <= 1


def test_metrics_of_labels_by_hand() -> None:
    found = MultiLabel(2).metrics(LOGITS, TRUTH)
    assert found["label_accuracy"] == 0.5
    assert found["exact_match"] == 0.0
    # label 0: precision 1/2, recall 1; label 1: precision 1, recall 1/2
    assert found["macro_f1"] == pytest.approx(2 / 3)
    expected = (log(1 + 2.718281828459045**-1) + log(1 + 2.718281828459045) + log(1 + 2.718281828459045**2)) / 4
    assert found["binary_cross_entropy"] == pytest.approx(expected + log(1 + 2.718281828459045**-3) / 4)
    assert isnan(found["auroc"])  # label 1 holds for every sample


def test_auroc_is_the_mean_over_labels() -> None:
    truth = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    assert MultiLabel(2).metrics(LOGITS, truth)["auroc"] == 0.0  # both labels are ranked the wrong way round
    assert MultiLabel(2).metrics(LOGITS * torch.tensor([-1.0, 1.0]), truth)["auroc"] == 0.5
    assert isnan(MultiLabel(2).metrics(LOGITS * torch.nan, truth)["auroc"])


def test_smoothing_draws_labels_towards_one_half() -> None:
    output, target = torch.tensor([[log(3.0)]]), torch.tensor([[1.0]])  # probability 3/4
    assert MultiLabel(1).loss(output, target).item() == pytest.approx(-log(0.75))
    smoothed = MultiLabel(1).loss(output, target, label_smoothing=0.2).item()
    assert smoothed == pytest.approx(-0.9 * log(0.75) - 0.1 * log(0.25), abs=1e-6)


def test_exact_match_needs_every_label() -> None:
    said = torch.tensor([[1.0, -1.0], [1.0, 1.0]])
    assert MultiLabel(2).metrics(said, torch.tensor([[1.0, 0.0], [1.0, 0.0]]))["exact_match"] == 0.5


@pytest.mark.parametrize(
    ("objective", "y", "message"),
    [
        (NUMBERS, torch.zeros(3, dtype=torch.int64), "shape (N, 1) torch.float32, found shape (3,) torch.int64"),
        (NUMBERS, torch.zeros(3, 2), "shape (N, 1) torch.float32, found shape (3, 2)"),
        (NUMBERS, torch.tensor([1.0, torch.inf]), "finite numbers, found NaN or infinity"),
        (MultiLabel(1), torch.zeros(3), "shape (N, 1) torch.float32 and as many names, found shape (3,) torch.float32"),
        (MultiLabel(1), torch.tensor([[0.5]]), "0 or 1, found 0.5"),
    ],
)
def test_what_cannot_be_learned_is_named(objective: Regression | MultiLabel, y: Tensor, message: str) -> None:
    fault = objective.fault(y, 1)
    assert fault is not None
    assert re.escape(f"{fault.required}, found {fault.found}").startswith(re.escape(message))


def test_good_targets_have_no_fault() -> None:
    assert NUMBERS.fault(TRAINING, 1) is None
    assert MultiLabel(2).fault(TRUTH, 2) is None
    assert MultiLabel(2).chance(2) == 0.5
