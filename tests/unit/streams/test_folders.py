import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from prognet.errors import ConfigError, MissingDataError, StreamError
from prognet.streams.folders import from_folder
from tests.helpers.data import multiset, same_samples


def write(folder: Path, count: int, first: int = 0, size: tuple[int, int] = (4, 6), mode: str = "RGB") -> None:
    """`count` images (H, W) = `size`, image k of one grey value `first + k`."""
    folder.mkdir(parents=True, exist_ok=True)
    for k in range(count):
        pixels = np.full((*size, 3), first + k, dtype=np.uint8)
        Image.fromarray(pixels).convert(mode).save(folder / f"{k:02}.png")


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    """Task 0 with splits of its own, task 1 with class folders only."""
    write(tmp_path / "a" / "train" / "cat", 5, 0)
    write(tmp_path / "a" / "train" / "dog", 5, 50)
    write(tmp_path / "a" / "test" / "cat", 2, 100)
    write(tmp_path / "a" / "test" / "dog", 2, 150)
    write(tmp_path / "b" / "ant", 8, 0)
    write(tmp_path / "b" / "bee", 8, 50)
    write(tmp_path / "b" / "fly", 8, 100)
    (tmp_path / "readme.txt").write_text("no task")
    (tmp_path / ".hidden").mkdir()
    (tmp_path / "b" / "ant" / "notes.txt").write_text("no image")
    (tmp_path / "b" / "ant" / ".thumb.png").write_text("no image")
    return tmp_path


