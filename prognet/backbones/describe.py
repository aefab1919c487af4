"""What a backbone is, and how it is written down in the configuration of a run."""

import inspect
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, ClassVar, TypeAlias

from torch import nn

from prognet.errors import ConfigError
from prognet.results import to_json

Backbone: TypeAlias = Callable[..., nn.Module]
"""Called with (input_shape, n_classes), and with `width=...` where `accepts_width` says so; returns a fresh network."""


class BackboneSpecification(ABC):
    """A backbone as a value: a frozen dataclass whose fields are the arguments of the function that made it."""

    name: ClassVar[str]
    """The name of that function in `prognet.backbones`."""

    @abstractmethod
    def __call__(self, input_shape: Sequence[int], n_classes: int) -> nn.Module:
        """Builds a network with fresh parameters: (B, *input_shape) -> logits (B, n_classes).

        Those that can be widened have a third argument, `width=1.0`: a factor on the number of units of every hidden
        layer, with which parameters never decrease.

        Args:
            input_shape: shape of one sample, channels first.
            n_classes: number of logits.

        Raises:
            ConfigError: when such a network cannot be built.
        """

    @property
    def arguments(self) -> dict[str, Any]:
        """The arguments as JSON values: `mlp(**mlp(...).arguments)` is the same backbone."""
        return {name: to_json(value) for name, value in vars(self).items()}


def describe_backbone(backbone: Backbone) -> dict[str, Any]:
    """`{"name", "arguments"}` in JSON values: what a run's configuration says about its backbone.

    A backbone of `prognet.backbones` has its own name and arguments. Anything else is named `"module:qualname"`; the
    arguments are those that `functools.partial` has bound.

    Raises:
        ConfigError: when `backbone` cannot be called, or a bound argument has no JSON form.
    """
    _require_callable(backbone)
    if isinstance(backbone, BackboneSpecification):
        return {"name": backbone.name, "arguments": backbone.arguments}
    if isinstance(backbone, partial):
        return {"name": describe_backbone(backbone.func)["name"], "arguments": _bound_arguments(backbone)}
    named = backbone if hasattr(backbone, "__qualname__") else type(backbone)
    return {"name": f"{named.__module__}:{named.__qualname__}", "arguments": {}}


def accepts_width(backbone: Backbone) -> bool:
    """Whether `backbone` can be called with `width=...`, by which the parameter-matched control is found.

    Raises:
        ConfigError: when `backbone` cannot be called.
    """
    return accepts(backbone, "width")


def accepts(backbone: Backbone, argument: str) -> bool:
    """Whether `backbone` can be called with this argument by name.

    Raises:
        ConfigError: when `backbone` cannot be called.
    """
    _require_callable(backbone)
    try:
        parameter = inspect.signature(backbone).parameters.get(argument)
    except ValueError:  # a callable written in C that shows no signature
        return False
    return parameter is not None and parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)


def _bound_arguments(backbone: "partial[nn.Module]") -> dict[str, Any]:
    bound = inspect.signature(backbone.func).bind_partial(*backbone.args, **backbone.keywords).arguments
    try:
        return {name: to_json(value) for name, value in bound.items()}
    except TypeError as error:
        raise ConfigError(
            f"backbone: required bound arguments that JSON can hold, found {backbone!r}; bind plain values, or write a "
            "named function instead."
        ) from error


def _require_callable(backbone: object) -> None:
    if isinstance(backbone, nn.Module):
        raise ConfigError(
            f"backbone: required a function (input_shape, n_classes) -> nn.Module, found the module "
            f"{type(backbone).__name__}; pass the function that builds it, since every task needs a fresh one."
        )
    if not callable(backbone):
        raise ConfigError(
            f"backbone: required a function (input_shape, n_classes) -> nn.Module, found {backbone!r}; "
            "take one of prognet.backbones, e.g. prognet.backbones.mlp()."
        )
