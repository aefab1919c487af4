"""How large the laterals of a column are beside the column itself."""

import warnings
from collections.abc import Sequence

import torch
from torch import nn

from prognet.engine.adapters import Adapter
from prognet.engine.column import Column
from prognet.engine.sites import Site
from prognet.errors import AdapterSizeWarning

WORTH_A_WARNING = 1_000_000
"""Parameters of the adapters of one column, below which nobody has to be told: four megabytes in single precision."""


def count_parameters(module: nn.Module) -> int:
    """The number of parameters, each counted once."""
    return sum(parameter.numel() for parameter in module.parameters())


def adapter_parameters(adapter: Adapter, senders: Sequence[Sequence[Site]], sites: Sequence[Site]) -> int:
    """The parameters of all laterals of a column to be, without making any of them.

    Args:
        adapter: their specification.
        senders: for every site the sites of its name in the source columns.
        sites: the sites of the column.

    Raises:
        SiteError: when the shapes cannot be joined.
    """
    with torch.device("meta"):
        return sum(count_parameters(adapter.build(sources, site)) for sources, site in zip(senders, sites, strict=True))


def outweighs(column: Column) -> bool:
    """Whether a column's adapters have more parameters than its backbone, and so many that it matters."""
    adapters = count_parameters(column.adapters)
    return adapters > WORTH_A_WARNING and adapters > count_parameters(column.backbone)


def warn_of_size(earlier: Sequence[Column], column: Column) -> None:
    """Warns where the adapters of a new column outweigh it, once for a network.

    In a small network all sources together soon outweigh a column: with the equation's own hidden width every one of
    them costs about as much as the layers that it joins. That is the known growth with the number of columns, and free
    at that size; a warning for it would be heard in every run. What has to be said is that a choice (leaf sites in a
    modern network, the full hidden width at wide blocks, many sources) has made the new column mostly adapter, at the
    first column where it has. Later columns have more sources, so the same remedies, and no second warning.
    """
    if not outweighs(column) or any(outweighs(other) for other in earlier):
        return
    adapters, backbone = count_parameters(column.adapters), count_parameters(column.backbone)
    warnings.warn(
        f"column {len(earlier)}: its adapters have {adapters:,} parameters, {adapters / max(backbone, 1):.1f} times "
        f"the {backbone:,} of its backbone; take a bottleneck such as MLPAdapter(hidden=0.25), fewer sources, or "
        "coarser sites (sites='blocks'). Later columns are not reported.",
        AdapterSizeWarning,
        stacklevel=3,  # whoever adds the column
    )
