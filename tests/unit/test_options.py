import inspect
from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, fields
from typing import Any, get_args

import pytest

from prognet import options, streams
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
from tests.helpers.commands import REQUIRED, defaults_of_builder

PAIRS: list[tuple[type[Any], Callable[..., Any]]] = [
    (SplitDigits, streams.split_digits),
    (PermutedDigits, streams.permuted_digits),
    (RotatedDigits, streams.rotated_digits),
    (SplitImages, streams.split_mnist),
    (SplitImages, streams.split_fashion_mnist),
    (SplitImages, streams.split_cifar10),
    (PermutedImages, streams.permuted_mnist),
    (RotatedImages, streams.rotated_mnist),
    (LowDataImages, streams.low_data_mnist),
    (LowDataDigits, streams.low_data_digits),
    (PairedImages, streams.multi_mnist),
    (PairedDigits, streams.multi_digits),
    (SpokenDigits, streams.spoken_digits),
    (DetectionDigits, streams.detection_digits),
    (OwnArrays, streams.from_npz),
    (OwnFolder, streams.from_folder),
]


def defaults_of_options(kind: type[Any]) -> dict[str, Any]:
    return {item.name: REQUIRED if item.default is MISSING else item.default for item in fields(kind)}


@pytest.mark.parametrize(("kind", "builder"), PAIRS, ids=lambda value: value.__name__)
def test_options_are_the_parameters_of_their_builder(kind: type[Any], builder: Callable[..., Any]) -> None:
    assert defaults_of_options(kind) == defaults_of_builder(builder)


@pytest.mark.parametrize(("kind", "builder"), PAIRS, ids=lambda value: value.__name__)
def test_every_builder_takes_the_seed_that_is_left_out(kind: type[Any], builder: Callable[..., Any]) -> None:
    assert inspect.signature(builder).parameters["seed"].default == 0
    assert "seed" not in defaults_of_options(kind)


def test_streams_that_are_drawn_take_the_draw_that_is_left_out() -> None:
    drawn = {builder.__name__ for _, builder in PAIRS if "draw" in inspect.signature(builder).parameters}
    assert drawn == {"low_data_mnist", "low_data_digits", "multi_mnist", "multi_digits", "spoken_digits"}
    assert not any("draw" in defaults_of_options(kind) for kind, _ in PAIRS)


def test_the_split_of_a_hundred_classes_differs_in_the_number_of_tasks_alone() -> None:
    assert defaults_of_builder(streams.split_cifar100) == {**defaults_of_options(SplitImages), "n_tasks": 10}


def test_every_class_of_options_is_in_the_union_and_tested_here() -> None:
    classes = {
        value for value in vars(options).values() if isinstance(value, type) and value.__module__ == options.__name__
    }
    assert classes == set(get_args(StreamOptions)) == {kind for kind, _ in PAIRS}


@pytest.mark.parametrize("kind", [kind for kind in get_args(StreamOptions) if kind not in (OwnArrays, OwnFolder)])
def test_options_are_values(kind: type[Any]) -> None:
    assert kind() == kind()
    assert hash(kind()) == hash(kind())
    with pytest.raises(FrozenInstanceError):
        kind().heads = "shared"
