"""Files that are either whole or absent: atomic writes and strict JSON with a schema, a version and a seal.

A sealed document ends with a line that holds the SHA-256 of every byte before that line. So any change that nobody
meant, down to a single bit, is refused. It is no signature: whoever changes a file on purpose can write a new seal.
"""

import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from math import isfinite, isnan
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from prognet.errors import JSONValueError, RunFolderError, UnwritableError

REMEDY = "put a copy back, or remove the file and make it again"
LARGEST = 2**30
_SEAL = re.compile(rb' "sha256": "([0-9a-f]{64})"\n}\n\Z')
_RESERVED = {"schema", "version", "sha256"}
_DEEPEST = 64
_QUOTED = 120


def write_atomically(path: Path, content: bytes) -> None:
    """Writes `content` to `path` so that a reader, or a kill at any moment, sees the old file or the new one.

    Raises:
        UnwritableError: when the disk is full or the folder cannot be written; nothing is left behind.
    """
    temporary = path.with_name(f".{path.name}.{token_hex(4)}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:  # the usual permissions, unlike those of tempfile: others may read a run
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise UnwritableError(
            f"{path}: could not be written ({error.strerror or error}); free space or choose another folder, then run "
            "the same command again: finished work is kept."
        ) from error
    finally:
        with suppress(OSError):  # absent after success; left by an error or by Ctrl-C
            temporary.unlink()


def remove_leftovers(folder: Path, name: str = "*") -> None:
    """Removes what kills have left of files that were being written; nobody else may be writing them.

    Args:
        folder: where they are.
        name: the name or pattern of the files.

    Raises:
        UnwritableError: when they cannot be removed.
    """
    for path in folder.glob(f".{name}.{'[0-9a-f]' * 8}"):
        remove_file(path)


def remove_file(path: Path) -> None:
    """Removes a file, if it is there.

    Raises:
        UnwritableError: when it cannot be removed.
    """
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise UnwritableError(
            f"{path}: could not be removed ({error.strerror or error}); make the folder writable, then run the same "
            "command again: finished work is kept."
        ) from error


def write_json(path: Path, schema: str, version: int, content: Mapping[str, Any], *, sealed: bool = True) -> None:
    """Writes one JSON document, atomically, under its schema name and version.

    Numbers must be finite: a value that is not a number is written as null by whoever made it.

    Args:
        path: the file.
        schema: what the document is, e.g. `"prognet.result"`.
        version: of the schema.
        content: the fields.
        sealed: ends it with a line that holds the SHA-256 of all bytes before that line. A file that people may edit
            has no seal.

    Raises:
        JSONValueError: when the content is not made of JSON's own types and finite numbers, or has a key that every
            document has; nothing is written.
        UnwritableError: when the file cannot be written.
    """
    if taken := _RESERVED & content.keys():
        raise JSONValueError(f"content: required other keys than those of every document, found {sorted(taken)}.")
    document = {"schema": schema, "version": version, **content}
    try:
        text = json.dumps(document, indent=1, allow_nan=False, sort_keys=False)
    except (TypeError, ValueError) as error:
        raise JSONValueError(
            f"content: required JSON values with finite numbers for {path}, found other ({error})."
        ) from error
    write_atomically(path, _sealed(text) if sealed else text.encode() + b"\n")


def read_json(
    path: Path, schema: str, version: int, *, sealed: bool = True, remedy: str = REMEDY, largest: int = LARGEST
) -> dict[str, Any]:
    """Reads a document that `write_json` wrote, without the keys `schema`, `version` and `sha256`.

    What is read holds no key twice, no infinite number, no text that UTF-8 lacks, and is not deeper than 64 levels.

    Args:
        path: the file.
        schema: what the document has to be.
        version: of the schema.
        sealed: requires the line with the SHA-256, and that it is that of the bytes before it.
        remedy: what the message advises where the file is damaged.
        largest: bytes that are read at most.

    Raises:
        RunFolderError: when the file is missing, is not such a document, has another schema or version, or has changed
            since it was written.
    """
    try:
        content = _limited(path, largest)
        document = _parsed(content)
    except FileNotFoundError as error:
        raise RunFolderError(f"{path}: required a {schema} file, found none; is this the right folder?") from error
    except (OSError, ValueError, JSONValueError, RecursionError) as error:
        raise RunFolderError(
            f"{path}: required a {schema} file, found unreadable content ({error}); {remedy}."
        ) from error
    if not isinstance(document, dict) or document.get("schema") != schema:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise RunFolderError(f"{path}: required schema {schema!r}, found {shown(found)}.")
    if document.get("version") != version or type(document["version"]) is not int:
        raise RunFolderError(
            f"{path}: required version {version} of {schema}, found {shown(document.get('version'))}; it was written "
            "by another release of prognet: read it with that one, or choose another folder."
        )
    if sealed:
        _check_seal(path, content, remedy)
    return {key: value for key, value in document.items() if key not in _RESERVED}


def shown(value: object) -> str:
    """A value as a message quotes it: in one line that is not too long."""
    text = repr(value)
    return text if len(text) <= _QUOTED else f"{text[:_QUOTED]}..."


def _sealed(text: str) -> bytes:
    """A JSON object that `json.dumps` indented, with its SHA-256 as its last field."""
    body = f"{text[:-2]},\n".encode()  # without the newline and the bracket at its end
    return body + f' "sha256": "{sha256(body).hexdigest()}"\n}}\n'.encode()


def _check_seal(path: Path, content: bytes, remedy: str) -> None:
    seal = _SEAL.search(content)
    if seal is None:
        raise RunFolderError(
            f"{path}: required a last line with the SHA-256 of what stands before it, found none; the file was edited "
            f"or is damaged: {remedy}."
        )
    required, found = seal[1].decode(), sha256(content[: seal.start()]).hexdigest()
    if required != found:
        raise RunFolderError(
            f"{path}: required the content with SHA-256 {required}, as its last line says, found {found}; the file was "
            f"edited or is damaged: {remedy}."
        )


def _limited(path: Path, largest: int) -> bytes:
    with path.open("rb") as file:
        content = file.read(largest + 1)
    if len(content) > largest:
        raise JSONValueError(f"more than {largest} bytes")
    return content


def _parsed(content: bytes) -> Any:
    """Strict JSON: what two readers could understand differently is refused."""
    document = json.loads(
        content.decode("utf-8"), object_pairs_hook=_without_repetition, parse_constant=_finite, parse_float=_finite
    )
    _check_plain(document, 0)
    return document


def _without_repetition(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JSONValueError("a key that occurs twice in one object")
    return found


def _finite(text: str) -> float:
    number = float(text)
    if not isfinite(number):
        raise JSONValueError(f"a number that is not finite: {text[:20]}")
    return number


def _check_plain(value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise JSONValueError(f"more than {_DEEPEST} levels")
    if isinstance(value, dict):
        for key, item in value.items():
            _check_plain(key, depth)
            _check_plain(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            _check_plain(item, depth + 1)
    elif isinstance(value, str) and not value.isascii():
        value.encode()  # half of a surrogate pair has no form in UTF-8, so that nothing could show it


def to_json(value: Any) -> Any:
    """`value` in JSON's own types: mappings, lists, text, finite numbers, null.

    NaN becomes null, an infinity "inf" or "-inf".

    Raises:
        JSONValueError: for a value that has no such form.
    """
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, np.ndarray):
        return to_json(value.tolist())
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float | np.floating):
        return float(value) if isfinite(value) else None if isnan(value) else str(float(value))
    if isinstance(value, np.integer | np.bool_):
        return value.item()
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise JSONValueError(
        f"value: required numbers, text, lists and mappings, which JSON can hold, found {type(value).__name__}."
    )
