"""Real digits on canvases: a detection data set that is made on the spot, seeded, from images that are at hand."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal, get_args

import torch
from torch import Tensor
from torch.nn import functional

from prognet.errors import ConfigError
from prognet.streams.boxes import Detection, padded
from prognet.streams.checks import SPLITS
from prognet.streams.digits import read_digits
from prognet.streams.objectives import Classification, Objective
from prognet.streams.parts import Settings, generator
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from prognet.streams.torchvision_data import read_dataset

Background = Literal["black", "noise", "slope"]
Row = tuple[int, float, float, float, float]
"""Class, left, top, right, bottom."""
DIGITS = tuple(range(10))
STRIDE = 8
_INK, _TRIES, _DIM = 0.25, 50, 0.5


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """What the canvases of one task look like, and what is asked about them.

    Raises:
        ConfigError: when a value is out of its range.
    """

    name: str
    asks: Literal["boxes", "class"] = "boxes"
    """`"boxes"`: a detection of all digits. `"class"`: one digit on each canvas, and which one it is."""
    classes: tuple[int, ...] = DIGITS
    """The digits that occur."""
    sides: tuple[int, int] = (18, 28)
    """The smallest and the largest side of a digit's image, in pixels."""
    objects: tuple[int, int] = (1, 3)
    """The fewest and the most digits on a canvas; where there is no room for one it is left out."""
    background: Background = "black"
    """`"noise"`: uniform noise in every pixel. `"slope"`: brightness that rises in a random direction. Both up to half
    of the digits' brightness."""
    inverted: bool = False
    """Black and white exchanged."""

    def __post_init__(self) -> None:
        if self.asks not in ("boxes", "class") or self.background not in get_args(Background):
            raise ConfigError(f"scene {self.name!r}: required known words, found {self.asks!r}, {self.background!r}.")
        if len(set(self.classes)) < max(2, len(self.classes)) or not set(self.classes) <= set(DIGITS):
            raise ConfigError(f"classes: required two different digits or more of 0 .. 9, found {self.classes}.")
        for argument, (low, high) in {"sides": self.sides, "objects": self.objects}.items():
            if not 1 <= low <= high:
                raise ConfigError(f"{argument}: required 1 <= smallest <= largest, found {(low, high)}.")


SCENES = (
    Scene(name="which digit", asks="class"),
    Scene(name="boxes of 0 to 4", classes=(0, 1, 2, 3, 4)),
    Scene(name="boxes of 5 to 9 on noise", classes=(5, 6, 7, 8, 9), background="noise"),
)
"""A classification of all digits and two detections of five digits each, the second one on noise."""


def detection_digits(
    n_train: int = 400,
    n_test: int = 150,
    *,
    canvas: int = 48,
    seed: int = 0,
    validation: float = 0.1,
    root: str | Path | None = None,
    download: bool = False,
) -> Stream:
    """Which digit is on a canvas, then boxes of the digits 0 to 4, then boxes of 5 to 9 on noise: `SCENES`.

    Arguments and errors are those of `digit_canvases`.
    """
    tasks, _ = _tasks(SCENES, n_train, n_test, canvas, Settings(seed=seed, validation=validation), root, download)
    arguments = {"n_train": n_train, "n_test": n_test, "canvas": canvas, "validation": validation}
    return Stream(tasks, name="detection-digits", seed=seed, arguments=arguments)


def digit_canvases(
    scenes: Sequence[Scene],
    *,
    n_train: int = 400,
    n_test: int = 150,
    canvas: int = 48,
    seed: int = 0,
    validation: float = 0.1,
    root: str | Path | None = None,
    download: bool = False,
) -> Stream:
    """Digits of scikit-learn, or of MNIST, placed without overlap on canvases (1, canvas, canvas) in bytes.

    A box is the smallest one that holds the ink of a digit. Canvases for training are made of the training images of
    the data set, those for testing of its test images, in the same way. Classifications and detections can share a
    trunk: `prognet.backbones.detection_resnet18`.

    Args:
        scenes: one for each task.
        n_train: canvases of a task for training and validation.
        n_test: canvases of a task for testing.
        canvas: side in pixels, a multiple of 8.
        seed: of everything that is drawn.
        validation: fraction of the training canvases that is held out.
        root: the folder that holds `MNIST/raw`; None for scikit-learn's digits, which are embedded.
        download: whether torchvision may fetch missing files into `root`.

    Raises:
        ConfigError: when an argument is out of its range.
        MissingDataError: when MNIST is asked for and not there.
    """
    settings = Settings(seed=seed, validation=validation)
    tasks, source = _tasks(scenes, n_train, n_test, canvas, settings, root, download)
    arguments = {
        "scenes": [asdict(scene) for scene in scenes],
        "n_train": n_train,
        "n_test": n_test,
        "canvas": canvas,
        "validation": validation,
        "source": source,
    }
    return Stream(tasks, name="digit-canvases", seed=seed, arguments=arguments)


