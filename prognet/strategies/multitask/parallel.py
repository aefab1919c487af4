"""Several networks of one kind as one: their samples stand one after the other in a single batch.

In the first network every module that has numbers of its own is replaced by the modules of all networks at that place;
each sees its own part of the batch. All that has none, such as an activation, treats samples one by one anyway. So one
pass runs all networks in step, and at any site what all of them are given lies in one tensor.
"""

from collections.abc import Sequence
from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn

from prognet.errors import SiteError


class Parallel(nn.Module):
    """The modules of n networks at one place: (n B, ...) -> (n B, ...), the i-th part of the batch through the i-th."""

    def __init__(self, parts: Sequence[nn.Module]) -> None:
        super().__init__()
        self.parts = nn.ModuleList(parts)

    def forward(self, x: Tensor, *args: Any, **named: Any) -> Tensor:
        """Further arguments are divided in the same way where they have as many rows, and handed on where not."""
        divided = [self._divided(value, len(x)) for value in (x, *args)]
        by_name = {name: self._divided(value, len(x)) for name, value in named.items()}
        outputs = [
            part(*[values[index] for values in divided], **{name: values[index] for name, values in by_name.items()})
            for index, part in enumerate(self.parts)
        ]
        if not all(isinstance(output, Tensor) for output in outputs):
            raise SiteError(
                f"sites: required modules around them that return one tensor, found a {type(outputs[0]).__name__}; "
                "choose the blocks that hold them as sites."
            )
        return torch.cat(outputs)

    def _divided(self, value: Any, rows: int) -> Sequence[Any]:
        n = len(self.parts)
        return value.chunk(n) if isinstance(value, Tensor) and value.ndim and len(value) == rows else [value] * n


def align(networks: Sequence[nn.Module], sites: Sequence[str]) -> None:
    """Gives all networks the numbers of the first one wherever `fold` cannot keep their own: outside of all layers."""
    holders = {"", *(site.rpartition(".")[0] for site in sites)}
    around = {name.rsplit(".", depth)[0] if depth else name for name in holders for depth in range(name.count(".") + 1)}
    with torch.no_grad():
        for name in sorted({"", *around}):
            first = networks[0].get_submodule(name)
            for key, tensor in chain(first.named_parameters(recurse=False), first.named_buffers(recurse=False)):
                for network in networks[1:]:
                    getattr(network.get_submodule(name), key).copy_(tensor)


def fold(networks: Sequence[nn.Module], sites: Sequence[str]) -> nn.Module:
    """Networks of one kind as one, in place of the first.

    Args:
        networks: they differ in their numbers only.
        sites: names of modules that have to be called in the folded network; these and all that hold them stay.

    Raises:
        SiteError: when a module has other shapes in another network.
    """
    _fold(networks, "", sites)
    return networks[0]


def _fold(modules: Sequence[nn.Module], prefix: str, sites: Sequence[str]) -> None:
    for name, child in list(modules[0].named_children()):
        path = f"{prefix}{name}"
        parts = [module.get_submodule(name) for module in modules]
        if any(site.startswith(f"{path}.") for site in sites):
            _fold(parts, f"{path}.", sites)
        elif next(chain(child.parameters(), child.buffers()), None) is not None:
            _check_shapes(parts, path)
            modules[0].set_submodule(name, Parallel(parts))


def _check_shapes(parts: Sequence[nn.Module], path: str) -> None:
    shapes = [[tuple(tensor.shape) for tensor in chain(part.parameters(), part.buffers())] for part in parts]
    if any(other != shapes[0] for other in shapes):
        raise SiteError(
            f"backbone: required in {path!r} the same shapes for every task, found {shapes}; let nothing but the "
            "output layer depend on n_classes."
        )
