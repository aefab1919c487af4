"""Streams whose tasks have inputs of several shapes: what they say, hold, store, and are in Avalanche."""

from pathlib import Path

import numpy as np
import pytest
import torch

from prognet.errors import StreamError
from prognet.streams import from_arrays, from_avalanche, from_npz
from prognet.streams.stream import Stream
from tests.helpers.commands import save_arrays
from tests.helpers.data import same_samples
from tests.helpers.shapes import COLOUR, GREY, NORMALISATION, SHAPES, mixed_stream


def test_a_stream_says_every_shape_once() -> None:
    assert repr(mixed_stream()) == (
        "Stream('mixed', 4 tasks of 2 to 4 classes, input (1, 4, 4) or (2, 6, 6), heads='per-task', seed=0)"
    )
    assert repr(mixed_stream().first(1)) == (
        "Stream('mixed[:1]', 1 tasks of 2 classes, input (1, 4, 4), heads='per-task', seed=0)"
    )


def test_the_digest_tells_the_shapes_apart() -> None:
    digests = {mixed_stream(shapes).digest for shapes in (SHAPES, [GREY] * 4, [COLOUR] * 4, [*SHAPES[:3], GREY])}
    assert len(digests) == 4
    assert mixed_stream().digest == mixed_stream().digest


def test_what_was_saved_is_loaded(tmp_path: Path) -> None:
    stream = mixed_stream()
    stream.save(tmp_path)
    again = Stream.load(tmp_path)
    assert again.digest == stream.digest and repr(again) == repr(stream)
    for found, required in zip(again, stream, strict=True):
        assert found.normalisation == required.normalisation
        assert all(same_samples(getattr(found, part), getattr(required, part)) for part in ("train", "val", "test"))


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_avalanche_sees_every_task_in_its_shape_and_normalised_by_its_own_numbers() -> None:
    stream = mixed_stream()
    streams = {"train": "train_stream", "val": "valid_stream", "test": "test_stream"}
    for part, name in streams.items():
        for task, experience in zip(stream, getattr(stream.benchmark, name), strict=True):
            samples = getattr(task, part)
            x = torch.stack([sample[0] for sample in experience.dataset])
            assert torch.equal(x, task.normalisation(samples.x)) and x.dtype == torch.float32
            assert [sample[2] for sample in experience.dataset] == [task.label] * len(samples)
    assert stream[1].normalisation == NORMALISATION and stream[1].experience.current_experience == 1


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_benchmark_of_several_shapes_is_a_stream() -> None:
    stream = mixed_stream()
    again = from_avalanche(stream.benchmark)
    assert [task.input_shape for task in again] == [*SHAPES]
    for found, required in zip(again, stream, strict=True):
        assert torch.equal(found.test.x, required.normalisation(required.test.x))


def test_arrays_of_several_shapes_are_a_stream_in_any_order(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    arrays = [
        (random.normal(size=(12, *shape)), np.arange(12) % 2, random.normal(size=(6, *shape)), np.arange(6) % 2)
        for shape in ((5,), (3,), (1, 2, 2))
    ]
    assert [task.input_shape for task in from_arrays(arrays)] == [(5,), (3,), (1, 2, 2)]
    seeded = from_arrays(arrays, task_order="seeded", seed=3)
    assert sorted(task.input_shape for task in seeded) == [(1, 2, 2), (3,), (5,)]
    names = ("x_train_1", "y_train_1", "x_test_1", "y_test_1")
    save_arrays(tmp_path / "data.npz", 1, (6,), **dict(zip(names, arrays[1], strict=True)))
    assert [task.input_shape for task in from_npz(tmp_path / "data.npz")] == [(6,), (3,)]


def test_a_shared_head_is_refused_for_arrays_of_several_shapes() -> None:
    y = np.arange(12) % 2
    arrays = [(np.ones((12, n)) * y[:, None], y, np.ones((12, n)), y) for n in (4, 3)]
    with pytest.raises(StreamError, match=r"heads: a shared head required inputs of one shape in every task, found \["):
        from_arrays(arrays, heads="shared")
