"""Saving and loading: weights as safetensors, everything else as JSON with a schema version; no pickle anywhere."""

from collections.abc import Callable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prognet.engine.adapters import adapter_from
from prognet.engine.column import Column
from prognet.engine.digest import tensors_of
from prognet.engine.network import ProgressiveNetwork
from prognet.engine.sites import Geometry, Site
from prognet.errors import CheckpointError, ConfigError, RunFolderError, SiteError
from prognet.files import read_json, write_atomically, write_json

SCHEMA, VERSION = "prognet.network", 1
WEIGHTS_FILE, MANIFEST_FILE = "weights.safetensors", "manifest.json"


def save_network(network: ProgressiveNetwork, directory: Path) -> None:
    """Writes the weights, then the manifest that belongs to them.

    Raises:
        RunFolderError: when they cannot be written.
    """
    save_module(network, directory / WEIGHTS_FILE)
    digests = network.digests()
    manifest = {
        "adapter": network.adapter.describe(),
        "input_shape": list(network.input_shape or ()),
        "torch": torch.__version__,
        "columns": [_describe(network.column(k), digests[k]) for k in range(len(network))],
    }
    write_json(directory / MANIFEST_FILE, SCHEMA, VERSION, manifest)


def load_network(directory: Path, build: Callable[[int], nn.Module]) -> ProgressiveNetwork:
    """Builds the columns as the manifest says, fills in the weights and compares the digests.

    Raises:
        CheckpointError: when the files are damaged, or do not fit what `build` makes.
    """
    manifest = _read_manifest(directory)
    try:
        network = ProgressiveNetwork(adapter_from(manifest["adapter"]))
        network.input_shape = tuple(manifest["input_shape"]) or None
        with torch.random.fork_rng(devices=[]):
            for index, entry in enumerate(manifest["columns"]):
                network.columns.append(_rebuild(network, build(index), entry))
        digests = [entry["digest"] for entry in manifest["columns"]]
        frozen = [entry["frozen"] for entry in manifest["columns"]]
    except (KeyError, TypeError, AttributeError, ConfigError, SiteError) as error:
        raise CheckpointError(
            f"{directory / MANIFEST_FILE}: required the description of a network that `build` fits, found {error}."
        ) from error
    load_module(network, directory / WEIGHTS_FILE)
    for index, digest in enumerate(digests):
        if frozen[index]:
            network.column(index).freeze()
        if network.digest(index) != digest:
            raise CheckpointError(
                f"{directory}: required digest {digest} of column {index}, found {network.digest(index)}; the files "
                "were changed, or `build` makes another backbone than the one that was saved."
            )
    return network


def save_module(module: nn.Module, path: Path) -> None:
    """Writes all parameters and buffers of a module, also those that `state_dict` leaves out.

    Raises:
        RunFolderError: when the file cannot be written.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors_of(module)}
    write_atomically(path, tensors_to_bytes(tensors))


def load_module(module: nn.Module, path: Path) -> None:
    """Fills a module with what `save_module` wrote of one like it; nothing is changed unless everything fits.

    Raises:
        CheckpointError: when the file is missing or damaged, or a name, shape or type does not fit.
    """
    saved = _read_tensors(path)
    own = dict(tensors_of(module))
    _check_fit(path, own, saved)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])


def _read_tensors(path: Path) -> dict[str, Tensor]:
    try:
        return load_tensors(path.read_bytes())
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: required a safetensors file, found none.") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path}: required a whole safetensors file, found a damaged one ({error}).") from error


def _check_fit(path: Path, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    if own.keys() != saved.keys():
        missing, extra = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
        raise CheckpointError(
            f"{path}: required the tensors of the module, found missing {missing}, unexpected {extra}."
        )
    for name, tensor in own.items():
        if is_lazy(tensor):
            raise CheckpointError(
                f"{path}: required a shape for {name!r}, found a lazy layer; call the module once before."
            )
        required, found = (tensor.dtype, tuple(tensor.shape)), (saved[name].dtype, tuple(saved[name].shape))
        if required != found:
            raise CheckpointError(
                f"{path}: required {required[0]} {required[1]} for {name!r}, found {found[0]} {found[1]}."
            )


def _read_manifest(directory: Path) -> dict[str, Any]:
    try:
        return read_json(directory / MANIFEST_FILE, SCHEMA, VERSION)
    except RunFolderError as error:
        raise CheckpointError(str(error)) from error


def _describe(column: Column, digest: str) -> dict[str, Any]:
    return {
        "sites": [asdict(site) for site in column.sites],
        "sources": list(column.sources),
        "adapter": None if column.adapter is None else column.adapter.describe(),
        "frozen": column.frozen,
        "digest": digest,
    }


def _rebuild(network: ProgressiveNetwork, backbone: nn.Module, entry: Mapping[str, Any]) -> Column:
    adapter = None if entry["adapter"] is None else adapter_from(entry["adapter"])
    senders = [network.column(source).sites for source in entry["sources"]]
    return Column(backbone, [_site_from(site) for site in entry["sites"]], senders, adapter, entry["sources"])


def _site_from(entry: Mapping[str, Any]) -> Site:
    geometry = entry["geometry"]
    return Site(
        name=entry["name"],
        in_shape=tuple(entry["in_shape"]),
        out_shape=tuple(entry["out_shape"]),
        channels=entry["channels"],
        geometry=None if geometry is None else Geometry(**{key: _tuple(value) for key, value in geometry.items()}),
    )


def _tuple(value: Any) -> Any:
    return tuple(value) if isinstance(value, list) else value
