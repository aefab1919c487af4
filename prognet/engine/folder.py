"""The directory of a saved network: weights, a manifest, and the proof that no column has changed.

The manifest names the file of weights by its content, and is written after it; the files of an earlier save are
removed last. So a kill at any moment leaves a whole network, the old one or the new one. The manifest also holds the
structure of every column as text and the fingerprint of every tensor: digests can be computed anew without any code of
the backbones.
"""

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from prognet.engine.adapters import Adapter, adapter_from
from prognet.engine.checkpoint import load_module, read_tensors, stored_tensors
from prognet.engine.column import Column
from prognet.engine.digest import digest_from, fingerprint, fingerprints, first_difference
from prognet.engine.evidence import Evidence, evidence_to_bytes, outputs_of, setting_of
from prognet.engine.sites import Geometry, Site
from prognet.errors import CheckpointError, ConfigError, RunFolderError, SiteError
from prognet.files import read_json, write_atomically, write_json

SCHEMA, VERSION = "prognet.network", 2
MANIFEST_FILE = "manifest.json"
_OWN = re.compile(r"(weights|proof)-[0-9a-f]{16}\.safetensors")


def save_columns(
    directory: Path,
    columns: nn.ModuleList,
    adapter: Adapter,
    input_shape: tuple[int, ...] | None,
    probe: Tensor | None,
) -> None:
    """Writes the weights, then the manifest that belongs to them, then removes the weights of an earlier save.

    Raises:
        RunFolderError: when they cannot be written.
    """
    own = _columns_of(columns)
    weights = tensors_to_bytes(stored_tensors(_holder(columns)))
    proof = None if probe is None else evidence_to_bytes(_evidence(own, probe))
    files = {name: content for name, content in (("weights", weights), ("proof", proof)) if content is not None}
    names = {name: f"{name}-{sha256(content).hexdigest()[:16]}.safetensors" for name, content in files.items()}
    for name, content in files.items():
        write_atomically(directory / names[name], content)
    manifest = {
        "adapter": adapter.describe(),
        "input_shape": list(input_shape or ()),
        "torch": torch.__version__,
        "weights": names["weights"],
        "proof": names.get("proof"),
        "columns": _descriptions(own),
    }
    write_json(directory / MANIFEST_FILE, SCHEMA, VERSION, manifest)
    for path in directory.iterdir():
        if _OWN.fullmatch(path.name) and path.name not in names.values():
            path.unlink(missing_ok=True)


def load_columns(
    directory: Path, build: Callable[[int], nn.Module]
) -> tuple[Adapter, tuple[int, ...] | None, nn.ModuleList]:
    """Builds the columns as the manifest says, fills in the weights and compares the digests.

    Args:
        directory: where they were saved.
        build: makes the backbone of a column by its index.

    Returns:
        The adapter and the input shape of the network, and its columns.

    Raises:
        CheckpointError: when the files are damaged, or do not fit what `build` makes.
    """
    manifest = read_manifest(directory)
    columns = nn.ModuleList()
    try:
        adapter, input_shape = adapter_from(manifest["adapter"]), tuple(manifest["input_shape"]) or None
        with torch.random.fork_rng(devices=[]):
            for index, entry in enumerate(manifest["columns"]):
                columns.append(_rebuild(_columns_of(columns), build(index), entry))
        recorded = [(entry["digest"], entry["structure"], entry["tensors"]) for entry in manifest["columns"]]
        frozen = [entry["frozen"] for entry in manifest["columns"]]
    except (KeyError, TypeError, AttributeError, ConfigError, SiteError) as error:
        raise _misfit(directory, str(error)) from error
    load_module(_holder(columns), weights_of(directory, manifest))
    digests: list[str] = []
    for index, (column, record) in enumerate(zip(_columns_of(columns), recorded, strict=True)):
        structure, tensors = column.structure(), fingerprints(column)
        digests.append(digest_from(structure, tensors, [digests[source] for source in column.sources]))
        if (digests[index], structure, tensors) != record:
            _refuse(directory, index, record, digests[index], structure, tensors)
        if frozen[index]:
            column.freeze()
    return adapter, input_shape, columns


def check_files(directory: Path) -> int:
    """Computes the digest of every column anew from the files alone, and compares it -> the number of columns.

    Raises:
        CheckpointError: when a file is damaged, or a digest is another one; the message names the first tensor.
    """
    manifest = read_manifest(directory)
    found = {name: fingerprint(tensor) for name, tensor in read_tensors(weights_of(directory, manifest)).items()}
    digests: list[str] = []
    try:
        for index, entry in enumerate(manifest["columns"]):
            prefix = f"columns.{index}."
            own = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
            own = {name: own.pop(name) for name in entry["tensors"] if name in own} | own
            digests.append(digest_from(entry["structure"], own, [digests[source] for source in entry["sources"]]))
            record = entry["digest"], entry["structure"], entry["tensors"]
            if (digests[index], entry["structure"], own) != record:
                _refuse(directory, index, record, digests[index], entry["structure"], own)
    except (KeyError, TypeError, AttributeError, IndexError) as error:
        raise _misfit(directory, repr(error)) from error
    return len(digests)


