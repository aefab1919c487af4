"""One look for every figure: a fixed colour, line and marker per strategy, told apart without colour as well."""

from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

Dashes = tuple[float, tuple[float, ...]]


@dataclass(frozen=True, slots=True)
class Style:
    """How one strategy is drawn."""

    colour: str
    dashes: Dashes
    marker: str

    @property
    def line(self) -> dict[str, Any]:
        """Arguments of `Axes.plot` and `Axes.errorbar`."""
        return {"color": self.colour, "linestyle": self.dashes, "marker": self.marker}


_SOLID, _DASHED, _DOTTED = (0.0, ()), (0.0, (5.0, 2.0)), (0.0, (1.0, 1.5))
_DASH_DOT, _LONG, _DASH_DOT_DOT = (0.0, (6.0, 2.0, 1.0, 2.0)), (0.0, (9.0, 3.0)), (0.0, (4.0, 1.5, 1.0, 1.5, 1.0, 1.5))

# the eight colours of Okabe & Ito (2008), their yellow replaced by a grey that shows on white, and two of Tol's
_STRATEGIES: Mapping[str, Style] = MappingProxyType(
    {
        "progressive": Style("#0072B2", _SOLID, "o"),
        "finetune": Style("#D55E00", _DASHED, "s"),
        "multitask": Style("#009E73", _DASH_DOT, "^"),
        "independent": Style("#000000", _DOTTED, "D"),
        "independent-wide": Style("#E69F00", _LONG, "v"),
        "progressive-random": Style("#56B4E9", _DASH_DOT_DOT, "P"),
        "finetune-head": Style("#CC79A7", _DOTTED, "X"),
        "progressive-linear": Style("#7F7F7F", _DASHED, "<"),
        "progressive-paper": Style("#332288", _DASH_DOT, ">"),
        "multitask-cumulative": Style("#117733", _LONG, "*"),
        "ewc": Style("#B22222", _DASHED, "o"),
        "lwf": Style("#4B0082", _DASH_DOT, "D"),
        "si": Style("#808000", _DOTTED, "^"),
        "mas": Style("#20808D", _LONG, "s"),
        "replay": Style("#8B4513", _DASH_DOT_DOT, "v"),
        "agem": Style("#C71585", _SOLID, "X"),
    }
)
_OTHERS = (
    Style("#882255", _SOLID, "h"),
    Style("#999933", _DASHED, "d"),
    Style("#44AA99", _DASH_DOT, "p"),
    Style("#AA4499", _DOTTED, "8"),
    Style("#661100", _LONG, "H"),
    Style("#6699CC", _DASH_DOT_DOT, "s"),
)

_LOOK: Mapping[Any, Any] = MappingProxyType(
    {
        "axes.axisbelow": True,
        "axes.grid": True,
        "axes.labelsize": 9,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 9,
        "errorbar.capsize": 2,
        "figure.titlesize": 11,
        "font.family": "DejaVu Sans",  # ships with matplotlib: the same on every machine
        "font.size": 9,
        "grid.alpha": 0.6,
        "grid.color": "#dddddd",
        "grid.linewidth": 0.6,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "lines.linewidth": 1.6,
        "lines.markersize": 4,
        "svg.fonttype": "path",
        "svg.hashsalt": "prognet",  # the same figure is the same file
        "text.parse_math": False,  # names are names, also those with a dollar sign
        "xtick.labelsize": 8,
        "ytick.labelsize": 8,
    }
)


def look() -> AbstractContextManager[None]:
    """The settings under which figures are drawn and written; the user's own come back afterwards."""
    from matplotlib import rc_context, rcParamsDefault

    defaults: dict[Any, Any] = {key: rcParamsDefault[key] for key in rcParamsDefault if not key.startswith("backend")}
    return rc_context({**defaults, **_LOOK})


def styles(names: Iterable[str]) -> dict[str, Style]:
    """A style per strategy: fixed for the names of the catalogue, by alphabetical rank for all others."""
    wanted = tuple(names)
    unknown = sorted(set(wanted).difference(_STRATEGIES))
    others = {name: _OTHERS[rank % len(_OTHERS)] for rank, name in enumerate(unknown)}
    return {name: _STRATEGIES.get(name) or others[name] for name in wanted}
