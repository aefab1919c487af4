"""Adapters: the modules of the lateral connections, a_s(x_s^(1), ..., x_s^(k-1)).

`LinearAdapter` is equation 1 and `MLPAdapter` equation 2 of Rusu et al. 2016 (arXiv 1606.04671). An adapter is a frozen
specification; `build` makes the module for one site from the shapes that the source columns and the new column have
there. A new kind is one more small class with one method.

Which form a lateral takes is read off the site:

- vectors (D,): dense projections;
- images (C, *spatial): every source is average-pooled to the spatial size of the site's output, then projected by 1x1
  convolutions; with `kernel="layer"` the last projection has the kernel, stride and padding of the layer itself;
- tokens (N, D), and images with features last (H, W, D): projections of the last dimension, each source behind a
  LayerNorm, and average-pooled where the site changes the number of positions.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from math import ceil
from typing import Any, Literal

from torch import nn

from prognet.engine.laterals import Align, LinearLateral, MLPLateral
from prognet.engine.sites import Geometry, Site
from prognet.engine.solved import SolvedLateral
from prognet.errors import ConfigError, SiteError

Kernel = Literal["1x1", "layer"]
_CONVOLUTIONS: dict[int, type[nn.Conv1d | nn.Conv2d | nn.Conv3d]] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


class Adapter(ABC):
    """A frozen specification of a lateral connection."""

    @abstractmethod
    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        """The module of one site: it maps the tensors that the senders received to what is added to the site's output.

        Args:
            senders: the site of the same name in each source column, in the order of the sources; at least one.
            site: the site of the new column.

        Raises:
            SiteError: when the shapes cannot be joined.
        """

    def describe(self) -> dict[str, Any]:
        """`{"kind": ..., "arguments": ...}` in JSON values; `adapter_from` is the inverse."""
        return {"kind": type(self).__name__, "arguments": asdict(self)}  # type: ignore[call-overload]


@dataclass(frozen=True, kw_only=True)
class LinearAdapter(Adapter):
    """Equation 1: a = sum_j U_j h_j, without bias.

    Raises:
        ConfigError: when `kernel` is not known.
    """

    zero_init: bool = True
    """U = 0, so that a new column starts as the independent network; False for torch's default initialisation."""
    kernel: Kernel = "1x1"
    """Convolution sites: pooled 1x1 projections, or the geometry of the layer itself."""

    def __post_init__(self) -> None:
        _check_kernel(self.kernel)

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        form = _Form(senders, site, self.kernel)
        U = form.expand(form.features)
        return LinearLateral(form.align, _zeroed(U) if self.zero_init else U)


@dataclass(frozen=True, kw_only=True)
class MLPAdapter(Adapter):
    """Equation 2: a = U relu(V concat_j(alpha_j h_j) + c), with a learned scale alpha_j per source column.

    The default is what measures best: U = 0, alpha = 1, hidden width n (the input features of the site).

    Raises:
        ConfigError: when a value is out of its range; `zero_init` with `alpha=0` would never learn.
    """

    hidden: int | float | None = None
    """Hidden width: None for n, an integer, or a ratio of n as a float (`0.25`)."""
    alpha: float = 1.0
    """Initial value of every alpha."""
    zero_init: bool = True
    """U = 0, so that a new column starts as the independent network; False for torch's default initialisation."""
    kernel: Kernel = "1x1"
    """Convolution sites: pooled 1x1 projections, or U with the geometry of the layer itself."""
    solved_output: bool = False
    """At the output layer, beside this, a linear lateral that whoever trains the column solves in closed form; see
    `prognet.engine.solved`."""

    def __post_init__(self) -> None:
        _check_kernel(self.kernel)
        if self.hidden is not None and self.hidden <= 0:
            raise ConfigError(f"hidden: required None, a width or a ratio above 0, found {self.hidden!r}.")
        if self.zero_init and self.alpha == 0:
            raise ConfigError("alpha: required another value than 0 where U starts at 0, since neither could learn.")

    @staticmethod
    def paper() -> "MLPAdapter":
        """The choices of the paper: random U, small alpha, the layer's own kernel at convolutions (appendix C)."""
        return MLPAdapter(alpha=0.1, zero_init=False, kernel="layer")

    @staticmethod
    def transfer() -> "MLPAdapter":
        """The laterals with which few samples were learned best: they begin quietly, and the output is solved."""
        return MLPAdapter(alpha=0.1, solved_output=True)

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        form = _Form(senders, site, self.kernel)
        hidden = self.width(form.own_features)
        V, U = form.reduce(hidden), form.expand(hidden)
        lateral = MLPLateral(form.align, V, _zeroed(U) if self.zero_init else U, self.alpha)
        solved = self.solved_output and site.output and len(site.in_shape) == len(site.out_shape) == 1
        return SolvedLateral(lateral, form.features, site.out_shape[0]) if solved else lateral

    def width(self, n: int) -> int:
        """The hidden width for a site with n input features."""
        if self.hidden is None:
            return n
        return self.hidden if isinstance(self.hidden, int) else max(1, ceil(self.hidden * n))


