"""The tensors of a module in a file: safetensors, never a pickle."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prognet.engine.column import Column
from prognet.engine.digest import tensors_of
from prognet.errors import CheckpointError
from prognet.files import write_atomically

MALFORMED = (ValueError, KeyError, TypeError, RuntimeError, OverflowError)
"""What torch raises for a file whose header is well-formed, and describes no tensors: a shape too large, a type."""


def stored_tensors(module: nn.Module) -> dict[str, Tensor]:
    """A copy on the CPU of all parameters and buffers, also those that `state_dict` leaves out; tied ones once."""
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors_of(module)}


def save_module(module: nn.Module, path: Path) -> str:
    """Writes all parameters and buffers of a module -> the SHA-256 of the file, by which it is known again.

    Raises:
        RunFolderError: when the file cannot be written.
    """
    content = tensors_to_bytes(stored_tensors(module))
    write_atomically(path, content)
    return sha256(content).hexdigest()


def load_module(module: nn.Module, path: Path, digest: str | None = None) -> None:
    """Fills a module with what `save_module` wrote of one like it; nothing is changed unless everything fits.

    Frozen columns in it take the numbers of the file as those that they keep.

    Args:
        module: what is filled.
        path: the file.
        digest: the SHA-256 that the file has to have.

    Raises:
        CheckpointError: when the file is missing or damaged, or a name, shape or type does not fit.
    """
    saved = read_tensors(path, digest)
    own = dict(tensors_of(module))
    _check_fit(path, own, saved)
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(saved[name])
    for part in module.modules():
        if isinstance(part, Column) and part.frozen:
            part.seal()


def read_tensors(path: Path, digest: str | None = None) -> dict[str, Tensor]:
    """The tensors of a file, by name.

    Args:
        path: the file.
        digest: the SHA-256 that it has to have; None for any.

    Raises:
        CheckpointError: when it is missing, damaged, or another file than the one with that SHA-256.
    """
    content = read_whole(path, digest)
    try:
        return load_tensors(content)
    except (SafetensorError, *MALFORMED) as error:
        raise CheckpointError(f"{path}: required a whole safetensors file, found a damaged one ({error}).") from error


def read_whole(path: Path, digest: str | None = None) -> bytes:
    """The bytes of a file of tensors.

    Args:
        path: the file.
        digest: the SHA-256 that it has to have; None for any.

    Raises:
        CheckpointError: when it is missing, or another file than the one with that SHA-256.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: required a safetensors file, found none.") from error
    except OSError as error:
        raise CheckpointError(f"{path}: required a whole safetensors file, found a damaged one ({error}).") from error
    found = sha256(content).hexdigest()
    if digest is not None and found != digest:
        raise CheckpointError(
            f"{path}: required a whole safetensors file, found a damaged one (its SHA-256 is {found}, and {digest} was "
            "recorded when it was written)."
        )
    return content


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
