"""Gradient cosine and look-ahead affinity on losses whose gradients are known."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor

from prognet.analysis import affinities, gradient_cosines
from prognet.analysis.affinity import Loss, Parameters
from prognet.errors import ConfigError


def towards(*goal: float) -> Loss:
    """Half of the squared distance to a goal: the gradient is the way from it."""

    def loss(shared: Parameters, own: Parameters) -> Tensor:
        return (shared["w"] - torch.tensor(goal)).square().sum() / 2

    return loss


START = {"w": torch.zeros(2)}


def test_one_step_by_hand() -> None:
    # gradients at 0: (-2, 0), (0, -1), (2, 0); losses 2, 1/2, 2
    found = affinities(START, [{}] * 3, [towards(2, 0), towards(0, 1), towards(-2, 0)], steps=1, lr=0.5)
    np.testing.assert_allclose(found.cosine, [[1, 0, -1], [0, 1, 0], [-1, 0, 1]], atol=1e-7)
    # a step of task 1 leads to (1, 0): losses 1/2, 1, 9/2; of task 2 to (0, 1/2); of task 3 to (-1, 0)
    expected = [[0.75, -1.0, -1.25], [-0.0625, 0.75, -0.0625], [-1.25, -1.0, 0.75]]
    np.testing.assert_allclose(found.lookahead, expected, atol=1e-6)


def test_the_second_step_starts_where_the_first_one_led() -> None:
    losses = [towards(2, 0), towards(0, 1)]
    both = affinities(START, [{}] * 2, losses, steps=2, lr=0.5)
    first = affinities(START, [{}] * 2, losses, steps=1, lr=0.5)
    second = affinities({"w": torch.tensor([0.5, 0.25])}, [{}] * 2, losses, steps=1, lr=0.5)  # half of the mean (1, .5)
    np.testing.assert_allclose(both.cosine, (first.cosine + second.cosine) / 2, atol=1e-6)
    np.testing.assert_allclose(both.lookahead, (first.lookahead + second.lookahead) / 2, atol=1e-6)


def test_every_other_step_is_looked_at() -> None:
    losses = [towards(2, 0), towards(0, 1)]
    second = affinities({"w": torch.tensor([0.5, 0.25])}, [{}] * 2, losses, steps=1, lr=0.5)
    found = affinities(START, [{}] * 2, losses, steps=3, lr=0.5, every=2)
    np.testing.assert_allclose(found.lookahead, second.lookahead, atol=1e-6)


def test_own_parameters_take_their_own_step_and_do_not_count() -> None:
    seen: list[float] = []

    def with_head(shared: Parameters, own: Parameters) -> Tensor:
        seen.append(float(own["b"].detach()))
        return (shared["w"] - 1).square().sum() / 2 + (own["b"] - 4).square() / 2

    start = {"w": torch.zeros(2)}
    found = affinities(start, [{"b": torch.tensor(0.0)}, {}], [with_head, towards(1, 1)], steps=3, lr=0.5)
    np.testing.assert_allclose(found.cosine, np.ones((2, 2)), atol=1e-6)  # the shared part points one way
    assert list(dict.fromkeys(seen)) == [0.0, 2.0, 3.0]
    assert torch.equal(start["w"], torch.zeros(2))


def test_tasks_that_are_the_same_agree_and_a_task_without_gradient_has_no_direction() -> None:
    def nothing(shared: Parameters, own: Parameters) -> Tensor:
        return shared["w"].sum() * 0

    found = affinities(START, [{}] * 3, [towards(1, 2), towards(1, 2), nothing], steps=2, lr=0.1)
    assert found.cosine[0, 1] == pytest.approx(1.0)
    assert found.lookahead[0, 1] == found.lookahead[0, 0] > 0
    assert np.isnan(found.cosine[2]).all()
    assert np.isnan(found.lookahead[:, 2]).all()


def test_cosines_of_given_gradients() -> None:
    found = gradient_cosines(torch.tensor([[1.0, 0.0], [1.0, 1.0], [0.0, 0.0]]))
    assert found[0, 1] == pytest.approx(2**-0.5)
    assert found[0, 0] == 1.0
    assert np.isnan(found[2]).all()


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: affinities(START, [{}], []), "own: required one for each of 0 losses, found 1."),
        (lambda: affinities(START, [{}], [towards(1, 1)], steps=0), "steps: required at least 1 step of a rate above"),
        (lambda: affinities(START, [{}], [towards(1, 1)], steps=2, every=3), "steps: required at least 1 step of a"),
        (lambda: affinities(START, [{}], [towards(1, 1)], lr=0), "steps: required at least 1 step of a rate above 0"),
        (lambda: gradient_cosines(torch.zeros(3)), "gradients: required (T, P), found (3,)."),
    ],
)
def test_bad_arguments_are_refused(call: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        call()
    assert str(caught.value).startswith(message)
