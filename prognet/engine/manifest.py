"""What the manifest of a saved network says, field by field, and how it is read."""

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from prognet.documents import record_from, require
from prognet.engine.sites import Site
from prognet.errors import CheckpointError, JSONValueError, RunFolderError
from prognet.files import read_json, write_json

SCHEMA, VERSION = "prognet.network", 3
MANIFEST_FILE = "manifest.json"
OWN = re.compile(r"(weights|proof)-[0-9a-f]{16}\.safetensors")
"""The names that a save gives to its files of tensors; no other name is followed."""
_REMEDY = "save the network again, or put a copy of the directory back"


@dataclass(frozen=True, kw_only=True)
class ColumnEntry:
    """One column."""

    sites: tuple[Site, ...]
    sources: tuple[int, ...]
    reads: Mapping[str, tuple[int, ...]]
    """By site, the sources that it reads."""
    adapter: Mapping[str, Any] | None
    """As `Adapter.describe` describes it; None for a column that reads no other."""
    input_shape: tuple[int, ...]
    output_shape: tuple[int, ...]
    frozen: bool
    digest: str
    structure: str
    """All that decides the output and is no tensor."""
    tensors: Mapping[str, str]
    """The fingerprint of every tensor, by name."""


@dataclass(frozen=True, kw_only=True)
class NetworkManifest:
    """The whole manifest."""

    adapter: Mapping[str, Any]
    """That of the next column."""
    torch: str
    """The version with which it was written."""
    weights: str
    """The name of the file of weights."""
    proof: str | None
    """The name of the file of proof, where outputs were stored."""
    files: Mapping[str, str]
    """The SHA-256 of both files, by name."""
    columns: tuple[ColumnEntry, ...]


def write_network_manifest(directory: Path, manifest: NetworkManifest) -> None:
    """Writes the manifest of a saved network, sealed.

    Raises:
        RunFolderError: when it cannot be written.
    """
    write_json(directory / MANIFEST_FILE, SCHEMA, VERSION, asdict(manifest))


def read_manifest(directory: Path) -> NetworkManifest:
    """The manifest of a saved network.

    Raises:
        CheckpointError: when it is missing or damaged, or of another version.
    """
    path = directory / MANIFEST_FILE
    try:
        manifest = record_from(NetworkManifest, read_json(path, SCHEMA, VERSION, remedy=_REMEDY))
        _check(manifest)
    except RunFolderError as error:
        raise CheckpointError(str(error)) from error
    except JSONValueError as error:
        raise CheckpointError(f"{path}: {error}; {_REMEDY}.") from error
    return manifest


def holds_network(directory: Path) -> bool:
    """Whether a directory is that of a saved network, damaged or not."""
    if any(OWN.fullmatch(path.name) for path in directory.glob("weights-*")):
        return True
    try:
        return bool(json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return False


def _check(manifest: NetworkManifest) -> None:
    """What types do not say: names that can be followed, and sources that come earlier."""
    for kind in ("weights", "proof"):
        name = getattr(manifest, kind)
        if name is not None:
            require(OWN.fullmatch(name) is not None, kind, f"a name such as {kind}-0123456789abcdef.safetensors", name)
            require(name in manifest.files, "files", f"the SHA-256 of {name}", sorted(manifest.files))
    for index, entry in enumerate(manifest.columns):
        where = f"columns[{index}]"
        earlier = all(0 <= source < index for source in entry.sources)
        require(earlier, f"{where}.sources", f"indices from 0 to {index - 1}", entry.sources)
        sizes = (*entry.input_shape, *entry.output_shape)
        require(all(size > 0 for size in sizes), f"{where}.input_shape", "sizes above 0", sizes)
        require(bool(entry.output_shape), f"{where}.output_shape", "at least one size", entry.output_shape)
