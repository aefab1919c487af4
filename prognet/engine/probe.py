"""Measuring a backbone: one forward pass that finds its sites, their shapes, and its output layer.

Sites are asked for by name or glob (`"layer[2-4]"`, `"blocks.*"`, where `*` matches no dot), or by their granularity:
`"leaves"`, every Linear and convolution after the first, or `"blocks"`, the composite modules that stand in the
containers of a network, such as residual or transformer blocks, and the layers beside them. The default is leaves for
plain sequential networks and blocks for all others, since leaf laterals in modern networks are many times as large as
the network. The output layer belongs to both, unless it is an `OutputHead`.

What breaks the contract of a site is skipped and listed when it was found by granularity, and refused when it was asked
for by name.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Literal, TypeAlias

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from prognet.engine.head import OutputHead
from prognet.engine.measured import site_of
from prognet.engine.sites import Call, Site, observe, refusal, same_device
from prognet.errors import SiteError

Granularity = Literal["leaves", "blocks"]
Sites: TypeAlias = Granularity | Sequence[str] | None
"""Names or globs, or a granularity; None for the one that fits the network."""

_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CONTAINERS = (nn.Sequential, nn.ModuleList, nn.ModuleDict)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one forward pass of a backbone showed."""

    sites: tuple[Site, ...]
    """In the order of `named_modules()`."""
    skipped: Mapping[str, str]
    """Candidates that are no sites, with the reason."""
    output_layer: str | None
    """The last called layer with parameters, or head, whose output is that of the backbone; None if there is none."""
    output_shape: tuple[int, ...]
    """Shape of the output without the batch dimension."""


def probe(backbone: nn.Module, example: Tensor, sites: Sites = None) -> Probe:
    """Runs the backbone once on `example` and measures its sites; neither the backbone nor any generator is changed.

    Args:
        backbone: any module that maps one tensor to one tensor.
        example: an input batch (B, *input_shape); only its shape and dtype matter.
        sites: names or globs such as `["layer[2-4].*", "fc"]`; `"leaves"` or `"blocks"`; None for leaves in a plain
            sequential network and blocks in any other.

    Raises:
        SiteError: when the output is not one tensor, the input is modified in place, no submodule is called, or a site
            named in `sites` is unknown or breaks the contract.
    """
    example = same_device(backbone, example).detach().clone()
    version = example._version
    with _undisturbed(backbone, example), observe(backbone) as calls:
        output = backbone(example)
    if not isinstance(output, Tensor):
        raise SiteError(f"backbone: required one tensor as output, found a {type(output).__name__}.")
    if example._version != version:
        raise SiteError("backbone: required an input left as it is, found it modified in place; all columns read it.")
    modules = dict(backbone.named_modules())
    if len(modules) > 1 and not calls:
        raise SiteError("backbone: required calls of its submodules, found none; add it before it is compiled.")
    output_layer = _output_layer(modules, calls, output)
    reasons = {name: refusal(calls.get(name), len(example)) for name in modules if name}
    if sites is None or isinstance(sites, str):
        names = _names_by(_granularity(sites, backbone), backbone, calls, output_layer)
        skipped = {name: reason for name in names if (reason := reasons[name]) is not None}
    else:
        names = match_names(sites, [name for name in modules if name])
        skipped = {}
        _refuse(names, reasons)
    found = tuple(
        replace(site_of(name, modules, calls), output=name == output_layer) for name in names if reasons[name] is None
    )
    return Probe(found, skipped, output_layer, tuple(output.shape[1:]))


def match_names(patterns: Sequence[str], known: Sequence[str]) -> list[str]:
    """The known names that match any of the patterns (names or globs), in their own order; `*` matches no dot.

    Raises:
        SiteError: for a pattern that matches nothing, with the nearest name.
    """
    if not patterns:
        raise SiteError("sites: required at least one name, found none; leave the argument out for the defaults.")
    for pattern in patterns:
        if not any(_matches(name, pattern) for name in known):
            close = get_close_matches(pattern, known, n=1, cutoff=0.4)
            hint = f"; did you mean {close[0]!r}?" if close else "; print named_modules() for the names."
            raise SiteError(f"sites: {pattern!r} names no submodule of the backbone{hint}")
    return [name for name in known if any(_matches(name, pattern) for pattern in patterns)]


def _matches(name: str, pattern: str) -> bool:
    """A wildcard stays between two dots, as in paths, so that `"blocks.*"` names the blocks and not all they hold."""
    parts, wanted = name.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(map(fnmatchcase, parts, wanted))


