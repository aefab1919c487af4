"""Strategies as JSON values and back, for run folders: built-in classes only, so that no folder names code to run."""

from collections.abc import Mapping
from typing import Any

from prognet.engine.adapters import adapter_from
from prognet.errors import ConfigError
from prognet.strategies.alignment import FeatureAlignment
from prognet.strategies.base import Backbone, Strategy
from prognet.strategies.copytune import CopyTune
from prognet.strategies.finetune import FineTune, HeadOnly
from prognet.strategies.finetune_recipe import FineTuning
from prognet.strategies.growth import PruneLaterals, Width
from prognet.strategies.independent import Independent, IndependentWide
from prognet.strategies.multitask import Architecture, MultiTask, Weighting
from prognet.strategies.progressive import Progressive, ProgressiveRandom
from prognet.strategies.sources import Sources
from prognet.strategies.specification import Specification, specification_from
from prognet.strategies.start import Start
from prognet.strategies.wrapped import Wrapped

_KINDS: Mapping[str, type[Strategy]] = {
    kind.kind: kind
    for kind in (
        Progressive,
        ProgressiveRandom,
        FineTune,
        HeadOnly,
        MultiTask,
        Independent,
        IndependentWide,
        CopyTune,
        FeatureAlignment,
        Wrapped,
    )
}


_SPECIFICATIONS: Mapping[str, type[Specification]] = {
    "sources": Sources,
    "width": Width,
    "prune": PruneLaterals,
    "start": Start,
    "architecture": Architecture,
    "weighting": Weighting,
    "recipe": FineTuning,
}


def describe_strategy(strategy: Strategy) -> dict[str, Any]:
    """`{"kind", "name", "arguments"}` in JSON values; `strategy_from` is the inverse for the strategies of prognet."""
    kind = type(strategy)
    return {
        "kind": kind.kind if kind.kind in _KINDS else f"{kind.__module__}:{kind.__qualname__}",
        "name": strategy.name,
        "arguments": dict(strategy.arguments()),
    }


def strategy_from(description: Mapping[str, Any], backbone: Backbone) -> Strategy:
    """The strategy that `describe_strategy` described, having learned nothing.

    Raises:
        ConfigError: when it is none of prognet's own, or its arguments do not fit.
    """
    kind = _KINDS.get(description["kind"])
    if kind is None:
        raise ConfigError(
            f"strategy: required one of {sorted(_KINDS)}, found {description['kind']!r}; a strategy of one's own can "
            "be rebuilt by its author only."
        )
    arguments = dict(description["arguments"])
    if "adapter" in arguments:
        arguments["adapter"] = adapter_from(arguments["adapter"])
    for argument, base in _SPECIFICATIONS.items():
        if arguments.get(argument) is not None:
            arguments[argument] = specification_from(base, argument, arguments[argument])
    try:
        return kind(backbone, name=description["name"], **arguments)
    except TypeError as error:
        raise ConfigError(f"strategy: required the arguments of {kind.__name__}, found {error}.") from error
