from collections.abc import Iterator, Sequence
from itertools import islice

import pytest
import torch
from torch import Tensor

from prognet.seeds import derive_seed
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training.batches import Batch, BatchSource, Sampling, quotas, shares
from tests.helpers.plain import plain_batches, plain_orders
from tests.helpers.streams import make_byte_stream, make_stream

CPU = torch.device("cpu")


class Epochs:
    """Rounds that are epochs over the tasks, one at a time."""

    def __init__(self, tasks: Sequence[Task], batch_size: int, sampling: Sampling = 0.0, seed: int = 0) -> None:
        sizes = [len(task.train) for task in tasks]
        self.n_batches = -(-sum(sizes) // batch_size)
        self.batches = BatchSource(tasks, quotas(sizes, sampling), self.n_batches, seed, CPU, 2**40).rounds()

    def epoch(self) -> Iterator[Batch]:
        return islice(self.batches, self.n_batches)


def source(stream: Stream, batch_size: int, sampling: Sampling = 0.0, seed: int = 0) -> Epochs:
    return Epochs(list(stream), batch_size, sampling, seed)


def rows_of(batches: Sequence[Batch], label: int) -> Tensor:
    """All samples of a task in some batches, one a row."""
    return torch.cat([batch[label].x for batch in batches if label in batch]).flatten(1)


def counts(seen: Tensor, known: Tensor) -> list[int]:
    """How often every known row was seen."""
    return [int((seen == row).all(dim=1).sum()) for row in known]


def sizes(batches: Iterator[Batch]) -> list[list[int]]:
    return [[len(part.y) for part in batch.values()] for batch in batches]


def test_an_epoch_of_one_task_is_the_plain_one() -> None:
    stream = make_stream((2,))
    task, batches = stream[0], source(stream, 16)
    for order in plain_orders(task, epochs=3):
        chosen = plain_batches(order, 16)
        epoch = list(batches.epoch())
        assert len(epoch) == len(chosen) == 3
        for batch, indices in zip(epoch, chosen, strict=True):
            assert torch.equal(batch[0].x, task.train.x[indices])
            assert torch.equal(batch[0].y, task.train.y[indices])


def test_no_batch_of_an_epoch_is_tiny() -> None:
    # 33 samples in batches of 16 are three batches of 11, and not 16, 16 and 1
    assert sizes(source(make_stream((2,), [33]), 16).epoch()) == [[11], [11], [11]]


def test_the_order_depends_on_seed_and_task_alone() -> None:
    stream = make_stream((2, 2))
    alone = [Epochs([task], 16) for task in stream]
    again, other = source(make_stream((2,)), 16), source(make_stream((2,)), 16, seed=1)
    first, second = (rows_of(list(batches.epoch()), label) for label, batches in enumerate(alone))
    together = list(source(stream, 16).epoch())
    assert torch.equal(rows_of(list(again.epoch()), 0), first)
    assert not torch.equal(rows_of(list(other.epoch()), 0), first)
    assert torch.equal(rows_of(together, 0), first)
    assert torch.equal(rows_of(together, 1), second)


def test_tasks_of_one_seed_are_shuffled_differently() -> None:
    orders = [plain_orders(task, 1)[0] for task in make_stream((2, 2))]
    assert not torch.equal(orders[0], orders[1])


def test_the_global_generator_is_not_used() -> None:
    state = torch.get_rng_state()
    list(source(make_stream(), 16).epoch())
    assert torch.equal(torch.get_rng_state(), state)


def test_quotas_by_hand() -> None:
    assert quotas([10, 40, 21], 1.0) == [10, 40, 21]
    assert quotas([10, 40, 21], 0.0) == [24, 24, 23]  # 71 = 3 * 23 + 2


def test_quotas_between_the_two_follow_the_power_of_the_size() -> None:
    assert quotas([4, 16, 64], 0.5) == [12, 24, 48]  # 84 in the ratio 2 : 4 : 8
    assert quotas([1, 9, 90], 0.5) == [8, 22, 70]  # 100 in the ratio 1 : 3 : 9.487 is 7.415, 22.245 and 70.340


@pytest.mark.parametrize("alpha", [0.0, 0.1, 0.3, 0.5, 0.77, 1.0])
@pytest.mark.parametrize("sizes", [(10, 40, 21), (1, 1000), (7,), (3, 3, 3, 4), (12665, 11344, 59)])
def test_quotas_share_out_all_samples_whatever_the_exponent(sizes: tuple[int, ...], alpha: float) -> None:
    found = quotas(sizes, alpha)
    assert sum(found) == sum(sizes)
    total = sum(size**alpha for size in sizes)
    assert all(abs(quota - sum(sizes) * size**alpha / total) < 1 for quota, size in zip(found, sizes, strict=True))
    assert alpha > 0 or max(found) - min(found) <= 1
    assert alpha < 1 or tuple(found) == sizes


def test_quotas_of_tasks_without_samples_are_nothing() -> None:
    assert [quotas([0, 0], alpha) for alpha in (0.0, 0.5, 1.0)] == [[0, 0]] * 3


def test_shares_by_hand() -> None:
    # places 1/4 3/4 of the first task, 1/8 3/8 5/8 7/8 of the second: 2 1 2 2 1 2, cut after three
    assert shares([2, 4], 2) == [[1, 2], [1, 2]]
    assert shares([5, 5, 5], 4) == [[1, 1, 1], [2, 1, 1], [1, 2, 1], [1, 1, 2]]


@pytest.mark.parametrize("batch_size", [1, 4, 7, 16, 100])
@pytest.mark.parametrize("quota", [(5, 5, 5), (1, 50), (10, 40, 21), (3, 3, 3, 3, 3, 3, 3), (13,)])
def test_joint_batches_are_even_whole_and_never_too_large(quota: tuple[int, ...], batch_size: int) -> None:
    total = sum(quota)
    table = shares(quota, -(-total // batch_size))
    totals = [sum(row) for row in table]
    assert max(totals) <= batch_size
    assert max(totals) - min(totals) <= 1
    assert [sum(column) for column in zip(*table, strict=True)] == list(quota)
    for column, size in zip(zip(*table, strict=True), quota, strict=True):
        assert max(column) - size / len(table) < 2  # spread evenly over the epoch


def test_a_proportional_epoch_sees_every_sample_once() -> None:
    stream = make_stream((2, 5), [10, 40])
    batches = list(source(stream, 16, 1.0).epoch())
    for task in stream:
        assert counts(rows_of(batches, task.label), task.train.x.flatten(1)) == [1] * len(task.train)


def test_a_balanced_epoch_sees_as_many_samples_of_a_small_task_as_of_a_large_one() -> None:
    stream = make_stream((2, 5), [10, 40])
    batches = list(source(stream, 16).epoch())
    small, large = (counts(rows_of(batches, task.label), task.train.x.flatten(1)) for task in stream)
    assert sum(small) == sum(large) == 25
    assert sorted(small) == [2] * 5 + [3] * 5  # one permutation of the ten samples after another
    assert sorted(large) == [0] * 15 + [1] * 25


def test_what_a_balanced_epoch_left_out_comes_in_the_next() -> None:
    stream = make_stream((2, 5), [10, 40])
    batches = source(stream, 16)
    both = [*batches.epoch(), *batches.epoch()]
    large = counts(rows_of(both, 1), stream[1].train.x.flatten(1))
    assert sorted(large) == [1] * 30 + [2] * 10  # 50 of 40: each once before any comes a second time


@pytest.mark.parametrize("sampling", [0.0, 0.5, 1.0])
def test_a_joint_epoch_has_the_budget_of_its_tasks(sampling: Sampling) -> None:
    batches = list(source(make_stream((2, 5, 3), [10, 40, 21]), 16, sampling).epoch())
    assert sum(len(part.y) for batch in batches for part in batch.values()) == 71


def test_samples_and_labels_stay_together() -> None:
    stream = make_stream((2, 5), [10, 40])
    for batch in source(stream, 16).epoch():
        for label, part in batch.items():
            train = stream[label].train
            for x, y in zip(part.x, part.y, strict=True):
                assert y == train.y[(train.x == x).flatten(1).all(dim=1)]


def test_bytes_are_normalised_on_the_way() -> None:
    stream = make_byte_stream()
    batch = next(iter(source(stream, 1000).epoch()))
    order = torch.randperm(40, generator=_generator_of(stream))
    raw = stream[0].train.x[order].double() / 255
    mean, std = torch.tensor([0.5, 0.4]).view(1, 2, 1, 1), torch.tensor([0.2, 0.3]).view(1, 2, 1, 1)
    assert batch[0].x.dtype == torch.float32
    assert torch.allclose(batch[0].x.double(), (raw - mean) / std, atol=1e-6)


def _generator_of(stream: Stream) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(0, stream[0].label, "order"))
