"""Sites: where a column is read and where it is added to. The only hooks of the package live in this file.

A site is the name, as in `named_modules()`, of a submodule that is called once per forward pass, with one tensor as its
first argument, and returns one tensor. That is all that a backbone has to offer.

The life of a hook: `attach` registers two hooks on the module of every site when a backbone becomes a column, and they
stay as long as the column. They hold a reference to the column's `Visit` and nothing else; a `Visit` is filled when the
column is called and emptied before the call returns. So no activation outlives the call, and a column can be copied,
pickled, compiled and called through `functional_call` like any module. The hooks of `observe` live for one probe,
those of `edited` for one look of the analysis.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from prognet.errors import SiteError

Activations = Mapping[str, Tensor]
"""Site name -> the tensor that the site received, shape (B, *in_shape)."""

Join = Callable[[str, Tensor, Any], Tensor]
"""(site name, output of the site's module, past) -> the output with the lateral added."""

_CONVOLUTIONS = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
_CHANNELS_FIRST = (
    *_CONVOLUTIONS,
    *(nn.ConvTranspose1d, nn.ConvTranspose2d, nn.ConvTranspose3d),
    *(nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d, nn.SyncBatchNorm, nn.GroupNorm),
    *(nn.InstanceNorm1d, nn.InstanceNorm2d, nn.InstanceNorm3d),
)
"""Layers whose input has its features in dimension 1, whatever its size."""


@dataclass(frozen=True, slots=True)
class Geometry:
    """How a convolution walks over its input; one entry per spatial dimension, or torch's word for the padding."""

    kernel_size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...] | str
    dilation: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Site:
    """A site and what was measured there; shapes are without the batch dimension."""

    name: str
    in_shape: tuple[int, ...]
    out_shape: tuple[int, ...]
    channels: Literal["first", "last"]
    """Where the features stand: first in images (C, H, W), last in vectors (D,) and tokens (N, D)."""
    geometry: Geometry | None = None
    """The geometry of the site's own convolution, where the site is one."""
    output: bool = False
    """Whether what the site returns is the output of the whole network."""


@dataclass(slots=True)
class Call:
    """What one module received and returned in a forward pass that is being observed."""

    received: Any
    returned: Any
    version: int | None
    """In-place version of the received tensor at the moment of the call."""
    count: int = 1


class Visit:
    """The values of one column call: what each site received, and the past it may read. Empty between calls."""

    def __init__(self, join: Join) -> None:
        self._join = join
        self._received: dict[str, Tensor] | None = None
        self._past: Any = ()
        self.with_gradients = False

    def run(self, backbone: nn.Module, x: Tensor, past: Any) -> tuple[Tensor, dict[str, Tensor]]:
        """Calls the backbone once -> its output and what its sites received."""
        received: dict[str, Tensor] = {}
        self._received, self._past = received, past
        self.with_gradients = torch.is_grad_enabled()
        try:
            y = backbone(x)
        finally:
            self._received, self._past = None, ()
        return y, received

    def enter(self, name: str, args: tuple[Any, ...]) -> None:
        """Notes what the site received."""
        if self._received is None:  # the backbone is being called by itself, outside its column
            return
        if name in self._received:
            raise SiteError(f"site {name!r}: required one call a forward pass, found a second one.")
        self._received[name] = args[0]

    def leave(self, name: str, output: Tensor) -> Tensor:
        """Adds the lateral to what the site's module returned."""
        return output if self._received is None else self._join(name, output, self._past)


class _SiteHook:
    """The two hooks of one site; an object and not a closure, so that `deepcopy` and `pickle` follow its references."""

    def __init__(self, name: str, visit: Visit) -> None:
        self.name, self.visit = name, visit

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.visit.enter(self.name, args)

    def leave(self, module: nn.Module, args: tuple[Any, ...], output: Tensor) -> Tensor:
        return self.visit.leave(self.name, output)


def attach(backbone: nn.Module, names: Sequence[str], visit: Visit) -> None:
    """Registers the hooks of a column on the modules of its sites, for good."""
    for name in names:
        hook = _SiteHook(name, visit)
        module = backbone.get_submodule(name)
        module.register_forward_pre_hook(hook.enter)
        module.register_forward_hook(hook.leave)


@contextmanager
def edited(backbone: nn.Module, edits: Mapping[str, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Within the block, what the named sites receive is replaced by a function of it, also for later columns.

    For looking at a network, not for running one: the analysis adds noise, or a leaf to differentiate by.
    """
    handles = [
        # in front of the column's own hook, so that the edited tensor is the one that later columns read
        backbone.get_submodule(name).register_forward_pre_hook(_edit_first(edit), prepend=True)
        for name, edit in edits.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _edit_first(edit: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, tuple[Any, ...]], tuple[Any, ...]]:
    return lambda _, args: (edit(args[0]), *args[1:])


@contextmanager
def observe(backbone: nn.Module) -> Iterator[dict[str, Call]]:
    """Within the block, notes every call of every submodule, by name, in the order of their first return."""
    calls: dict[str, Call] = {}
    handles = []

    def watch(name: str, module: nn.Module) -> None:
        entered: list[tuple[Any, int | None]] = []

        def enter(_: nn.Module, args: tuple[Any, ...]) -> None:
            received = args[0] if args else None
            entered.append((received, received._version if isinstance(received, Tensor) else None))

        def leave(_: nn.Module, args: tuple[Any, ...], output: Any) -> None:
            received, version = entered.pop()
            if name in calls:
                calls[name].count += 1
            else:
                calls[name] = Call(received, output, version)

        handles.append(module.register_forward_pre_hook(enter))
        handles.append(module.register_forward_hook(leave))

    for name, module in backbone.named_modules():
        if name:
            watch(name, module)
    try:
        yield calls
    finally:
        for handle in handles:
            handle.remove()


def refusal(call: Call | None, batch: int) -> str | None:
    """Why the module of this call cannot be a site, or None where it can."""
    if call is None:
        return "it is never called in a forward pass"
    if call.count > 1:
        return f"it is called {call.count} times in a forward pass; one call is required"
    if not isinstance(call.received, Tensor):
        return f"it receives a {type(call.received).__name__} first; one tensor is required"
    if not isinstance(call.returned, Tensor):
        return f"it returns a {type(call.returned).__name__}; one tensor is required"
    if not call.received.requires_grad:
        return "it receives the raw input, which is the same in all columns"
    if call.received._version != call.version:
        return "its input is modified in place after it was read; use the layer without inplace=True"
    if (
        call.received.ndim < 2
        or call.returned.ndim < 2
        or not call.received.shape[0] == call.returned.shape[0] == batch
    ):
        return "its first dimension is not the batch"
    return None


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


def same_device(backbone: nn.Module, example: Tensor) -> Tensor:
    """The example on the device of the backbone's parameters."""
    parameter = next(backbone.parameters(), None)
    return example if parameter is None else example.to(parameter.device)
