"""Data sets of torchvision as tensors."""

from pathlib import Path
from typing import Any, Literal

import torch

from prognet.errors import MissingDataError, StreamError
from prognet.streams.parts import Dataset
from prognet.streams.task import Normalisation, Samples

Kind = Literal["MNIST", "FashionMNIST", "CIFAR10", "CIFAR100"]

_NORMALISATIONS = {
    "CIFAR10": Normalisation(mean=(0.4914, 0.4822, 0.4465), std=(0.2470, 0.2435, 0.2616)),
    "CIFAR100": Normalisation(mean=(0.5071, 0.4865, 0.4409), std=(0.2673, 0.2564, 0.2762)),
}


def read_dataset(kind: Kind, root: str | Path | None, download: bool) -> Dataset:
    """The data set `kind` below `root`: images as uint8 (N, C, H, W), labels as int64.

    Raises:
        MissingDataError: when it is not there and may not, or cannot, be downloaded.
        StreamError: when its files cannot be read.
    """
    if root is None:
        raise MissingDataError(
            f"root: required the folder of {kind}, found None; pass root=FOLDER, and download=True to fetch it once."
        )
    train, test = (_open(kind, Path(root), train, download) for train in (True, False))
    normalisation = _NORMALISATIONS.get(kind, Normalisation())
    return Dataset(_samples(train), _samples(test), _class_names(kind, train), normalisation)


def _open(kind: Kind, root: Path, train: bool, download: bool) -> Any:
    from torchvision import datasets

    try:
        return getattr(datasets, kind)(str(root), train=train, download=download)
    except (OSError, RuntimeError, ValueError, EOFError, AssertionError) as error:
        # torchvision raises a RuntimeError for absent files and for some damaged ones; only the text tells them apart
        if not isinstance(error, OSError) and not download and "not found" not in str(error):
            raise StreamError(
                f"root: required readable files of {kind} below {root}, found damaged ones ({error}); "
                "delete them and pass download=True."
            ) from error
        remedy = "the download failed: check the network" if download else "pass the right root, or download=True"
        raise MissingDataError(
            f"root: required {kind} below {root}, as torchvision lays it out, found none or a part; {remedy}."
        ) from error


def _samples(dataset: Any) -> Samples:
    x = torch.as_tensor(dataset.data)  # (N, H, W), or (N, H, W, C) in colour
    x = x.unsqueeze(1) if x.ndim == 3 else x.permute(0, 3, 1, 2).contiguous()
    return Samples(x, torch.as_tensor(dataset.targets, dtype=torch.int64))


def _class_names(kind: Kind, dataset: Any) -> tuple[str, ...]:
    if kind == "MNIST":  # torchvision says "0 - zero"
        return tuple(str(digit) for digit in range(10))
    return tuple(str(name) for name in dataset.classes)
