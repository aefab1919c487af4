from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prognet.errors import RunFolderError, StreamError
from prognet.streams.objectives import Classification, Objective
from prognet.streams.storage import STREAM_FILE
from prognet.streams.stream import Stream
from prognet.streams.task import Normalisation, Samples
from tests.helpers import sealing
from tests.helpers.data import blobs, same_samples


def byte_stream() -> Stream:
    """Two tasks of bytes with a normalisation and no validation split, one shared head."""
    random = torch.Generator().manual_seed(0)
    task = blobs((2,))[0]
    tasks = []
    for label in range(2):
        x = torch.randint(0, 256, (10, 3, 4, 4), generator=random).to(torch.uint8)
        samples = Samples(x, torch.arange(10) % 2)
        empty = Samples(x[:0], samples.y[:0])
        normalisation = Normalisation((0.1, 1 / 3, 0.7), (0.2, 0.3, 1e-7))
        tasks.append(replace(task, label=label, train=samples, val=empty, test=samples, normalisation=normalisation))
    return Stream(tasks, name="bytes", heads="shared", seed=7, draw=3, arguments={"a": [1, None, 0.1]})


@pytest.mark.parametrize("stream", [blobs((2, 5, 3), seed=2), byte_stream()], ids=["floats", "bytes"])
def test_the_round_trip_is_exact(stream: Stream, tmp_path: Path) -> None:
    assert stream.save(tmp_path) == tmp_path / STREAM_FILE
    loaded = Stream.load(tmp_path)
    header = (stream.name, stream.heads, stream.seed, stream.draw, stream.arguments)
    assert (loaded.name, loaded.heads, loaded.seed, loaded.draw, loaded.arguments) == header
    for saved, read in zip(stream, loaded, strict=True):
        assert read.summary == saved.summary
        assert (read.classes, read.objective, read.normalisation) == (
            saved.classes,
            saved.objective,
            saved.normalisation,
        )
        assert same_samples(read.train, saved.train)
        assert same_samples(read.val, saved.val)
        assert same_samples(read.test, saved.test)


def test_saving_again_replaces_the_old_stream(tmp_path: Path) -> None:
    blobs((2, 2, 2), seed=1).save(tmp_path)
    new = blobs((3, 3), seed=2)
    new.save(tmp_path)
    assert len(list(tmp_path.iterdir())) == 3  # stream.json and two tasks
    assert same_samples(Stream.load(tmp_path)[1].train, new[1].train)


def test_a_stream_that_was_not_written_whole_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = blobs((2, 2), seed=1)
    old.save(tmp_path)

    def full(*_: Any) -> None:
        raise RunFolderError("disk full")

    monkeypatch.setattr("prognet.streams.storage.write_json", full)
    with pytest.raises(RunFolderError, match="disk full"):
        blobs((2, 2), seed=2).save(tmp_path)
    assert same_samples(Stream.load(tmp_path)[0].train, old[0].train)


def test_an_absent_stream_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"stream.json: required a prognet.stream file, found none"):
        Stream.load(tmp_path)


def test_another_version_is_refused(tmp_path: Path) -> None:
    edit(tmp_path, lambda document: document.update(version=1))
    with pytest.raises(RunFolderError, match="required version 2 of prognet.stream, found 1"):
        Stream.load(tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("seed"), r"stream.json: seed: required a value, found none; make the stream again"),
        (lambda d: d.update(draw="0"), r"stream.json: draw: required a whole number of 64 bits, found '0'"),
        (lambda d: d.update(tasks={}), r"stream.json: tasks: required a list, found \{\}"),
        (lambda d: d["tasks"].insert(0, 3), r"stream.json: tasks\[0\]: required an object, found 3"),
        (lambda d: d["tasks"][1].pop("classes"), r"stream.json: tasks\[1\].classes: required a value, found none"),
        (
            lambda d: d["tasks"][0].update(label=False),
            r"tasks\[0\].label: required a whole number of 64 bits, found False",
        ),
        (
            lambda d: d["tasks"][0].update(normalisation={}),
            r"tasks\[0\].normalisation.mean: required a value, found none",
        ),
        (
            lambda d: d["tasks"][0].update(normalisation={"mean": [1.0], "std": [0.0]}),
            r"tasks\[0\].normalisation.std: required numbers above 0, found \(0.0,\); leave constant",
        ),
        (lambda d: d["tasks"][1].update(file="gone"), r"tasks\[1\].file: required a name such as task-0-"),
        (lambda d: d["tasks"][1].update(file="../.."), r"tasks\[1\].file: required a name such as task-0-"),
        (
            lambda d: d["tasks"][1].update(file="task-7-0123456789abcdef.safetensors"),
            r"tasks\[1\].file: required a file beside stream.json, found 'no task-7-",
        ),
        (
            lambda d: d["tasks"][1].update(objective={"name": "regression", "other": 1}),
            r"stream.json: tasks\[1\].objective: required the fields of 'regression', found \['other'\]",
        ),
        (lambda d: d["tasks"][0].update(label=4), r"stream.json: task 4 .*label: required its position"),
        (lambda d: d.update(heads="both"), r"stream.json: heads: required one of .*found 'both'; make the"),
        (lambda d: d["tasks"].clear(), r"stream.json: tasks: required at least one task"),
    ],
)
def test_a_damaged_field_is_named(tmp_path: Path, change: Any, message: str) -> None:
    edit(tmp_path, change)
    with pytest.raises(StreamError, match=message):
        Stream.load(tmp_path)


def test_damaged_tensors_are_refused(tmp_path: Path) -> None:
    blobs((2,)).save(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(StreamError, match=r"task-0-.*safetensors: sha256: required .*, as stream.json says, found"):
        Stream.load(tmp_path)


def test_tensors_that_are_none_are_refused(tmp_path: Path) -> None:
    from hashlib import sha256

    name = "task-0-0123456789abcdef.safetensors"
    edit(tmp_path, lambda d: d["tasks"][0].update(sha256=sha256(b"nothing").hexdigest(), file=name))
    (tmp_path / name).write_bytes(b"nothing")
    with pytest.raises(StreamError, match=f"{name}: content: required tensors x and y of train, val and test"):
        Stream.load(tmp_path)


def test_a_damaged_file_is_written_anew(tmp_path: Path) -> None:
    stream = blobs((2,))
    stream.save(tmp_path)
    (file,) = tmp_path.glob("*.safetensors")
    file.write_bytes(b"")
    stream.save(tmp_path)
    assert same_samples(Stream.load(tmp_path)[0].train, stream[0].train)


def test_an_objective_without_a_form_on_disk_is_refused(tmp_path: Path) -> None:
    class Other(Objective):
        primary = "accuracy"

        def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
            return output.mean()

        def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
            return {}

        def correct(self, output: Tensor, target: Tensor) -> Tensor:
            return output[:, 0]

    stream = Stream([replace(blobs((2,))[0], objective=Other())], name="other")
    with pytest.raises(StreamError, match="task 0: objective: required one of prognet.s own to be saved, found Other"):
        stream.save(tmp_path)


def test_loading_restores_the_objective(tmp_path: Path) -> None:
    blobs((4,)).save(tmp_path)
    assert Stream.load(tmp_path)[0].objective == Classification(4)


def edit(folder: Path, change: Any) -> None:
    """A saved stream of two tasks, its JSON changed by hand."""
    path = blobs((2, 3)).save(folder)
    sealing.edit(path, change)
