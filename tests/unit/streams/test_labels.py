import re
from typing import Any

import numpy as np
import pytest
import torch

from prognet.errors import StreamError
from prognet.streams.labels import as_labels, localise


@pytest.mark.parametrize(
    ("y", "expected"),
    [
        (torch.tensor([7, -3]), [7, -3]),
        (np.array([7, 3], dtype=np.uint8), [7, 3]),
        (np.array([7, 3], dtype=">i2"), [7, 3]),
        ([True, False], [1, 0]),
        (["cat", "ant"], ["cat", "ant"]),
        (np.array(["cat", "ant"], dtype=object), ["cat", "ant"]),
    ],
)
def test_labels_are_whole_numbers_or_text(y: Any, expected: list[Any]) -> None:
    labels = as_labels(y, "y")
    assert labels.tolist() == expected
    assert labels.dtype == np.int64 or labels.dtype.kind == "U"


@pytest.mark.parametrize(
    ("y", "message"),
    [
        ([0.0, 1.0], "y: required integer or text labels, found float64; convert them, for instance to int64."),
        (np.array([None, "a"]), "y: required integer or text labels, found object"),
        ([[0], [1]], "y: required shape (N,), found (2, 1); give one label for each sample."),
        (3, "y: required shape (N,), found ()"),
    ],
)
def test_other_labels_are_refused(y: Any, message: str) -> None:
    with pytest.raises(StreamError, match=re.escape(message)):
        as_labels(y, "y")


def test_classes_are_the_sorted_labels_of_the_training_split() -> None:
    classes, (train, test) = localise(np.array([30, 10, 20, 10]), [np.array([20, 30])], "here")
    assert classes == ("10", "20", "30")
    assert (train.tolist(), test.tolist()) == ([2, 0, 1, 0], [1, 2])
    assert train.dtype == test.dtype == torch.int64


def test_a_class_that_was_never_trained_is_refused() -> None:
    message = "here: required classes that the training split has (1, 2), found 3, 9 in another split; add training"
    with pytest.raises(StreamError, match=re.escape(message)):
        localise(np.array([1, 2]), [np.array([9, 1, 3])], "here")


def test_numbers_and_text_are_different_classes() -> None:
    with pytest.raises(StreamError, match="found 1 in another split"):
        localise(np.array([1, 2]), [np.array(["1"])], "here")