@contextmanager
def _undisturbed(backbone: nn.Module, example: Tensor) -> Iterator[None]:
    """Evaluation mode, gradients for every parameter, a generator of its own; all as before at the end."""
    with torch.random.fork_rng(devices=[example.device] if example.device.type == "cuda" else []):
        modes = {module: module.training for module in backbone.modules()}
        needs = {parameter: parameter.requires_grad for parameter in backbone.parameters()}
        backbone.eval()
        try:
            if any(is_lazy(tensor) for tensor in [*backbone.parameters(), *backbone.buffers()]):
                with torch.no_grad():
                    backbone(example)
            for parameter in needs:
                if parameter.is_floating_point() or parameter.is_complex():
                    parameter.requires_grad_(True)  # so that the raw input is what depends on no parameter
            with torch.enable_grad():
                yield
        finally:
            for parameter, need in needs.items():
                parameter.requires_grad_(need)
            for module, mode in modes.items():
                module.training = mode


def _refuse(names: Sequence[str], reasons: Mapping[str, str | None]) -> None:
    for name in names:
        if (reason := reasons[name]) is not None:
            raise SiteError(f"site {name!r}: {reason}; choose another site or leave `sites` out for the defaults.")


def _output_layer(modules: Mapping[str, nn.Module], calls: Mapping[str, Call], output: Tensor) -> str | None:
    found = None
    for name, call in calls.items():  # in the order of return, so the last one wins
        module = modules[name]
        is_leaf = isinstance(module, OutputHead) or next(module.children(), None) is None
        if is_leaf and call.returned is output and next(module.parameters(), None) is not None:
            found = name
    return found


def _granularity(sites: str | None, backbone: nn.Module) -> Granularity:
    if sites is None:
        return "leaves" if _is_plain(backbone) else "blocks"
    if sites == "leaves":
        return "leaves"
    if sites == "blocks":
        return "blocks"
    raise SiteError(
        f"sites: required a sequence of names, 'leaves' or 'blocks', found the text {sites!r}; write [{sites!r}]."
    )


def _names_by(
    granularity: Granularity, backbone: nn.Module, calls: Mapping[str, Call], output_layer: str | None
) -> list[str]:
    """Candidates in the order of `named_modules()`, without what reads the raw input."""

    def reads_raw_input(name: str) -> bool:
        received = calls[name].received if name in calls else None
        return isinstance(received, Tensor) and not received.requires_grad

    def is_opened(name: str, block: nn.Module) -> bool:
        """A whole network in a container is no block, nor is the one that holds the output layer, which is a site."""
        holds_output = output_layer is not None and output_layer.startswith(f"{name}.")
        return holds_output or (reads_raw_input(name) and _holds_blocks(block))

    names = set(_leaves(backbone) if granularity == "leaves" else _blocks(backbone, "", is_opened))
    if output_layer is not None and isinstance(backbone.get_submodule(output_layer), OutputHead):
        names = {name for name in names if not f"{name}.".startswith(f"{output_layer}.")}
    elif output_layer is not None:
        names.add(output_layer)
    return [name for name, _ in backbone.named_modules() if name in names and not reads_raw_input(name)]


def _is_plain(backbone: nn.Module) -> bool:
    """Whether nothing but Sequential containers stands between the backbone and its layers."""
    inner = [module for name, module in backbone.named_modules() if name and next(module.children(), None) is not None]
    return all(type(module) is nn.Sequential for module in inner)


def _leaves(backbone: nn.Module) -> list[str]:
    return [name for name, module in backbone.named_modules() if name and isinstance(module, _LAYERS)]


def _blocks(module: nn.Module, prefix: str, is_opened: Callable[[str, nn.Module], bool]) -> list[str]:
    """Composite modules with parameters that stand in a container, from the outside in, and layers beside them."""
    found: list[str] = []
    for child_name, child in module.named_children():
        name = f"{prefix}{child_name}"
        if isinstance(child, _LAYERS):
            found.append(name)
        elif (
            type(child) in _CONTAINERS
            or (type(module) not in _CONTAINERS and _holds_blocks(child))
            or is_opened(name, child)
        ):
            found += _blocks(child, f"{name}.", is_opened)
        elif next(child.children(), None) is not None and next(child.parameters(), None) is not None:
            found.append(name)
    return found


def _holds_blocks(module: nn.Module) -> bool:
    """Whether a container of composite modules stands somewhere inside, so that the module is no block itself."""
    return any(
        type(part) in _CONTAINERS and any(next(child.children(), None) is not None for child in part.children())
        for part in module.modules()
    )
