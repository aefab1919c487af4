import pytest
import torch

from prognet.config import Training
from prognet.training import seeded
from prognet.training.session import ignore_progress
from tests.helpers.runs import make_session

CPU = torch.device("cpu")


def draw(seed: int) -> torch.Tensor:
    with seeded(seed, CPU):
        return torch.randn(3)


def test_numbers_depend_on_the_seed_alone() -> None:
    torch.manual_seed(1)
    first = draw(5)
    torch.manual_seed(2)
    assert torch.equal(draw(5), first)
    assert not torch.equal(draw(6), first)


def test_the_generator_goes_on_as_if_nothing_had_been() -> None:
    torch.manual_seed(1)
    undisturbed = torch.randn(3)
    torch.manual_seed(1)
    draw(5)
    assert torch.equal(torch.randn(3), undisturbed)


def test_the_generator_is_restored_after_an_error() -> None:
    state = torch.get_rng_state()
    with pytest.raises(KeyboardInterrupt), seeded(5, CPU):
        torch.randn(3)
        raise KeyboardInterrupt
    assert torch.equal(torch.get_rng_state(), state)


def test_a_session_without_training_is_the_same_but_for_that() -> None:
    session = make_session(Training(epochs=3, updates=5, first_updates=7, lr=0.5), seed=4)
    without = session.without_training()
    assert without.training == Training(epochs=0, lr=0.5)
    assert (without.seed, without.device, without.measurement) == (4, CPU, session.measurement)
    assert without.advance is ignore_progress
    assert session.training.epochs == 3
