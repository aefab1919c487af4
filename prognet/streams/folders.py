"""A stream from images in folders: one folder a task, in it one folder a class."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from prognet.config import Heads
from prognet.errors import ConfigError, MissingDataError, StreamError
from prognet.streams.labels import check_same_classes, localise
from prognet.streams.parts import Order, Settings, check_fraction, generator, make_task, ordered, select, stratified
from prognet.streams.stream import Stream
from prognet.streams.task import Normalisation, Samples, Task

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff")

_NO_IMAGE = (SyntaxError, TypeError, KeyError, IndexError, OverflowError, MemoryError, struct.error, zlib.error)
"""What decoders of images raise beside their own errors."""
_TEST_SEED = 0  # a constant, so that the test split is the same for every seed


def from_folder(
    root: str | Path,
    *,
    size: tuple[int, int] = (32, 32),
    channels: Literal[1, 3] = 3,
    test: float = 0.25,
    seed: int = 0,
    validation: float = 0.1,
    heads: Heads = "per-task",
    task_order: Order = "natural",
) -> Stream:
    """A stream from `root/<task>/train/<class>/*.png` and `root/<task>/test/<class>/*.png`.

    A task folder without `train` holds the classes directly, `root/<task>/<class>/*.png`; then a part of each class is
    its test split, the same for every seed. Tasks, classes and files are taken in the order of their names; hidden
    files, and files that are no images by their suffix, are passed over. Samples are uint8 (channels, *size).

    Args:
        root: the folder of the tasks.
        size: height and width in pixels, to which every image is resized (bilinear, antialiased).
        channels: 3 for colour, 1 for grey.
        test: fraction of each class that is the test split of a task folder without `train`.
        seed: seed of the validation split and of a seeded task order.
        validation: fraction of each task's training samples that is held out.
        heads: an output head for each task, or one that all share.
        task_order: the order of the names, or a permutation of it seeded by `seed`.

    Raises:
        MissingDataError: when there is no such folder.
        ConfigError: when an argument is out of its range.
        StreamError: when the folders are laid out in another way, or an image cannot be read.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    check_fraction("test", test)
    _check_image(size, channels)
    if not _is_folder(Path(root)):
        raise MissingDataError(f"root: required a folder of task folders, found none at {root}; pass the right folder.")
    folders = _folders(Path(root), "task")
    order = ordered(len(folders), task_order, "task_order", seed, "task order")
    tasks = [_task(label, folders[given], size, channels, test, settings) for label, given in enumerate(order)]
    check_same_classes(tasks, heads)
    arguments = {
        "size": list(size),
        "channels": channels,
        "test": test,
        "validation": validation,
        "heads": heads,
        "task_order": task_order,
    }
    return Stream(tasks, name="from-folder", heads=heads, seed=seed, arguments=arguments)


def _is_folder(path: Path) -> bool:
    """Whether there is such a folder; a name that no folder can have is none."""
    try:
        return path.is_dir()
    except (OSError, ValueError):
        return False


def _check_image(size: Sequence[int], channels: int) -> None:
    if channels not in (1, 3):
        raise ConfigError(f"channels: required 1 or 3, found {channels!r}; use 1 for grey images and 3 for colour.")
    if len(size) != 2 or min(size) < 1:
        raise ConfigError(f"size: required height and width, at least 1, found {size!r}; give for instance (32, 32).")


def _task(label: int, folder: Path, size: tuple[int, int], channels: int, fraction: float, settings: Settings) -> Task:
    if (folder / "train").is_dir():
        if not (folder / "test").is_dir():
            raise StreamError(f"{folder}: required a folder test beside train, found none; add {folder / 'test'}.")
        (x, y), (x_test, y_test) = (_read(folder / part, size, channels) for part in ("train", "test"))
        classes, (local, local_test) = localise(y, [y_test], str(folder / "test"))
        train, test = Samples(x, local), Samples(x_test, local_test)
    else:
        x, y = _read(folder, size, channels)
        classes, (local,) = localise(y, [], str(folder))
        everything = Samples(x, local)
        rest, part = stratified(local, fraction, generator(_TEST_SEED, folder.name, "test"))
        train, test = select(everything, rest), select(everything, part)
    return make_task(label, folder.name, classes, train, test, settings, Normalisation())


def _read(folder: Path, size: tuple[int, int], channels: int) -> tuple[Tensor, np.ndarray[Any, Any]]:
    """Images uint8 (N, channels, *size) and their class names (N,)."""
    images: list[Tensor] = []
    labels: list[str] = []
    for class_folder in _folders(folder, "class"):
        files = _images(class_folder)
        images += [_image(file, size, channels) for file in files]
        labels += [class_folder.name] * len(files)
    return torch.stack(images), np.asarray(labels)


def _folders(folder: Path, kind: str) -> Sequence[Path]:
    found = sorted(item for item in folder.iterdir() if item.is_dir() and not item.name.startswith("."))
    if not found:
        raise StreamError(f"{folder}: required a folder for each {kind}, found none; lay it out as task/train/class.")
    return found


def _images(folder: Path) -> Sequence[Path]:
    files = [item for item in folder.iterdir() if item.suffix.lower() in SUFFIXES and not item.name.startswith(".")]
    if not files:
        raise StreamError(
            f"{folder}: required images ({', '.join(SUFFIXES)}), found none; add some or remove the class."
        )
    return sorted(files)


def _image(file: Path, size: tuple[int, int], channels: int) -> Tensor:
    from PIL import Image, ImageOps

    try:
        with Image.open(file) as image:
            if image.mode[0] in "IF":  # more than 8 bits a channel: conversion would cut the values off
                raise StreamError(f"{file}: required 8 bits a channel, found mode {image.mode}; convert the image.")
            # by way of RGBA, because a palette with transparency has no direct conversion
            upright = ImageOps.exif_transpose(image).convert("RGBA").convert("RGB" if channels == 3 else "L")
            resized = upright.resize((size[1], size[0]), Image.Resampling.BILINEAR)
    except (OSError, ValueError, *_NO_IMAGE, Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        if isinstance(error, StreamError):
            raise
        raise StreamError(f"{file}: required a readable image, found {error}; repair it or remove it.") from error
    pixels = torch.from_numpy(np.array(resized))  # (H, W) or (H, W, C)
    return pixels.view(size[0], size[1], channels).permute(2, 0, 1).contiguous()