def holds_network(directory: Path) -> bool:
    """Whether a directory is that of a saved network, damaged or not."""
    if any(_OWN.fullmatch(path.name) for path in directory.glob("weights-*")):
        return True
    try:
        return bool(json.loads((directory / MANIFEST_FILE).read_text(encoding="utf-8"))["schema"] == SCHEMA)
    except (OSError, ValueError, KeyError, TypeError):
        return False


def read_manifest(directory: Path) -> dict[str, Any]:
    """The manifest of a saved network.

    Raises:
        CheckpointError: when it is missing or damaged, or of another version.
    """
    try:
        return read_json(directory / MANIFEST_FILE, SCHEMA, VERSION)
    except RunFolderError as error:
        raise CheckpointError(str(error)) from error


def weights_of(directory: Path, manifest: Mapping[str, Any], kind: str = "weights") -> Path:
    """The file that a manifest names; only the names that `save_columns` gives are followed.

    Raises:
        CheckpointError: when it names another one.
    """
    name = manifest.get(kind)
    if not isinstance(name, str) or not _OWN.fullmatch(name):
        raise _misfit(directory, f"{kind} = {name!r}")
    return directory / name


def _refuse(
    directory: Path,
    index: int,
    record: tuple[str, str, Mapping[str, str]],
    digest: str,
    structure: str,
    tensors: Mapping[str, str],
) -> None:
    """Says what it is that differs: a line of the structure, a tensor, or the record itself."""
    lines = zip_longest(record[1].splitlines(), structure.splitlines())
    line = next((f"structure {required!r}, found {found!r}" for required, found in lines if required != found), None)
    name = first_difference(record[2], tensors)
    tensor = None if name is None else f"tensor {name!r}"
    raise CheckpointError(
        f"{directory}: required digest {record[0]} of column {index}, found {digest}; first difference: "
        f"{line or tensor or 'the recorded digest itself'}; the files were changed, or `build` makes another backbone "
        "than the one that was saved."
    )


def _misfit(directory: Path, found: str) -> CheckpointError:
    return CheckpointError(
        f"{directory / MANIFEST_FILE}: required the description of a network that `build` fits, found {found}."
    )


def _evidence(columns: Sequence[Column], probe: Tensor) -> Evidence:
    outputs = {f"column {k}": y for k, y in enumerate(outputs_of(columns, probe))}
    device = next((p.device for column in columns for p in column.parameters()), torch.device("cpu"))
    setting = setting_of(device)
    return Evidence(inputs={"probe": probe}, outputs=outputs, settings=dict.fromkeys(outputs, setting))


def _holder(columns: nn.ModuleList) -> nn.Module:
    """The columns under the names that they have in a network."""
    return nn.ModuleDict({"columns": columns})


def _columns_of(columns: nn.ModuleList) -> list[Column]:
    return [column for column in columns if isinstance(column, Column)]


def _descriptions(columns: Sequence[Column]) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for column in columns:
        structure, tensors = column.structure(), fingerprints(column)
        entry = {
            "sites": [asdict(site) for site in column.sites],
            "sources": list(column.sources),
            "reads": {site: list(read) for site, read in column.reads.items()},
            "adapter": None if column.adapter is None else column.adapter.describe(),
            "output_shape": list(column.output_shape),
            "frozen": column.frozen,
            "digest": digest_from(structure, tensors, [entries[source]["digest"] for source in column.sources]),
            "structure": structure,
            "tensors": tensors,
        }
        entries.append(entry)
    return entries


def _rebuild(columns: Sequence[Column], backbone: nn.Module, entry: Mapping[str, Any]) -> Column:
    adapter = None if entry["adapter"] is None else adapter_from(entry["adapter"])
    if not all(0 <= source < len(columns) for source in entry["sources"]):
        raise ConfigError(f"sources: required indices from 0 to {len(columns) - 1}, found {entry['sources']}")
    senders = [columns[source].sites for source in entry["sources"]]
    sites = [_site_from(site) for site in entry["sites"]]
    column = Column(backbone, sites, senders, adapter, entry["sources"], entry["reads"])
    column.output_shape = tuple(entry["output_shape"])
    return column


def _site_from(entry: Mapping[str, Any]) -> Site:
    geometry = entry["geometry"]
    return Site(
        name=entry["name"],
        in_shape=tuple(entry["in_shape"]),
        out_shape=tuple(entry["out_shape"]),
        channels=entry["channels"],
        geometry=None if geometry is None else Geometry(**{key: _tuple(value) for key, value in geometry.items()}),
        output=entry["output"],
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
