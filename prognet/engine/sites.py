"""Sites: where a column is read and where it is added to. The only hooks of the package live in this file.

A site is the name, as in `named_modules()`, of a submodule that is called once per forward pass, with one tensor as its
first argument, and returns one tensor. That is all that a backbone has to offer.

The life of a hook: `attach` registers two hooks on the module of every site when a backbone becomes a column, and they
stay as long as the column. They hold a reference to the column's `Visit` and nothing else; a `Visit` is filled when the
column is called and emptied before the call returns. So no activation outlives the call, and a column can be copied,
pickled, compiled and called through `functional_call` like any module. The hooks of `observe` live for one probe,
those of `edited` for one look of the analysis. `attach_rewriting` is for networks that several tasks learn together:
one hook a site, which stays as long as the network and holds a `Rewriting`, empty between calls in the same way.
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


Rewrite = Callable[[str, Tensor, Any], Tensor]
"""(site name, what the site was given, context of the call) -> what it receives instead."""


class Rewriting:
    """The values of one call in which sites receive something else than they were given. Empty between calls."""

    def __init__(self, rewrite: Rewrite) -> None:
        self._rewrite = rewrite
        self._seen: set[str] | None = None
        self._context: Any = None

    def run(self, backbone: nn.Module, x: Tensor, context: Any, names: Sequence[str]) -> Tensor:
        """Calls the backbone once -> its output.

        Raises:
            SiteError: when one of the named sites was not called exactly once.
        """
        seen: set[str] = set()
        self._seen, self._context = seen, context
        try:
            y: Tensor = backbone(x)
        finally:
            self._seen, self._context = None, None
        if missing := sorted(set(names) - seen):
            raise SiteError(f"sites {missing}: required one call a forward pass, found none; choose other sites.")
        return y

    def enter(self, name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """The arguments of the site's module, the first one rewritten."""
        if self._seen is None:  # the backbone is being called by itself
            return args
        if name in self._seen:
            raise SiteError(f"site {name!r}: required one call a forward pass, found a second one.")
        self._seen.add(name)
        return (self._rewrite(name, args[0], self._context), *args[1:])


class _RewriteHook:
    """The hook of one rewritten site; an object as `_SiteHook`."""

    def __init__(self, name: str, rewriting: Rewriting) -> None:
        self.name, self.rewriting = name, rewriting

    def enter(self, module: nn.Module, args: tuple[Any, ...]) -> tuple[Any, ...]:
        return self.rewriting.enter(self.name, args)


def attach_rewriting(backbone: nn.Module, names: Sequence[str], rewriting: Rewriting) -> None:
    """Registers a hook on the modules of the sites, for good, that changes what they receive."""
    for name in names:
        backbone.get_submodule(name).register_forward_pre_hook(_RewriteHook(name, rewriting).enter)


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


def same_device(backbone: nn.Module, example: Tensor) -> Tensor:
    """The example on the device of the backbone's parameters."""
    parameter = next(backbone.parameters(), None)
    return example if parameter is None else example.to(parameter.device)
