"""Arguments, arrays, archives and images that are none: refused by their name, and nothing is executed."""

import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays as numpy_arrays
from hypothesis.extra.numpy import scalar_dtypes

from prognet import backbones
from prognet.analysed import Look, Pairs
from prognet.cli import main
from prognet.config import Execution, Measurement, Training
from prognet.errors import MissingDataError, PrognetError, StreamError
from prognet.recipes import Experiment
from prognet.streams import from_arrays, from_folder, from_npz
from tests.helpers.hostile import MARKUP, VALUES, hostile, refused

SETTINGS = (Training, Measurement, Execution, Pairs, Look)
PLAIN = tuple(value for value in VALUES if not isinstance(value, list | dict))
FIELDS = [(kind, name) for kind in SETTINGS for name in kind.__dataclass_fields__]


@hostile(250)
@given(field=st.sampled_from(FIELDS), value=st.sampled_from(VALUES) | st.integers() | st.floats() | st.text(max_size=5))
def test_a_setting_is_what_was_given_or_is_refused_by_its_name(field: tuple[type, str], value: Any) -> None:
    kind, name = field
    found = refused(lambda: kind(**{name: value}), name)
    if found is not None:
        given_back = getattr(found, name)
        assert given_back is value or given_back == value


@hostile(60)
@given(field=st.sampled_from(sorted(Experiment.__dataclass_fields__)), value=st.sampled_from(PLAIN))
def test_an_experiment_is_what_was_given_or_is_refused_by_its_name(field: str, value: Any) -> None:
    found = refused(lambda: Experiment(**{"options": None, field: value}), field)
    assert found is None or getattr(found, field) is value


MAKERS: dict[str, dict[str, Any]] = {
    "mlp": {"hidden": (4,), "activation": "relu", "batch_norm": False, "dropout": 0.0},
    "cnn": {"channels": (2, 3)},
    "resnet18": {},
    "vit_tiny": {},
}
ARGUMENTS = [(name, key) for name, arguments in MAKERS.items() for key in (*arguments, "novelty")]


@hostile(80)
@given(place=st.sampled_from(ARGUMENTS), value=st.sampled_from(VALUES))
def test_an_argument_of_a_backbone_is_refused_when_it_is_made(place: tuple[str, str], value: Any) -> None:
    name, key = place
    maker = getattr(backbones, name)
    if key == "novelty":
        with pytest.raises(TypeError, match="novelty"):
            maker(**{key: value})
        return
    refused(lambda: maker(**{**MAKERS[name], key: value}), key)


WORDS = ("run", "report", "verify", "analyse", "tune", "list", "demo", "--seeds", "--out", "--epochs", "-h", "--", "")


@hostile(60)
@given(words=st.lists(st.sampled_from((*WORDS[1:], *MARKUP, "../x", "a\0b", "-1", "1e999", "NaN")), max_size=4))
def test_a_command_line_ends_with_a_code_and_a_message(
    words: list[str], tmp_path_factory: pytest.TempPathFactory, capsys: pytest.CaptureFixture[str]
) -> None:
    """No word that starts a training stands first."""
    here = Path.cwd()
    os.chdir(tmp_path_factory.mktemp("cwd"))
    try:
        code = main(words)
    finally:
        os.chdir(here)
    said = capsys.readouterr()
    assert code in (0, 1, 2)
    assert code == 0 or said.err or said.out
    assert "Traceback" not in said.err + said.out


def quadruple(**changes: Any) -> tuple[Any, ...]:
    """The arrays of one small task, of which some are replaced."""
    x, y = np.arange(24, dtype=np.float32).reshape(8, 3), np.array([0, 1] * 4)
    parts = {"x_train": x, "y_train": y, "x_test": x[:4], "y_test": y[:4], **changes}
    return tuple(parts.values())