class _Form:
    """The linear maps of a lateral, by the shapes of the site: dense, convolution, or tokens."""

    def __init__(self, senders: Sequence[Site], site: Site, kernel: Kernel) -> None:
        self._site = site
        _check_shapes(senders, site)
        axis = 0 if site.channels == "first" else -1
        self.own_features = site.in_shape[axis]
        self._sizes = [sender.in_shape[axis] for sender in senders]
        self.features = sum(self._sizes)
        self._images = site.channels == "first" and len(site.out_shape) > 1
        self._geometry = site.geometry if kernel == "layer" and self._images else None
        self.align = self._align(senders)

    def _align(self, senders: Sequence[Site]) -> Align:
        site = self._site
        rank = len(site.in_shape) - 1
        if site.channels == "first":
            spatial = site.in_shape[1:] if self._geometry else site.out_shape[1:] if self._images else (1,) * rank
            return Align(self._sizes, spatial, flatten=not self._images)
        norms = [nn.LayerNorm(sender.in_shape[-1]) for sender in senders] if rank else ()
        if rank and len(site.out_shape) == 1:
            return Align(self._sizes, (1,) * rank, flatten=True, norms=norms)
        positions = site.out_shape[:-1]
        moved = any(sender.in_shape[:-1] != positions for sender in senders)
        return Align(self._sizes, positions if moved else (), flatten=False, norms=norms)

    def reduce(self, hidden: int) -> nn.Module:
        """V: from all source features to the hidden width, with a bias that starts at 0.

        Beside a small alpha torch's random bias would decide alone which units live: at alpha = 0.1 half would be dead.
        """
        if self._images:
            V = _convolution(self._rank, self.features, hidden, None, bias=True)
        else:
            V = nn.Linear(self.features, hidden)
        nn.init.zeros_(V.get_parameter("bias"))
        return V

    def expand(self, hidden: int) -> nn.Module:
        """U: from the hidden width to the features of the site's output, without bias."""
        if not self._images:
            return nn.Linear(hidden, self._site.out_shape[-1], bias=False)
        return _convolution(self._rank, hidden, self._site.out_shape[0], self._geometry, bias=False)

    @property
    def _rank(self) -> int:
        return len(self._site.out_shape) - 1


def _convolution(rank: int, n_in: int, n_out: int, geometry: Geometry | None, bias: bool) -> nn.Module:
    if geometry is None:
        return _CONVOLUTIONS[rank](n_in, n_out, 1, bias=bias)
    return _CONVOLUTIONS[rank](
        n_in,
        n_out,
        geometry.kernel_size,  # type: ignore[arg-type]  # the rank fits, by construction
        geometry.stride,  # type: ignore[arg-type]
        geometry.padding,  # type: ignore[arg-type]
        geometry.dilation,  # type: ignore[arg-type]
        bias=bias,
    )


def _zeroed(module: nn.Module) -> nn.Module:
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def _check_kernel(kernel: str) -> None:
    if kernel not in ("1x1", "layer"):
        raise ConfigError(f"kernel: required '1x1' or 'layer', found {kernel!r}.")


def _check_shapes(senders: Sequence[Site], site: Site) -> None:
    if len(site.out_shape) not in (1, len(site.in_shape)) or len(site.in_shape) > 4:
        raise SiteError(
            f"site {site.name!r}: required an output of the same rank as its input {site.in_shape}, of at most three "
            f"dimensions beside the features, or a vector, found {site.out_shape}; choose another site."
        )
    # Images differ in resolution; in a sequence a position has a meaning, such as that of a class token.
    sequence = site.channels == "last" and len(site.in_shape) == 2
    for sender in senders:
        same = sender.channels == site.channels and len(sender.in_shape) == len(site.in_shape)
        if not same or (sequence and sender.in_shape[:-1] != site.in_shape[:-1]):
            raise SiteError(
                f"site {site.name!r}: required an input like the new column's {site.in_shape} in every source column, "
                f"found {sender.in_shape}; choose sites at which the columns agree but for their features."
            )


def adapter_from(description: dict[str, Any]) -> Adapter:
    """The adapter that `Adapter.describe` described.

    Raises:
        ConfigError: when its kind is not defined, or its arguments do not fit.
    """
    kinds = {kind.__name__: kind for kind in Adapter.__subclasses__()}
    kind = kinds.get(description["kind"])
    if kind is None:
        raise ConfigError(
            f"adapter: required one of {sorted(kinds)}, found {description['kind']!r}; import the module that "
            "defines it."
        )
    try:
        return kind(**description["arguments"])
    except TypeError as error:
        raise ConfigError(f"adapter: required the arguments of {kind.__name__}, found {error}.") from error
