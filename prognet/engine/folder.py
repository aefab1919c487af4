"""The directory of a saved network: weights, a manifest, and the proof that no column has changed.

The manifest names the file of weights by its content, and is written after it; the files of an earlier save are
removed last. So a kill at any moment leaves a whole network, the old one or the new one. The manifest also holds the
structure of every column as text and the fingerprint of every tensor: digests can be computed anew without any code of
the backbones.
"""

from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from itertools import zip_longest
from pathlib import Path

import torch
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn

from prognet.engine.adapters import Adapter, adapter_from
from prognet.engine.checkpoint import MALFORMED, load_module, read_tensors, stored_tensors
from prognet.engine.column import Column
from prognet.engine.digest import digest_from, fingerprint, fingerprints, first_difference
from prognet.engine.evidence import Evidence, evidence_to_bytes, outputs_of, setting_of
from prognet.engine.manifest import (
    MANIFEST_FILE,
    OWN,
    ColumnEntry,
    NetworkManifest,
    read_manifest,
    write_network_manifest,
)
from prognet.errors import CheckpointError, ConfigError, SiteError
from prognet.files import write_atomically


def save_columns(
    directory: Path,
    columns: nn.ModuleList,
    adapter: Adapter,
    probe: Tensor | Sequence[Tensor] | None,
) -> None:
    """Writes the weights, then the manifest that belongs to them, then removes the weights of an earlier save.

    Raises:
        RunFolderError: when they cannot be written.
    """
    own = _columns_of(columns)
    weights = tensors_to_bytes(stored_tensors(_holder(columns)))
    proof = None if probe is None else evidence_to_bytes(_evidence(own, probe))
    files = {name: content for name, content in (("weights", weights), ("proof", proof)) if content is not None}
    digests = {name: sha256(content).hexdigest() for name, content in files.items()}
    names = {name: f"{name}-{digest[:16]}.safetensors" for name, digest in digests.items()}
    for name, content in files.items():
        write_atomically(directory / names[name], content)
    manifest = NetworkManifest(
        adapter=adapter.describe(),
        torch=torch.__version__,
        weights=names["weights"],
        proof=names.get("proof"),
        files={names[name]: digest for name, digest in digests.items()},
        columns=tuple(_descriptions(own)),
    )
    write_network_manifest(directory, manifest)
    for path in directory.iterdir():
        if OWN.fullmatch(path.name) and path.name not in names.values():
            path.unlink(missing_ok=True)


def load_columns(directory: Path, build: Callable[[int], nn.Module]) -> tuple[Adapter, nn.ModuleList]:
    """Builds the columns as the manifest says, fills in the weights and compares the digests.

    Args:
        directory: where they were saved.
        build: makes the backbone of a column by its index.

    Returns:
        The adapter of the network, and its columns.

    Raises:
        CheckpointError: when the files are damaged, or do not fit what `build` makes.
    """
    manifest = read_manifest(directory)
    columns = nn.ModuleList()
    try:
        adapter = adapter_from(dict(manifest.adapter))
        with torch.random.fork_rng(devices=[]):
            for index, entry in enumerate(manifest.columns):
                columns.append(_rebuild(_columns_of(columns), build(index), entry))
    except (SiteError, AttributeError, MemoryError, *MALFORMED) as error:
        raise _misfit(directory, str(error)) from error
    load_module(_holder(columns), directory / manifest.weights, manifest.files[manifest.weights])
    digests: list[str] = []
    for index, (column, entry) in enumerate(zip(_columns_of(columns), manifest.columns, strict=True)):
        structure, tensors, record = column.structure(), fingerprints(column), _record_of(entry)
        digests.append(digest_from(structure, tensors, [digests[source] for source in column.sources]))
        if (digests[index], structure, tensors) != record:
            _refuse(directory, index, record, digests[index], structure, tensors)
        if entry.frozen:
            column.freeze()
    return adapter, columns


def check_files(directory: Path) -> int:
    """Computes the digest of every column anew from the files alone, and compares it -> the number of columns.

    Raises:
        CheckpointError: when a file is damaged, or a digest is another one; the message names the first tensor.
    """
    manifest = read_manifest(directory)
    tensors = read_tensors(directory / manifest.weights, manifest.files[manifest.weights])
    found = {name: fingerprint(tensor) for name, tensor in tensors.items()}
    digests: list[str] = []
    for index, entry in enumerate(manifest.columns):
        prefix = f"columns.{index}."
        own = {name.removeprefix(prefix): value for name, value in found.items() if name.startswith(prefix)}
        own = {name: own.pop(name) for name in entry.tensors if name in own} | own
        digests.append(digest_from(entry.structure, own, [digests[source] for source in entry.sources]))
        record = _record_of(entry)
        if (digests[index], entry.structure, own) != record:
            _refuse(directory, index, record, digests[index], entry.structure, own)
    return len(digests)


def _record_of(entry: ColumnEntry) -> tuple[str, str, Mapping[str, str]]:
    return entry.digest, entry.structure, entry.tensors


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


def _evidence(columns: Sequence[Column], probe: Tensor | Sequence[Tensor]) -> Evidence:
    inputs = dict(enumerate([probe] if isinstance(probe, Tensor) else probe))
    outputs: dict[str, Tensor] = {}
    for x in inputs.values():
        said = {f"column {k}": y for k, y in outputs_of(columns, x).items()}
        if columns and (not said or said.keys() & outputs.keys()):
            raise ConfigError(
                f"probe: required one batch for each input shape {sorted({c.input_shape for c in columns})} of the "
                f"columns, found {[tuple(each.shape[1:]) for each in inputs.values()]}."
            )
        outputs |= said
    device = next((p.device for column in columns for p in column.parameters()), torch.device("cpu"))
    setting = setting_of(device)
    named = {f"probe {place}": x for place, x in inputs.items()}
    return Evidence(inputs=named, outputs=outputs, settings=dict.fromkeys(outputs, setting))


def _holder(columns: nn.ModuleList) -> nn.Module:
    """The columns under the names that they have in a network."""
    return nn.ModuleDict({"columns": columns})


def _columns_of(columns: nn.ModuleList) -> list[Column]:
    return [column for column in columns if isinstance(column, Column)]


def _descriptions(columns: Sequence[Column]) -> list[ColumnEntry]:
    entries: list[ColumnEntry] = []
    for column in columns:
        structure, tensors = column.structure(), fingerprints(column)
        entry = ColumnEntry(
            sites=tuple(column.sites),
            sources=column.sources,
            reads=column.reads,
            adapter=None if column.adapter is None else column.adapter.describe(),
            input_shape=column.input_shape,
            output_shape=column.output_shape,
            frozen=column.frozen,
            digest=digest_from(structure, tensors, [entries[source].digest for source in column.sources]),
            structure=structure,
            tensors=tensors,
        )
        entries.append(entry)
    return entries


def _rebuild(columns: Sequence[Column], backbone: nn.Module, entry: ColumnEntry) -> Column:
    adapter = None if entry.adapter is None else adapter_from(dict(entry.adapter))
    senders = [columns[source].sites for source in entry.sources]
    column = Column(backbone, entry.sites, senders, adapter, entry.sources, entry.reads)
    column.input_shape, column.output_shape = entry.input_shape, entry.output_shape
    return column
