"""Low-data streams: on scikit-learn's digits, on a stand-in for MNIST, and on the real one where it is."""

from collections.abc import Callable
from functools import partial
from typing import Any, get_args

import pytest
import torch
from torch import Tensor

from prognet.errors import ConfigError, MissingDataError
from prognet.options import View
from prognet.streams import low_data
from prognet.streams.digits import read_digits
from prognet.streams.low_data import VIEWS, low_data_digits, low_data_mnist
from prognet.streams.parts import Dataset
from prognet.streams.pixels import rotate
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from tests.helpers.data import data_root, same_samples


def fake_mnist(kind: Any, root: Any, download: bool) -> Dataset:
    """200 training and 30 test images of 28 x 28 bytes, image i with the number i in its first two pixels."""
    sets = []
    for n, seed in ((200, 0), (30, 1)):
        x = torch.randint(0, 256, (n, 1, 28, 28), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)
        x[:, 0, 0, 0] = torch.arange(n, dtype=torch.uint8)
        sets.append(Samples(x, torch.arange(n) % 10))
    return Dataset(sets[0], sets[1], tuple("0123456789"))


@pytest.fixture
def mnist(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Stream]:
    """`low_data_mnist` on the stand-in."""
    monkeypatch.setattr(low_data, "read_dataset", fake_mnist)
    return partial(low_data_mnist, per_class=2, first_per_class=7, test=20)


def tasks_of(stream: Stream) -> dict[str, Task]:
    return {task.name: task for task in stream}


def originals(found: Tensor, back: Callable[[Tensor], Tensor], known: Tensor) -> list[int]:
    """Where the images came from, after `back` has undone what their task does to them."""
    return [int(torch.nonzero((known == image).flatten(1).all(dim=1)).item()) for image in back(found)]


@pytest.mark.parametrize(("build", "shape"), [(low_data_digits, (1, 8, 8)), (None, (1, 28, 28))])
def test_a_rich_first_task_and_poor_views(build: Any, shape: tuple[int, ...], mnist: Callable[..., Stream]) -> None:
    stream = (build or mnist)(per_class=2, first_per_class=7)
    assert [task.name for task in stream] == ["plain", *VIEWS] == ["plain", *get_args(View)]
    for task in stream:
        assert torch.bincount(task.train.y).tolist() == [7 if task.name == "plain" else 2] * 10
        assert (task.input_shape, task.n_classes, len(task.val)) == (shape, 10, 0)
        assert (task.normalisation.mean, task.normalisation.std) == ((), ())
        assert task.head == task.label
        pixels = task.normalisation(task.train.x)
        assert pixels.min() >= 0
        assert pixels.max() <= 1
    assert stream.draw == 0


def test_the_views_by_hand(mnist: Callable[..., Stream]) -> None:
    tasks, data = tasks_of(mnist()), fake_mnist("", "", False)
    x, y = data.test.x[:20], data.test.y[:20]
    assert same_samples(tasks["plain"].test, Samples(x, y))
    assert same_samples(tasks["rotated"].test, Samples(rotate(x, 45), y))
    assert same_samples(tasks["inverted"].test, Samples(255 - x, y))
    assert tasks["inverted"].test.x[3, 0, 0, 0] == 252
    relabelled, permuted = tasks["relabelled"], tasks["permuted"]
    assert torch.equal(relabelled.test.x, x)
    names = [relabelled.classes[label] for label in relabelled.test.y]
    assert names == [str(digit) for digit in y.tolist()]
    assert all(name != str(label) for label, name in enumerate(relabelled.classes))  # every class has another label
    assert sorted(relabelled.classes) == list("0123456789")
    assert torch.equal(permuted.test.y, y)
    moved = (permuted.test.x.flatten(1)[:, :, None] == x.flatten(1)[:, None, :]).all(dim=0)  # (784, 784)
    assert moved.sum(dim=0).tolist() == moved.sum(dim=1).tolist() == [1] * 784  # the same permutation in every image
    assert moved.diagonal().sum() < 10


def test_the_noise_is_the_larger_of_image_and_noise(mnist: Callable[..., Stream]) -> None:
    tasks = tasks_of(mnist())
    x, noisy = tasks["plain"].test.x, tasks["noisy"].test.x
    assert noisy.dtype == torch.uint8
    assert (noisy >= x).all()
    brighter = x > 0.7 * 255
    assert torch.equal(noisy[brighter], x[brighter])
    black = tasks_of(low_data_digits())
    background = black["noisy"].test.x[black["plain"].test.x == 0]  # 450 images, of 64 pixels half are black
    assert background.max() <= 0.7
    assert background.mean().item() == pytest.approx(0.35, abs=0.01)
    assert background.std().item() == pytest.approx(0.7 / 12**0.5, abs=0.01)
    assert not torch.equal(*black["noisy"].test.x[:2, :, :, 0])  # of every sample its own


def test_floats_are_inverted_about_one() -> None:
    tasks = tasks_of(low_data_digits())
    assert torch.equal(tasks["inverted"].test.x, 1 - read_digits().test.x)


def test_the_test_split_of_digits_is_the_one_of_all_streams() -> None:
    assert same_samples(low_data_digits()[0].test, read_digits().test)


