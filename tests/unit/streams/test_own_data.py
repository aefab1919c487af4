import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from prognet.errors import ConfigError, MissingDataError, StreamError
from prognet.streams.own_data import PARTS, from_arrays, from_npz
from tests.helpers.data import same_samples

Arrays = tuple[Any, Any, Any, Any]


def arrays(n_classes: int, n_features: int = 4, first: int = 0, seed: int = 0) -> Arrays:
    """Ten training and five test samples of each class; labels from `first` on."""
    random = np.random.default_rng(seed)
    y, y_test = (np.repeat(np.arange(n_classes) + first, count) for count in (10, 5))
    return random.normal(size=(len(y), n_features)), y, random.normal(size=(len(y_test), n_features)), y_test


def test_heads_of_different_sizes() -> None:
    given = [arrays(2), arrays(5, first=10), arrays(3, first=-1)]
    stream = from_arrays(given, names=["a", "b", "c"])
    assert [task.n_classes for task in stream] == [2, 5, 3]
    assert [task.name for task in stream] == ["a", "b", "c"]
    assert stream[1].classes == ("10", "11", "12", "13", "14")
    assert stream[2].classes == ("-1", "0", "1")
    for task, (_, _, x_test, y_test) in zip(stream, given, strict=True):
        assert torch.equal(task.test.x, torch.tensor(x_test, dtype=torch.float32))
        assert [int(task.classes[label]) for label in task.test.y] == y_test.tolist()
        for samples in (task.train, task.val, task.test):
            assert set(samples.y.tolist()) == set(range(task.n_classes))


def test_training_and_validation_split_hold_each_sample_once() -> None:
    given = arrays(3)
    task = from_arrays([given], validation=0.2)[0]
    assert (len(task.train), len(task.val)) == (24, 6)
    together = torch.cat([task.train.x, task.val.x]).sort(dim=0).values
    assert torch.equal(together, torch.tensor(given[0], dtype=torch.float32).sort(dim=0).values)


def test_text_labels() -> None:
    x = np.zeros((4, 2))
    task = from_arrays([(x, ["dog", "cat", "dog", "cat"], x[:2], ["cat", "dog"])], validation=0.0)[0]
    assert task.classes == ("cat", "dog")
    assert task.train.y.tolist() == [1, 0, 1, 0]
    assert task.test.y.tolist() == [0, 1]


def test_tensors_and_arrays_give_the_same_stream() -> None:
    given = arrays(2)
    from_torch = from_arrays([tuple(torch.tensor(part) for part in given)])
    assert same_samples(from_torch[0].train, from_arrays([given])[0].train)


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_bytes_stay_bytes(make: Any) -> None:
    x = make(np.arange(64, dtype=np.uint8).reshape(4, 1, 4, 4))
    task = from_arrays([(x, [0, 1, 0, 1], x, [0, 1, 0, 1])], validation=0.0)[0]
    assert task.train.x.dtype == torch.uint8
    assert torch.equal(task.train.x, torch.as_tensor(x))


def test_other_numbers_become_float32() -> None:
    x = np.array([[1, 300], [2, -4]], dtype=">i4")
    task = from_arrays([(x, [0, 1], x, [0, 1])], validation=0.0)[0]
    assert task.train.x.dtype == torch.float32
    assert task.train.x.tolist() == [[1.0, 300.0], [2.0, -4.0]]


@pytest.mark.parametrize("make", [np.asarray, torch.as_tensor])
def test_the_data_are_copied(make: Any) -> None:
    x = make(np.zeros((4, 2), dtype=np.float32))
    task = from_arrays([(x, [0, 1, 0, 1], x, [0, 1, 0, 1])])[0]
    x[:] = 1
    assert not task.test.x.any()
    assert not task.train.x.any()


def test_the_order_may_be_seeded() -> None:
    given = [arrays(count) for count in (2, 3, 4, 5, 6)]
    assert [task.name for task in from_arrays(given)] == [f"task {k}" for k in range(5)]
    stream = from_arrays(given, seed=1, task_order="seeded")
    assert sorted(task.name for task in stream) == [f"task {k}" for k in range(5)]
    assert [task.name for task in stream] != [f"task {k}" for k in range(5)]
    assert all(task.name == f"task {task.n_classes - 2}" for task in stream)


def test_a_shared_head_needs_the_same_classes() -> None:
    stream = from_arrays([arrays(2, seed=0), arrays(2, seed=1)], heads="shared")
    assert [task.head for task in stream] == [0, 0]
    message = (
        "heads: a shared head required the same classes in every task (0, 1 in task 0), found 4, 5 in task 1; "
        'relabel the tasks alike, or use heads="per-task".'
    )
    with pytest.raises(StreamError, match=re.escape(message)):
        from_arrays([arrays(2), arrays(2, first=4)], heads="shared")


def replaced(part: str, value: Any) -> Arrays:
    given = dict(zip(PARTS, arrays(2), strict=True)) | {part: value}
    return given["x_train"], given["y_train"], given["x_test"], given["y_test"]


