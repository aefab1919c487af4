"""The options of every built-in stream, as frozen values: what the command line offers, and a recipe holds.

Each class has the fields and defaults of the function in `prognet.streams` that it is named after, without `seed`,
which is the order of an experiment, and `draw`, which is the seed of a run.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from prognet.config import Heads

Order = Literal["seeded", "natural"]
View = Literal["rotated", "inverted", "relabelled", "noisy", "permuted"]


@dataclass(frozen=True, kw_only=True)
class SplitDigits:
    """Options of `split_digits`, the digits of scikit-learn by class; no download."""

    n_tasks: int = 5
    """Tasks; the ten classes are shared out as equally as possible."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    class_order: Order = "seeded"
    """Classes in an order seeded by the order of the experiment, or in their own."""


@dataclass(frozen=True, kw_only=True)
class PermutedDigits:
    """Options of `permuted_digits`, the digits of scikit-learn with the pixels of each task permuted; no download."""

    n_tasks: int = 5
    """Tasks; the pixels of the first one stay as they are."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""


@dataclass(frozen=True, kw_only=True)
class RotatedDigits:
    """Options of `rotated_digits`, the digits of scikit-learn, rotated by another angle in each task; no download."""

    n_tasks: int = 5
    """Tasks, at angles spread evenly."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    task_order: Order = "seeded"
    """Angles in an order seeded by the order of the experiment, or ascending."""


@dataclass(frozen=True, kw_only=True)
class SplitImages:
    """Options of `split_mnist`, `split_fashion_mnist` and `split_cifar10`: the ten classes of a data set by class."""

    n_tasks: int = 5
    """Tasks; the classes are shared out as equally as possible."""
    root: Path | None = None
    """Folder with the data set as torchvision lays it out."""
    download: bool = False
    """Let torchvision fetch missing files into the folder."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    class_order: Order = "seeded"
    """Classes in an order seeded by the order of the experiment, or in their own."""


@dataclass(frozen=True, kw_only=True)
class PermutedImages:
    """Options of `permuted_mnist`: the data set with the pixels of each task permuted."""

    n_tasks: int = 10
    """Tasks; the pixels of the first one stay as they are."""
    root: Path | None = None
    """Folder with the data set as torchvision lays it out."""
    download: bool = False
    """Let torchvision fetch missing files into the folder."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""


@dataclass(frozen=True, kw_only=True)
class RotatedImages:
    """Options of `rotated_mnist`: the data set rotated by another angle in each task."""

    n_tasks: int = 10
    """Tasks, at angles spread evenly."""
    root: Path | None = None
    """Folder with the data set as torchvision lays it out."""
    download: bool = False
    """Let torchvision fetch missing files into the folder."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    task_order: Order = "seeded"
    """Angles in an order seeded by the order of the experiment, or ascending."""


@dataclass(frozen=True, kw_only=True)
class LowDataImages:
    """Options of `low_data_mnist`: a data set as it is, then views of it with a few samples of each class."""

    per_class: int = 5
    """Training samples of each class, of every task but the first."""
    first_per_class: int = 1000
    """Training samples of each class of the first task."""
    root: Path | None = None
    """Folder with the data set as torchvision lays it out."""
    download: bool = False
    """Let torchvision fetch missing files into the folder."""
    test: int = 2000
    """Test samples, the first ones of the data set."""
    validation: float = 0.0
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    views: tuple[View, ...] = ("rotated", "inverted", "relabelled", "noisy", "permuted")
    """The tasks after the first, which is plain."""
    task_order: Order = "natural"
    """Views as given, or in an order seeded by the order of the experiment."""


@dataclass(frozen=True, kw_only=True)
class LowDataDigits:
    """Options of `low_data_digits`: scikit-learn's digits as they are, then views with a few samples; no download."""

    per_class: int = 5
    """Training samples of each class, of every task but the first."""
    first_per_class: int = 100
    """Training samples of each class of the first task."""
    validation: float = 0.0
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    views: tuple[View, ...] = ("rotated", "inverted", "relabelled", "noisy", "permuted")
    """The tasks after the first, which is plain."""
    task_order: Order = "natural"
    """Views as given, or in an order seeded by the order of the experiment."""


