import pytest
import torch

from prognet.errors import ConfigError
from prognet.streams.parts import Dataset, Settings
from prognet.streams.pixels import permute_pixels, permuted, rotate, rotated
from prognet.streams.task import Samples

RANDOM = torch.Generator().manual_seed(0)
IMAGES = torch.rand(40, 2, 6, 6, generator=RANDOM)
Y = torch.arange(40) % 4
DATA = Dataset(Samples(IMAGES, Y), Samples(IMAGES[:12], Y[:12]), tuple("abcd"))


def test_permuting_puts_the_named_pixel_at_each_place_in_every_channel() -> None:
    x = torch.tensor([[[[1, 2], [3, 4]], [[5, 6], [7, 8]]]])
    assert permute_pixels(x, torch.tensor([3, 0, 2, 1])).tolist() == [[[[4, 1], [3, 2]], [[8, 5], [7, 6]]]]


def test_task_0_is_not_permuted_and_the_others_are_each_in_their_own_way() -> None:
    tasks = permuted(DATA, 3, Settings(validation=0.0))
    assert torch.equal(tasks[0].train.x, IMAGES)
    assert [task.name for task in tasks] == ["permuted 0", "permuted 1", "permuted 2"]
    seen = [task.train.x for task in tasks]
    assert not torch.equal(seen[1], seen[0])
    assert not torch.equal(seen[1], seen[2])
    for x in seen:  # the same pixels in another order
        assert torch.equal(x.flatten(2).sort(dim=2).values, IMAGES.flatten(2).sort(dim=2).values)


def test_train_and_test_are_permuted_alike() -> None:
    for task in permuted(DATA, 3, Settings(validation=0.0)):
        assert torch.equal(task.train.x[:12], task.test.x)


def test_every_permuted_task_has_all_classes_and_all_samples() -> None:
    for task in permuted(DATA, 3, Settings(validation=0.25)):
        # a quarter of the ten samples of a class is 2.5, rounded to the even 2
        assert (task.n_classes, len(task.train), len(task.val), len(task.test)) == (4, 32, 8, 12)
        assert all(set(part.y.tolist()) == {0, 1, 2, 3} for part in (task.train, task.val, task.test))


def test_the_seed_decides_the_permutations() -> None:
    first, again, other = (permuted(DATA, 2, Settings(seed=seed))[1].test.x for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_no_turn_changes_no_bit_and_shares_no_memory() -> None:
    turned = rotate(IMAGES, 0)
    assert torch.equal(turned, IMAGES)
    assert turned.data_ptr() != IMAGES.data_ptr()


@pytest.mark.parametrize(("degrees", "quarters"), [(90, 1), (180, 2), (270, 3), (-90, 3)])
def test_quarter_turns_are_counter_clockwise(degrees: float, quarters: int) -> None:
    assert torch.allclose(rotate(IMAGES, degrees), IMAGES.rot90(quarters, dims=(2, 3)), atol=1e-5)


@pytest.mark.parametrize("shape", [(5, 1, 28, 28), (3, 3, 8, 14)])
def test_any_turn_agrees_with_torchvision(shape: tuple[int, ...]) -> None:
    from torchvision.transforms import InterpolationMode, functional

    x = torch.rand(shape, generator=torch.Generator().manual_seed(1))
    for degrees in (18.0, 63.5, 144.0):
        expected = functional.rotate(x, degrees, interpolation=InterpolationMode.BILINEAR)
        assert torch.allclose(rotate(x, degrees), expected, atol=1e-4)


def test_bytes_stay_bytes_rounded_to_the_nearest() -> None:
    x = (IMAGES * 255).to(torch.uint8)
    turned = rotate(x, 30)
    assert turned.dtype == torch.uint8
    assert (turned.float() - rotate(x.float(), 30)).abs().max() <= 0.5 + 1e-3


def test_many_images_turn_as_each_would_alone() -> None:
    x = torch.rand(4100, 1, 3, 3, generator=torch.Generator().manual_seed(2))  # more than one chunk
    turned = rotate(x, 45)
    assert torch.allclose(turned[-2:], rotate(x[-2:], 45), atol=1e-6)
    assert len(turned) == 4100


def test_angles_are_spread_over_the_half_circle() -> None:
    tasks = rotated(DATA, 4, Settings(), task_order="natural")
    assert [task.name for task in tasks] == ["rotated 0", "rotated 45", "rotated 90", "rotated 135"]
    assert torch.equal(tasks[2].test.x, rotate(DATA.test.x, 90.0))


def test_the_seed_decides_the_order_of_the_angles() -> None:
    names = [tuple(task.name for task in rotated(DATA, 5, Settings(seed=seed))) for seed in (0, 0, 1)]
    assert names[0] == names[1] != names[2]
    assert set(names[0]) == {"rotated 0", "rotated 36", "rotated 72", "rotated 108", "rotated 144"}


def test_arguments_out_of_range_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_tasks: required a whole number, at least 1, found 0"):
        permuted(DATA, 0, Settings())
    with pytest.raises(ConfigError, match="n_tasks: required a whole number, at least 1, found 0"):
        rotated(DATA, 0, Settings())
    with pytest.raises(ConfigError, match="task_order: required 'seeded' or 'natural', found 'up'"):
        rotated(DATA, 2, Settings(), task_order="up")  # type: ignore[arg-type]
