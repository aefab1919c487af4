"""Several processes come to what one process comes to: the same gradients, numbers and decisions, to rounding."""

from itertools import combinations

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from prognet.engine.prepared import Prepared
from prognet.training.batches import Part
from prognet.training.distributed import dealt as counted
from prognet.training.distributed import share_of
from prognet.training.ranks import Ranks
from tests.helpers.processes import together, values
from tests.helpers.runs import assert_same_tensors
from tests.helpers.shared_runs import SHARED, Learned, alone, descended, diverged, make_heads, shared_by_two
from tests.helpers.streams import make_task

EXACT = 2e-6
"""What rounding makes of numbers of order 1 in some ten updates, one way or the other."""
SOLVED = 1e-3
"""The same, after least squares have made more of it."""


def part_of(values: list[int], with_features: bool = False) -> Part:
    """Samples that are told apart by their targets."""
    y = torch.tensor(values)
    x = y[:, None].float() * torch.ones(2)
    return Part(x, y, Prepared({"site": (x * 2,)}) if with_features else None)


@pytest.mark.parametrize("count", [1, 2, 3, 5])
@pytest.mark.parametrize("sizes", [(7,), (1,), (3, 4), (1, 1, 1, 1), (2, 1, 6), (5, 5, 5)])
def test_the_shares_of_a_batch_are_the_batch(count: int, sizes: tuple[int, ...]) -> None:
    batch = {label: part_of([100 * label + place for place in range(size)]) for label, size in enumerate(sizes)}
    shares = [share_of(batch, Ranks(index, count)) for index in range(count)]
    for label, part in batch.items():
        dealt = [share[label].y.tolist() for share in shares if label in share]
        assert sorted(value for values in dealt for value in values) == part.y.tolist()
        assert all(dealt)
        sizes_of_label = [len(share[label].y) if label in share else 0 for share in shares]
        assert max(sizes_of_label) - min(sizes_of_label) <= 1
        assert sizes_of_label == [counted(sizes, Ranks(index, count))[label] for index in range(count)]
    whole = [sum(len(part.y) for part in share.values()) for share in shares]
    assert max(whole) - min(whole) <= 1


def test_a_share_holds_inputs_targets_and_features_of_the_same_samples() -> None:
    share = share_of({4: part_of([1, 2, 3, 4, 5], with_features=True)}, Ranks(1, 2))[4]
    assert share.y.tolist() == [2, 4]
    assert share.x.tolist() == [[2, 2], [4, 4]]
    assert share.past is not None
    assert share.past["site"][0].tolist() == [[4, 4], [8, 8]]


def by_hand(sizes: tuple[int, ...], updates: int) -> dict[str, NDArray[np.float64]]:
    """Descent along the gradient of the mean cross-entropy of linear maps, written out, in double precision."""
    tasks = [make_task(label, 2 + label, size, n_val=0) for label, size in enumerate(sizes)]
    numbers = {name: tensor.double().numpy() for name, tensor in make_heads(tasks).state_dict().items()}
    for _ in range(updates):
        for task in tasks:
            weight, bias = numbers[f"maps.{task.label}.weight"], numbers[f"maps.{task.label}.bias"]
            x = task.train.x.flatten(1).double().numpy()  # (n, 16)
            logits = x @ weight.T + bias
            said = np.exp(logits - logits.max(axis=1, keepdims=True))
            wrong = said / said.sum(axis=1, keepdims=True) - np.eye(task.n_classes)[task.train.y.numpy()]
            numbers[f"maps.{task.label}.weight"] = weight - wrong.T @ x / sum(sizes)
            numbers[f"maps.{task.label}.bias"] = bias - wrong.sum(axis=0) / sum(sizes)
    return numbers


def assert_by_hand(found: dict[str, Tensor], sizes: tuple[int, ...], updates: int) -> None:
    required = by_hand(sizes, updates)
    assert found.keys() == required.keys()
    for name, numbers in required.items():
        np.testing.assert_allclose(found[name].numpy(), numbers, atol=EXACT, err_msg=name)


def test_one_process_descends_along_the_mean_gradient() -> None:
    assert_by_hand(descended((5, 8), is_shared=False), (5, 8), 3)


def test_two_processes_descend_along_the_mean_gradient_of_the_whole_batch() -> None:
    for one in shared_by_two():
        assert_by_hand(one["descended"], (5, 8), 3)


@pytest.mark.parametrize("sizes", [(1, 1), (7, 3)])
def test_three_processes_do_even_where_a_batch_has_fewer_samples(sizes: tuple[int, ...]) -> None:
    for one in values(together(descended, sizes, count=3)):
        assert_by_hand(one, sizes, 3)


