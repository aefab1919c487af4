"""Augmentation: what is drawn for every image, and nothing else is touched."""

import pytest
import torch
from torch import Tensor

from prognet.backbones import cnn
from prognet.config import Training
from prognet.errors import ConfigError
from prognet.strategies import FineTune, Independent, MultiTask
from prognet.training.augmentation import augmented
from prognet.training.loop import Run
from tests.helpers.runs import assert_same_numbers, from_scratch, quick_run
from tests.helpers.streams import make_stream

STREAM = make_stream((2, 3), shape=(1, 8, 8))
BACKBONE = cnn(channels=(3, 4))
TRAINING = Training(epochs=2, batch_size=16, lr=0.01, augment=("flip", "crop"))


def images(n: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    return torch.randint(1, 256, (n, 2, 16, 24), generator=torch.Generator().manual_seed(n)).to(dtype)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_flip_mirrors_about_one_half_from_left_to_right(dtype: torch.dtype) -> None:
    x = images(400, dtype)
    torch.manual_seed(0)
    found = augmented(x, ["flip"])
    assert found.dtype == dtype
    same = (found == x).flatten(1).all(1)
    mirrored = (found == x.flip(3)).flatten(1).all(1)
    assert bool((same ^ mirrored).all())
    assert 150 < int(mirrored.sum()) < 250


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_a_crop_is_a_shift_by_at_most_an_eighth(dtype: torch.dtype) -> None:
    x = images(300, dtype)
    torch.manual_seed(0)
    found, seen = augmented(x, ["crop"]), set()
    assert found.dtype == dtype
    assert found.shape == x.shape
    for image, result in zip(x, found, strict=True):
        matches = [
            (down, right)
            for down in range(-2, 3)
            for right in range(-3, 4)
            if torch.equal(result, shifted(image, down, right))
        ]
        assert len(matches) == 1
        seen.add(matches[0])
    assert len(seen) == 5 * 7  # every shift occurs


def shifted(image: Tensor, down: int, right: int) -> Tensor:
    """The image moved, with zeros where nothing is left; written with slices."""
    result = torch.zeros_like(image)
    _, height, width = image.shape
    result[:, max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = image[
        :, max(-down, 0) : height + min(-down, 0), max(-right, 0) : width + min(-right, 0)
    ]
    return result


def test_without_names_nothing_happens_and_nothing_is_drawn() -> None:
    x, state = images(3), torch.get_rng_state()
    assert augmented(x, ()) is x
    assert torch.equal(state, torch.get_rng_state())


def test_the_data_stay_as_they_were() -> None:
    x = images(9)
    before = x.clone()
    augmented(x, ["flip", "crop"])
    assert torch.equal(x, before)


@pytest.mark.parametrize("strategy", [FineTune(BACKBONE), from_scratch(BACKBONE), MultiTask(BACKBONE)])
def test_a_run_gives_the_same_bits_again_and_other_ones_than_without(strategy: FineTune) -> None:
    first, second = (quick_run(strategy, STREAM, training=TRAINING) for _ in range(2))
    assert_same_numbers(first, second)
    plain = quick_run(strategy, STREAM, training=Training(epochs=2, batch_size=16, lr=0.01))
    assert plain.curves[0].accuracy[0] == first.curves[0].accuracy[0]
    assert plain.digests != first.digests or plain.curves != first.curves


def test_what_is_trained_is_augmented_and_what_is_measured_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    trained: list[Tensor] = []
    original = Run._outputs

    def noting(run: Run, batch: object) -> object:
        trained.extend(part.x for part in batch.values())  # type: ignore[attr-defined]
        return original(run, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "_outputs", noting)
    own = list(STREAM[0].normalisation(STREAM[0].train.x))
    result = quick_run(Independent(BACKBONE), STREAM.first(1), training=TRAINING)
    seen = [any(torch.equal(image, one) for one in own) for x in trained for image in x]
    assert 0 < sum(seen) < len(seen) / 4  # neither mirrored nor shifted: one in 2 * 9
    again = result.learner.predict(STREAM[0].test.x, 0).argmax(1)
    assert result.accuracy[0, 0] == pytest.approx(float((again == STREAM[0].test.y).double().mean()))


def test_features_are_not_kept_where_images_change() -> None:
    result = quick_run(from_scratch(BACKBONE), STREAM, training=TRAINING)
    assert [cost.feature_flops for cost in result.costs] == [0, 0]


def test_inputs_that_are_no_images_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        quick_run(FineTune(BACKBONE), make_stream((2,), shape=(16,)), training=TRAINING)
    assert str(caught.value) == (
        "augment: required images (C, H, W), found inputs (16,) in task 0 ('patterns 0'); leave it out."
    )