NAN = arrays(2)[0]
NAN[7, 1] = np.nan


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (arrays(2)[:3], "arrays[1]: required ('x_train', 'y_train', 'x_test', 'y_test'), found 3 items; give a tuple"),
        (np.zeros(4), "arrays[1]: required ('x_train', 'y_train', 'x_test', 'y_test'), found ndarray; give a tuple"),
        (
            replaced("x_train", np.zeros((19, 4))),
            "arrays[1].x_train: required one sample for each of 20 labels, found 19",
        ),
        (replaced("x_test", np.zeros(10)), "arrays[1].x_test: required shape (N, *input_shape), found (10,); reshape"),
        (
            replaced("x_test", np.zeros((10, 4), complex)),
            "arrays[1].x_test: required numbers, found complex128; convert",
        ),
        (replaced("x_test", torch.zeros(10, 4, dtype=torch.complex64)), "arrays[1].x_test: required real numbers"),
        (
            replaced("x_train", [[1, 2], [3]]),
            "arrays[1].x_train: required samples of one shape, found ragged ones; pad",
        ),
        (replaced("y_train", np.zeros(20)), "arrays[1].y_train: required integer or text labels, found float64"),
        (replaced("y_test", np.arange(10)), "arrays[1].y_test: required classes that the training split has (0, 1)"),
        (replaced("y_train", np.zeros(20, int)), "arrays[1].y_test: required classes that the training split has (0)"),
        (arrays(1), "task 1 ('task 1'): classes: required at least two classes, found 1"),
        (replaced("x_train", NAN), ".x: required finite numbers, found NaN or infinity in sample "),
        (
            (np.zeros((0, 4)), np.zeros(0), np.zeros((0, 4)), np.zeros(0)),
            "task 1 ('task 1'): train.x: required at least one sample, found none",
        ),
    ],
)
def test_bad_arrays_are_named(second: Any, message: str) -> None:
    with pytest.raises(StreamError, match=re.escape(message)):
        from_arrays([arrays(2), second])


def test_other_bad_arguments() -> None:
    with pytest.raises(StreamError, match="names: required 2 names, one a task, found 1; name every task"):
        from_arrays([arrays(2), arrays(2)], names=["one"])
    with pytest.raises(StreamError, match="tasks: required at least one task, found none"):
        from_arrays([])
    with pytest.raises(ConfigError, match="validation: required a fraction"):
        from_arrays([arrays(2)], validation=2)


def npz(folder: Path, n_tasks: int = 3, **more: Any) -> Path:
    path = folder / "data.npz"
    named = {f"{part}_{k}": value for k in range(n_tasks) for part, value in zip(PARTS, arrays(2 + k), strict=True)}
    np.savez(path, **(named | more))
    return path


def test_npz_is_the_arrays(tmp_path: Path) -> None:
    path = npz(tmp_path, n_tasks=3)
    stream = from_npz(path, seed=2)
    same = from_arrays([arrays(2), arrays(3), arrays(4)], seed=2)
    assert [task.n_classes for task in stream] == [2, 3, 4]
    assert all(same_samples(a.val, b.val) and same_samples(a.test, b.test) for a, b in zip(stream, same, strict=True))
    assert stream.arguments["path"] == "data.npz"  # the place differs from machine to machine
    again = from_npz(**{**stream.arguments, "path": path}, seed=2)
    assert all(same_samples(a.train, b.train) for a, b in zip(stream, again, strict=True))


def test_twelve_tasks_keep_the_order_of_their_numbers(tmp_path: Path) -> None:
    assert [task.n_classes for task in from_npz(npz(tmp_path, n_tasks=12))] == list(range(2, 14))


def test_a_missing_file(tmp_path: Path) -> None:
    with pytest.raises(MissingDataError, match="path: required a .npz file, found none at .*gone.npz; pass the path"):
        from_npz(tmp_path / "gone.npz")


def test_pickled_content_is_refused_and_not_run(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[Any, ...]:
            return Path.touch, (tmp_path / "run",)

    path = npz(tmp_path, x_train_0=np.array([Trap()], dtype=object))
    with pytest.raises(StreamError, match="required a .npz file of plain arrays, .*nothing pickled is read"):
        from_npz(path)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 damaged"])
def test_a_file_of_another_kind_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "data.npz"
    path.write_bytes(content)
    with pytest.raises(StreamError, match="data.npz: required a .npz file of plain arrays, found something else"):
        from_npz(path)


def test_a_single_array_is_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "data.npy", np.zeros(3))
    with pytest.raises(StreamError, match="data.npy: required a .npz file of plain arrays, found something else"):
        from_npz(tmp_path / "data.npy")


def test_names_of_arrays_are_checked(tmp_path: Path) -> None:
    with pytest.raises(StreamError, match="required arrays named x_train_k.*, found 'x_tain_1'; rename it"):
        from_npz(npz(tmp_path, x_tain_1=np.zeros(3)))
    with pytest.raises(StreamError, match="found no y_train_2, x_test_2, y_test_2; add what is missing"):
        from_npz(npz(tmp_path, n_tasks=2, x_train_2=np.zeros((3, 4))))
    with pytest.raises(StreamError, match="found no x_train_2, "):
        from_npz(npz(tmp_path, n_tasks=2, x_train_7=np.zeros((3, 4))))
    with pytest.raises(StreamError, match="found no such array; add what is missing"):
        from_npz(npz(tmp_path, n_tasks=0))
