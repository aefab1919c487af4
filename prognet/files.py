"""Files that are either whole or absent: atomic writes and strict JSON with a schema and a version."""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from math import isfinite, isnan
from pathlib import Path
from secrets import token_hex
from typing import Any

import numpy as np

from prognet.errors import JSONValueError, RunFolderError, UnwritableError


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


def write_json(path: Path, schema: str, version: int, content: Mapping[str, Any]) -> None:
    """Writes one JSON document, atomically, under its schema name and version.

    Numbers must be finite: a value that is not a number is written as null by whoever made it.

    Raises:
        JSONValueError: when the content is not made of JSON's own types and finite numbers; nothing is written.
        UnwritableError: when the file cannot be written.
    """
    document = {"schema": schema, "version": version, **content}
    try:
        text = json.dumps(document, indent=1, allow_nan=False, sort_keys=False)
    except (TypeError, ValueError) as error:
        raise JSONValueError(
            f"content: required JSON values with finite numbers for {path}, found other ({error})."
        ) from error
    write_atomically(path, text.encode() + b"\n")


def read_json(path: Path, schema: str, version: int) -> dict[str, Any]:
    """Reads a document that `write_json` wrote, without the two keys `schema` and `version`.

    Raises:
        RunFolderError: when the file is missing, is not such a document, or has another schema or version.
    """
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise RunFolderError(f"{path}: required a {schema} file, found none; is this the right folder?") from error
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise RunFolderError(f"{path}: required a {schema} file, found unreadable content ({error}).") from error
    if not isinstance(document, dict) or document.get("schema") != schema:
        found = document.get("schema") if isinstance(document, dict) else type(document).__name__
        raise RunFolderError(f"{path}: required schema {schema!r}, found {found!r}.")
    if document.get("version") != version:
        raise RunFolderError(
            f"{path}: required version {version} of {schema}, found {document.get('version')!r}; it was written by "
            "another release of prognet: read it with that one, or choose another folder."
        )
    return {key: value for key, value in document.items() if key not in ("schema", "version")}


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