PARTS = ("x_train", "y_train", "x_test", "y_test")
ODD: tuple[Any, ...] = (
    *(None, 3, "abc", b"abc", [], [[]], [[1.0], [1.0, 2.0]], {}, object(), float("nan"), (1, 2)),
    *(np.array([]), np.empty((0, 3)), np.empty((8, 0)), np.zeros((8, 3), complex), np.zeros((8, 3), object)),
    *(np.full((8, 3), np.nan), np.full((8, 3), np.inf), np.full((8, 3), 1e300), np.zeros(8), np.zeros((9, 3))),
    *(np.array([-1, 0] * 4), np.array([0.5, 1.5] * 4), np.array([0.0, np.nan] * 4), np.array(["a", "b"] * 4)),
    *(np.array([2**63 - 1, 0] * 4), np.array(["2001-01-01"] * 8, "datetime64[D]"), np.zeros(8, [("a", int)])),
    *(torch.zeros(8, 3, dtype=torch.complex64), torch.zeros(8, 3).to_sparse(), torch.empty(8, 3, device="meta")),
)


@hostile(150)
@given(part=st.sampled_from(PARTS), value=st.sampled_from(ODD))
def test_an_odd_array_is_refused_by_its_name(part: str, value: Any) -> None:
    refused(lambda: from_arrays([quadruple(), quadruple(**{part: value})]), "1")


@hostile(120)
@given(
    part=st.sampled_from(PARTS),
    value=scalar_dtypes().flatmap(
        lambda kind: numpy_arrays(kind, st.sampled_from([(), (8,), (4,), (8, 3), (4, 3), (2, 3, 4)]))
    ),
)
def test_any_array_is_taken_as_it_is_or_refused(part: str, value: Any) -> None:
    found = refused(lambda: from_arrays([quadruple(**{part: value})], validation=0.0))
    if found is not None and part in ("x_train", "x_test"):
        taken = getattr(found[0], part.removeprefix("x_")).x.numpy()
        wanted = value if value.dtype == np.uint8 else value.astype(np.float32)
        np.testing.assert_array_equal(taken, wanted)


class Payload:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.system, (f"touch {self.path}",)


@pytest.mark.parametrize("where", ["array", "member", "file"])
def test_nothing_pickled_is_executed(tmp_path: Path, where: str) -> None:
    """The payload works: it writes its file when somebody does unpickle it."""
    trap, path = tmp_path / "trapped", tmp_path / "x.npz"
    pickle.loads(pickle.dumps(Payload(trap)))
    trap.unlink()
    parts = {f"{name}_0": value for name, value in zip(PARTS, quadruple(), strict=True)}
    if where == "array":
        np.savez(path, **{**parts, "y_test_0": np.array([Payload(trap)] * 4, dtype=object)})
    elif where == "member":
        np.savez(path, **parts)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("y_train_1.npy", pickle.dumps(Payload(trap)))
    else:
        path.write_bytes(pickle.dumps(Payload(trap)))
    with pytest.raises(StreamError, match=f"{path}: required "):
        from_npz(path)
    assert not trap.exists()


@pytest.mark.parametrize("name", ["state", "result", "stream", "weights"])
def test_no_pickle_in_place_of_a_file_is_executed(tmp_path: Path, name: str) -> None:
    from prognet.engine.checkpoint import read_tensors
    from prognet.results import RunResult
    from prognet.streams.stream import Stream

    trap = tmp_path / "trapped"
    path = tmp_path / {"result": "result.json", "stream": "stream.json"}.get(name, f"{name}.safetensors")
    if name == "weights":
        torch.save({"a": Payload(trap)}, path)
    else:
        path.write_bytes(pickle.dumps(Payload(trap)))
    readers: dict[str, Callable[[], Any]] = {
        "result": lambda: RunResult.load(path),
        "stream": lambda: Stream.load(tmp_path),
    }
    with pytest.raises(PrognetError, match=str(path)):
        readers.get(name, lambda: read_tensors(path))()
    assert not trap.exists()


@hostile(60)
@given(cut=st.integers(0, 2000), flip=st.none() | st.integers(0, 16_000))
def test_a_damaged_archive_is_refused_or_holds_the_same_numbers(
    tmp_path_factory: pytest.TempPathFactory, cut: int, flip: int | None
) -> None:
    from tests.helpers.hostile import flipped

    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    np.savez(path, **{f"{name}_0": value for name, value in zip(PARTS, quadruple(), strict=True)})
    whole = path.read_bytes()
    path.write_bytes(whole[: cut % len(whole)] if flip is None else flipped(whole, flip % (8 * len(whole))))
    found = refused(lambda: from_npz(path, validation=0.0))
    if found is not None:
        np.testing.assert_array_equal(found[0].train.x.numpy(), quadruple()[0])
        assert found[0].train.y.tolist() == [0, 1] * 4


