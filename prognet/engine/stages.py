"""The stages of a network, from the input to the output: what fine-tuning freezes, re-initialises or slows down.

One rule for every network: a stage begins at each of its default sites and ends before the next one; what is called
before the first site, such as the layer that reads the raw input, is the first stage. Norms, activations and dropout
therefore belong to the layer before them, and a residual or transformer block with all that it holds is one stage.
Parameters that no called layer holds, such as the class token of a transformer, belong to the block around them, or to
the first stage.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from prognet.engine.probe import probe
from prognet.engine.sites import observe, same_device
from prognet.errors import SiteError


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage, by names as in `named_modules()` and `named_parameters()`."""

    modules: tuple[str, ...]
    parameters: tuple[str, ...]


def stages_of(network: nn.Module, example: Tensor) -> tuple[Stage, ...]:
    """The stages of a network, from the input to the output; its output layer, if it has one, is the last stage.

    Args:
        network: any module from one tensor to one tensor; it is left as it is.
        example: an input batch (B, *input_shape); only its shape and type matter.

    Raises:
        SiteError: when the network cannot be probed, or no layer of it is called.
    """
    sites = [site.name for site in probe(network, example).sites]
    called = _called_layers(network, example)
    if not called:
        raise SiteError("backbone: required layers that are called in a forward pass, found none.")
    starts = list(dict.fromkeys(filter(None, (_around(name, sites) for name in called))))
    number, current = {name: index + 1 for index, name in enumerate(starts)}, 0
    stage_of: dict[str, int] = {}
    for name in called:
        current = number.get(_around(name, sites) or "", current)
        stage_of[name] = current
    for name, _ in network.named_modules():
        if (site := _around(name, sites)) is not None:
            stage_of[name] = number[site]
    owners = {name: stage_of.get(name.rpartition(".")[0], 0) for name, _ in network.named_parameters()}
    found = (Stage(_of(stage_of, index), _of(owners, index)) for index in range(len(starts) + 1))
    return tuple(stage for stage in found if stage.parameters)


def modules_in(network: nn.Module, stages: Sequence[Stage]) -> Iterator[nn.Module]:
    """The modules of some stages of a network."""
    yield from (network.get_submodule(name) for stage in stages for name in stage.modules)


def parameters_in(network: nn.Module, stages: Sequence[Stage]) -> Iterator[nn.Parameter]:
    """The parameters of some stages of a network."""
    yield from (network.get_parameter(name) for stage in stages for name in stage.parameters)


def _called_layers(network: nn.Module, example: Tensor) -> list[str]:
    """Modules without children, in the order in which a forward pass calls them."""
    modes = {module: module.training for module in network.modules()}
    network.eval()
    try:
        with torch.no_grad(), observe(network) as calls:
            network(same_device(network, example))
    finally:
        for module, mode in modes.items():
            module.training = mode
    return [name for name in calls if next(network.get_submodule(name).children(), None) is None]


def _around(name: str, sites: Sequence[str]) -> str | None:
    """The site that a module is, or is a part of."""
    return next((site for site in sites if name == site or name.startswith(f"{site}.")), None)


def _of(numbers: dict[str, int], index: int) -> tuple[str, ...]:
    return tuple(name for name, number in numbers.items() if number == index)
