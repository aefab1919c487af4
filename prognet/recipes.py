"""Recipes: whole experiments as values, each returned by a function of its own.

A recipe says on which stream which strategies are compared, with which training and how often. The command line starts
from one and changes single fields.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from types import MappingProxyType

from prognet.config import Execution, Measurement, Training
from prognet.errors import ConfigError
from prognet.options import (
    DetectionDigits,
    LowDataDigits,
    LowDataImages,
    OwnArrays,
    OwnFolder,
    PairedDigits,
    PairedImages,
    PermutedDigits,
    PermutedImages,
    RotatedDigits,
    RotatedImages,
    SplitDigits,
    SplitImages,
    SpokenDigits,
    StreamOptions,
)

MAIN = ("progressive", "copytune", "finetune", "multitask", "independent")
CONTROLS = ("independent-wide", "progressive-random", "finetune-head")
LOW_DATA = (
    "progressive",
    "copytune",
    "independent",
    "independent-wide",
    "progressive-random",
    "progressive-shuffled",
    "progressive-scratch",
    "finetune",
)


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A comparison of strategies on one stream.

    Raises:
        ConfigError: when a number is out of its range.
    """

    options: StreamOptions
    """Options of the stream."""
    strategies: tuple[str, ...] = MAIN
    """Names of the strategies; `prognet list` shows all."""
    backbone: str = "mlp"
    """A backbone by name, with arguments if wished, as 'mlp(hidden=(256,256))', or 'module:function'."""
    seeds: int = 5
    """Runs of each strategy, with seeds 0, 1, ..."""
    orders: int = 1
    """Orders of the stream (class order, task order, validation split), 0, 1, ...; every seed sees each."""
    device: str = "auto"
    """Where to train: auto, cpu, cuda, cuda:1, mps."""
    threads: int | None = None
    """CPU threads; None for torch's own choice. Small networks are fastest with one."""
    training: Training = field(default_factory=Training)
    """How every task is learned."""
    measurement: Measurement = field(default_factory=Measurement)
    """What is measured beside the accuracy matrix."""
    execution: Execution = field(default_factory=Execution)
    """How it is computed."""

    def __post_init__(self) -> None:
        for name in ("seeds", "orders"):
            value = getattr(self, name)
            if type(value) is not int or value < 1:
                raise ConfigError(f"{name}: required a whole number, at least 1, found {value!r}.")
        strategies: object = self.strategies
        if not isinstance(strategies, tuple | list) or not all(isinstance(name, str) for name in strategies):
            raise ConfigError(f"strategies: required a tuple of names, found {strategies!r}.")
        if not self.strategies:
            raise ConfigError(f"strategies: required at least one name, found none; for instance {' '.join(MAIN)}.")
        if len(set(self.strategies)) != len(self.strategies):
            raise ConfigError(f"strategies: required each name once, found {' '.join(self.strategies)}.")


@dataclass(frozen=True, slots=True)
class Recipe:
    """An experiment on a stream of the catalogue."""

    stream: str
    """Name of the stream."""
    experiment: Experiment


def demo() -> Recipe:
    """Split-Digits, the main strategies and their controls, five seeds: a few minutes on a laptop."""
    strategies = (*MAIN, *CONTROLS, "multitask-cumulative")
    return Recipe("split-digits", Experiment(options=SplitDigits(), strategies=strategies, threads=1, training=_DIGITS))


def digits(stream: str, options: StreamOptions) -> Recipe:
    """A stream made of scikit-learn's digits."""
    return Recipe(stream, Experiment(options=options, threads=1, training=_DIGITS))


def mnist(stream: str, options: StreamOptions) -> Recipe:
    """A stream made of MNIST or Fashion-MNIST: one epoch in batches of ten, as most published figures have it."""
    return Recipe(stream, Experiment(options=options, threads=1, training=Training(epochs=1, batch_size=10)))


def cifar(stream: str, options: StreamOptions) -> Recipe:
    """A stream made of CIFAR images, with a small convolutional network."""
    return Recipe(stream, Experiment(options=options, backbone="cnn", training=Training(epochs=10, batch_size=32)))


