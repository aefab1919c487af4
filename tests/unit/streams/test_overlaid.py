"""MultiMNIST: what an image shows, which labels belong to it, and who sees it when."""

from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prognet.errors import ConfigError, MissingDataError
from prognet.streams import overlaid as module
from prognet.streams.overlaid import multi_digits, multi_mnist, overlaid
from prognet.streams.parts import Dataset
from prognet.streams.stream import Stream
from prognet.streams.task import Samples
from tests.helpers.data import data_root, same_samples


def grey_mnist(kind: Any, root: Any, download: bool) -> Dataset:
    """100 training and 30 test images of 28 x 28 bytes; image i is of one grey value, 10 + i, and of class i % 10."""
    sets = [
        Samples(torch.arange(10, 10 + n, dtype=torch.uint8).view(n, 1, 1, 1).expand(n, 1, 28, 28), torch.arange(n) % 10)
        for n in (100, 30)
    ]
    return Dataset(sets[0], sets[1], tuple("0123456789"))


@pytest.fixture
def grey(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stream]:
    """`multi_mnist` on grey images, of which a pair shows its left one in one corner and its right one in the other."""
    monkeypatch.setattr(module, "read_dataset", grey_mnist)
    return multi_mnist


def members(samples: Samples) -> tuple[list[int], list[int]]:
    """Which images the pairs are made of, the left ones and the right ones."""
    return (samples.x[:, 0, 0, 0].int() - 10).tolist(), (samples.x[:, 0, -1, -1].int() - 10).tolist()


def shrunk(canvas: np.ndarray[Any, Any], size: int) -> np.ndarray[Any, Any]:
    """Rows and columns as means weighted by a triangle, as wide on each side as one new pixel is: (S, S) -> (s, s)."""
    scale = len(canvas) / size
    places = (np.arange(size) + 0.5) * scale  # (s,): the centres of the new pixels
    W = np.maximum(0, 1 - np.abs(np.arange(len(canvas)) + 0.5 - places[:, None]) / scale)  # (s, S)
    W /= W.sum(axis=1, keepdims=True)
    small: np.ndarray[Any, Any] = W @ canvas @ W.T
    return small


@pytest.mark.parametrize(("side", "shift"), [(28, 8), (8, 2)])
def test_a_pair_is_the_brighter_of_both_at_every_pixel_of_a_larger_canvas(side: int, shift: int) -> None:
    images = torch.rand(3, 1, side, side, generator=torch.Generator().manual_seed(0))
    found = overlaid(images, torch.tensor([0, 2]), torch.tensor([1, 1]))
    assert found.shape == (2, 1, side, side)
    for place, (i, j) in enumerate([(0, 1), (2, 1)]):
        canvas = np.zeros((side + shift, side + shift))
        for row in range(side):
            for column in range(side):
                canvas[row, column] = max(canvas[row, column], images[i, 0, row, column].item())
        for row in range(side):
            for column in range(side):
                below = canvas[row + shift, column + shift]
                canvas[row + shift, column + shift] = max(below, images[j, 0, row, column].item())
        np.testing.assert_allclose(found[place, 0].numpy(), shrunk(canvas, side), atol=1e-5)


