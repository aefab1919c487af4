"""Data that cannot be a stream, and what is said about it."""

import re
from dataclasses import replace

import pytest
import torch

from prognet.errors import ConfigError, StreamError
from prognet.streams.checks import check_tasks
from prognet.streams.objectives import Classification
from prognet.streams.task import Normalisation, Samples, Task
from tests.helpers.data import blob_task, blobs, with_split

GOOD = tuple(blobs((2, 5, 3), n_features=6, per_class=2))
FIRST = GOOD[0]
NAN = FIRST.train.x.clone()
NAN[3, 1] = torch.nan
INFINITE = FIRST.test.x.clone()
INFINITE[0, 0] = torch.inf


def test_good_tasks_pass() -> None:
    check_tasks(GOOD, "per-task")


def test_an_empty_validation_split_passes() -> None:
    check_tasks([replace(FIRST, val=Samples(FIRST.val.x[:0], FIRST.val.y[:0]))], "per-task")


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (replace(FIRST, label=1), "label: required its position in the stream, 0, found 1; number the tasks from 0."),
        (
            replace(FIRST, head=1),
            "head: required 0 in a stream with heads='per-task', found 1; give the task that head.",
        ),
        (
            replace(FIRST, classes=("a",), train=Samples(FIRST.train.x[::2], FIRST.train.y[::2] * 0)),
            "labels in [0, 1), found 1",
        ),
        (replace(FIRST, classes=("a", "b", "c")), "classes: required 2 names, found 3; name as many classes"),
        (replace(FIRST, classes=("a", "a")), "classes: required a different name for each class, found ('a', 'a')"),
        (with_split(FIRST, "train", y=FIRST.train.y[1:]), "train.y: required as many labels as samples (4), found 3"),
        (
            replace(FIRST, train=Samples(FIRST.train.x[:0], FIRST.train.y[:0])),
            "train.x: required at least one sample, found none; give the task train samples.",
        ),
        (
            replace(FIRST, test=Samples(FIRST.test.x[:0], FIRST.test.y[:0])),
            "test.x: required at least one sample, found none; give the task test samples.",
        ),
        (with_split(FIRST, "train", x=torch.zeros(4)), "train.x: required shape (N, *input_shape), found (4,)"),
        (
            with_split(FIRST, "train", x=FIRST.train.x.long()),
            "train.x: required uint8 or floating point, found torch.int64; convert x",
        ),
        (
            with_split(FIRST, "test", x=torch.zeros(8, 7)),
            "test.x: required samples as in train, (6,) torch.float32, found (7,) torch.float32",
        ),
        (
            with_split(FIRST, "val", x=FIRST.val.x.double()),
            "val.x: required samples as in train, (6,) torch.float32, found (6,) torch.float64",
        ),
        (
            with_split(FIRST, "train", x=NAN),
            "train.x: required finite numbers, found NaN or infinity in sample 3 of the split; clean the data",
        ),
        (with_split(FIRST, "test", x=INFINITE), "test.x: required finite numbers, found NaN or infinity in sample 0"),
        (
            with_split(FIRST, "train", y=FIRST.train.y.float()),
            "train.y: required shape (N,) torch.int64, found shape (4,) torch.float32",
        ),
        (
            with_split(FIRST, "val", y=FIRST.val.y.view(-1, 1)),
            "val.y: required shape (N,) torch.int64, found shape (4, 1) torch.int64",
        ),
        (with_split(FIRST, "test", y=FIRST.test.y + 1), "test.y: required labels in [0, 2), found 2; make the labels"),
        (with_split(FIRST, "train", y=FIRST.train.y - 1), "train.y: required labels in [0, 2), found -1"),
        (
            replace(FIRST, normalisation=Normalisation((0.5,), (1.0,))),
            "normalisation: required one mean and deviation for each of 6 channels, or none, found 1",
        ),
    ],
)
def test_a_bad_task_is_named_with_its_field_and_the_remedy(task: Task, message: str) -> None:
    with pytest.raises(StreamError, match=re.escape(message)) as error:
        check_tasks([task, *GOOD[1:]], "per-task")
    assert str(error.value).startswith(f"task {task.label} ('blobs 0'): ")


def test_a_task_of_one_class_is_refused() -> None:
    lonely = blob_task(0, 1, 4, 3, torch.Generator())
    with pytest.raises(StreamError, match="classes: required at least two classes, found 1 .*nothing to learn"):
        check_tasks([lonely], "per-task")


def test_no_task_is_refused() -> None:
    with pytest.raises(StreamError, match="tasks: required at least one task, found none; give the data"):
        check_tasks([], "per-task")


def test_two_tasks_with_one_label_are_refused() -> None:
    with pytest.raises(StreamError, match=r"task 0 \('blobs 0'\): label: required its position in the stream, 1"):
        check_tasks([FIRST, FIRST], "per-task")


def test_inputs_of_one_head_have_one_shape() -> None:
    other = blob_task(1, 2, 7, 3, torch.Generator())
    check_tasks([FIRST, other], "per-task")
    with pytest.raises(StreamError) as error:
        check_tasks([FIRST, replace(other, head=0)], "shared")
    assert str(error.value) == (
        "heads: a shared head required inputs of one shape in every task, found [(6,), (7,)]; "
        'use heads="per-task", or resize or pad so that all tasks have one input.'
    )


def test_inputs_of_one_shape_have_one_type_whatever_stands_between() -> None:
    narrow = blob_task(1, 2, 7, 3, torch.Generator())
    wide = replace(FIRST, label=2, head=2)
    for split in ("train", "val", "test"):
        wide = with_split(wide, split, x=getattr(wide, split).x.double())
    message = (
        "task 2 ('blobs 0'): train.x: required samples as in task 0, (6,) torch.float32, found (6,) torch.float64; "
        "convert so that all tasks with inputs of this shape have one type."
    )
    with pytest.raises(StreamError, match=re.escape(message)):
        check_tasks([FIRST, narrow, wide], "per-task")


def test_inputs_of_one_shape_have_one_normalisation() -> None:
    images = Samples(torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1]))
    plain = replace(FIRST, train=images, val=images, test=images)
    other = replace(plain, label=1, head=1, normalisation=Normalisation((0.5,), (1.0,)))
    with pytest.raises(StreamError, match="task 1 .*normalisation: required that of task 0.*use one normalisation"):
        check_tasks([plain, other], "per-task")
    larger = Samples(torch.zeros(4, 1, 3, 2, dtype=torch.uint8), images.y)
    check_tasks([plain, replace(other, train=larger, val=larger, test=larger)], "per-task")


def test_a_shared_head_needs_equal_class_counts() -> None:
    tasks = [replace(task, head=0) for task in GOOD]
    message = r"heads: a shared head required the same number of classes in every task, found \[2, 5, 3\]; use heads"
    with pytest.raises(StreamError, match=message):
        check_tasks(tasks, "shared")
    check_tasks([tasks[0], replace(tasks[0], label=1)], "shared")


def test_a_shared_head_has_the_number_0() -> None:
    with pytest.raises(StreamError, match="task 1 .*head: required 0 in a stream with heads='shared', found 1"):
        check_tasks([FIRST, replace(FIRST, label=1, head=1)], "shared")


def test_unknown_heads_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"heads: required one of \('per-task', 'shared'\), found 'both'; choose"):
        check_tasks(GOOD, "both")  # type: ignore[arg-type]


def test_the_objective_says_how_many_classes() -> None:
    with pytest.raises(StreamError, match="classes: required 4 names, found 2"):
        check_tasks([replace(FIRST, objective=Classification(4))], "per-task")