def low_data_mnist_5() -> Recipe:
    """MNIST, then views of it with 5 samples a class: 200 updates a task, ten seeds, each with a draw of its own."""
    return _low_data("low-data-mnist", LowDataImages(per_class=5), 200)


def low_data_mnist_40() -> Recipe:
    """The same with 40 samples a class and 400 updates a task."""
    return _low_data("low-data-mnist", LowDataImages(per_class=40), 400)


def low_data_mnist_400() -> Recipe:
    """The same with 400 samples a class and 600 updates a task."""
    return _low_data("low-data-mnist", LowDataImages(per_class=400), 600)


def low_data_digits() -> Recipe:
    """scikit-learn's digits, then views of them with 5 samples a class: the low-data protocol without a download."""
    return _low_data("low-data-digits", LowDataDigits(), 200)


def multi_mnist() -> Recipe:
    """Two digits of MNIST in one image: the left one and the right one share a network, or do not."""
    return Recipe(
        "multi-mnist",
        Experiment(options=PairedImages(), threads=1, training=Training(epochs=8, batch_size=256, lr=0.003)),
    )


def spoken_digits() -> Recipe:
    """Digits in English, then 5 samples a class in each of four languages, spoken by the program espeak-ng."""
    return Recipe(
        "spoken-digits",
        Experiment(
            options=SpokenDigits(),
            backbone="cnn(channels=(8, 16, 32), batch_norm=True)",
            threads=1,
            training=Training(updates=100, first_updates=300, batch_size=32, lr=0.003),
        ),
    )


def detection_digits() -> Recipe:
    """A classification and two detections of digits on canvases, which share the trunk of one ResNet."""
    return Recipe(
        "detection-digits",
        Experiment(
            options=DetectionDigits(),
            backbone="detection_resnet18(channels=8)",
            seeds=3,
            threads=1,
            training=Training(epochs=25, batch_size=8, lr=0.005, schedule="cosine"),
            measurement=Measurement(lca_updates=0, curve_points=4),
        ),
    )


def _low_data(stream: str, options: StreamOptions, updates: int) -> Recipe:
    """A well-trained first task, then short tasks; a point of the learning curve every ten updates of these."""
    return Recipe(
        stream,
        Experiment(
            options=options,
            strategies=LOW_DATA,
            seeds=10,
            threads=1,
            training=Training(updates=updates, first_updates=600, batch_size=50, first_batch_size=100),
            measurement=Measurement(lca_updates=10, curve_points=updates // 10 - 1, curve_samples=500),
        ),
    )


_DIGITS = Training(epochs=30, batch_size=64, lr=0.01)

RECIPES: Mapping[str, Callable[[], Recipe]] = MappingProxyType(
    {
        "demo": demo,
        "split-digits": partial(digits, "split-digits", SplitDigits()),
        "permuted-digits": partial(digits, "permuted-digits", PermutedDigits()),
        "rotated-digits": partial(digits, "rotated-digits", RotatedDigits()),
        "split-mnist": partial(mnist, "split-mnist", SplitImages()),
        "permuted-mnist": partial(mnist, "permuted-mnist", PermutedImages()),
        "rotated-mnist": partial(mnist, "rotated-mnist", RotatedImages()),
        "split-fashion-mnist": partial(mnist, "split-fashion-mnist", SplitImages()),
        "split-cifar10": partial(cifar, "split-cifar10", SplitImages()),
        "split-cifar100": partial(cifar, "split-cifar100", SplitImages(n_tasks=10)),
        "low-data-digits": low_data_digits,
        "low-data-mnist-5": low_data_mnist_5,
        "low-data-mnist-40": low_data_mnist_40,
        "low-data-mnist-400": low_data_mnist_400,
        "multi-mnist": multi_mnist,
        "multi-digits": partial(digits, "multi-digits", PairedDigits()),
        "spoken-digits": spoken_digits,
        "detection-digits": detection_digits,
    }
)
"""Experiments that are complete as they are, but for the folder of the data."""

OWN_DATA: Mapping[str, type[OwnArrays] | type[OwnFolder]] = MappingProxyType(
    {"from-npz": OwnArrays, "from-folder": OwnFolder}
)
"""Streams of one's own data, whose options cannot all have defaults."""