def test_bytes_are_rounded_and_keep_their_range() -> None:
    images = torch.randint(0, 256, (20, 1, 28, 28), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    first, second = torch.arange(20), torch.arange(20).flip(0)
    found = overlaid(images, first, second)
    assert found.dtype == torch.uint8
    assert torch.equal(found, overlaid(images.float(), first, second).round().to(torch.uint8))
    white = torch.full((1, 1, 28, 28), 255, dtype=torch.uint8)
    assert overlaid(white, torch.tensor([0]), torch.tensor([0])).max() == 255


def test_many_pairs_are_made_as_few_are(monkeypatch: pytest.MonkeyPatch) -> None:
    images = torch.rand(10, 1, 8, 8)
    at_once = overlaid(images, torch.arange(10), torch.arange(10).flip(0))
    monkeypatch.setattr(module, "_CHUNK", 3)
    assert torch.equal(overlaid(images, torch.arange(10), torch.arange(10).flip(0)), at_once)


def test_the_tasks_name_the_left_and_the_right_digit_of_the_same_images(grey: Callable[..., Stream]) -> None:
    left, right = grey(root="anywhere", seed=3, draw=2)
    assert (left.name, right.name) == ("left", "right")
    assert (left.head, right.head, left.classes) == (0, 1, tuple("0123456789"))
    for split in ("train", "val", "test"):
        one, other = getattr(left, split), getattr(right, split)
        assert torch.equal(one.x, other.x)
        upper, lower = members(one)
        assert one.y.tolist() == [i % 10 for i in upper]
        assert other.y.tolist() == [i % 10 for i in lower]


def test_every_image_is_once_on_each_side(grey: Callable[..., Stream]) -> None:
    task = grey(root="anywhere", validation=0.2)[0]
    assert [len(split) for split in (task.train, task.val, task.test)] == [80, 20, 30]
    sides = zip(members(task.train), members(task.val), strict=True)
    assert [sorted(kept + held) for kept, held in sides] == [list(range(100))] * 2
    assert [sorted(side) for side in members(task.test)] == [list(range(30))] * 2


def test_fewer_pairs_are_the_first_ones(grey: Callable[..., Stream]) -> None:
    few, many = (grey(root="anywhere", train=n, test=7, validation=0.0)[1] for n in (40, None))
    assert (len(few.train), len(few.test), len(many.train)) == (40, 7, 100)
    assert torch.equal(few.train.x, many.train.x[:40])


@pytest.mark.parametrize("build", [None, multi_digits])
def test_a_draw_makes_other_pairs_and_a_seed_another_split_of_them(
    build: Callable[..., Stream] | None, grey: Callable[..., Stream]
) -> None:
    make = build or partial(grey, root="anywhere")

    def everything(stream: Stream) -> Tensor:
        return torch.cat([stream[0].train.x, stream[0].val.x]).flatten(1).double().sort(dim=0).values

    stream, again, split, drawn = make(draw=1), make(draw=1), make(draw=1, seed=5), make(draw=2)
    assert stream.digest == again.digest
    assert (stream.seed, stream.draw, split.seed, drawn.draw) == (0, 1, 5, 2)
    assert not torch.equal(stream[0].val.x, split[0].val.x)
    assert torch.equal(everything(stream), everything(split))
    assert same_samples(stream[0].test, split[0].test)
    assert not torch.equal(everything(stream), everything(drawn))
    assert not torch.equal(stream[0].test.x, drawn[0].test.x)


@pytest.mark.parametrize("build", [None, multi_digits])
def test_arguments_make_the_stream_again(build: Callable[..., Stream] | None, grey: Callable[..., Stream]) -> None:
    make = build or partial(grey, root="anywhere")
    stream = make(train=50, test=20, validation=0.3, seed=1, draw=4)
    again = make(**stream.arguments, seed=1, draw=4)
    assert (again.digest, again.arguments) == (stream.digest, stream.arguments)


def test_the_embedded_pairs_are_images_between_0_and_1() -> None:
    stream = multi_digits()
    assert stream[0].input_shape == (1, 8, 8)
    assert len(stream[0].train) + len(stream[0].val) + len(stream[0].test) == 1797
    assert stream[0].train.x.min() >= 0
    assert 0.9 < stream[0].train.x.max() <= 1 + 1e-6
    matches = (stream[0].train.y == stream[1].train.y).double().mean().item()
    assert 0.05 < matches < 0.15  # the digits of a pair say nothing about each other


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"train": 0}, "train: required 1 to 1347 pairs, or None, found 0; ask for fewer"),
        ({"train": 10**6}, "train: required 1 to 1347 pairs"),
        ({"test": 3.0}, "test: required 1 to 450 pairs, or None, found 3.0"),
        ({"draw": "a"}, "draw: required a whole number, found 'a'"),
        ({"seed": 0.5}, "seed: required a whole number"),
        ({"validation": 1.0}, "validation: required a fraction"),
    ],
)
def test_arguments_out_of_range(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        multi_digits(**arguments)


def test_missing_data() -> None:
    with pytest.raises(MissingDataError, match="root: required the folder of MNIST"):
        multi_mnist()


def test_pairs_of_the_real_mnist() -> None:
    stream = multi_mnist(root=data_root(), train=2000, test=500, draw=1)
    assert stream[0].train.x.dtype == torch.uint8
    assert [len(task.test) for task in stream] == [500, 500]
    assert stream.digest == multi_mnist(root=data_root(), train=2000, test=500, draw=1).digest
