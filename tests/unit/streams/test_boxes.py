"""The objective of a detection, against torchvision's own head and values by hand."""

import re
from dataclasses import replace
from math import isnan

import pytest
import torch
from torch import Tensor

from prognet.streams.boxes import NO_BOX, Boxes, Detection, padded

SMALL = Detection(2, (16, 16), (8.0,), (1.0,))
# the four anchors have their centres at multiples of the stride, from 0 on
ANCHORS = [[-4, -4, 4, 4], [4, -4, 12, 4], [-4, 4, 4, 12], [4, 4, 12, 12]]
TWO = padded([[(0, 4, 4, 12, 12), (1, 0, 0, 5, 5)], [(1, 5, 5, 12, 12)]])
NOTHING = padded([[]])


def said(*rows: tuple[int, int, tuple[float, ...]], objective: Detection = SMALL, images: int = 1) -> Tensor:
    """Dense predictions in which (anchor, class, codes) are sure and all else is not."""
    output = torch.zeros(images, 4, objective.n_classes + 4)
    output[..., : objective.n_classes] = -20
    for anchor, label, codes in rows:
        output[:, anchor, label] = 20
        output[:, anchor, objective.n_classes :] = torch.tensor(codes)
    return output


def test_padding_marks_the_rows_without_a_box() -> None:
    assert TWO.shape == (2, 2, 5)
    assert TWO[1].tolist() == [[1, 5, 5, 12, 12], [NO_BOX, 0, 0, 0, 0]]
    assert NOTHING.tolist() == [[[NO_BOX, 0, 0, 0, 0]]]


def test_anchors_lie_on_the_grid() -> None:
    assert SMALL.anchors(torch.device("cpu")).tolist() == ANCHORS
    grid = Detection(2, (16, 24), (8.0, 4.0), (1.0, 2.0)).grid()
    assert (grid.stride, grid.anchors) == (8, 4)
    assert Detection(2, (16, 24), (8.0, 4.0), (1.0, 2.0)).anchors(torch.device("cpu")).shape == (2 * 3 * 4, 4)


@pytest.mark.parametrize(
    "target", [TWO, torch.cat([TWO[:1], NOTHING.expand(1, 2, 5)]), NOTHING], ids=["two", "one", "none"]
)
def test_the_loss_is_that_of_torchvisions_head(target: Tensor) -> None:
    from torchvision.models.detection._utils import Matcher
    from torchvision.models.detection.retinanet import RetinaNetHead
    from torchvision.ops import box_iou

    objective = Detection(2, (16, 16), (6.0, 8.0), (1.0, 2.0))
    anchors = objective.anchors(torch.device("cpu"))
    output = torch.randn(len(target), len(anchors), 6, generator=torch.Generator().manual_seed(0))
    truth, matched = [], []
    for one in target:
        rows = one[one[:, 0] >= 0]
        truth.append({"boxes": rows[:, 1:], "labels": rows[:, 0].long()})
        no_match = torch.full((len(anchors),), -1)
        matched.append(Matcher(0.5, 0.4, True)(box_iou(rows[:, 1:], anchors)) if len(rows) else no_match)
    outputs = {"cls_logits": output[..., :2], "bbox_regression": output[..., 2:]}
    expected = RetinaNetHead(4, 4, 2).compute_loss(truth, outputs, [anchors] * len(target), matched)
    found = objective.loss(output, target)
    assert found.item() == pytest.approx(sum(part.item() for part in expected.values()), rel=1e-5)
    assert torch.equal(objective.loss(output, target, label_smoothing=0.5), found)


def test_a_perfect_prediction_is_found_again() -> None:
    """The codes of RetinaNet: shift of the centre in units of the anchor, logarithm of the ratio of the sides."""
    (found,) = SMALL.decode(said((3, 1, (0.0625, 0.0625, -0.1335313926245226, -0.1335313926245226))))
    assert found.labels.tolist() == [1]
    assert found.scores[0].item() == pytest.approx(1.0)
    assert torch.allclose(found.boxes, torch.tensor([[5.0, 5.0, 12.0, 12.0]]), atol=1e-5)


