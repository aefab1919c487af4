from collections import Counter
from collections.abc import Callable
from hashlib import sha256

import pytest
import torch

from prognet.errors import ConfigError, StreamError
from prognet.streams.digits import permuted_digits, rotated_digits, split_digits
from prognet.streams.stream import Stream
from tests.helpers.data import multiset, same_samples

BUILDERS = (split_digits, permuted_digits, rotated_digits)


def test_split_digits_are_the_whole_data_set_once() -> None:
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    found: Counter[tuple[bytes, int]] = Counter()
    for task in split_digits():
        for samples in (task.train, task.val, task.test):
            digits = torch.tensor([int(task.classes[label]) for label in samples.y])
            found += multiset(samples.x, digits)
    assert found == multiset(torch.tensor(images, dtype=torch.float32).view(-1, 1, 8, 8) / 16, torch.tensor(labels))


@pytest.mark.parametrize("build", BUILDERS)
def test_samples_are_float_images_between_0_and_1(build: Callable[..., Stream]) -> None:
    stream = build(n_tasks=3)
    assert stream[0].input_shape == (1, 8, 8)
    for task in stream:
        assert task.train.x.dtype == torch.float32
        assert task.train.x.min() >= 0
        assert task.train.x.max() <= 1 + 1e-6


@pytest.mark.parametrize("build", BUILDERS)
def test_every_class_is_in_every_split(build: Callable[..., Stream]) -> None:
    for task in build(n_tasks=3):
        for samples in (task.train, task.val, task.test):
            assert set(samples.y.tolist()) == set(range(task.n_classes))


@pytest.mark.parametrize("build", BUILDERS)
def test_one_seed_is_one_stream(build: Callable[..., Stream]) -> None:
    for first, again in zip(build(seed=3), build(seed=3), strict=True):
        assert (first.name, first.classes) == (again.name, again.classes)
        assert same_samples(first.train, again.train)
        assert same_samples(first.val, again.val)
        assert same_samples(first.test, again.test)


@pytest.mark.parametrize("build", BUILDERS)
def test_another_seed_is_another_stream(build: Callable[..., Stream]) -> None:
    assert not all(same_samples(a.train, b.train) for a, b in zip(build(seed=0), build(seed=1), strict=True))


@pytest.mark.parametrize("build", BUILDERS)
def test_arguments_make_the_stream_again(build: Callable[..., Stream]) -> None:
    stream = build(n_tasks=2, seed=5, validation=0.2, heads="shared")
    again = build(**stream.arguments, seed=stream.seed)
    assert (again.name, again.arguments, again.heads) == (stream.name, stream.arguments, "shared")
    assert all(same_samples(a.train, b.train) for a, b in zip(stream, again, strict=True))
    assert [task.head for task in again] == [0, 0]


def test_the_test_set_is_the_same_for_every_seed() -> None:
    # task 0 of permuted digits is not permuted; a quarter of each class, rounded for itself
    tests = [permuted_digits(n_tasks=1, seed=seed)[0].test for seed in (0, 1)]
    assert same_samples(*tests)
    assert len(tests[0]) == 450


def test_the_test_set_is_the_same_for_every_release() -> None:
    # recorded when the split was fixed: published figures count on it
    pixels = (permuted_digits(n_tasks=1)[0].test.x * 16).to(torch.uint8)
    assert sha256(pixels.numpy().tobytes()).hexdigest()[:16] == "7264332e6fadec2f"


def test_the_validation_split_is_a_stratified_part_of_the_training_split() -> None:
    for task in split_digits(validation=0.1):
        shares = torch.bincount(task.val.y) / (torch.bincount(task.val.y) + torch.bincount(task.train.y))
        assert (shares - 0.1).abs().max() < 0.005
    assert [len(task.val) for task in split_digits(validation=0.0)] == [0] * 5


def test_class_counts_differ_where_they_must() -> None:
    stream = split_digits(n_tasks=3)
    assert [task.n_classes for task in stream] == [4, 3, 3]
    with pytest.raises(StreamError, match=r"heads: a shared head .*found \[4, 3, 3\]"):
        split_digits(n_tasks=3, heads="shared")


def test_class_order_may_be_natural() -> None:
    assert [task.name for task in split_digits(seed=9, class_order="natural")] == ["0 1", "2 3", "4 5", "6 7", "8 9"]


def test_more_tasks_than_pairs_of_digits_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_tasks: required 1 to 5, so that each task has two classes, found 10"):
        split_digits(n_tasks=10)
