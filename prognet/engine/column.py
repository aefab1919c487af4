"""A column: a plain network whose sites are read by later columns and receive laterals from earlier ones."""

from collections.abc import Sequence
from itertools import chain

import torch
from torch import Tensor, nn

from prognet.engine.adapters import Adapter
from prognet.engine.sites import Activations, Site, Visit, attach
from prognet.errors import ConfigError, SiteError


class Column(nn.Module):
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
    ) -> None:
        """Makes the adapters and hooks the backbone for good.

        Args:
            backbone: the network; it can still be called by itself, without laterals.
            sites: the sites of the backbone, as `probe` measured them.
            senders: the sites of each source column that have a name in `sites`, in the order of `sources`.
            adapter: how laterals are built; not needed without sources.
            sources: indices of the source columns in their network.

        Raises:
            SiteError: when a source lacks a site, or the shapes cannot be joined.
        """
        super().__init__()
        self.sites = tuple(sites)
        self.sources = tuple(sources)
        self.adapter = adapter if self.sources else None
        self.frozen = False
        self.backbone = backbone
        self.adapters = nn.ModuleDict()
        if self.adapter is not None:
            for site in self.sites:
                module = self.adapter.build([_site_named(site.name, sender) for sender in senders], site)
                self.adapters[_key(site.name)] = _like(module, backbone)
        self._visit = Visit(self._join)
        attach(backbone, [site.name for site in self.sites], self._visit)

    def forward(self, x: Tensor, past: Sequence[Activations] = ()) -> tuple[Tensor, Activations]:
        """Runs the column on a batch.

        Args:
            x: the input, (B, *input_shape).
            past: the activations of every source column on the same input, in the order of `sources`.

        Returns:
            The output (B, *output_shape), and what each site received.

        Raises:
            ConfigError: when `past` does not hold one mapping per source.
            SiteError: when a site was not called exactly once, as in a backbone that was compiled before it became a
                column, or when a lateral does not fit there.
        """
        if len(past) != len(self.sources):
            raise ConfigError(f"past: required the activations of columns {list(self.sources)}, found {len(past)}.")
        y, received = self._visit.run(self.backbone, x, past)
        if len(received) != len(self.sites):
            missing = [site.name for site in self.sites if site.name not in received]
            raise SiteError(
                f"sites {missing}: required one call a forward pass, found none; add the backbone before it is "
                "compiled, and without branches that leave a site out."
            )
        return y, received

    def _join(self, name: str, output: Tensor, past: Sequence[Activations]) -> Tensor:
        """y_s = m_s(x_s) + a_s(past)."""
        if not self.sources:
            return output
        if self._visit.with_gradients and not torch.is_grad_enabled() and not self.frozen:
            raise SiteError(
                f"site {name!r}: required gradients as in the rest of the column, found them off, so that its lateral "
                "would not learn; choose as site the block that holds the no_grad or the checkpoint."
            )
        lateral: Tensor = self.adapters[_key(name)]([activations[name] for activations in past])
        if lateral.shape != output.shape:
            raise SiteError(
                f"site {name!r}: required a lateral of the shape of the output {tuple(output.shape)}, found "
                f"{tuple(lateral.shape)}; call it with inputs like the example, and a past on the same batch."
            )
        return output + lateral

    def freeze(self) -> "Column":
        """Ends learning for good: evaluation mode, no gradients; returns the column."""
        self.frozen = True
        self.requires_grad_(False)
        for parameter in self.parameters():
            parameter.grad = None
        return self.train(False)

    def train(self, mode: bool = True) -> "Column":
        """As in torch, but a frozen column stays in evaluation mode, with its BatchNorm statistics and dropout."""
        super().train(mode and not self.frozen)
        return self

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
