import re
from pathlib import Path

import pytest
import torch

from prognet.errors import ConfigError, StreamError
from prognet.streams.stream import Stream
from tests.helpers.data import blobs, same_samples, with_split


def test_a_stream_is_a_sequence_of_tasks() -> None:
    stream = blobs((2, 5, 3))
    assert len(stream) == 3
    assert [task.label for task in stream] == [0, 1, 2]
    assert [task.n_classes for task in stream] == [2, 5, 3]
    assert stream[-1] is stream[2]
    assert [task.label for task in stream[:2]] == [0, 1]
    with pytest.raises(IndexError):
        _ = stream[3]


def test_repr_tells_what_it_is() -> None:
    assert repr(blobs((2, 5, 3), n_features=6, seed=4)) == (
        "Stream('blobs', 3 tasks of 2 to 5 classes, input (6,), heads='per-task', seed=4)"
    )
    assert "2 tasks of 3 classes" in repr(blobs((3, 3)))


def test_the_stream_checks_its_tasks() -> None:
    with pytest.raises(
        StreamError, match=re.escape("task 2 ('blobs 2'): label: required its position in the stream, 1")
    ):
        Stream([blobs()[0], blobs()[2]], name="gap")


def test_the_first_tasks_are_a_stream() -> None:
    stream = blobs((2, 5, 3))
    first = stream.first(2)
    assert (len(first), first.name, first.seed, first.heads) == (2, "blobs[:2]", stream.seed, stream.heads)
    assert all(same_samples(first[label].train, stream[label].train) for label in range(2))


def test_other_tasks_leave_how_a_stream_was_made() -> None:
    stream = Stream(tuple(blobs((2, 3))), name="blobs", seed=4, draw=2, arguments={"a": 1})
    other = stream.having(stream[:1])
    assert (other.name, other.heads, other.seed, other.draw, other.arguments) == ("blobs", "per-task", 4, 2, {"a": 1})
    assert len(other) == 1
    assert stream.first(1).draw == 2


@pytest.mark.parametrize("n_tasks", [0, 4])
def test_the_stream_has_no_more_tasks_than_it_has(n_tasks: int) -> None:
    with pytest.raises(ConfigError, match=f"n_tasks: required 1 to 3, found {n_tasks}; ask for fewer"):
        blobs((2, 5, 3)).first(n_tasks)


def test_arguments_are_json_values() -> None:
    stream = Stream(tuple(blobs()), name="blobs", arguments={"size": (1, 2), "root": Path("somewhere")})
    assert stream.arguments == {"size": [1, 2], "root": "somewhere"}
    with pytest.raises(StreamError, match="arguments: required values that JSON can hold .*found object.*give numbers"):
        Stream(tuple(blobs()), name="blobs", arguments={"what": object()})


def test_a_given_benchmark_is_kept() -> None:
    given = object()
    assert Stream(tuple(blobs()), name="blobs", benchmark=given).benchmark is given


def test_the_digest_is_the_identity_of_the_data() -> None:
    stream = blobs((2, 5, 3))
    assert stream.digest == blobs((2, 5, 3)).digest
    assert stream.digest != blobs((2, 5, 3), seed=1).digest
    assert stream.digest != stream.first(2).digest


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_the_digest_covers_samples_and_labels_of_every_split(split: str) -> None:
    task = blobs((2,))[0]
    samples = getattr(task, split)
    nudged = with_split(task, split, x=torch.nextafter(samples.x, torch.tensor(torch.inf)))
    swapped = with_split(task, split, y=1 - samples.y)
    digests = {Stream([each], name="blobs").digest for each in (task, nudged, swapped)}
    assert len(digests) == 3
