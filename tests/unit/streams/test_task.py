from dataclasses import replace

import pytest
import torch

from prognet.errors import ConfigError, StreamError
from prognet.results import TaskSummary
from prognet.streams.objectives import Classification
from prognet.streams.task import Normalisation, labels_of, outline_of
from tests.helpers.data import blob_task, blobs


def test_bytes_are_divided_by_255_and_then_standardised_by_channel() -> None:
    x = torch.tensor([0, 51, 255, 102], dtype=torch.uint8).view(1, 2, 1, 2)
    normalised = Normalisation(mean=(0.2, 0.4), std=(0.5, 0.25))(x)
    # channel 0: (0 - 0.2) / 0.5, (0.2 - 0.2) / 0.5; channel 1: (1 - 0.4) / 0.25, (0.4 - 0.4) / 0.25
    assert torch.allclose(normalised, torch.tensor([-0.4, 0.0, 2.4, 0.0]).view(1, 2, 1, 2), atol=1e-6)
    assert normalised.dtype == torch.float32
    assert x.flatten().tolist() == [0, 51, 255, 102]  # the samples themselves stay


def test_floats_are_not_divided() -> None:
    x = torch.tensor([[0.25, -3.0]], dtype=torch.float64)
    assert torch.equal(Normalisation()(x), torch.tensor([[0.25, -3.0]]))


@pytest.mark.parametrize(
    ("mean", "std", "message"),
    [
        ((0.5,), (), "std: required as many finite numbers as mean, found mean=\\(0.5,\\), std=\\(\\)"),
        ((float("nan"),), (1.0,), "std: required as many finite numbers as mean, found mean=\\(nan,\\)"),
        ((0.5,), (0.0,), "std: required numbers above 0, found \\(0.0,\\); leave constant channels out"),
    ],
)
def test_a_normalisation_that_cannot_be_is_refused(
    mean: tuple[float, ...], std: tuple[float, ...], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        Normalisation(mean, std)


def test_a_task_that_stands_alone_has_no_experience() -> None:
    task = blob_task(1, 2, 4, 3, torch.Generator())
    with pytest.raises(StreamError, match="task 1: required a task of a stream, found one that stands alone"):
        _ = task.experience


def test_summary_and_labels() -> None:
    stream = blobs((2, 5), n_features=4, per_class=3)
    expected = TaskSummary(
        label=1, name="blobs 1", n_classes=5, input_shape=(4,), head=1, n_train=15, n_val=10, n_test=20
    )
    assert stream[1].summary == expected
    assert labels_of(stream) == (0, 1)


def test_an_outline_has_the_shape_of_the_task_and_no_samples() -> None:
    task = blobs((3,), n_features=4)[0]
    outline = task.outline()
    assert (outline.input_shape, outline.n_classes, outline.head) == ((4,), 3, 0)
    assert [len(outline.train), len(outline.val), len(outline.test)] == [0, 0, 0]
    assert outline.make_experience is None
    rebuilt = outline_of(replace(task.summary, name="again"), Classification(3))
    assert (rebuilt.input_shape, rebuilt.n_classes, rebuilt.name, len(rebuilt.train)) == ((4,), 3, "again", 0)
