"""What one forward pass tells about a site: its shapes, and where its features stand."""

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from prognet.engine.sites import Call, Geometry, Site

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CHANNELS_FIRST = (
    *_CONVOLUTIONS,
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
"""Layers whose input has its features in dimension 1, whatever its size."""


def site_of(name: str, modules: Mapping[str, nn.Module], calls: Mapping[str, Call]) -> Site:
    """The site of a module whose call `refusal` did not refuse.

    Args:
        name: the name of the module.
        modules: all modules of the backbone, by name.
        calls: what `observe` noted, in its order.
    """
    call = calls[name]
    inside = [(modules[part], seen) for part, seen in calls.items() if part == name or part.startswith(f"{name}.")]
    return Site(
        name=name,
        in_shape=tuple(call.received.shape[1:]),
        out_shape=tuple(call.returned.shape[1:]),
        channels="first" if _channels_first(call.received, inside) else "last",
        geometry=_geometry(modules[name]),
    )


def _channels_first(received: Tensor, inside: Sequence[tuple[nn.Module, Call]]) -> bool:
    """Where the features of a site's input stand, told by the first layer inside that has to know it.

    Shapes alone cannot tell: Swin's blocks read images with features last, a Conformer's hold a Conv1d behind a
    transposition. Where no layer tells, four dimensions are taken for images and three for tokens.
    """
    if received.ndim == 2:
        return False
    for part, call in inside:  # in the order in which layers returned, so in that of their calls
        if isinstance(call.received, Tensor):
            axis = _axis_told_by(part, call.received, received)
            if axis is not None:
                return axis == 1
    return received.ndim >= 4


def _axis_told_by(layer: nn.Module, read: Tensor, received: Tensor) -> int | None:
    """1 or -1 where the layer, which read a tensor, shows where the features of the site's input stand; else None."""
    if isinstance(layer, nn.Linear) and read.ndim == 2:  # behind a mean over all positions
        return _axis_of_size(layer.in_features, received)
    if read.ndim != received.ndim:
        return None
    if isinstance(layer, _CHANNELS_FIRST):
        return 1
    if isinstance(layer, nn.Linear | nn.RNNBase) or type(layer) is nn.LayerNorm:
        return -1
    if isinstance(layer, nn.LayerNorm) and len(layer.normalized_shape) == 1:  # subclasses may norm another dimension
        return _axis_of_size(layer.normalized_shape[0], read)
    return None


def _axis_of_size(features: int, tensor: Tensor) -> int | None:
    first, last = tensor.shape[1] == features, tensor.shape[-1] == features
    return None if first == last else 1 if first else -1


def _geometry(module: nn.Module) -> Geometry | None:
    if not isinstance(module, _CONVOLUTIONS):
        return None
    padding = module.padding if isinstance(module.padding, str) else tuple(module.padding)
    return Geometry(tuple(module.kernel_size), tuple(module.stride), padding, tuple(module.dilation))