def test_boxes_of_one_class_that_overlap_are_suppressed_and_those_of_two_are_not() -> None:
    still = (0.0,) * 4
    output = said((3, 0, still), (1, 0, (0.0, 0.9, 0.0, 0.0)))  # the second one is moved onto the first
    assert len(SMALL.decode(output)[0].boxes) == 1
    output[0, 1, :2] = torch.tensor([-20.0, 20.0])
    assert len(SMALL.decode(output)[0].boxes) == 2


def test_boxes_end_with_the_image_and_the_surest_is_first() -> None:
    output = said((0, 0, (0.0,) * 4), (3, 1, (0.0,) * 4))
    output[0, 0, 0] = 1.0
    (found,) = SMALL.decode(output)
    assert found.boxes.tolist() == [[4, 4, 12, 12], [0, 0, 4, 4]]
    assert found.labels.tolist() == [1, 0]
    assert len(SMALL.decode(output, least=0.9)[0].boxes) == 1


def test_metrics_by_hand() -> None:
    """One of two objects is found, and a surer box of it than the wrong one: precision is 1 up to a recall of 1/2."""
    one = replace(SMALL, n_classes=1)
    target = padded([[(0, 4, 4, 12, 12)], [(0, 0, 0, 4, 4)]])
    output = said((3, 0, (0.0,) * 4), objective=one, images=2)
    output[1, 3, 0] = 1.0
    found = one.metrics(output, target)
    # COCO reads precision at recalls 0, 0.01, .. 1, of which 51 are at most 1/2; the box fits exactly at every IoU
    assert found == {name: pytest.approx(51 / 101) for name in ("map50", "map75", "map")}
    assert one.correct(output, target).tolist() == [pytest.approx(51 / 101)] * 2


def test_a_box_that_fits_loosely_counts_at_the_loose_threshold_only() -> None:
    one = replace(SMALL, n_classes=1)
    target = padded([[(0, 4, 4, 12, 9)]])  # IoU 5/8
    found = one.metrics(said((3, 0, (0.0,) * 4), objective=one), target)
    assert (found["map50"], found["map75"]) == (1.0, 0.0)
    assert found["map"] == pytest.approx(0.3)  # at 0.5, 0.55 and 0.6 of the ten thresholds


def test_the_wrong_class_does_not_count() -> None:
    target = padded([[(0, 4, 4, 12, 12)]])
    assert SMALL.metrics(said((3, 1, (0.0,) * 4)), target)["map50"] == 0.0
    assert SMALL.metrics(said((3, 0, (0.0,) * 4)), target)["map50"] == 1.0


def test_nothing_to_find_is_undefined_and_nothing_found_is_0() -> None:
    assert isnan(SMALL.metrics(said(), NOTHING)["map50"])
    assert SMALL.metrics(said(images=2), TWO)["map50"] == 0.0
    assert SMALL.chance(2) == 0.0


def test_what_was_found_elsewhere_can_be_judged() -> None:
    found = [Boxes(torch.tensor([[4.0, 4.0, 12.0, 12.0]]), torch.tensor([0]), torch.tensor([0.9]))]
    assert SMALL.judge(found, padded([[(0, 4, 4, 12, 12)]]))["map"] == 1.0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        (torch.zeros(3, dtype=torch.int64), "shape (N, M, 5) torch.float32, found shape (3,) torch.int64"),
        (padded([[(2, 0, 0, 4, 4)]]), "classes in [0, 2), or -1 for no box, found [2.0]"),
        (padded([[(0, 0, 0, 4, 17)]]), "boxes with an area, within the image, found others"),
        (padded([[(0, -1, 0, 4, 4)]]), "boxes with an area, within the image"),
        (padded([[(0, 4, 4, 4, 8)]]), "boxes with an area, within the image"),
    ],
)
def test_targets_that_are_no_boxes_are_named(target: Tensor, message: str) -> None:
    fault = SMALL.fault(target, 2)
    assert fault is not None
    assert re.match(re.escape(message), f"{fault.required}, found {fault.found}")


def test_good_boxes_have_no_fault() -> None:
    assert SMALL.fault(TWO, 2) is None
    assert SMALL.fault(NOTHING, 2) is None
