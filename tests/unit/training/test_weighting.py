"""How losses become gradients, for weightings of one's own."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn

from prognet.training.weighting import GradientBalance, LossBalance, matched, total


class Sum(LossBalance):
    """The sum of the losses, with a learned factor for each task."""

    def __init__(self, match_scale: bool = False) -> None:
        self.factors = {label: nn.Parameter(torch.ones(())) for label in range(2)}
        super().__init__(match_scale, list(self.factors.values()), lr=0.1)

    def scalar(self, losses: Mapping[int, Tensor]) -> Tensor:
        return torch.stack([self.factors[label] * loss for label, loss in losses.items()]).sum()


class First(GradientBalance):
    """The first task's gradient; own parameters are learned at half and a quarter."""

    def combine(self, rows: Tensor, losses: Mapping[int, Tensor]) -> tuple[Tensor, Tensor]:
        self.seen = rows, losses
        return rows[0], torch.tensor([0.5, 0.25])


@pytest.fixture
def parameters() -> list[nn.Parameter]:
    """Shared by both tasks, of the first, of the second, of none."""
    return [nn.Parameter(torch.tensor([[1.0, 2.0]])), *(nn.Parameter(torch.ones(2)) for _ in range(3))]


def parts(parameters: list[nn.Parameter]) -> dict[int, Tensor]:
    shared, first, second, _ = parameters
    return {0: (shared.sum() + first.sum()) / 2, 1: (shared.square().sum() + 3 * second.sum()) / 2}


def gradients(parameters: list[nn.Parameter]) -> list[list[float] | None]:
    return [None if p.grad is None else p.grad.flatten().tolist() for p in parameters]


def test_losses_are_as_large_as_those_of_their_tasks_and_not_their_parts(parameters: list[nn.Parameter]) -> None:
    balance = First()
    balance.backward(parts(parameters), None, parameters)
    rows, losses = balance.seen
    assert rows.tolist() == [[1, 1], [2, 4]]
    assert {label: float(loss) for label, loss in losses.items()} == {0: 5, 1: 11}
    assert not any(loss.requires_grad for loss in losses.values())
    assert gradients(parameters) == [[1, 1], [0.5, 0.5], [0.75, 0.75], None]
    assert parameters[0].grad is not None
    assert parameters[0].grad.shape == (1, 2)


def test_the_combined_gradient_in_the_length_of_the_mean(parameters: list[nn.Parameter]) -> None:
    First(match_scale=True).backward(parts(parameters), None, parameters)
    found = gradients(parameters)
    length = (1.5**2 + 2.5**2) ** 0.5  # of the mean of (1, 1) and (2, 4)
    assert found[0] == pytest.approx([length / 2**0.5] * 2)
    assert found[1] == pytest.approx([2 / 3] * 2)  # 1/2 and 1/4 add up to 3/4
    assert found[2] == pytest.approx([1.0] * 2)


def test_weights_of_losses_and_what_learns_them(parameters: list[nn.Parameter]) -> None:
    balance = Sum()
    balance.backward(parts(parameters), None, parameters)
    assert gradients(parameters) == [[1 + 2, 1 + 4], [1, 1], [3, 3], None]
    assert [round(float(factor.detach()), 4) for factor in balance.factors.values()] == [0.9, 0.9]  # a step of Adam


def test_weights_that_add_up_to_1(parameters: list[nn.Parameter]) -> None:
    Sum(match_scale=True).backward(parts(parameters), None, parameters)
    assert gradients(parameters) == [[1.5, 2.5], [0.5, 0.5], [1.5, 1.5], None]


@pytest.mark.parametrize("kind", [Sum, First])
def test_a_penalty_without_parameters_changes_nothing(
    kind: type[Sum] | type[First], parameters: list[nn.Parameter]
) -> None:
    kind().backward(parts(parameters), None, parameters)
    required = gradients(parameters)
    for parameter in parameters:
        parameter.grad = None
    kind().backward(parts(parameters), torch.tensor(7.0), parameters)
    assert gradients(parameters) == required


def test_the_total_is_the_mean_loss_and_the_penalty(parameters: list[nn.Parameter]) -> None:
    found = parts(parameters)
    assert float(total(found, None).detach()) == 8  # (5 + 11) / 2
    assert float(total(found, torch.tensor(3.0)).detach()) == 11
    assert total({0: found[0]}, None) is found[0]


def test_what_is_nothing_stays_nothing() -> None:
    assert matched(torch.zeros(2), torch.ones(3, 2)).tolist() == [0, 0]
    assert matched(torch.tensor([0.0, 2.0]), torch.zeros(3, 2)).tolist() == [0, 0]


class Nothing(LossBalance):
    """A weight of zero for every task."""

    def scalar(self, losses: Mapping[int, Tensor]) -> Tensor:
        return 0 * torch.stack(list(losses.values())).sum()


def test_weights_of_nothing_stay_nothing(parameters: list[nn.Parameter]) -> None:
    Nothing(match_scale=True).backward(parts(parameters), None, parameters)
    assert gradients(parameters) == [[0, 0], [0, 0], [0, 0], None]


def test_an_owned_parameter_is_learned_by_its_task_though_all_losses_reach_it(parameters: list[nn.Parameter]) -> None:
    shared, first, _, mine = parameters
    losses = {0: (shared.sum() + first.sum() + 0 * mine.sum()) / 2, 1: (shared.square().sum() + 5 * mine.sum()) / 2}
    balance = First()
    balance.own = {mine: 1}
    balance.backward(losses, None, parameters)
    assert balance.seen[0].tolist() == [[1, 1], [2, 4]]  # it is no part of what is combined
    assert gradients(parameters) == [[1, 1], [0.5, 0.5], None, [1.25, 1.25]]
