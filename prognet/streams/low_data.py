"""Low-data streams: a first task with many samples, then views of the same data set with a few samples a class.

They ask whether a few samples go further once there is a network that has learned a related task. The first task is the
data set as it is. The others are, in turn or in a seeded order,

| name | what its networks see |
|---|---|
| `rotated` | images turned by 45 degrees, counter-clockwise |
| `inverted` | black and white exchanged |
| `relabelled` | images as they are, classes in another order |
| `noisy` | max(x, 0.7 u), u uniform in [0, 1], drawn anew for every pixel of every sample |
| `permuted` | pixels in another order: unrelated to all others |

The permutations of labels and pixels and the noise of the test samples come from a constant: they are the same in every
order and in every draw. A *draw* decides which training samples of the data set each task has, and their noise; nothing
else depends on it, so that several draws show how much a result owes to the luck of the subset. A task's samples depend
on the draw and on its view, not on its place. Nothing is held out for validation by default, since there is little to
hold out. Pixels are in [0, 1] for the network, and not standardised.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from prognet.config import Heads
from prognet.errors import ConfigError
from prognet.options import View
from prognet.streams.digits import read_digits
from prognet.streams.parts import Dataset, Order, Settings, generator, make_task, ordered, select
from prognet.streams.pixels import permute_pixels, rotate
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from prognet.streams.torchvision_data import read_dataset

VIEWS: tuple[View, ...] = ("rotated", "inverted", "relabelled", "noisy", "permuted")
PLAIN = "plain"

_ANGLE = 45.0
_NOISE = 0.7
_CLASSES = 10
_TRANSFORMS = 28  # the seed of everything that is the same in all orders and draws


def low_data_mnist(
    per_class: int = 5,
    first_per_class: int = 1000,
    *,
    root: str | Path | None = None,
    download: bool = False,
    test: int = 2000,
    seed: int = 0,
    draw: int = 0,
    validation: float = 0.0,
    heads: Heads = "per-task",
    views: Sequence[View] = VIEWS,
    task_order: Order = "natural",
) -> Stream:
    """MNIST, (1, 28, 28) in bytes: plain first, then views of it with a few samples of every class.

    Args:
        per_class: training samples of each class, of every task but the first.
        first_per_class: training samples of each class of the first task.
        root: the folder that holds `MNIST/raw`.
        download: whether torchvision may fetch missing files into `root`.
        test: how many test samples, the first ones of the data set, the same in every task.
        seed: seed of the task order and of the validation split, if any.
        draw: seed of the training subset of every task.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.
        views: the tasks after the first.
        task_order: the views as given, or in an order seeded by `seed`; the first task stays the first.

    Raises:
        MissingDataError: when the data are not there.
        ConfigError: when an argument is out of its range.
        StreamError: when the files are damaged.
    """
    data = read_dataset("MNIST", root, download)
    if type(test) is not int or not 1 <= test <= len(data.test):
        raise ConfigError(f"test: required 1 to {len(data.test)} test samples, found {test!r}; ask for fewer.")
    data = Dataset(data.train, select(data.test, torch.arange(test)), data.classes, data.normalisation)
    settings = Settings(seed=seed, validation=validation, heads=heads)
    subset = _Subset(per_class, first_per_class, draw)
    arguments = {"test": test, "validation": validation, "heads": heads}
    return _stream("low-data-mnist", data, subset, settings, views, task_order, arguments)


def low_data_digits(
    per_class: int = 5,
    first_per_class: int = 100,
    *,
    seed: int = 0,
    draw: int = 0,
    validation: float = 0.0,
    heads: Heads = "per-task",
    views: Sequence[View] = VIEWS,
    task_order: Order = "natural",
) -> Stream:
    """scikit-learn's digits, (1, 8, 8): plain first, then views of them with a few samples of every class; embedded.

    The test split is that of the other streams of digits; the rarest digit has 130 training samples. Arguments and
    errors are those of `low_data_mnist`.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    subset = _Subset(per_class, first_per_class, draw)
    arguments = {"validation": validation, "heads": heads}
    return _stream("low-data-digits", read_digits(), subset, settings, views, task_order, arguments)


