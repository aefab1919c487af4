import errno
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from math import inf, nan
from pathlib import Path
from typing import Any

import pytest

from prognet.errors import JSONValueError, RunFolderError
from prognet.files import read_json, write_atomically, write_json

resource = pytest.importorskip("resource")

REMEDY = "free space or choose another folder, then run the same command again: finished work is kept."


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """Lets the operating system refuse writes beyond `size` bytes, as it does on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def assert_only(folder: Path, **contents: str) -> None:
    assert {path.name: path.read_text() for path in folder.iterdir()} == contents


def fail_with(error: BaseException) -> Any:
    def failing(*arguments: object) -> None:
        raise error

    return failing


def test_content_is_written_below_folders_that_are_made(tmp_path: Path) -> None:
    write_atomically(tmp_path / "a" / "b" / "file", b"\x00new")
    assert (tmp_path / "a" / "b" / "file").read_bytes() == b"\x00new"


def test_a_file_is_replaced_and_nothing_else_stays(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a much longer old content")
    write_atomically(tmp_path / "file", b"new")
    assert_only(tmp_path, file="new")


def test_others_may_read_what_they_may_read_of_any_file(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("")
    write_atomically(tmp_path / "file", b"")
    assert (tmp_path / "file").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_on_a_disk_that_fills_up_the_old_file_survives_and_nothing_is_left_behind(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with largest_file(1000), pytest.raises(RunFolderError) as caught:
        write_atomically(tmp_path / "file", b"x" * 5000)
    assert str(caught.value) == f"{tmp_path / 'file'}: could not be written (File too large); {REMEDY}"
    assert_only(tmp_path, file="old")


def test_on_a_disk_that_is_full_at_the_sync_the_old_file_survives_and_nothing_is_left_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", fail_with(OSError(errno.ENOSPC, "No space left on device")))
    with pytest.raises(RunFolderError) as caught:
        write_atomically(tmp_path / "file", b"new")
    assert str(caught.value) == f"{tmp_path / 'file'}: could not be written (No space left on device); {REMEDY}"
    assert_only(tmp_path, file="old")


def test_an_interruption_keeps_the_old_file_and_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("old")
    monkeypatch.setattr(os, "fsync", fail_with(KeyboardInterrupt()))
    with pytest.raises(KeyboardInterrupt):
        write_atomically(tmp_path / "file", b"new")
    assert_only(tmp_path, file="old")


def test_content_is_on_the_disk_before_it_takes_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[int, bool]] = []
    monkeypatch.setattr(
        os, "fsync", lambda handle: seen.append((os.fstat(handle).st_size, (tmp_path / "file").exists()))
    )
    write_atomically(tmp_path / "file", b"12345")
    assert seen == [(5, False)]


def test_a_folder_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("old")
    with pytest.raises(RunFolderError, match=r"file/below: could not be written \(File exists\); free space or"):
        write_atomically(tmp_path / "file" / "below", b"new")
    assert_only(tmp_path, file="old")


def test_a_document_is_read_back_without_schema_and_version(tmp_path: Path) -> None:
    content = {"b": [1, 2.5, None, True], "a": {"text": "é"}}
    write_json(tmp_path / "x.json", "prognet.test", 3, content)
    assert read_json(tmp_path / "x.json", "prognet.test", 3) == content
    stored = json.loads((tmp_path / "x.json").read_text())
    assert list(stored) == ["schema", "version", "b", "a", "sha256"]
    assert (stored["schema"], stored["version"]) == ("prognet.test", 3)


@pytest.mark.parametrize("value", [nan, inf, -inf, {1, 2}, Path("x")])
def test_a_value_that_json_lacks_is_refused_before_anything_is_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(JSONValueError, match="content: required JSON values with finite numbers for .*x.json, found"):
        write_json(tmp_path / "x.json", "prognet.test", 1, {"a": value})
    assert_only(tmp_path)


def test_a_missing_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError) as caught:
        read_json(tmp_path / "x.json", "prognet.test", 1)
    assert str(caught.value) == (
        f"{tmp_path / 'x.json'}: required a prognet.test file, found none; is this the right folder?"
    )


@pytest.mark.parametrize(
    "content", [b"", b"{", b'{"schema": "prognet.test", "version": 1, "a": [1, 2', b"\xff\xfe\x00"]
)
def test_a_damaged_document_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.json").write_bytes(content)
    with pytest.raises(
        RunFolderError,
        match=r"x.json: required a prognet.test file, found unreadable content \(.+\); put a copy back, or remove the",
    ):
        read_json(tmp_path / "x.json", "prognet.test", 1)


def test_a_folder_in_place_of_a_document_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match=r"required a prognet.test file, found unreadable content \(.*directory"):
        read_json(tmp_path, "prognet.test", 1)


@pytest.mark.parametrize(
    ("text", "found"), [("[1]", "'list'"), ("3", "'int'"), ("{}", "None"), ('{"schema": "other"}', "'other'")]
)
def test_a_foreign_document_is_refused(tmp_path: Path, text: str, found: str) -> None:
    (tmp_path / "x.json").write_text(text)
    with pytest.raises(RunFolderError) as caught:
        read_json(tmp_path / "x.json", "prognet.test", 1)
    assert str(caught.value) == f"{tmp_path / 'x.json'}: required schema 'prognet.test', found {found}."


def test_another_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "x.json", "prognet.test", 2, {})
    with pytest.raises(RunFolderError) as caught:
        read_json(tmp_path / "x.json", "prognet.test", 1)
    assert str(caught.value) == (
        f"{tmp_path / 'x.json'}: required version 1 of prognet.test, found 2; it was written by another release of "
        "prognet: read it with that one, or choose another folder."
    )


def test_every_changed_bit_of_a_sealed_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_json(path, "test.a", 1, {"b": [1, 2.5, None], "c": "text"})
    content = path.read_bytes()
    for place in range(8 * len(content)):
        broken = bytearray(content)
        broken[place // 8] ^= 1 << place % 8
        path.write_bytes(broken)
        with pytest.raises(RunFolderError, match=r"a\.json: required"):
            read_json(path, "test.a", 1)
    path.write_bytes(content)
    assert read_json(path, "test.a", 1) == {"b": [1, 2.5, None], "c": "text"}