def test_tasks_are_folders_and_classes_are_folders_in_them(pets: Path) -> None:
    stream = from_folder(pets, size=(4, 6))
    assert [(task.name, task.classes) for task in stream] == [("a", ("cat", "dog")), ("b", ("ant", "bee", "fly"))]
    first, second = stream
    assert first.input_shape == (3, 4, 6)
    assert first.train.x.dtype == torch.uint8
    assert first.test.x[:, 0, 0, 0].tolist() == [100, 101, 150, 151]
    assert first.test.y.tolist() == [0, 0, 1, 1]
    # a quarter of eight images a class is the test split, a tenth of the other six at least one for validation
    assert (len(second.train), len(second.val), len(second.test)) == (15, 3, 6)
    for samples in (second.train, second.val, second.test):
        assert set(samples.y.tolist()) == {0, 1, 2}
        assert all(value // 50 == label for value, label in zip(samples.x[:, 0, 0, 0], samples.y, strict=True))


def test_every_image_is_in_one_split(pets: Path) -> None:
    task = from_folder(pets, size=(4, 6))[1]
    values = torch.cat([samples.x[:, 0, 0, 0] for samples in (task.train, task.val, task.test)])
    assert sorted(values.tolist()) == [first + k for first in (0, 50, 100) for k in range(8)]


def test_the_test_split_is_the_same_for_every_seed(pets: Path) -> None:
    first, other = (from_folder(pets, seed=seed)[1] for seed in (0, 1))
    assert same_samples(first.test, other.test)
    assert multiset(first.val.x, first.val.y) != multiset(other.val.x, other.val.y)


def test_arguments_and_the_root_make_the_stream_again(pets: Path) -> None:
    stream = from_folder(pets, size=(5, 5), channels=1, test=0.5, seed=1, task_order="seeded")
    again = from_folder(pets, **stream.arguments, seed=1)
    assert str(pets) not in str(stream.arguments)
    assert [task.name for task in again] == [task.name for task in stream]
    assert all(same_samples(a.train, b.train) for a, b in zip(stream, again, strict=True))


def test_images_are_resized_and_may_be_grey(pets: Path) -> None:
    task = from_folder(pets, size=(8, 3), channels=1)[0]
    assert task.input_shape == (1, 8, 3)
    assert set(task.test.x[2].flatten().tolist()) == {150}


@pytest.mark.parametrize("mode", ["L", "P", "1", "LA", "RGBA", "CMYK"])
def test_images_of_any_8_bit_mode(tmp_path: Path, mode: str) -> None:
    for name, value in (("a", 0), ("b", 255)):
        for split in ("train", "test"):
            folder = tmp_path / "t" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(np.full((4, 4), value, np.uint8)).convert(mode).save(folder / "0.tif")
    task = from_folder(tmp_path, size=(4, 4), validation=0.0)[0]
    assert [x.unique().tolist() for x in task.train.x] == [[0], [255]]


def test_a_palette_with_transparency_raises_no_warning(tmp_path: Path) -> None:
    for name in ("a", "b"):
        for split in ("train", "test"):
            folder = tmp_path / "t" / split / name
            folder.mkdir(parents=True)
            image = Image.fromarray(np.full((4, 4), 9, np.uint8)).convert("P")
            image.save(folder / "0.png", transparency=bytes([0, 128]))
    assert from_folder(tmp_path, size=(4, 4))[0].input_shape == (3, 4, 4)


def test_images_are_turned_upright(tmp_path: Path) -> None:
    pixels = np.zeros((2, 2, 3), np.uint8)
    pixels[0, 0] = 255
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    for name in ("a", "b"):
        for split in ("train", "test"):
            folder = tmp_path / "t" / split / name
            folder.mkdir(parents=True)
            Image.fromarray(pixels).save(folder / "0.png", exif=exif)
    x = from_folder(tmp_path, size=(2, 2), channels=1)[0].train.x[0]
    assert x.tolist() == [[[0, 0], [0, 255]]]


def unreadable(root: Path) -> None:
    (root / "b" / "bee" / "00.png").write_bytes(b"no image")


def truncated(root: Path) -> None:
    file = root / "b" / "bee" / "00.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:1000])  # of about 3 kB


def deep(root: Path) -> None:
    Image.fromarray(np.full((4, 4), 40000, np.uint16)).save(root / "b" / "bee" / "00.png")


def without_test(root: Path) -> None:
    (root / "a" / "test").rename(root / "a" / "tests")


def empty_class(root: Path) -> None:
    (root / "b" / "wasp").mkdir()


def empty_task(root: Path) -> None:
    (root / "c").mkdir()


def untrained_class(root: Path) -> None:
    write(root / "a" / "test" / "fox", 1)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (unreadable, "bee/00.png: required a readable image, found cannot identify image file"),
        (truncated, "bee/00.png: required a readable image, found "),
        (deep, "bee/00.png: required 8 bits a channel, found mode I;16; convert the image."),
        (without_test, "a: required a folder test beside train, found none; add "),
        (
            empty_class,
            "b/wasp: required images (.png, .jpg, .jpeg, .bmp, .gif, .webp, .tif, .tiff), found none; add some",
        ),
        (empty_task, "c: required a folder for each class, found none; lay it out as task/train/class."),
        (
            untrained_class,
            "a/test: required classes that the training split has (cat, dog), found fox in another split",
        ),
    ],
)
def test_bad_folders_are_named(pets: Path, spoil: Any, message: str) -> None:
    spoil(pets)
    with pytest.raises(StreamError, match=re.escape(message)):
        from_folder(pets)


def test_folders_that_are_absent(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="root: required a folder of task folders, found none at .*gone; pass"):
        from_folder(tmp_path / "gone")
    with pytest.raises(StreamError, match="required a folder for each task, found none"):
        from_folder(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"channels": 2}, "channels: required 1 or 3, found 2; use 1 for grey images"),
        ({"size": (0, 3)}, r"size: required height and width, at least 1, found \(0, 3\); give for instance"),
        ({"size": (3,)}, r"size: required height and width, at least 1, found \(3,\)"),
        ({"test": 1}, r"test: required a fraction in \[0, 1\), found 1"),
        ({"heads": "both"}, "heads: required one of"),
    ],
)
def test_bad_arguments(pets: Path, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        from_folder(pets, **arguments)


def test_without_a_test_share_there_is_no_test_split(pets: Path) -> None:
    with pytest.raises(StreamError, match=r"task 1 \('b'\): test.x: required at least one sample, found none"):
        from_folder(pets, test=0.0)
