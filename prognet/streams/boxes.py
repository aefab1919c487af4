"""The objective of a detection: anchors, loss and metrics of boxes, by torchvision and torchmetrics."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prognet.backbones.detection import BoxGrid
from prognet.streams.objectives import Fault, Objective

NO_BOX = -1
"""The class of a row that holds no box."""
_FOREGROUND, _BACKGROUND = 0.5, 0.4
_SURE, _OVERLAP, _MOST = 0.05, 0.5, 100


@dataclass(frozen=True, slots=True, eq=False)
class Boxes:
    """What was found in one image, the surest first."""

    boxes: Tensor
    """(n, 4): left, top, right, bottom, in pixels."""
    labels: Tensor
    """(n,), int64, local classes."""
    scores: Tensor
    """(n,), in [0, 1]."""


@dataclass(frozen=True, slots=True)
class Detection(Objective):
    """Which objects are where: targets (B, M, 5), float32, rows of class, left, top, right, bottom, in pixels.

    Rows of images with fewer than M objects have class -1. Outputs are dense predictions (B, A, n_classes + 4) for the
    A anchors of the grid. The loss is that of RetinaNet (Lin et al. 2017, 1708.02002), as torchvision has it: sigmoid
    focal loss of the classes plus L1 of the box codes, both over the number of matched anchors of an image; an anchor
    is matched from an IoU of 0.5 on, counts as background below 0.4, and every object gets its best anchor. Label
    smoothing does not apply.

    Metrics, by torchmetrics, after suppression of boxes of a class that overlap by more than 0.5: map50, the primary
    one, the mean over classes of the average precision at an IoU of 0.5; map75; and map, the mean of it over IoU 0.5,
    0.55, .. 0.95 (COCO). No image has one of these by itself, so `correct` is map50 of all images, for each of them.
    """

    n_classes: int
    image_size: tuple[int, int]
    """Height and width in pixels."""
    sizes: tuple[float, ...] = (14.0, 18.0, 22.0)
    """Sides of the square anchors, in pixels."""
    ratios: tuple[float, ...] = (1.0, 2.0)
    """Heights over widths of the anchors."""
    stride: int = 8
    """Pixels between the positions of anchors."""
    primary = "map50"

    def grid(self) -> BoxGrid:
        return BoxGrid(self.stride, len(self.sizes) * len(self.ratios))

    def output_shape(self, n_outputs: int) -> tuple[int, ...]:
        height, width = (side // self.stride for side in self.image_size)
        return height * width * self.grid().anchors, n_outputs + 4

    def record(self) -> Mapping[str, Any]:
        return {
            "name": "detection",
            "n_classes": self.n_classes,
            "image_size": list(self.image_size),
            "sizes": list(self.sizes),
            "ratios": list(self.ratios),
            "stride": self.stride,
        }

    def chance(self, n_outputs: int) -> float:
        return 0.0

    def fault(self, y: Tensor, n_outputs: int) -> Fault | None:
        if y.dtype != torch.float32 or y.ndim != 3 or y.shape[2] != 5:
            found = f"shape {tuple(y.shape)} {y.dtype}"
            return Fault("shape (N, M, 5) torch.float32", found, "give rows of class, left, top, right, bottom")
        classes = set(y[..., 0].flatten().tolist())
        if not classes <= {NO_BOX, *range(n_outputs)}:
            required = f"classes in [0, {n_outputs}), or {NO_BOX} for no box"
            return Fault(required, sorted(classes), "make them local to the task")
        boxes = y[..., 1:][y[..., 0] != NO_BOX]  # (n, 4)
        height, width = self.image_size
        inside = (boxes[:, :2] >= 0).all() and (boxes[:, 2] <= width).all() and (boxes[:, 3] <= height).all()
        if not inside or not (boxes[:, :2] < boxes[:, 2:]).all():
            return Fault("boxes with an area, within the image", "others", "clip boxes, and drop empty ones")
        return None

    def anchors(self, device: torch.device) -> Tensor:
        """The boxes that predictions start from, (A, 4), positions by rows."""
        from torchvision.models.detection.anchor_utils import AnchorGenerator

        generator = AnchorGenerator((self.sizes,), (self.ratios,))
        generator.set_cell_anchors(torch.float32, device)
        steps = [[torch.tensor(self.stride, device=device)] * 2]
        (found,) = generator.grid_anchors([[side // self.stride for side in self.image_size]], steps)
        return torch.as_tensor(found)

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        anchors = self.anchors(output.device)
        losses = [self._image_loss(said, truth, anchors) for said, truth in zip(output, target, strict=True)]
        return torch.stack(losses).mean()

    def _image_loss(self, said: Tensor, truth: Tensor, anchors: Tensor) -> Tensor:
        """Of one image: predictions (A, n_classes + 4) and targets (M, 5)."""
        from torchvision.models.detection._utils import BoxCoder, Matcher
        from torchvision.ops import box_iou, sigmoid_focal_loss

        truth = truth[truth[:, 0] != NO_BOX]
        matched = torch.full((len(anchors),), Matcher.BELOW_LOW_THRESHOLD, device=said.device)  # (A,)
        if len(truth):
            matched = Matcher(_FOREGROUND, _BACKGROUND, allow_low_quality_matches=True)(box_iou(truth[:, 1:], anchors))
        (chosen,) = torch.where(matched >= 0)
        own = truth[matched[chosen]]  # (n, 5)
        classes = torch.zeros_like(said[:, : self.n_classes])
        classes[chosen, own[:, 0].long()] = 1
        counted = matched != Matcher.BETWEEN_THRESHOLDS
        focal = sigmoid_focal_loss(said[counted, : self.n_classes], classes[counted], reduction="sum")
        codes = BoxCoder((1.0, 1.0, 1.0, 1.0)).encode_single(own[:, 1:], anchors[chosen])
        moved = functional.l1_loss(said[chosen, self.n_classes :], codes, reduction="sum")
        loss: Tensor = (focal + moved) / max(1, len(chosen))
        return loss

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return torch.full((len(output),), self.metrics(output, target)[self.primary], device=output.device)

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        return self.judge(self.decode(output.detach().float().cpu()), target)

    def judge(self, found: Sequence[Boxes], target: Tensor) -> dict[str, float]:
        """The metrics of what was found in images, against their targets (N, M, 5)."""
        from torchmetrics.detection import MeanAveragePrecision

        measure = MeanAveragePrecision()
        measure.warn_on_many_detections = False
        truth = [rows[rows[:, 0] != NO_BOX] for rows in target.cpu()]
        measure.update(
            [{"boxes": one.boxes.cpu(), "scores": one.scores.cpu(), "labels": one.labels.cpu()} for one in found],
            [{"boxes": one[:, 1:], "labels": one[:, 0].long()} for one in truth],
        )
        values = measure.compute()
        names = {self.primary: "map_50", "map75": "map_75", "map": "map"}
        return {name: nan if values[key] < 0 else values[key].item() for name, key in names.items()}

    def decode(self, output: Tensor, least: float = _SURE) -> list[Boxes]:
        """What is found in each image, after suppression.

        Args:
            output: dense predictions (B, A, n_classes + 4).
            least: the score from which on a box counts.
        """
        anchors = self.anchors(output.device)
        return [self._decode_image(said, anchors, least) for said in output]

    def _decode_image(self, said: Tensor, anchors: Tensor, least: float) -> Boxes:
        from torchvision.models.detection._utils import BoxCoder
        from torchvision.ops import batched_nms, clip_boxes_to_image, remove_small_boxes

        scores = said[:, : self.n_classes].sigmoid()  # (A, n_classes)
        place, label = torch.where(scores > least)
        codes = said[place, self.n_classes :]
        boxes = BoxCoder((1.0, 1.0, 1.0, 1.0)).decode_single(codes, anchors[place])  # (n, 4)
        boxes = clip_boxes_to_image(boxes, self.image_size)
        large = remove_small_boxes(boxes, 1.0)
        boxes, label, score = boxes[large], label[large], scores[place, label][large]
        kept = batched_nms(boxes, score, label, _OVERLAP)[:_MOST]
        return Boxes(boxes[kept], label[kept], score[kept])


def padded(images: Sequence[Sequence[tuple[int, float, float, float, float]]]) -> Tensor:
    """Targets (N, M, 5) from the objects of each image: class, left, top, right, bottom."""
    most = max((len(objects) for objects in images), default=0)
    target = torch.zeros(len(images), max(1, most), 5)
    target[..., 0] = NO_BOX
    for index, objects in enumerate(images):
        if objects:
            target[index, : len(objects)] = torch.tensor(objects, dtype=torch.float32)
    return target
