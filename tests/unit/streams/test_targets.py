"""Arrays whose targets are no classes, as streams."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prognet.errors import ConfigError, StreamError
from prognet.streams.numeric import MultiLabel, Regression
from prognet.streams.own_data import from_arrays
from prognet.streams.stream import Stream
from tests.helpers.sealing import edit

RANDOM = np.random.default_rng(0)
X, TEST = RANDOM.normal(size=(40, 4)), RANDOM.normal(size=(10, 4))
CLASSES = (X, np.arange(40) % 3, TEST, np.arange(10) % 3)
NUMBERS = (X, 10 + X[:, 0], TEST, 10 + TEST[:, 0])
PAIRS = (X, X[:, :2], TEST, TEST[:, :2])
LABELS = (X, X > 0, TEST, TEST > 0)


def stream_of(*tasks: Any, kinds: Any, **options: Any) -> Stream:
    return from_arrays(list(tasks), kinds=kinds, **options)


def test_every_kind_has_its_objective_and_its_targets() -> None:
    stream = stream_of(CLASSES, NUMBERS, PAIRS, LABELS, kinds=["classification", *["regression"] * 2, "multi-label"])
    assert [task.n_classes for task in stream] == [3, 1, 2, 4]
    assert [task.classes for task in stream][1:3] == [("number 0",), ("number 0", "number 1")]
    assert stream[3].objective == MultiLabel(4)
    assert [task.train.y.dtype for task in stream] == [torch.int64, *[torch.float32] * 3]
    assert [tuple(task.test.y.shape) for task in stream] == [(10,), (10,), (10, 2), (10, 4)]
    assert torch.equal(stream[1].test.y, torch.tensor(NUMBERS[3], dtype=torch.float32))


def test_a_regression_is_scaled_by_what_it_is_trained_on() -> None:
    task = stream_of(NUMBERS, kinds=["regression"], validation=0.25)[0]
    assert (len(task.train), len(task.val)) == (30, 10)
    assert task.objective == Regression.of(task.train.y)
    together = torch.cat([task.train.y, task.val.y]).sort().values
    assert torch.equal(together, torch.tensor(NUMBERS[1], dtype=torch.float32).sort().values)


def test_the_split_is_seeded() -> None:
    first, again, other = (stream_of(NUMBERS, kinds=["regression"], seed=seed)[0].val.y for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_the_order_of_tasks_takes_the_kinds_along() -> None:
    kinds = ["classification", "regression", "multi-label"]
    stream = stream_of(CLASSES, NUMBERS, LABELS, kinds=kinds, task_order="seeded", seed=2)
    expected = {"task 0": "Classification", "task 1": "Regression", "task 2": "MultiLabel"}
    assert [task.name for task in stream] != sorted(expected)
    assert {task.name: type(task.objective).__name__ for task in stream} == expected


def test_a_stream_of_every_kind_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    stream = stream_of(CLASSES, NUMBERS, LABELS, kinds=["classification", "regression", "multi-label"])
    stream.save(tmp_path)
    read = Stream.load(tmp_path)
    assert read.digest == stream.digest
    assert [task.objective for task in read] == [task.objective for task in stream]
    assert [task.summary for task in read] == [task.summary for task in stream]


def test_a_damaged_objective_is_refused(tmp_path: Path) -> None:
    path = stream_of(NUMBERS, kinds=["regression"]).save(tmp_path)
    edit(path, lambda document: document["tasks"][0]["objective"].update(name="regresion"))
    with pytest.raises(StreamError, match=r"stream.json: tasks\[0\].objective: required one of .*found 'regresion'"):
        Stream.load(tmp_path)


def test_a_summary_says_what_r_holds() -> None:
    classes, numbers = (task.summary for task in stream_of(CLASSES, NUMBERS, kinds=["classification", "regression"]))
    assert (classes.primary, classes.chance, classes.objective) == ("accuracy", None, None)
    assert classes.guessed == 1 / 3
    assert numbers.primary == "skill"
    assert numbers.objective is not None and numbers.guessed == numbers.objective["by_mean"]


def test_avalanche_is_not_asked_for_what_it_cannot_hold() -> None:
    stream = stream_of(CLASSES, NUMBERS, kinds=["classification", "regression"])
    with pytest.raises(StreamError, match=r"task 1 .*: benchmark: required a classification, found Regression"):
        _ = stream.benchmark


@pytest.mark.parametrize(
    ("task", "kind", "message"),
    [
        (
            (X, ["a"] * 40, TEST, ["a"] * 10),
            "regression",
            "y_train: required numbers of shape (N,) or (N, k)",
        ),
        (NUMBERS, "multi-label", "arrays[0].y_train: required numbers of shape (N, n_labels) for a multi-label task"),
        (PAIRS, "multi-label", "task 0 ('task 0'): train.y: required 0 or 1, found"),
        ((X, np.ones(40), TEST, np.ones(10)), "regression", "task 0 ('task 0'): y: required training targets that"),
        (
            (X, X[:, 0], TEST, TEST[:, :2]),
            "regression",
            "test.y: required shape (N, 1) torch.float32, found",
        ),
        ((X, X[:9, 0], TEST, TEST[:, 0]), "regression", "arrays[0].x_train: required one sample for each of 9 labels"),
        (NUMBERS, "classification", "arrays[0].y_train: required integer or text labels, found float64"),
    ],
)
def test_what_cannot_be_learned_is_refused(task: Any, kind: str, message: str) -> None:
    with pytest.raises(StreamError, match=re.escape(message)):
        stream_of(task, kinds=[kind])


@pytest.mark.parametrize("kinds", [["regression"], ["regression", "ranking"]])
def test_kinds_that_are_none_are_refused(kinds: list[str]) -> None:
    with pytest.raises(ConfigError, match="kinds: required one of .* for each of 2 tasks, found .*; name them all"):
        stream_of(NUMBERS, NUMBERS, kinds=kinds)


def test_kinds_do_not_share_a_head() -> None:
    tasks = [(X, X[:, 0], TEST, TEST[:, 0]), (X, X[:, :1] > 0, TEST, TEST[:, :1] > 0)]
    stream = stream_of(tasks[0], tasks[0], kinds=["regression"] * 2, heads="shared")
    assert [task.head for task in stream] == [0, 0]
    with pytest.raises(StreamError, match="heads: a shared head required"):
        stream_of(*tasks, kinds=["regression", "multi-label"], heads="shared")
