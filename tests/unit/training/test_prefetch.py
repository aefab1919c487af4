"""Items made ahead of time: the same items, in their order, and no thread left behind."""

import threading
import time
from collections.abc import Generator, Iterator

import pytest
import torch

from prognet.config import Execution, Training
from prognet.errors import HostMemoryWarning
from prognet.strategies import FineTune, MultiTask, Strategy
from prognet.training import batches
from prognet.training.batches import fits
from prognet.training.prefetch import ahead
from tests.helpers.runs import NORMED, assert_same_numbers, assert_same_tensors, from_scratch, quick_run, tensors
from tests.helpers.streams import make_samples, make_stream


@pytest.fixture(autouse=True)
def no_thread_is_left() -> Iterator[None]:
    before = threading.active_count()
    yield
    assert threading.active_count() == before


def counting(n: int, made: list[int]) -> Generator[int]:
    for index in range(n):
        made.append(index)
        yield index


@pytest.mark.parametrize("depth", [1, 2, 7])
@pytest.mark.parametrize("n", [0, 1, 20])
def test_the_items_come_in_their_order(n: int, depth: int) -> None:
    assert list(ahead(counting(n, []), depth)) == list(range(n))


def test_no_more_are_made_than_asked_for() -> None:
    made: list[int] = []
    items = ahead(counting(100, made), depth=3)
    assert next(items) == 0
    time.sleep(0.3)
    assert len(made) <= 1 + 3 + 1  # given, waiting, and one in the hand of the thread
    items.close()
    assert len(made) < 10


def test_they_are_made_in_another_thread() -> None:
    def name() -> Generator[int]:
        yield threading.get_ident()

    assert list(ahead(name())) != [threading.get_ident()]


def test_an_error_is_raised_in_its_place() -> None:
    def failing() -> Generator[int]:
        yield 1
        raise ValueError("no more")

    items = ahead(failing())
    assert next(items) == 1
    with pytest.raises(ValueError, match="no more"):
        next(items)


def test_what_is_never_begun_makes_nothing() -> None:
    made: list[int] = []
    ahead(counting(5, made)).close()
    assert made == []


STREAM = make_stream((2, 3), (40, 32))
STRATEGIES: dict[str, Strategy] = {
    "progressive": from_scratch(NORMED),
    "finetune": FineTune(NORMED),
    "multitask": MultiTask(NORMED),
}


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_split_in_host_memory_is_learned_bit_by_bit_as_ever(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    training = Training(epochs=3, batch_size=16, lr=0.01, augment=("flip",))
    here = quick_run(STRATEGIES[name], STREAM, training=training)
    monkeypatch.setattr(batches, "fits", lambda samples, device, room: len(samples) != len(STREAM[1].train))
    with pytest.warns(HostMemoryWarning, match=r"task 1 .* since data_memory allows 4096; batches are gathered there"):
        there = quick_run(STRATEGIES[name], STREAM, training=training)
    assert_same_numbers(here, there)
    assert_same_tensors(tensors(here.learner), tensors(there.learner))


def test_early_stopping_ends_the_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batches, "fits", lambda samples, device, room: False)
    training = Training(epochs=50, batch_size=16, lr=0.5, patience=1)
    with pytest.warns(HostMemoryWarning):
        result = quick_run(FineTune(NORMED), make_stream((2,), n_val=20), training=training)
    assert result.costs[0].updates < 50 * 3


def test_what_fits_is_told_by_its_size() -> None:
    samples = make_samples(0, "train", 10, 2)
    size = samples.x.numel() * samples.x.element_size()
    cuda = torch.device("cuda")
    assert fits(samples, cuda, size)
    assert not fits(samples, cuda, size - 1)
    assert fits(samples, torch.device("cpu"), 0)
    assert Execution().data_memory == 4096
