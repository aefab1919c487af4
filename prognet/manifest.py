"""The manifest of a comparison: what a run folder holds and how it was made."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prognet.documents import record_from
from prognet.errors import JSONValueError, RunFolderError
from prognet.files import read_json, write_json

MANIFEST_FILE = "manifest.json"
SCHEMA, VERSION = "prognet.folder", 3

_SAME = ("stream", "backbone", "training", "measurement", "execution")
"""What all runs of a folder have in common, so that they can be compared."""
_REMEDY = "remove the file and run the same command again, which writes it anew"


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """What `manifest.json` says, in JSON values."""

    command: Sequence[str] = ()
    """The command line that made the folder; empty for a library call."""
    stream: Mapping[str, Any]
    data: Mapping[str, str] = field(default_factory=dict)
    """The digest of the first stream of every command, by order; where it is drawn, by order and seed."""
    backbone: Mapping[str, Any]
    training: Mapping[str, Any]
    measurement: Mapping[str, Any]
    execution: Mapping[str, Any]
    tuned: Mapping[str, Any] = field(default_factory=dict)
    """By strategy, the training that replaces the common one."""
    strategies: Sequence[str]
    seeds: Sequence[int]
    orders: Sequence[int]
    unavailable: Mapping[str, str] = field(default_factory=dict)
    """Controls that this backbone does not allow, with the reason."""
    failed: Mapping[str, str] = field(default_factory=dict)
    """Runs that ended with an error, with the reason."""
    environment: Mapping[str, Any]
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))


def merge_manifest(folder: Path, new: Manifest) -> Manifest:
    """The manifest of a folder that may hold an earlier part of the same comparison; nothing is written.

    Raises:
        RunFolderError: when the folder holds another comparison; the message names the first difference.
    """
    path = folder / MANIFEST_FILE
    if not path.exists():
        return new
    old = read_manifest(folder)
    for name in _SAME:
        _require_same(path, name, getattr(new, name), getattr(old, name))
    _require_same(path, "data", new.data, {order: old.data.get(order, new.data[order]) for order in new.data})
    for name in {*old.strategies} & {*new.strategies}:
        _require_same(path, f"tuned.{name}", new.tuned.get(name, {}), old.tuned.get(name, {}))
    return replace(
        new,
        strategies=list(dict.fromkeys([*old.strategies, *new.strategies])),
        seeds=_joined(old.seeds, new.seeds),
        orders=_joined(old.orders, new.orders),
        data={**old.data, **new.data},
        tuned={**old.tuned, **new.tuned},
        unavailable={**old.unavailable, **new.unavailable},
        failed=old.failed,
        created=old.created,
    )


def _joined(old: Sequence[int], new: Sequence[int]) -> Sequence[int]:
    """All of them, in order of size where there are new ones."""
    return old if {*new} <= {*old} else sorted({*old, *new})


def _require_same(path: Path, name: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> None:
    for key in dict.fromkeys([*new, *old]):
        if new.get(key) != old.get(key):
            raise RunFolderError(
                f"{path}: required a comparison with {name}.{key} = {new.get(key)!r}, found {old.get(key)!r}; choose "
                "another folder."
            )


def read_manifest(folder: Path) -> Manifest:
    """Reads the manifest of a folder.

    Raises:
        RunFolderError: when it is missing, damaged or of another version.
    """
    path = folder / MANIFEST_FILE
    try:
        return record_from(Manifest, read_json(path, SCHEMA, VERSION, remedy=_REMEDY))
    except JSONValueError as error:
        raise RunFolderError(f"{path}: {error}; {_REMEDY}.") from error


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Writes the manifest of a folder.

    Raises:
        RunFolderError: when it cannot be written.
    """
    write_json(folder / MANIFEST_FILE, SCHEMA, VERSION, asdict(manifest))
