"""The cascade: what its two networks learn, and how what they find is judged."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from prognet.config import Execution, Measurement, Training
from prognet.errors import ConfigError
from prognet.evaluation.cascade import cascade_metrics, cascade_stream
from prognet.streams.boxes import Detection, padded
from prognet.streams.detection import Scene, digit_canvases
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from prognet.training import Session

# two objects on 16 x 16 pixels: a bright one, class 1, at the place of the last anchor, and a dark one, class 0
X = torch.zeros(3, 1, 16, 16, dtype=torch.uint8)
X[:, :, 4:12, 4:12] = 200
X[:, :, 0:4, 0:4] = 40
SPLIT = Samples(X, padded([[(1, 4, 4, 12, 12), (0, 0, 0, 4, 4)]] * 3))
TASK = Task(
    label=0,
    name="squares",
    classes=("dark", "bright"),
    train=SPLIT,
    val=SPLIT,
    test=SPLIT,
    objective=Detection(2, (16, 16), (8.0, 4.0), (1.0,)),
    head=0,
)
SESSION = Session(
    training=Training(),
    measurement=Measurement(evaluation_batch_size=2),
    execution=Execution(),
    seed=0,
    device=torch.device("cpu"),
)


def oracle(x: Tensor, task_label: int, seen: float = 20.0) -> Tensor:
    """A detector that is sure of the two places, and a classifier that goes by brightness."""
    if task_label == 1:
        bright = x.flatten(1).mean(dim=1) * 255 - 120
        return torch.stack([-bright, bright], dim=1)
    output = torch.zeros(len(x), 8, 5)
    output[..., 0] = -20
    output[:, 6, 0] = seen  # the position (8, 8), the anchor of side 8
    output[:, 1, 0] = seen  # the position (0, 0), the anchor of side 4, which is moved by half of itself
    output[:, 1, 1:3] = 0.5
    return output


def test_the_two_tasks_are_where_and_which() -> None:
    stream = cascade_stream(TASK)
    where, which = stream
    assert where.objective == replace(TASK.objective, n_classes=1)  # type: ignore[type-var]
    assert set(where.test.y[..., 0].flatten().tolist()) == {0}
    assert torch.equal(where.test.y[..., 1:], SPLIT.y[..., 1:])
    assert which.objective == Classification(2) and which.classes == ("dark", "bright")
    assert which.train.y.tolist() == [1, 0] * 3
    assert which.train.x.shape == (6, 1, 16, 16) and which.train.x.dtype == torch.uint8


def test_a_crop_shows_its_object_in_full_size() -> None:
    crops = cascade_stream(TASK)[1].train.x
    assert (crops[0, 0, 1:-1, 1:-1] == 200).all()
    assert (crops[1, 0, 1:-2, 1:-2] == 40).all()


def test_sure_networks_make_no_mistake() -> None:
    found = cascade_metrics(oracle, cascade_stream(TASK), TASK, SESSION, nn.Identity())
    assert found["map50"] == 1.0


def test_a_classifier_that_is_wrong_costs_the_class() -> None:
    def wrong(x: Tensor, task_label: int) -> Tensor:
        return oracle(x, 0) if task_label == 0 else torch.tensor([[5.0, -5.0]]).expand(len(x), 2)

    # all is called dark: the dark object is found beside a wrong box of the same score, the bright one never
    found = cascade_metrics(wrong, cascade_stream(TASK), TASK, SESSION, nn.Identity())
    assert found["map50"] < 0.6


def test_nothing_detected_is_nothing_found() -> None:
    def blind(x: Tensor, task_label: int) -> Tensor:
        return oracle(x, task_label, seen=-20.0)

    assert cascade_metrics(blind, cascade_stream(TASK), TASK, SESSION, nn.Identity())["map50"] == 0.0


def test_only_a_detection_has_a_cascade() -> None:
    stream: Stream = digit_canvases([Scene(name="which", asks="class")], n_train=4, n_test=2)
    with pytest.raises(ConfigError, match=r"task 0 \('which'\): required a detection, found Classification"):
        cascade_stream(stream[0])


def test_a_detection_without_a_validation_split_has_none_to_crop() -> None:
    none = Samples(X[:0], SPLIT.y[:0])
    where, which = cascade_stream(replace(TASK, val=none))
    assert (len(where.val), len(which.val)) == (0, 0)
    assert len(which.train) == 6
