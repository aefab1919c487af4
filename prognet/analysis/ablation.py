"""What a column loses when it can no longer read a source: laterals cut one by one, without training anything again.

Only the reading is cut: in front of the lateral of one site, what one source hands over is replaced. The source itself,
and every other column that reads it, stay as they are, so a source may still count through another one. A loss is that
of the network as it was trained, not of one that was trained without the source.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from prognet.analysis.recalibration import recalibrated
from prognet.engine import ProgressiveNetwork
from prognet.engine.column import Column
from prognet.engine.sites import Activations
from prognet.errors import ConfigError
from prognet.results import Floats
from prognet.training import evaluating

Replacement = Literal["mean", "zero"]
"""What stands in for a source. Its training mean, unit by unit, takes away what the source says about a single input
and leaves the constant that the column has learned to expect. Zero takes that constant away as well: the column is then
moved to where it was never trained, and in front of a BatchNorm the stored statistics no longer fit, so the loss says
more about the shift than about the source."""


@dataclass(frozen=True, eq=False)
class Ablation:
    """The accuracy that a column loses without its sources; negative where it gains."""

    sites: tuple[str, ...]
    sources: tuple[int, ...]
    """The columns that are read directly, in ascending order."""
    accuracy: float
    """Of the column as it is, in [0, 1]."""
    losses: Floats
    """(sites, sources): one source replaced at one site, in units of accuracy."""
    source_losses: Floats
    """(sources,): one source replaced at every site."""
    total_loss: float
    """All sources replaced at every site."""


def lateral_ablation(
    network: ProgressiveNetwork,
    column: int,
    x: Tensor,
    y: Tensor,
    *,
    reference: Tensor | None = None,
    replacement: Replacement = "mean",
    recalibrate: bool = False,
    batch_size: int = 256,
) -> Ablation:
    """The accuracy lost when a source is replaced by a constant, for every site and source of a column.

    What the sources say about x is kept while this runs: memory grows with the samples.

    Args:
        network: the network; it is left as it is.
        column: the column that reads, a classifier.
        x: inputs (B, *input_shape).
        y: their classes, (B,).
        reference: training inputs (N, *input_shape), for the means and for recalibration.
        replacement: `"mean"` or `"zero"`; see `Replacement`.
        recalibrate: whether the column's BatchNorm statistics are measured anew on `reference` after each cut.
        batch_size: inputs that are looked at in one pass.

    Raises:
        ConfigError: when there is no such column, no input, no class for each, or no `reference` where one is needed.
    """
    _check(x, y, reference, replacement, recalibrate)
    reader = network.column(column)
    with evaluating(network):
        cut = _Cut(network, reader, x, y, reference, replacement, recalibrate, batch_size)
        sites, n = tuple(site.name for site in reader.sites), len(reader.sources)
        whole = cut.accuracy([])
        losses = [[whole - cut.accuracy([(site, place)]) for place in range(n)] for site in sites]
        by_source = [whole - cut.accuracy([(site, place) for site in sites]) for place in range(n)]
        total = whole - cut.accuracy([(site, place) for site in sites for place in range(n)])
    table = np.array(losses, dtype=np.float64).reshape(len(sites), n)
    return Ablation(sites, reader.sources, whole, table, np.array(by_source, dtype=np.float64), total)


class _Cut:
    """A column beside what its sources hand over, some of which can be replaced; used in evaluation mode."""

    def __init__(
        self,
        network: ProgressiveNetwork,
        reader: Column,
        x: Tensor,
        y: Tensor,
        reference: Tensor | None,
        replacement: Replacement,
        recalibrate: bool,
        batch_size: int,
    ) -> None:
        self._reader, self._n = reader, len(x)
        self._batches = [(part, _past(network, reader, part)) for part in torch.split(x, batch_size)]
        self._labels = torch.split(y, batch_size)
        known = reference is not None and (recalibrate or replacement == "mean")
        # of equal size, lest a last batch of one sample stop a BatchNorm
        parts = reference.chunk(-(-len(reference) // batch_size)) if reference is not None and known else ()
        training = [(part, _past(network, reader, part)) for part in parts]
        self._training = training if recalibrate else None
        self._fill = _means(training) if replacement == "mean" else None

    def accuracy(self, cuts: Sequence[tuple[str, int]]) -> float:
        """The accuracy without these (site, position among the sources)."""
        again = nullcontext() if self._training is None else recalibrated(self._reader, partial(self._train, cuts))
        with again:
            hits = [
                (self._output(batch, cuts).argmax(1) == labels).sum()
                for batch, labels in zip(self._batches, self._labels, strict=True)
            ]
        return int(torch.stack(hits).sum()) / self._n

    def _train(self, cuts: Sequence[tuple[str, int]]) -> None:
        for batch in self._training or ():
            self._output(batch, cuts)

    def _output(self, batch: tuple[Tensor, list[Activations]], cuts: Sequence[tuple[str, int]]) -> Tensor:
        x, past = batch
        edited = [dict(activations) for activations in past]
        for site, place in cuts:
            h = past[place][site]
            edited[place][site] = torch.zeros_like(h) if self._fill is None else self._fill[place][site].expand_as(h)
        y, _ = self._reader(x, edited)
        out: Tensor = y
        return out


def _past(network: ProgressiveNetwork, reader: Column, x: Tensor) -> list[Activations]:
    """What the sources hand over to the sites of the reader, in the order of its sources."""
    found = network.activations(x, reader.sources)
    return [{site.name: found[source][site.name] for site in reader.sites} for source in reader.sources]


def _means(batches: Sequence[tuple[Tensor, list[Activations]]]) -> list[Activations]:
    """The mean over all samples of everything that is handed over, (1, *in_shape), by source and site."""
    pasts = [past for _, past in batches]
    return [
        {site: torch.cat([past[place][site] for past in pasts]).mean(0, keepdim=True) for site in pasts[0][place]}
        for place in range(len(pasts[0]))
    ]


def _check(x: Tensor, y: Tensor, reference: Tensor | None, replacement: str, recalibrate: bool) -> None:
    if replacement not in ("mean", "zero"):
        raise ConfigError(f"replacement: required 'mean' or 'zero', found {replacement!r}.")
    if not len(x) or len(x) != len(y):
        raise ConfigError(f"y: required one class for each of at least one input, found {len(y)} for {len(x)}.")
    if (replacement == "mean" or recalibrate) and (reference is None or not len(reference)):
        raise ConfigError(
            "reference: required training inputs for their mean or for recalibration, found none; give some, or "
            "choose replacement='zero' without recalibrate."
        )