@dataclass(frozen=True, kw_only=True)
class PairedImages:
    """Options of `multi_mnist`: two images of a data set in one, of which each task names one."""

    root: Path | None = None
    """Folder with the data set as torchvision lays it out."""
    download: bool = False
    """Let torchvision fetch missing files into the folder."""
    train: int | None = None
    """Pairs for training and validation; None for one for every training image."""
    test: int | None = None
    """Pairs for testing; None for one for every test image."""
    validation: float = 0.1
    """Fraction of the pairs for training that is held out."""


@dataclass(frozen=True, kw_only=True)
class PairedDigits:
    """Options of `multi_digits`: two of scikit-learn's digits in one image, a task for each of them; no download."""

    train: int | None = None
    """Pairs for training and validation; None for one for every training image."""
    test: int | None = None
    """Pairs for testing; None for one for every test image."""
    validation: float = 0.1
    """Fraction of the pairs for training that is held out."""


@dataclass(frozen=True, kw_only=True)
class SpokenDigits:
    """Options of `spoken_digits`: digits in several languages, spoken by the program espeak-ng; no download."""

    per_class: int = 5
    """Training samples of each class, of every task but the first; 60 are all."""
    first_per_class: int = 60
    """Training samples of each class of the first task."""
    root: Path | None = None
    """Folder to keep spoken words in; without one they are spoken anew for every stream."""
    test: int = 16
    """Test samples of each class; 16 are all."""
    validation: float = 0.0
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    languages: tuple[str, ...] = ("en", "de", "fr", "es", "it")
    """Languages, as the files of espeak-ng's voices are called; the first task first."""
    task_order: Order = "natural"
    """Languages as given, or in an order seeded by the order of the experiment; the first one stays the first."""


@dataclass(frozen=True, kw_only=True)
class DetectionDigits:
    """Options of `detection_digits`: canvases with digits on them, to be classified and to be found; no download."""

    n_train: int = 400
    """Canvases of a task for training and validation."""
    n_test: int = 150
    """Canvases of a task for testing."""
    canvas: int = 48
    """Side of a canvas in pixels, a multiple of 8."""
    validation: float = 0.1
    """Fraction of the training canvases that is held out."""
    root: Path | None = None
    """Folder with MNIST as torchvision lays it out; without one the digits are scikit-learn's."""
    download: bool = False
    """Let torchvision fetch missing files into the folder."""


@dataclass(frozen=True, kw_only=True)
class OwnArrays:
    """Options of `from_npz`: arrays x_train_0, y_train_0, x_test_0, y_test_0, x_train_1, ... in one file."""

    path: Path
    """The .npz file."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    task_order: Order = "natural"
    """Tasks in the order of their numbers, or in one seeded by the order of the experiment."""


@dataclass(frozen=True, kw_only=True)
class OwnFolder:
    """Options of `from_folder`: images in root/<task>/train/<class>/ and root/<task>/test/<class>/."""

    root: Path
    """Folder of the tasks."""
    size: tuple[int, int] = (32, 32)
    """Height and width to which every image is resized."""
    channels: Literal[1, 3] = 3
    """3 for colour, 1 for grey."""
    test: float = 0.25
    """Fraction of each class that is tested on, for a task folder without train and test."""
    validation: float = 0.1
    """Fraction of each task's training samples that is held out."""
    heads: Heads = "per-task"
    """An output head for each task, or one that all share."""
    task_order: Order = "natural"
    """Tasks in the order of their names, or in one seeded by the order of the experiment."""


StreamOptions = (
    SplitDigits
    | PermutedDigits
    | RotatedDigits
    | SplitImages
    | PermutedImages
    | RotatedImages
    | LowDataImages
    | LowDataDigits
    | PairedImages
    | PairedDigits
    | SpokenDigits
    | DetectionDigits
    | OwnArrays
    | OwnFolder
)