def _tasks(
    scenes: Sequence[Scene],
    n_train: int,
    n_test: int,
    canvas: int,
    settings: Settings,
    root: str | Path | None,
    download: bool,
) -> tuple[list[Task], str]:
    """The tasks, and the name of the data set that the digits come from."""
    largest = max((scene.sides[1] for scene in scenes), default=0)
    if canvas % STRIDE or canvas < largest:
        raise ConfigError(f"canvas: required a multiple of {STRIDE}, at least {largest}, found {canvas!r}.")
    if not scenes or min(n_train, n_test) < 2:
        raise ConfigError(f"n_train, n_test: required scenes and two canvases or more, found {n_train}, {n_test}.")
    data = read_digits() if root is None else read_dataset("MNIST", root, download)
    held_out = round(settings.validation * n_train)
    sources = (data.train, data.train, data.test)
    tasks = []
    for label, scene in enumerate(scenes):
        splits = [
            _split(scene, source, count, canvas, generator(settings.seed, label, name))
            for name, source, count in zip(SPLITS, sources, (n_train - held_out, held_out, n_test), strict=True)
        ]
        tasks.append(_task(label, scene, splits, canvas))
    return tasks, "digits" if root is None else "MNIST"


def _task(label: int, scene: Scene, splits: Sequence[Samples], canvas: int) -> Task:
    n_classes = len(scene.classes)
    objective: Objective = Classification(n_classes)
    if scene.asks == "boxes":
        objective = Detection(n_classes, (canvas, canvas), _anchors(scene.sides))
    train, val, test = splits
    return Task(
        label=label,
        name=scene.name,
        classes=tuple(map(str, scene.classes)),
        train=train,
        val=val,
        test=test,
        objective=objective,
        head=label,
    )


def _anchors(sides: tuple[int, int]) -> tuple[float, float, float]:
    """Sides of anchors for digits whose images have such sides; their ink is narrower than the image."""
    low, high = sides
    return 0.8 * low, 0.4 * (low + high), 0.8 * high


def _split(scene: Scene, source: Samples, count: int, canvas: int, random: torch.Generator) -> Samples:
    images, targets = torch.empty(count, 1, canvas, canvas, dtype=torch.uint8), []
    of_class = [torch.nonzero(source.y == digit).flatten() for digit in scene.classes]
    for index in range(count):
        image, rows = _canvas(scene, source, of_class, canvas, random)
        images[index, 0] = (image * 255).round().to(torch.uint8)
        targets.append(rows)
    y = padded(targets) if scene.asks == "boxes" else torch.tensor([rows[0][0] for rows in targets], dtype=torch.int64)
    return Samples(images, y)


def _canvas(
    scene: Scene, source: Samples, of_class: Sequence[Tensor], side: int, random: torch.Generator
) -> tuple[Tensor, list[Row]]:
    """One image (side, side) in [0, 1] and what is on it."""
    image = _background(scene.background, side, random)
    low, high = scene.objects if scene.asks == "boxes" else (1, 1)
    rows: list[Row] = []
    for _ in range(_whole(low, high, random)):
        label = _whole(0, len(of_class) - 1, random)
        chosen = of_class[label][_whole(0, len(of_class[label]) - 1, random)]
        digit = _resized(source.x[chosen, 0], _whole(*scene.sides, random))
        place = _free_place(digit, rows, side, random)
        if place is not None:
            left, top, box = place
            part = image[top : top + len(digit), left : left + len(digit)]
            part.copy_(torch.maximum(part, digit))
            rows.append((label, *box))
    return (1 - image if scene.inverted else image), rows


def _background(kind: Background, side: int, random: torch.Generator) -> Tensor:
    if kind == "noise":
        return _DIM * torch.rand(side, side, generator=random)
    if kind == "slope":
        angle = 2 * torch.pi * torch.rand((), generator=random)
        across = torch.linspace(-1, 1, side)
        slope = torch.cos(angle) * across + torch.sin(angle) * across[:, None]
        return _DIM * (slope - slope.min()) / (slope.max() - slope.min())
    return torch.zeros(side, side)


def _resized(digit: Tensor, side: int) -> Tensor:
    """A digit (n, n), bytes or in [0, 1], as (side, side) in [0, 1]."""
    values = digit.float() / 255 if digit.dtype == torch.uint8 else digit
    large = functional.interpolate(values[None, None], (side, side), mode="bilinear", antialias=True)
    return large[0, 0].clamp(0, 1)


def _free_place(
    digit: Tensor, rows: Sequence[Row], side: int, random: torch.Generator
) -> tuple[int, int, tuple[float, float, float, float]] | None:
    """Left and top of the digit's image, and the box of its ink, apart from all others; None where no room is found."""
    down, across = (torch.nonzero((digit > _INK).any(dim=axis)).flatten().tolist() for axis in (1, 0))
    for _ in range(_TRIES):
        left, top = (_whole(0, side - len(digit), random) for _ in range(2))
        box = (float(left + across[0]), float(top + down[0]), float(left + across[-1] + 1), float(top + down[-1] + 1))
        if all(box[2] < row[1] or row[3] < box[0] or box[3] < row[2] or row[4] < box[1] for row in rows):
            return left, top, box
    return None


def _whole(low: int, high: int, random: torch.Generator) -> int:
    """A whole number from low to high, both included."""
    return int(torch.randint(low, high + 1, (), generator=random))
