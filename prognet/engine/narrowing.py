"""Laterals with fewer sources: what is left of a column's adapters when its sites stop reading some earlier columns.

The parameters really go: V loses the inputs of the source that is let go, alpha its entry, and a site without any
source has no adapter. Where the mean of what the source handed over is known, its share moves into the bias of V, so
that the lateral is then the one in which the source was replaced by its mean. What was solved in closed form keeps
what it says of the sources that are left, as what was learned does.
"""

from collections.abc import Collection, Mapping, Sequence

import torch
from torch import Tensor, nn

from prognet.engine.adapters import Adapter, LinearAdapter, MLPAdapter
from prognet.engine.column import Column
from prognet.engine.laterals import LinearLateral, MLPLateral
from prognet.engine.sites import Site
from prognet.engine.solved import SolvedLateral, reader_of
from prognet.errors import ConfigError

Lateral = tuple[str, int]
"""(site, index of the source column)."""

NARROWABLE: tuple[type[Adapter], ...] = (LinearAdapter, MLPAdapter)
"""The adapters whose laterals can lose a source."""


def laterals_of(column: Column) -> tuple[Lateral, ...]:
    """Every lateral of a column, site by site."""
    return tuple((site, source) for site, read in column.reads.items() for source in read)


def remove_laterals(
    column: Column,
    senders: Mapping[int, Sequence[Site]],
    removed: Collection[Lateral],
    means: Mapping[Lateral, Tensor] | None = None,
) -> None:
    """Takes laterals out of a column that is not frozen; a source that no site reads any more leaves its sources.

    Args:
        column: the column.
        senders: the sites of each of its source columns, by index.
        removed: what is taken out.
        means: for some of it, the mean of what the lateral gets from the source, (features,), to be kept as a constant.

    Raises:
        ConfigError: when the column has no such lateral, or its adapter is none that can lose a source.
        FrozenColumnError: when the column is frozen.
    """
    unknown = sorted(set(removed) - set(laterals_of(column)))
    if unknown:
        raise ConfigError(f"removed: required laterals of the column, found {unknown}.")
    laterals: dict[str, tuple[tuple[int, ...], nn.Module]] = {}
    for site in column.sites:
        read = column.reads[site.name]
        kept = tuple(source for source in read if (site.name, source) not in removed)
        module = column.lateral(site.name)
        if not kept or module is None:
            continue
        if kept != read:
            sites = {source: _named(site.name, senders[source]) for source in read}
            known = {source: (means or {}).get((site.name, source)) for source in read}
            module = _narrowed(column.adapter, module, site, sites, kept, known)
        laterals[site.name] = (kept, module)
    column.narrow(laterals)


def _narrowed(
    adapter: Adapter | None,
    old: nn.Module,
    site: Site,
    senders: Mapping[int, Site],
    kept: Sequence[int],
    means: Mapping[int, Tensor | None],
) -> nn.Module:
    reader = reader_of(old)
    if type(adapter) not in NARROWABLE or not isinstance(reader, MLPLateral | LinearLateral):
        raise ConfigError(f"adapter: required one of {[kind.__name__ for kind in NARROWABLE]}, found {adapter!r}.")
    assert adapter is not None
    places = [place for place, source in enumerate(senders) if source in kept]
    inputs = _inputs([sender.in_shape[0 if site.channels == "first" else -1] for sender in senders.values()])
    columns = torch.cat([inputs[place] for place in places])
    with torch.device("meta"):  # the structure of the smaller lateral, without numbers
        new = adapter.build([senders[source] for source in kept], site)
    reference = next(old.parameters())
    new = new.to_empty(device=reference.device).to(reference.dtype).train(old.training)
    smaller = reader_of(new)
    assert smaller is not None
    with torch.no_grad():
        own, reading = dict(reader.named_parameters()), "V.weight" if isinstance(reader, MLPLateral) else "U.weight"
        for name, parameter in smaller.named_parameters():
            parameter.copy_(_part(name, own, places, columns, reading))
        gone = {place: mean for place, mean in enumerate(means.values()) if place not in places and mean is not None}
        if isinstance(reader, MLPLateral) and isinstance(smaller, MLPLateral):
            for place, mean in gone.items():
                weight = reader.V.get_parameter("weight").flatten(1)[:, inputs[place]]  # (hidden, features)
                smaller.V.get_parameter("bias").add_(weight @ (reader.alpha[place] * mean.to(weight)))
        if isinstance(old, SolvedLateral) and isinstance(new, SolvedLateral):
            weight = old.solved.weight  # (C, features of all sources)
            constant = sum(weight[:, inputs[place]] @ mean.to(weight) for place, mean in gone.items())
            new.solve(weight[:, columns], old.solved.bias + constant)
    return new


def _part(name: str, own: Mapping[str, Tensor], places: Sequence[int], columns: Tensor, reading: str) -> Tensor:
    """What a parameter of the smaller lateral takes over from the larger one."""
    if name == reading:
        return own[name][:, columns]
    if name == "alpha":
        return own[name][places]
    if name.startswith("align.norms."):
        _, _, place, kind = name.split(".")
        return own[f"align.norms.{places[int(place)]}.{kind}"]
    return own[name]


def _inputs(features: Sequence[int]) -> list[Tensor]:
    """Which inputs of the first map belong to each source."""
    return list(torch.split(torch.arange(sum(features)), list(features)))


def _named(name: str, sites: Sequence[Site]) -> Site:
    return next(site for site in sites if site.name == name)
