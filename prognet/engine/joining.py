"""What a new column has to be, checked before the network is changed."""

from collections.abc import Sequence
from itertools import chain

from torch import Tensor, nn

from prognet.errors import ConfigError, SiteError

Shape = tuple[int, ...]


def check_new(network: nn.Module, backbone: object, example: object) -> None:
    """Refuses what is no network of its own, and an example that is no tensor.

    Args:
        network: the network that the column joins.
        backbone: what the column is made of.
        example: an input batch (B, *input_shape).

    Raises:
        ConfigError: when one is not what it must be.
    """
    if not isinstance(backbone, nn.Module):
        raise ConfigError(f"backbone: required an nn.Module, found a {type(backbone).__name__}.")
    if not isinstance(example, Tensor):
        raise ConfigError(f"example: required a tensor (B, *input_shape), found a {type(example).__name__}.")
    taken = {id(part) for part in chain(network.modules(), network.parameters(), network.buffers())}
    if any(id(part) in taken for part in chain(backbone.modules(), backbone.parameters(), backbone.buffers())):
        raise ConfigError(
            "backbone: required a module of its own, found one that shares modules or parameters with an earlier "
            "column; build a new one."
        )


def check_inputs(shapes: Sequence[Shape], sources: Sequence[int], shape: Shape) -> None:
    """Refuses sources that see inputs of another shape: a column and all that it reads see the same input.

    Args:
        shapes: the input shapes of the columns there are.
        sources: the columns that the new one is to read.
        shape: its own input shape.

    Raises:
        SiteError: when the shape of a source is another one.
    """
    for source in sources:
        if shapes[source] != shape:
            raise SiteError(
                f"example: required the input shape {shapes[source]} of column {source}, which the new one is to read, "
                f"found {shape}; a column and its sources see the same input: read those of this shape only, with "
                f"sources={[index for index, other in enumerate(shapes) if other == shape]}."
            )


def common(shapes: Sequence[Shape]) -> Shape | None:
    """The one input shape of some columns; None where there are none, or several."""
    return shapes[0] if len(set(shapes)) == 1 else None
