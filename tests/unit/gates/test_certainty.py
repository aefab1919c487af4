from math import log

import pytest
import torch

from prognet.errors import UnlearnedTaskError
from prognet.gates import ConfidenceGate, EntropyGate, Gate

X = torch.zeros(1, 3)


def logits(*probabilities: float) -> torch.Tensor:
    """One sample whose softmax these probabilities are."""
    return torch.tensor([probabilities], dtype=torch.float64).log()


def test_confidence_is_the_logarithm_of_the_largest_probability() -> None:
    found = ConfidenceGate().evidence(X, torch.cat([logits(0.25, 0.75), logits(0.5, 0.5)]), 0)
    assert torch.allclose(found, torch.tensor([log(0.75), log(0.5)], dtype=torch.float64), atol=1e-15, rtol=0)


def test_entropy_is_divided_by_its_largest_value() -> None:
    gate = EntropyGate()
    two = gate.evidence(X, torch.cat([logits(0.25, 0.75), logits(0.5, 0.5)]), 0)
    by_hand = (0.25 * log(4) + 0.75 * log(4 / 3)) / log(2)  # 0.8113 bits
    assert torch.allclose(two, torch.tensor([-by_hand, -1.0], dtype=torch.float64), atol=1e-15, rtol=0)
    four = gate.evidence(X, logits(0.25, 0.25, 0.25, 0.25), 0)
    assert torch.allclose(four, torch.tensor([-1.0], dtype=torch.float64), atol=1e-15, rtol=0)
    certain = gate.evidence(X, torch.tensor([[0.0, 2000.0]]), 0)
    assert certain.tolist() == [0.0]


def test_tasks_of_unlike_numbers_of_classes_are_chosen_on_one_scale_by_entropy_only() -> None:
    # task 0: largest 0.60, H / log 2 = 0.971; task 1: largest 0.55, H / log 5 = 0.815, though H itself is larger
    outputs = {0: logits(0.6, 0.4), 1: logits(0.55, 0.1125, 0.1125, 0.1125, 0.1125)}
    assert ConfidenceGate().choose(X, outputs).tolist() == [0]
    assert EntropyGate().choose(X, outputs).tolist() == [1]


@pytest.mark.parametrize("gate", [ConfidenceGate(), EntropyGate()], ids=["confidence", "entropy"])
def test_sure_answers_are_still_told_apart(gate: Gate) -> None:
    # the largest probability of both is 1.0, in single and in double precision
    outputs = {0: torch.tensor([[0.0, 100.0]]), 1: torch.tensor([[200.0, 0.0]])}
    assert gate.choose(X, outputs).tolist() == [1]


@pytest.mark.parametrize("gate", [ConfidenceGate(), EntropyGate()], ids=["confidence", "entropy"])
def test_every_sample_of_a_batch_is_chosen_for_by_itself(gate: Gate) -> None:
    outputs = {
        4: torch.tensor([[0.0, 1.0], [0.0, 3.0], [0.5, 0.5]]),
        1: torch.tensor([[2.0, 0.0], [1.0, 0.0], [0.0, 0.1]]),
    }
    assert gate.choose(torch.zeros(3, 3), outputs).tolist() == [1, 4, 1]


@pytest.mark.parametrize("gate", [ConfidenceGate(), EntropyGate()], ids=["confidence", "entropy"])
def test_of_equal_evidence_the_lowest_label_wins_and_nan_never(gate: Gate) -> None:
    same = torch.tensor([[0.0, 1.0]])
    assert gate.choose(X, {5: same, 2: same, 3: same}).tolist() == [2]
    broken = torch.tensor([[torch.nan, 1.0]])
    assert gate.choose(X, {0: broken, 1: torch.zeros(1, 2)}).tolist() == [1]
    assert gate.choose(X, {0: broken, 1: broken}).tolist() == [0]


def test_an_output_of_one_class_says_nothing_by_entropy() -> None:
    assert EntropyGate().evidence(X, torch.ones(1, 1), 0).isnan().all()


def test_a_choice_needs_a_task() -> None:
    with pytest.raises(UnlearnedTaskError) as caught:
        ConfidenceGate().choose(X, {})
    assert str(caught.value) == "outputs: required those of one learned task or more, found none; learn one first."


def test_choosing_needs_no_gradient() -> None:
    outputs = {0: torch.zeros(1, 2, requires_grad=True)}
    assert not ConfidenceGate().choose(X, outputs).requires_grad
