"""Canvases of real digits: what is on them is what the targets say."""

from pathlib import Path

import pytest
import torch

from prognet.errors import ConfigError
from prognet.streams.boxes import Detection
from prognet.streams.detection import SCENES, Background, Scene, detection_digits, digit_canvases
from prognet.streams.objectives import Classification
from prognet.streams.stream import Stream
from tests.helpers.data import same_samples

BOXES = Scene(name="boxes", sides=(10, 16), classes=(3, 5, 8))


def small(*scenes: Scene, seed: int = 0) -> Stream:
    return digit_canvases(scenes, n_train=10, n_test=4, canvas=32, seed=seed)


def test_the_default_tasks_are_a_classification_and_two_detections() -> None:
    stream = detection_digits(n_train=4, n_test=2)
    assert [task.name for task in stream] == [scene.name for scene in SCENES]
    assert [type(task.objective) for task in stream] == [Classification, Detection, Detection]
    assert [task.n_classes for task in stream] == [10, 5, 5]
    assert stream[0].input_shape == (1, 48, 48)


def test_a_box_holds_the_ink_and_all_of_it() -> None:
    for samples in (small(BOXES)[0].train, small(BOXES)[0].test):
        for image, rows in zip(samples.x[:, 0].float() / 255, samples.y, strict=True):
            rest = image.clone()
            for _, left, top, right, bottom in rows[rows[:, 0] >= 0].int().tolist():
                ink = image[top:bottom, left:right] > 0.25
                assert ink[0].any() and ink[-1].any() and ink[:, 0].any() and ink[:, -1].any()
                rest[top:bottom, left:right] = 0
            assert (rest <= 0.26).all()


def test_digits_do_not_overlap_and_are_as_many_as_asked_for() -> None:
    from torchvision.ops import box_iou

    counts = set()
    for rows in small(BOXES)[0].train.y:
        boxes = rows[rows[:, 0] >= 0, 1:]
        counts.add(len(boxes))
        assert (box_iou(boxes, boxes) - torch.eye(len(boxes))).abs().max() < 1e-6
    assert counts <= {1, 2, 3} and len(counts) > 1


def test_a_classification_asks_for_the_digit_that_is_there() -> None:
    """The image of each class differs from the others': the mean canvas of ones is narrower than that of zeros."""
    scene = Scene(name="which", asks="class", classes=(0, 1), sides=(24, 24))
    samples = digit_canvases([scene], n_train=60, n_test=4, canvas=24, validation=0)[0].train
    assert samples.y.dtype == torch.int64 and set(samples.y.tolist()) == {0, 1}
    middle = samples.x[:, 0, 8:16, 10:13].float().flatten(1).mean(dim=1)  # the hole of a zero, the stroke of a one
    assert middle[samples.y == 1].mean() > 2 * middle[samples.y == 0].mean()


def test_canvases_are_seeded_and_tasks_differ() -> None:
    first, again, other = (small(BOXES, BOXES, seed=seed) for seed in (0, 0, 1))
    assert first.digest == again.digest != other.digest
    assert not torch.equal(first[0].train.x, first[1].train.x)
    assert not torch.equal(first[0].train.x[:1], first[0].val.x[:1])
    assert [len(split) for split in (first[0].train, first[0].val, first[0].test)] == [9, 1, 4]


@pytest.mark.parametrize(("background", "least"), [("noise", 0.5), ("slope", 0.3)])
def test_a_background_is_dim_and_everywhere(background: Background, least: float) -> None:
    plain, other = (
        small(Scene(name="b", sides=(10, 12), background=kind))[0].train.x for kind in ("black", background)
    )
    assert (plain > 0).float().mean() < 0.35
    assert (other > 20).float().mean() > least
    assert other.float().median() < 128


def test_an_inverted_canvas_is_bright() -> None:
    assert small(Scene(name="i", inverted=True))[0].train.x.float().mean() > 128


def test_the_digits_of_the_test_canvases_are_those_of_the_test_split(monkeypatch: pytest.MonkeyPatch) -> None:
    from prognet.streams import detection
    from prognet.streams.digits import read_digits

    data = read_digits()
    marked = type(data)(data.train, type(data.test)(torch.zeros_like(data.test.x) + 1.0, data.test.y), data.classes)
    monkeypatch.setattr(detection, "read_digits", lambda: marked)
    task = small(BOXES)[0]
    assert all(len(image.unique()) == 2 for image in task.test.x)  # nothing but full squares on black
    assert all(len(image.unique()) > 2 for image in torch.cat([task.train.x, task.val.x]))


def test_a_stream_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    stream = small(BOXES)
    stream.save(tmp_path)
    read = Stream.load(tmp_path)
    assert read.digest == stream.digest and read[0].objective == stream[0].objective
    assert same_samples(read[0].train, stream[0].train)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sides": (0, 4)}, r"sides: required 1 <= smallest <= largest, found \(0, 4\)"),
        ({"objects": (3, 2)}, r"objects: required 1 <= smallest <= largest, found \(3, 2\)"),
        ({"classes": (3,)}, r"classes: required two different digits or more of 0 .. 9, found \(3,\)"),
        ({"classes": (3, 3)}, "classes: required two different digits"),
        ({"classes": (3, 10)}, "classes: required two different digits"),
        ({"background": "green"}, "scene 'x': required known words, found 'boxes', 'green'"),
    ],
)
def test_a_scene_that_cannot_be_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Scene(name="x", **change)  # type: ignore[arg-type]


def test_a_canvas_that_is_too_small_or_uneven_is_refused() -> None:
    for canvas in (20, 16):
        with pytest.raises(ConfigError, match="canvas: required a multiple of 8, at least 28, found"):
            detection_digits(canvas=canvas)
    with pytest.raises(ConfigError, match="n_train, n_test: required scenes and two canvases or more, found 1, 150"):
        detection_digits(n_train=1)