@pytest.mark.parametrize("name", SHARED)
def test_two_processes_come_to_the_result_of_one(name: str) -> None:
    (found, numbers), (required, required_numbers) = shared_by_two()[0][name], alone(name)
    bound = SOLVED if "solved" in name else EXACT
    assert numbers.keys() == required_numbers.keys()
    for tensor, of_one in required_numbers.items():
        torch.testing.assert_close(numbers[tensor], of_one, atol=bound, rtol=bound, msg=tensor)
    for metric, matrix in required.metrics.items():
        np.testing.assert_allclose(found.metrics[metric], matrix, atol=2 * bound, err_msg=metric)
    assert [curve.updates for curve in found.curves] == [curve.updates for curve in required.curves]
    for curve, wanted in zip(found.curves, required.curves, strict=True):
        np.testing.assert_allclose(curve.validation, wanted.validation, atol=bound)
    for name_of_cost in ("parameters", "trainable", "updates", "samples", "training_flops", "feature_flops"):
        costs = [getattr(cost, name_of_cost) for cost in found.costs]
        assert costs == [getattr(cost, name_of_cost) for cost in required.costs], name_of_cost
    assert [choice.get("start") for choice in found.choices] == [choice.get("start") for choice in required.choices]


def test_the_runs_that_are_compared_are_what_they_are_called() -> None:
    assert [choice["start"] for choice in alone("progressive, solved and copied")[0].choices][2] == "copy"
    assert len(alone("stopped early")[0].curves[0].validation) < 9
    plain, augmented = alone("finetune")[0], alone("augmented")[0]
    assert plain.curves[0].validation != augmented.curves[0].validation
    assert alone("clipped")[0].curves[0].validation != alone("progressive")[0].curves[0].validation


def test_a_loss_that_one_share_alone_does_not_have_ends_all_alike() -> None:
    first, second = (one["diverged"] for one in shared_by_two())
    assert first == second == diverged()
    assert "required a finite loss, found nan at update 0 of 2" in first


def test_what_the_first_process_begins_with_counts() -> None:
    for one in shared_by_two():
        assert_same_tensors(one["shaken"][1], one["not shaken"][1])


@pytest.mark.parametrize("name", [*SHARED, "normed", "shaken", "statistics"])
def test_all_processes_hold_the_same_bits(name: str) -> None:
    first, second = (one[name] for one in shared_by_two())
    if name == "statistics":
        assert_same_tensors(first, second)
        return
    assert_same_tensors(first[1], second[1])
    assert first[0].digests == second[0].digests
    assert first[0].choices == second[0].choices
    assert {metric: matrix.tobytes() for metric, matrix in first[0].metrics.items()} == {
        metric: matrix.tobytes() for metric, matrix in second[0].metrics.items()
    }


def test_frozen_columns_keep_their_bits() -> None:
    for one in shared_by_two():
        (whole, numbers), (_, first) = one["normed"], one["normed, first task"]
        column = {name: tensor for name, tensor in first.items() if ".columns.0." in name}
        assert column
        assert_same_tensors({name: numbers[name] for name in column}, column)
        for name, digest in whole.digests[0].items():
            assert [step[name] for step in whole.digests] == [digest] * 3
        assert len(whole.digests[2]) == 3


def test_running_statistics_are_the_mean_of_those_of_the_shares() -> None:
    x = make_task(0, 2, 7).train.x.flatten(1).double()  # (7, 16)
    numbers = shared_by_two()[0]["statistics"]
    found = {name.rpartition(".")[2]: tensor for name, tensor in numbers.items() if ".norm." in name}
    # the order of the samples decides who has which four of them: one division alone fits the mean
    shares = [(x[list(four)], x[[place for place in range(7) if place not in four]]) for four in _FOURS]
    mean = found["running_mean"].double()
    fitting = [pair for pair in shares if torch.allclose(mean, 0.1 * _middle(pair, "mean"), atol=1e-6, rtol=0)]
    assert len(fitting) == 1
    variance = 0.9 + 0.1 * _middle(fitting[0], "var")
    torch.testing.assert_close(found["running_var"].double(), variance, atol=1e-6, rtol=0)
    assert found["num_batches_tracked"].item() == 1


_FOURS = list(combinations(range(7), 4))


def _middle(shares: tuple[Tensor, Tensor], what: str) -> Tensor:
    """The mean over two shares of the mean or variance of each."""
    return (getattr(shares[0], what)(dim=0) + getattr(shares[1], what)(dim=0)) / 2  # type: ignore[no-any-return]


def test_every_process_draws_masks_of_its_own() -> None:
    first, second = (one["drawn"] for one in shared_by_two())
    assert len(first) == len(second) > 4
    assert not {*first} & {*second}
    assert len({*first}) == len(first)


def test_the_results_are_those_of_runs() -> None:
    for name in SHARED:
        found: Learned = shared_by_two()[1][name]
        assert found[0].environment["processes"] == 2
        assert alone(name)[0].environment["processes"] == 1
