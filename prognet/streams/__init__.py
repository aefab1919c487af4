"""Streams of tasks: every stream is an Avalanche benchmark, seen as a sequence of tasks.

Names are resolved on first use, so that one builder does not import the libraries of another.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

_HOMES = {
    "Stream": "stream",
    "Task": "task",
    "Samples": "task",
    "Normalisation": "task",
    "Objective": "objectives",
    "Classification": "objectives",
    "split_digits": "digits",
    "permuted_digits": "digits",
    "rotated_digits": "digits",
    "split_mnist": "vision",
    "permuted_mnist": "vision",
    "rotated_mnist": "vision",
    "split_fashion_mnist": "vision",
    "split_cifar10": "vision",
    "split_cifar100": "vision",
    "low_data_mnist": "low_data",
    "low_data_digits": "low_data",
    "multi_mnist": "overlaid",
    "multi_digits": "overlaid",
    "spoken_digits": "speech",
    "PerSeed": "draws",
    "Regression": "numeric",
    "MultiLabel": "numeric",
    "Detection": "boxes",
    "Boxes": "boxes",
    "Scene": "detection",
    "detection_digits": "detection",
    "digit_canvases": "detection",
    "from_arrays": "own_data",
    "from_npz": "own_data",
    "from_folder": "folders",
    "from_avalanche": "foreign",
    "sequential": "schedules",
    "joint": "schedules",
    "cumulative": "schedules",
}

__all__ = [
    "Boxes",
    "Classification",
    "Detection",
    "MultiLabel",
    "Normalisation",
    "Objective",
    "PerSeed",
    "Regression",
    "Samples",
    "Scene",
    "Stream",
    "Task",
    "cumulative",
    "detection_digits",
    "digit_canvases",
    "from_arrays",
    "from_avalanche",
    "from_folder",
    "from_npz",
    "joint",
    "low_data_digits",
    "low_data_mnist",
    "multi_digits",
    "multi_mnist",
    "permuted_digits",
    "permuted_mnist",
    "rotated_digits",
    "rotated_mnist",
    "sequential",
    "split_cifar10",
    "split_cifar100",
    "split_digits",
    "split_fashion_mnist",
    "split_mnist",
    "spoken_digits",
]

if TYPE_CHECKING:
    from prognet.streams.boxes import Boxes, Detection
    from prognet.streams.detection import Scene, detection_digits, digit_canvases
    from prognet.streams.digits import permuted_digits, rotated_digits, split_digits
    from prognet.streams.draws import PerSeed
    from prognet.streams.folders import from_folder
    from prognet.streams.foreign import from_avalanche
    from prognet.streams.low_data import low_data_digits, low_data_mnist
    from prognet.streams.numeric import MultiLabel, Regression
    from prognet.streams.objectives import Classification, Objective
    from prognet.streams.overlaid import multi_digits, multi_mnist
    from prognet.streams.own_data import from_arrays, from_npz
    from prognet.streams.schedules import cumulative, joint, sequential
    from prognet.streams.speech import spoken_digits
    from prognet.streams.stream import Stream
    from prognet.streams.task import Normalisation, Samples, Task
    from prognet.streams.vision import (
        permuted_mnist,
        rotated_mnist,
        split_cifar10,
        split_cifar100,
        split_fashion_mnist,
        split_mnist,
    )


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"prognet.streams.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'prognet.streams' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
