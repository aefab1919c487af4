"""The data sets of torchvision: small stand-ins in their file formats, and the real MNIST where the machine has it."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prognet.errors import ConfigError, MissingDataError, StreamError
from prognet.streams.stream import Stream
from prognet.streams.vision import (
    permuted_mnist,
    rotated_mnist,
    split_cifar10,
    split_cifar100,
    split_fashion_mnist,
    split_mnist,
)
from tests.helpers.data import data_root, same_samples

MNIST_BUILDERS = (split_mnist, permuted_mnist, rotated_mnist, split_fashion_mnist)
SIZES = {"train": 100, "t10k": 40}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """MNIST and Fashion-MNIST of 100 and 40 images in the IDX format, image i of one grey value i."""
    for kind in ("MNIST", "FashionMNIST"):
        raw = tmp_path / kind / "raw"
        raw.mkdir(parents=True)
        for split, n in SIZES.items():
            images = np.repeat(np.arange(n, dtype=np.uint8), 28 * 28)
            # IDX: two zeros, type 8 (unsigned byte), number of dimensions; each dimension big-endian; the bytes
            header = bytes([0, 0, 8, 3]) + b"".join(size.to_bytes(4, "big") for size in (n, 28, 28))
            (raw / f"{split}-images-idx3-ubyte").write_bytes(header + images.tobytes())
            labels = (np.arange(n) % 10).astype(np.uint8)
            (raw / f"{split}-labels-idx1-ubyte").write_bytes(
                bytes([0, 0, 8, 1]) + n.to_bytes(4, "big") + labels.tobytes()
            )
    return tmp_path


@pytest.fixture
def cifar(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], Tensor]:
    """Stands in for torchvision's classes, whose files carry checksums; gives back what they hold."""
    from torchvision import datasets

    def images(n_classes: int) -> Tensor:
        return torch.randint(
            0, 256, (4 * n_classes, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
        )

    def dataset(root: str, train: bool, download: bool, n_classes: int) -> Any:
        targets = [k % n_classes for k in range(4 * n_classes)]
        names = [f"class {k}" for k in range(n_classes)]
        return SimpleNamespace(data=images(n_classes).numpy(), targets=targets, classes=names)

    monkeypatch.setattr(datasets, "CIFAR10", partial(dataset, n_classes=10))
    monkeypatch.setattr(datasets, "CIFAR100", partial(dataset, n_classes=100))
    return images


def test_split_mnist_reads_the_files(root: Path) -> None:
    stream = split_mnist(root=root, class_order="natural", validation=0.1)
    assert [task.name for task in stream] == ["0 1", "2 3", "4 5", "6 7", "8 9"]
    task = stream[3]
    assert task.train.x.dtype == torch.uint8
    assert task.input_shape == (1, 28, 28)
    values = torch.cat([task.train.x, task.val.x])[:, 0, 0, 0].tolist()
    assert sorted(values) == sorted(k for k in range(100) if k % 10 in (6, 7))
    assert task.test.x[:, 0, 0, 0].tolist() == [6, 7, 16, 17, 26, 27, 36, 37]
    assert task.test.y.tolist() == [0, 1] * 4
    assert task.normalisation(task.test.x)[3].max().item() == pytest.approx(17 / 255)


def test_fashion_has_names(root: Path) -> None:
    stream = split_fashion_mnist(root=root, class_order="natural")
    assert stream.name == "split-fashion-mnist"
    assert stream[0].classes == ("T-shirt/top", "Trouser")


@pytest.mark.parametrize("build", [permuted_mnist, rotated_mnist])
def test_mnist_views_stay_bytes_and_have_all_classes(build: Callable[..., Stream], root: Path) -> None:
    stream = build(n_tasks=3, root=root, heads="shared")
    assert len(stream) == 3
    for task in stream:
        assert (task.train.x.dtype, task.n_classes, task.head) == (torch.uint8, 10, 0)
        assert (len(task.train), len(task.val), len(task.test)) == (90, 10, 40)


@pytest.mark.parametrize("build", MNIST_BUILDERS)
def test_arguments_and_the_root_make_the_stream_again(build: Callable[..., Stream], root: Path) -> None:
    stream = build(n_tasks=2, root=root, seed=3, validation=0.3)
    again = build(**stream.arguments, root=root, seed=3)
    assert str(root) not in str(stream.arguments)
    assert (again.name, again.arguments) == (stream.name, stream.arguments)
    assert all(same_samples(a.val, b.val) for a, b in zip(stream, again, strict=True))


def test_cifar_has_channels_first_and_a_normalisation(cifar: Callable[[int], Tensor]) -> None:
    stream = split_cifar10(n_tasks=5, root="anywhere", class_order="natural", validation=0.0)
    task = stream[0]
    assert torch.equal(task.test.x[1], cifar(10)[1].permute(2, 0, 1))
    assert task.test.x.is_contiguous()
    assert task.classes == ("class 0", "class 1")
    x = task.normalisation(task.test.x)
    assert torch.allclose(x[:, 0], (task.test.x[:, 0] / 255 - 0.4914) / 0.2470, atol=1e-6)


def test_cifar_tasks_of_unequal_and_of_many_classes(cifar: Callable[[int], Tensor]) -> None:
    assert [task.n_classes for task in split_cifar10(n_tasks=3, root="anywhere")] == [4, 3, 3]
    stream = split_cifar100(root="anywhere", class_order="natural")
    assert (len(stream), stream[0].n_classes, stream[0].name) == (10, 10, "class 0 +9")
    assert [task.n_classes for task in split_cifar100(n_tasks=20, root="anywhere")] == [5] * 20


@pytest.mark.parametrize("build", [*MNIST_BUILDERS, split_cifar10, split_cifar100])
def test_a_root_is_asked_for(build: Callable[..., Stream]) -> None:
    with pytest.raises(MissingDataError, match=r"root: required the folder of \w+, found None; pass root=FOLDER, and "):
        build()


@pytest.mark.parametrize("build", [*MNIST_BUILDERS, split_cifar10, split_cifar100])
def test_data_that_are_not_there(build: Callable[..., Stream], tmp_path: Path) -> None:
    message = r"root: required \w+ below .*, found none or a part; pass the right root, or download=True"
    with pytest.raises(MissingDataError, match=message):
        build(root=tmp_path)


def test_a_download_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision import datasets

    def offline(*_: Any, **__: Any) -> None:
        raise OSError("no route")

    monkeypatch.setattr(datasets, "MNIST", offline)
    with pytest.raises(MissingDataError, match="found none or a part; the download failed: check the network"):
        split_mnist(root=tmp_path, download=True)


@pytest.mark.parametrize("keep", [10, 500])
def test_damaged_files(root: Path, keep: int) -> None:
    file = root / "MNIST" / "raw" / "train-images-idx3-ubyte"
    file.write_bytes(file.read_bytes()[:keep])
    with pytest.raises(StreamError, match="root: required readable files of MNIST below .*damaged ones .*delete them"):
        split_mnist(root=root)


def test_too_many_tasks(root: Path) -> None:
    with pytest.raises(ConfigError, match="n_tasks: required 1 to 5"):
        split_mnist(6, root=root)


def test_the_real_mnist() -> None:
    stream = split_mnist(root=data_root(), class_order="natural", validation=0.1)
    # training and test samples of the digits 0 and 1: 5923 + 6742, 980 + 1135 (LeCun et al. 1998)
    first = stream[0]
    assert len(first.train) + len(first.val) == 5923 + 6742
    assert torch.bincount(first.test.y).tolist() == [980, 1135]
    assert sum(len(task.train) + len(task.val) for task in stream) == 60000
    assert first.normalisation(stream[0].test.x[:1]).max() == 1.0


def test_permuted_mnist_takes_a_byte_for_each_pixel() -> None:
    stream = permuted_mnist(n_tasks=2, root=data_root())
    n_bytes = sum(samples.x.nbytes for task in stream for samples in (task.train, task.val, task.test))
    assert n_bytes == 2 * 70000 * 28 * 28  # 0.55 GB for ten tasks