@dataclass(frozen=True, slots=True)
class _Subset:
    """How many training samples of a data set a task has, and which."""

    per_class: int
    first_per_class: int
    draw: int

    def __post_init__(self) -> None:
        if type(self.draw) is not int:
            raise ConfigError(f"draw: required a whole number, found {self.draw!r}; give for instance 0.")

    def of(self, samples: Samples, name: str) -> Samples:
        """The samples of the task of this name, in the order of the data set."""
        argument = "first_per_class" if name == PLAIN else "per_class"
        count = getattr(self, argument)
        random = generator(self.draw, "low data", name)
        members = [torch.nonzero(samples.y == label).flatten() for label in range(_CLASSES)]
        most = min(map(len, members))
        if type(count) is not int or not 1 <= count <= most:
            raise ConfigError(f"{argument}: required 1 to {most} samples of a class, found {count!r}; ask for fewer.")
        chosen = [indices[torch.randperm(len(indices), generator=random)[:count]] for indices in members]
        return select(samples, torch.cat(chosen).sort().values)


def _stream(
    name: str,
    data: Dataset,
    subset: _Subset,
    settings: Settings,
    views: Sequence[View],
    task_order: Order,
    arguments: Mapping[str, object],
) -> Stream:
    _check_views(views)
    order = ordered(len(views), task_order, "task_order", settings.seed, "task order")
    names = [PLAIN, *(views[index] for index in order)]
    tasks = [_task(label, name, data, subset, settings) for label, name in enumerate(names)]
    return Stream(
        tasks,
        name=name,
        heads=settings.heads,
        seed=settings.seed,
        draw=subset.draw,
        arguments={
            "per_class": subset.per_class,
            "first_per_class": subset.first_per_class,
            **arguments,
            "views": list(views),
            "task_order": task_order,
        },
    )


def _task(label: int, name: str, data: Dataset, subset: _Subset, settings: Settings) -> Task:
    view = _TRANSFORMATIONS[name]
    train = view(subset.of(data.train, name), generator(subset.draw, "low data", name, "noise"))
    test = view(data.test, generator(_TRANSFORMS, name, "noise"))
    classes = data.classes
    if name == "relabelled":
        classes = tuple(classes[old] for old in _new_labels().argsort().tolist())
    return make_task(label, name, classes, train, test, settings, data.normalisation)


def _plain(samples: Samples, random: torch.Generator) -> Samples:
    return samples


def _rotated(samples: Samples, random: torch.Generator) -> Samples:
    return Samples(rotate(samples.x, _ANGLE), samples.y)


def _inverted(samples: Samples, random: torch.Generator) -> Samples:
    return Samples(_white(samples.x) - samples.x, samples.y)


def _relabelled(samples: Samples, random: torch.Generator) -> Samples:
    return Samples(samples.x, _new_labels()[samples.y])


def _noisy(samples: Samples, random: torch.Generator) -> Samples:
    noise = torch.rand(samples.x.shape, generator=random) * (_NOISE * _white(samples.x))
    if samples.x.dtype == torch.uint8:
        noise = noise.round()
    return Samples(torch.maximum(samples.x, noise.to(samples.x.dtype)), samples.y)


def _permuted(samples: Samples, random: torch.Generator) -> Samples:
    n_pixels = samples.x[0, 0].numel()
    permutation = torch.randperm(n_pixels, generator=generator(_TRANSFORMS, "pixels"))
    return Samples(permute_pixels(samples.x, permutation), samples.y)


_TRANSFORMATIONS: Mapping[str, Callable[[Samples, torch.Generator], Samples]] = MappingProxyType(
    {
        PLAIN: _plain,
        "rotated": _rotated,
        "inverted": _inverted,
        "relabelled": _relabelled,
        "noisy": _noisy,
        "permuted": _permuted,
    }
)


def _new_labels() -> Tensor:
    """(10,): the label that each class has in the relabelled task."""
    return torch.randperm(_CLASSES, generator=generator(_TRANSFORMS, "labels"))


def _white(x: Tensor) -> int:
    return 255 if x.dtype == torch.uint8 else 1


def _check_views(views: Sequence[str]) -> None:
    if not views or len(set(views)) != len(views) or not set(views) <= set(VIEWS):
        raise ConfigError(
            f"views: required one or more of {', '.join(VIEWS)}, none of them twice, found {list(views)}; the plain "
            "task comes first in any case."
        )
