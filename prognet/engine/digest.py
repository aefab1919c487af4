"""A fingerprint of all that decides the output of a column.

It covers the parameters and buffers (persistent or not) bit by bit with their names, types and shapes, the structure of
the modules, the sites, the adapters and, through their own digests, the source columns. It does not cover the source
code of the modules, nor the versions and the device that run them. Devices do not matter: tensors are read on the CPU.
"""

from collections.abc import Iterator, Sequence
from hashlib import sha256

import torch
from torch import Tensor, nn

from prognet.engine.column import Column


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and every buffer, persistent or not, once, by name: all the numbers that a module holds."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor as bytes, in memory order of a contiguous copy on the CPU."""
    plain = tensor.detach().cpu().contiguous()
    return plain.view(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def structure_of(module: nn.Module) -> str:
    """The module tree with class names and settings, as text."""
    parts = module.named_modules()
    return "\n".join(f"{name}: {type(part).__name__}({part.extra_repr()}) {_settings(part)}" for name, part in parts)


def _settings(module: nn.Module) -> dict[str, object]:
    """The plain public attributes, such as the number of heads of an attention, which `extra_repr` may leave out."""
    own = {name: value for name, value in sorted(vars(module).items()) if name != "training"}
    return {name: value for name, value in own.items() if not name.startswith("_") and _is_plain(value)}


def _is_plain(value: object) -> bool:
    if isinstance(value, tuple | list):
        return all(map(_is_plain, value))
    return value is None or type(value) in (bool, int, float, str)


def module_digest(module: nn.Module) -> str:
    """SHA-256, in hexadecimal, of a module's structure and numbers."""
    digest = sha256()
    digest.update(_framed(structure_of(module)))
    for name, tensor in tensors_of(module):
        digest.update(_framed(f"{name} {tensor.dtype} {tuple(tensor.shape)}"))
        digest.update(_framed(tensor_bytes(tensor)))
    return digest.hexdigest()


def column_digest(column: Column, source_digests: Sequence[str]) -> str:
    """SHA-256, in hexadecimal, over all that decides a column's output.

    Args:
        column: the column.
        source_digests: the digests of its sources, in their order.
    """
    digest = sha256()
    parts = [
        repr(column.sites),
        repr(None if column.adapter is None else column.adapter.describe()),
        repr(column.sources),
        module_digest(column.backbone),
        module_digest(column.adapters),
    ]
    for part in [*parts, *source_digests]:
        digest.update(_framed(part))
    return digest.hexdigest()


def _framed(part: str | bytes) -> bytes:
    """With its length in front, so that two parts cannot be confused with one."""
    data = part.encode() if isinstance(part, str) else part
    return len(data).to_bytes(8, "little") + data
