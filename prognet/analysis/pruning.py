"""Pruning of a column's laterals after training, within a budget of accuracy.

Each lateral, from one source at one site, is first cut on its own: its source is replaced by its mean, and the loss of
the column is measured. In ascending order of what that costs, laterals are then taken out for good, as many as the
accuracy allows. The mean of what is taken out stays as a constant where the adapter has a bias for it (equation 2).
"""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from prognet.analysis.recalibration import recalibrate
from prognet.engine import ProgressiveNetwork
from prognet.engine.column import Column
from prognet.engine.laterals import LinearLateral, MLPLateral
from prognet.engine.narrowing import Lateral, laterals_of, remove_laterals
from prognet.engine.sites import Activations, Site
from prognet.engine.solved import reader_of
from prognet.errors import ConfigError
from prognet.training import evaluating

_SLACK = 1e-9


@dataclass(frozen=True)
class Pruning:
    """What was taken out of a column, and what that cost."""

    removed: tuple[Lateral, ...]
    """(site, source), the least missed first."""
    before: tuple[float, ...]
    """Accuracy before, in [0, 1]: on the training samples, and on those that were held out, if any."""
    after: tuple[float, ...]
    """Accuracy after; nowhere more than `drop` below."""


def prune_laterals(
    network: ProgressiveNetwork,
    column: int,
    x: Tensor,
    y: Tensor,
    *,
    held_out: tuple[Tensor, Tensor] | None = None,
    drop: float = 0.005,
    batch_size: int = 256,
) -> Pruning:
    """Takes as many laterals out of a column as an accuracy budget allows.

    What is removed is a beginning of the ascending order of cost, whose length is found by bisection; the accuracy of
    the column that is left has been measured, with its BatchNorm statistics taken anew. What the sources say about the
    inputs is kept while this runs.

    Args:
        network: the network; only this column changes, and its sources where one is read no more.
        column: a column that is not frozen.
        x: training inputs (N, *input_shape), at least two.
        y: their classes, (N,).
        held_out: inputs and classes that were not trained on; the budget then holds on them as well.
        drop: the accuracy that may be lost, in [0, 1).
        batch_size: inputs in a pass.

    Raises:
        ConfigError: when there is no such column, too few inputs, `drop` is out of range, or an adapter cannot lose a
            source.
        FrozenColumnError: when the column is frozen.
    """
    if not 0 <= drop < 1:
        raise ConfigError(f"drop: required a share of the accuracy in [0, 1), found {drop!r}.")
    if len(x) < 2 or len(x) != len(y):
        raise ConfigError(f"x: required two training inputs or more and a class for each, found {len(x)} and {len(y)}.")
    reader = network.column(column)
    senders = senders_of(network, column)
    with evaluating(network):
        trained = _batches(network, reader, x, batch_size)
        splits = [(trained, y)]
        if held_out is not None:
            splits.append((_batches(network, reader, held_out[0], batch_size), held_out[1]))
        means = _means(reader, trained)
        order = _ascending(reader, trained, y)

        def without(count: int, subject: Column) -> tuple[float, ...]:
            remove_laterals(subject, senders, order[:count], means)
            if count:
                recalibrate(subject, lambda: [_run(subject, batch) for batch in trained])
            return tuple(_accuracy(subject, batches, labels) for batches, labels in splits)

        before = without(0, deepcopy(reader))

        def holds(count: int) -> bool:
            after = without(count, deepcopy(reader))
            return all(new >= old - drop - _SLACK for new, old in zip(after, before, strict=True))

        length = _longest(len(order), holds)
        after = without(length, reader) if length else before
    return Pruning(tuple(order[:length]), before, after)


_Batch = tuple[Tensor, Mapping[int, Activations]]
"""Inputs, and what the sources hand over on them, by index of the source."""


def _batches(network: ProgressiveNetwork, reader: Column, x: Tensor, batch_size: int) -> list[_Batch]:
    parts = x.chunk(-(-len(x) // batch_size))  # of equal size, lest a batch of one sample stop a BatchNorm
    names = [site.name for site in reader.sites]
    batches: list[_Batch] = []
    for part in parts:
        found = network.activations(part, reader.sources)
        batches.append((part, {source: {name: found[source][name] for name in names} for source in reader.sources}))
    return batches


def _run(reader: Column, batch: _Batch) -> Tensor:
    x, past = batch
    y, _ = reader(x, [past[source] for source in reader.sources])
    out: Tensor = y
    return out


def _accuracy(reader: Column, batches: Sequence[_Batch], y: Tensor) -> float:
    outputs = torch.cat([_run(reader, batch) for batch in batches])
    return int((outputs.argmax(1) == y).sum()) / len(y)


def _ascending(reader: Column, batches: Sequence[_Batch], y: Tensor) -> list[Lateral]:
    """The laterals in the order of the loss that cutting each alone leads to, the cheapest first."""
    labels = torch.split(y, [len(x) for x, _ in batches])
    constants = {
        lateral: _average([past[lateral[1]][lateral[0]] for _, past in batches]) for lateral in laterals_of(reader)
    }

    def loss(lateral: Lateral) -> float:
        site, source = lateral
        total = 0.0
        for (x, past), part in zip(batches, labels, strict=True):
            fill = constants[lateral].expand_as(past[source][site])
            edited = {**past, source: {**past[source], site: fill}}
            total += float(functional.cross_entropy(_run(reader, (x, edited)), part, reduction="sum"))
        return total

    return sorted(constants, key=loss)


def _average(handed: Sequence[Tensor]) -> Tensor:
    return torch.cat(list(handed)).mean(0, keepdim=True)


def _means(reader: Column, batches: Sequence[_Batch]) -> dict[Lateral, Tensor]:
    """The mean, (features,), of what each lateral gets from each source: pooled, normed, but not scaled by alpha."""
    means: dict[Lateral, Tensor] = {}
    for site, read in reader.reads.items():
        module = reader_of(reader.lateral(site))
        if isinstance(module, MLPLateral | LinearLateral):
            joined = torch.cat([module.align([past[source][site] for source in read]) for _, past in batches])
            handed = joined.movedim(module.align.dim, -1).flatten(0, -2)  # (N, features of all sources)
            parts = torch.split(handed.mean(0), list(module.align.sizes))
            means |= {(site, source): mean for source, mean in zip(read, parts, strict=True)}
    return means


def _longest(largest: int, holds: Callable[[int], bool]) -> int:
    """The length that bisection finds between one at which `holds` is true, at first 0, and one at which it is not."""
    if largest == 0 or holds(largest):
        return largest
    low, high = 0, largest
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def senders_of(network: ProgressiveNetwork, column: int) -> dict[int, tuple[Site, ...]]:
    """The sites of each source of a column, by the index of the source."""
    return {source: network.column(source).sites for source in network.column(column).sources}
