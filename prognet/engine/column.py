"""A column: a plain network whose sites are read by later columns and receive laterals from earlier ones."""

from collections.abc import Mapping, Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from prognet.engine.adapters import Adapter
from prognet.engine.digest import digest_from, fingerprints, structure_of
from prognet.engine.freezing import Freezable
from prognet.engine.laterals import Lateral
from prognet.engine.prepared import Past, Prepared
from prognet.engine.sites import Activations, Site, Visit, attach
from prognet.errors import ConfigError, FrozenColumnError, SiteError


class Column(Freezable):
    r"""One column of a progressive network; at every site s of column k

        y_s = m_s(x_s) + a_s(x_s^(1), ..., x_s^(k-1))

    where m_s is the module of the site, x_s what it receives, and x_s^(j) what the site received in source column j.
    When the sites are the layers after the first one this is equation 2 of Rusu et al. 2016 (arXiv 1606.04671).

    A frozen column stays in evaluation mode whatever its parents are told, and none of its parameters has a gradient.
    One column cannot run in two threads at once.
    """

    def __init__(
        self,
        backbone: nn.Module,
        sites: Sequence[Site],
        senders: Sequence[Sequence[Site]] = (),
        adapter: Adapter | None = None,
        sources: Sequence[int] = (),
        reads: Mapping[str, Sequence[int]] | None = None,
    ) -> None:
        """Makes the adapters and hooks the backbone for good.

        Args:
            backbone: the network; it can still be called by itself, without laterals.
            sites: the sites of the backbone, as `probe` measured them.
            senders: the sites of each source column that have a name in `sites`, in the order of `sources`.
            adapter: how laterals are built; not needed without sources.
            sources: indices of the source columns in their network.
            reads: those sources from which a site has a lateral, by its name; None for all of them at every site.

        Raises:
            SiteError: when a source lacks a site, or the shapes cannot be joined.
        """
        super().__init__()
        self.sites = tuple(sites)
        self.sources = tuple(sources)
        self.adapter = adapter if self.sources else None
        self.reads = self._checked({site.name: self.sources for site in self.sites} if reads is None else reads)
        self.input_shape: tuple[int, ...] = ()
        self.output_shape: tuple[int, ...] = ()
        self.backbone = backbone
        self.adapters = nn.ModuleDict()
        if self.adapter is not None:
            by_source = dict(zip(self.sources, senders, strict=True))
            for site in self.sites:
                if read := [_site_named(site.name, by_source[source]) for source in self.reads[site.name]]:
                    self.adapters[_key(site.name)] = _like(self.adapter.build(read, site), backbone)
        self._visit = Visit(self._join)
        attach(backbone, [site.name for site in self.sites], self._visit)

    def forward(self, x: Tensor, past: Past = ()) -> tuple[Tensor, Activations]:
        """Runs the column on a batch.

        Args:
            x: the input, (B, *input_shape).
            past: the activations of every source column on the same input, in the order of `sources`; or what
                `prepare` made of them.

        Returns:
            The output (B, *output_shape), and what each site received.

        Raises:
            ConfigError: when `past` does not hold one mapping per source.
            SiteError: when a site was not called exactly once, as in a backbone that was compiled before it became a
                column, or when a lateral does not fit there.
        """
        if not isinstance(past, Prepared) and len(past) != len(self.sources):
            raise ConfigError(f"past: required the activations of columns {list(self.sources)}, found {len(past)}.")
        y, received = self._visit.run(self.backbone, x, past)
        if len(received) != len(self.sites):
            missing = [site.name for site in self.sites if site.name not in received]
            raise SiteError(
                f"sites {missing}: required one call a forward pass, found none; add the backbone before it is "
                "compiled, and without branches that leave a site out."
            )
        return y, received

    def prepare(self, past: Sequence[Activations]) -> Prepared:
        """What the laterals of all sites make of the past without any parameter: the same in every update."""
        return Prepared({site: self._handed(site, past) for site, read in self.reads.items() if read})

    def _handed(self, name: str, past: Sequence[Activations]) -> tuple[Tensor, ...]:
        """What the sources hand over at a site: prepared in one tensor, or one of each for laterals of another kind."""
        read, lateral = self.reads[name], self.adapters[_key(name)]
        handed = [past[place][name] for place, source in enumerate(self.sources) if source in read]
        return (lateral.prepare(handed),) if isinstance(lateral, Lateral) else tuple(handed)

    def _join(self, name: str, output: Tensor, past: Past) -> Tensor:
        """y_s = m_s(x_s) + a_s(past)."""
        read = self.reads[name]
        if not read:
            return output
        if self._visit.with_gradients and not torch.is_grad_enabled() and not self.frozen:
            raise SiteError(
                f"site {name!r}: required gradients as in the rest of the column, found them off, so that its lateral "
                "would not learn; choose as site the block that holds the no_grad or the checkpoint."
            )
        handed = past[name] if isinstance(past, Prepared) else self._handed(name, past)
        adapter = self.adapters[_key(name)]
        lateral: Tensor = adapter(handed[0] if isinstance(adapter, Lateral) else handed)
        if lateral.shape != output.shape:
            raise SiteError(
                f"site {name!r}: required a lateral of the shape of the output {tuple(output.shape)}, found "
                f"{tuple(lateral.shape)}; call it with inputs like the example, and a past on the same batch."
            )
        return output + lateral

    def lateral(self, site: str) -> nn.Module | None:
        """The adapter of a site; None where it has none."""
        return self.adapters[_key(site)] if self.reads[site] else None

    def narrow(self, laterals: Mapping[str, tuple[Sequence[int], nn.Module]]) -> None:
        """Puts narrower laterals in the place of those there are; a source that no site reads any more is let go.

        Args:
            laterals: by site, the sources that it still reads and the adapter for them; no lateral where it is missing.

        Raises:
            FrozenColumnError: when the column is frozen.
            ConfigError: when there is no such site, or a source is none of the column's.
        """
        if self.frozen:
            raise FrozenColumnError("column: required one that is not frozen, found a frozen one; prune it before.")
        self.reads = self._checked({site: read for site, (read, _) in laterals.items()})
        left = {source for read in self.reads.values() for source in read}
        self.sources = tuple(source for source in self.sources if source in left)
        self.adapter = self.adapter if self.sources else None
        self.adapters = nn.ModuleDict({_key(site): module for site, (read, module) in laterals.items() if read})

    def renumber(self, numbers: Mapping[int, int]) -> None:
        """Gives the source columns other indices, in the same order: for a column that moves into another network."""
        self.sources = tuple(numbers[source] for source in self.sources)
        self.reads = {site: tuple(numbers[source] for source in read) for site, read in self.reads.items()}

    @property
    def pruned(self) -> bool:
        """Whether a site lacks the lateral from a source that another site reads."""
        return any(read != self.sources for read in self.reads.values())

    def _checked(self, reads: Mapping[str, Sequence[int]]) -> dict[str, tuple[int, ...]]:
        names = [site.name for site in self.sites]
        for name, read in reads.items():
            if name not in names or not set(read) <= set(self.sources):
                raise ConfigError(
                    f"reads: required sites {names} and sources {list(self.sources)}, found {list(read)} at {name!r}."
                )
        return {name: tuple(source for source in self.sources if source in reads.get(name, ())) for name in names}

    def structure(self) -> str:
        """All that decides the output and is no tensor, as text: sites, adapter, modules and their settings.

        Which columns are read is no part of it: that is in their digests, so a column keeps its own in another network.
        """
        adapter = None if self.adapter is None else self.adapter.describe()
        parts = [f"backbone\n{structure_of(self.backbone)}", f"adapters\n{structure_of(self.adapters)}"]
        if self.pruned:
            places = {site: [self.sources.index(source) for source in read] for site, read in self.reads.items()}
            parts.append(f"reads {places!r}")
        return "\n".join([f"sites {self.sites!r}", f"adapter {adapter!r}", *parts])

    def digest(self, source_digests: Sequence[str]) -> str:
        """SHA-256, in hexadecimal, over all that decides the output.

        Args:
            source_digests: the digests of the source columns, in their order.
        """
        return digest_from(self.structure(), fingerprints(self), source_digests)

    def extra_repr(self) -> str:
        return f"sources={list(self.sources)}, frozen={self.frozen}"


def _key(name: str) -> str:
    """A site name as a key of a ModuleDict, which allows no dots and none of its own methods' names."""
    key = name.replace(".", "/")
    return f"{key}/" if hasattr(nn.ModuleDict, key) else key


def _site_named(name: str, sites: Sequence[Site]) -> Site:
    for site in sites:
        if site.name == name:
            return site
    raise SiteError(
        f"site {name!r}: required in every source column, found only {[site.name for site in sites]} in one of them; "
        "name common sites with `sites=`."
    )


def _like(module: nn.Module, backbone: nn.Module) -> nn.Module:
    """The module with the device and floating point type of the backbone."""
    tensors = chain(backbone.parameters(), backbone.buffers())
    reference = next((tensor for tensor in tensors if tensor.is_floating_point()), torch.empty(0))
    return module.to(device=reference.device, dtype=reference.dtype)