def test_an_archive_that_says_it_holds_more_than_memory_is_refused(tmp_path: Path) -> None:
    """A header of a petabyte in front of no numbers."""
    path = tmp_path / "bomb.npz"
    np.savez(path, **{f"{name}_0": value for name, value in zip(PARTS, quadruple(), strict=True)})
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000, 250000000), }"
    header += b" " * (63 - (len(header) + 10) % 64) + b"\n"
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_train_1.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header)
    with pytest.raises(StreamError, match=f"{path}: required a .npz file of plain arrays"):
        from_npz(path)


def png(width: int, height: int, rows: bytes = b"") -> bytes:
    """A grey image that says it has this size, whatever it holds."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


GOOD = png(4, 4, bytes(5 * 4))


def image_folder(root: Path) -> Path:
    """One task of two classes with four images each."""
    for name in ("a", "b"):
        (root / "task" / name).mkdir(parents=True)
        for number in range(4):
            (root / "task" / name / f"{number}.png").write_bytes(GOOD)
    return root


IMAGES: dict[str, bytes] = {
    "text": b"no image at all",
    "empty": b"",
    "cut": GOOD[:-30],
    "bomb": png(60_000, 60_000),
    "no pixels": png(0, 4),
    "short": png(4, 4, b"\0"),
    "html": b"<html><script>alert(1)</script></html>",
    "svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    "pickle": pickle.dumps([1, 2]),
}


@pytest.mark.parametrize("kind", IMAGES)
def test_a_broken_image_is_named(tmp_path: Path, kind: str) -> None:
    path = image_folder(tmp_path) / "task" / "a" / "9.png"
    path.write_bytes(IMAGES[kind])
    with pytest.raises(StreamError, match=f"{path}: required a readable image"):
        from_folder(tmp_path, size=(4, 4))


@hostile(60)
@given(bit=st.integers(0, 8 * len(GOOD) - 1), cut=st.booleans())
def test_a_damaged_image_is_read_or_named(tmp_path_factory: pytest.TempPathFactory, bit: int, cut: bool) -> None:
    from tests.helpers.hostile import flipped

    root = image_folder(tmp_path_factory.mktemp("images"))
    path = root / "task" / "a" / "0.png"
    path.write_bytes(GOOD[: bit // 8] if cut else flipped(GOOD, bit))
    refused(lambda: from_folder(root, size=(4, 4)), path)


def test_a_link_is_what_it_leads_to_or_is_named(tmp_path: Path) -> None:
    """Data sets are often trees of links: an image elsewhere is an image, and nothing else becomes one."""
    (tmp_path / "other.png").write_bytes(GOOD)
    (tmp_path / "secret").write_text("root:x:0:0")
    root = image_folder(tmp_path / "images")
    link = root / "task" / "a" / "9.png"
    link.symlink_to(tmp_path / "other.png")
    assert len(from_folder(root, size=(4, 4), validation=0.0)[0].train) == 7
    for target in (tmp_path / "secret", tmp_path / "nowhere", link, tmp_path):
        link.unlink()
        link.symlink_to(target)
        with pytest.raises(StreamError, match=f"{link}: required a readable image"):
            from_folder(root, size=(4, 4))


@pytest.mark.parametrize("name", [name for name in MARKUP if "/" not in name and len(name) < 200])
def test_odd_names_of_folders_are_names(tmp_path: Path, name: str) -> None:
    root = image_folder(tmp_path)
    (root / "task" / "a").rename(root / "task" / name)
    (root / "task").rename(root / name)
    task = from_folder(root, size=(4, 4))[0]
    assert task.name == name
    assert set(task.classes) == {name, "b"}


@pytest.mark.parametrize("path", ["nowhere", "a\0b", "x" * 5000])
def test_paths_that_are_none_are_refused(path: str) -> None:
    for read in (from_npz, from_folder):
        with pytest.raises((MissingDataError, StreamError), match="required "):
            read(path)
