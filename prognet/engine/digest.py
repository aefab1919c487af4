"""A fingerprint of all that decides the output of a module.

It covers the parameters and buffers (persistent or not) bit by bit with their names, types and shapes, which of them
are tied, and the structure of the modules with their public settings; for a column also the sites, the adapters and,
through their own digests, the source columns. It does not cover the source code of the modules, hooks that others
registered, private attributes, nor the versions and the device that run them. Devices do not matter: tensors are read
on the CPU.
"""

from collections.abc import Iterator, Mapping, Sequence
from enum import Enum
from functools import partial
from hashlib import sha256
from types import BuiltinFunctionType, FunctionType, MethodType

import torch
from numpy import ndarray
from torch import Tensor, nn


def tensors_of(module: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Every parameter and every buffer, persistent or not, once, by name: all the numbers that a module holds."""
    yield from module.named_parameters()
    yield from module.named_buffers()


def tensor_bytes(tensor: Tensor) -> bytes:
    """The numbers of a tensor as bytes, in memory order of a contiguous copy on the CPU."""
    plain = tensor.detach().cpu().resolve_conj().resolve_neg().contiguous()
    return plain.view(-1).view(torch.uint8).numpy().tobytes() if plain.numel() else b""


def fingerprint(tensor: Tensor) -> str:
    """SHA-256, in hexadecimal, of a tensor's type, shape and numbers; a tensor on the meta device has no numbers."""
    digest = sha256(_framed(f"{tensor.dtype} {tuple(tensor.shape)}"))
    digest.update(b"" if tensor.is_meta else _framed(tensor_bytes(tensor)))
    return digest.hexdigest()


def fingerprints(module: nn.Module) -> dict[str, str]:
    """The fingerprint of every tensor of a module, by name, in the order of `tensors_of`."""
    return {name: fingerprint(tensor) for name, tensor in tensors_of(module)}


def first_difference(required: Mapping[str, str], found: Mapping[str, str]) -> str | None:
    """The name of the first tensor whose fingerprint is another one, or that only one of the two has."""
    names = [*required, *(name for name in found if name not in required)]
    return next((name for name in names if required.get(name) != found.get(name)), None)


def structure_of(module: nn.Module) -> str:
    """The module tree with class names and settings, and which tensors are tied, as text; one line each."""
    parts = module.named_modules()
    lines = [f"{name}: {type(part).__name__}({part.extra_repr()}) {_settings(part)}" for name, part in parts]
    return "\n".join([*lines, *_tied(module)])


def digest_from(structure: str, tensors: Mapping[str, str], source_digests: Sequence[str] = ()) -> str:
    """SHA-256, in hexadecimal, of a structure and the fingerprints of its tensors.

    Args:
        structure: all that is no tensor, as text.
        tensors: the fingerprint of every tensor, by name.
        source_digests: the digests of what is read besides.
    """
    digest = sha256(_framed(structure))
    digest.update(_framed(str(len(tensors))))
    for part in [item for pair in tensors.items() for item in pair] + list(source_digests):
        digest.update(_framed(part))
    return digest.hexdigest()


def module_digest(module: nn.Module) -> str:
    """SHA-256, in hexadecimal, of a module's structure and numbers."""
    return digest_from(structure_of(module), fingerprints(module))


def _settings(module: nn.Module) -> str:
    """The public attributes, such as the number of heads of an attention, which `extra_repr` may leave out."""
    own = {name: value for name, value in sorted(vars(module).items()) if name != "training" and name[0] != "_"}
    return ", ".join(f"{name}={_described(value)}" for name, value in own.items() if not _made_anew(module, name))


def _described(value: object) -> str:
    """A value as text that is the same in every process and on every device; of an unknown object its class only."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | torch.dtype | Enum):
        return repr(value)
    if isinstance(value, Tensor):
        return f"tensor {fingerprint(value)}"
    if isinstance(value, Mapping):
        return f"{{{', '.join(f'{_described(key)}: {_described(item)}' for key, item in value.items())}}}"
    if isinstance(value, tuple | list):
        return f"({', '.join(map(_described, value))})"
    if isinstance(value, set | frozenset):
        return f"{{{', '.join(sorted(map(_described, value)))}}}"
    if isinstance(value, partial):
        return f"partial({', '.join(map(_described, (value.func, value.args, value.keywords)))})"
    if isinstance(value, FunctionType | BuiltinFunctionType | MethodType | type):
        return value.__qualname__
    if isinstance(value, ndarray):
        return f"array {value.dtype} {_described(value.tolist())}"
    return f"<{type(value).__name__}>"


def _made_anew(module: nn.Module, name: str) -> bool:
    """Whether an attribute is computed from parameters at every call, as by torch's weight norm and pruning."""
    return any(module._parameters.get(f"{name}{ending}") is not None for ending in ("_g", "_orig"))


def _tied(module: nn.Module) -> list[str]:
    first: dict[int, str] = {}
    lines = []
    named = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name, tensor in named:
        other = first.setdefault(id(tensor), name)
        if other != name:
            lines.append(f"{name} = {other}")
    return lines


def _framed(part: str | bytes) -> bytes:
    """With its length in front, so that two parts cannot be confused with one."""
    data = part.encode() if isinstance(part, str) else part
    return len(data).to_bytes(8, "little") + data