def test_a_draw_changes_the_training_subset_and_nothing_else(mnist: Callable[..., Stream]) -> None:
    first, second = mnist(draw=0), mnist(draw=1)
    assert (first.seed, first.draw, second.seed, second.draw) == (0, 0, 0, 1)
    assert first.arguments == second.arguments
    assert first.digest != second.digest
    for one, other in zip(first, second, strict=True):
        assert (one.name, one.classes) == (other.name, other.classes)
        assert same_samples(one.test, other.test)
        assert torch.equal(one.train.y.bincount(), other.train.y.bincount())
        assert not torch.equal(one.train.x, other.train.x)
    assert first.digest == mnist(draw=0).digest


def test_training_samples_come_from_the_training_split_through_the_same_view(mnist: Callable[..., Stream]) -> None:
    data = fake_mnist("", "", False)
    for draw in (0, 1):
        tasks = tasks_of(mnist(draw=draw))
        unchanged = originals(tasks["plain"].train.x, lambda x: x, data.train.x)
        assert len(set(unchanged)) == 70
        assert data.train.y[unchanged].tolist() == tasks["plain"].train.y.tolist()
        inverted = originals(tasks["inverted"].train.x, lambda x: 255 - x, data.train.x)
        assert inverted != unchanged[: len(inverted)]
        assert data.train.y[inverted].tolist() == tasks["inverted"].train.y.tolist()
        relabelled = tasks["relabelled"]
        known = data.train.y[originals(relabelled.train.x, lambda x: x, data.train.x)].tolist()
        assert [int(relabelled.classes[label]) for label in relabelled.train.y] == known


def test_the_order_keeps_the_first_task_and_the_samples_of_every_task(mnist: Callable[..., Stream]) -> None:
    natural = mnist()
    orders = [mnist(seed=seed, task_order="seeded") for seed in range(4)]
    assert {stream[0].name for stream in orders} == {"plain"}
    assert len({tuple(task.name for task in stream) for stream in orders}) > 1
    for stream in orders:
        assert sorted(task.name for task in stream) == sorted(task.name for task in natural)
        assert [task.label for task in stream] == list(range(6))
        for name, task in tasks_of(stream).items():
            assert same_samples(task.train, tasks_of(natural)[name].train)
            assert same_samples(task.test, tasks_of(natural)[name].test)
    assert [task.name for task in mnist(seed=3)] == [task.name for task in natural]


def test_views_can_be_chosen(mnist: Callable[..., Stream]) -> None:
    stream = mnist(views=("permuted", "inverted"))
    assert [task.name for task in stream] == ["plain", "permuted", "inverted"]
    assert same_samples(stream[1].train, mnist()[5].train)


def test_a_validation_split_can_be_held_out(mnist: Callable[..., Stream]) -> None:
    stream = mnist(validation=0.5, heads="shared")
    assert [(len(task.train), len(task.val)) for task in stream] == [(30, 40)] + [(10, 10)] * 5
    assert {task.head for task in stream} == {0}


@pytest.mark.parametrize("build", [low_data_digits, None])
def test_arguments_seed_and_draw_make_the_stream_again(build: Any, mnist: Callable[..., Stream]) -> None:
    make = build or mnist
    stream = make(per_class=3, first_per_class=4, seed=2, draw=5, task_order="seeded", views=("noisy", "rotated"))
    assert make(**stream.arguments, seed=2, draw=5).digest == stream.digest
    assert not {"seed", "draw", "root"} & set(stream.arguments)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"per_class": 21}, "per_class: required 1 to 20 samples of a class, found 21; ask for fewer."),
        ({"per_class": 0}, "per_class: required 1 to 20 samples of a class, found 0; ask for fewer."),
        ({"first_per_class": 2.0}, "first_per_class: required 1 to 20 samples of a class, found 2.0; ask for fewer."),
        ({"test": 31}, "test: required 1 to 30 test samples, found 31; ask for fewer."),
        ({"test": 0}, "test: required 1 to 30 test samples, found 0; ask for fewer."),
        ({"draw": "0"}, "draw: required a whole number, found '0'; give for instance 0."),
        ({"task_order": "random"}, "task_order: required 'seeded' or 'natural', found 'random'; choose one of the two"),
        *[
            (
                {"views": views},
                "views: required one or more of rotated, inverted, relabelled, noisy, permuted, none of them twice, "
                f"found {list(views)}; the plain task comes first in any case.",
            )
            for views in ((), ("plain",), ("noisy", "noisy"))
        ],
    ],
)
def test_what_cannot_be_is_refused(arguments: dict[str, Any], message: str, mnist: Callable[..., Stream]) -> None:
    with pytest.raises(ConfigError) as caught:
        mnist(**arguments)
    assert str(caught.value).startswith(message)


def test_mnist_needs_a_root() -> None:
    with pytest.raises(MissingDataError, match="root: required the folder of MNIST, found None"):
        low_data_mnist()


def test_the_real_mnist() -> None:
    stream = low_data_mnist(root=data_root())
    assert [len(task.train) for task in stream] == [10000] + [50] * 5
    # labels of the first ten test images of MNIST (LeCun et al. 1998)
    assert stream[0].test.y[:10].tolist() == [7, 2, 1, 0, 4, 1, 4, 9, 5, 9]
    assert {len(task.test) for task in stream} == {2000}
    assert {task.train.x.dtype for task in stream} == {torch.uint8}
