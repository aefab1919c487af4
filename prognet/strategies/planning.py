"""What the next column will be: its sources and its width, within what a budget leaves for it."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import torch

from prognet.backbones import accepts_width
from prognet.engine import ProgressiveNetwork, probe
from prognet.engine.column import Column
from prognet.strategies.base import Backbone, example_of, network_for
from prognet.streams.task import Task
from prognet.training import count_parameters

NARROWEST = 1 / 16
"""The smallest factor of a backbone's widths that is tried."""
_HALVINGS = 24

Size = Callable[[Sequence[int], float], int]
"""(sources, width) -> the parameters of a new column with its adapters."""


@dataclass(frozen=True)
class Plan:
    """What a new column will be."""

    sources: tuple[int, ...]
    """The columns that it reads."""
    width: float
    """Factor of the backbone's widths."""


def allowance(budget: int, used: int, smallest: Mapping[int, int], label: int) -> int:
    """The parameters that the next column may have.

    Every task to come is sure of its smallest column. What is left beyond that is shared equally among them, anew
    before each; what one does not use goes on to the later ones.

    Args:
        budget: parameters of the whole network at most.
        used: parameters that are there already.
        smallest: of every task that has not been learned, the parameters of its smallest column, by label.
        label: the task that is learned next.
    """
    return smallest[label] + (budget - used - sum(smallest.values())) // len(smallest)


def plan_within(allowance: int, ranked: Sequence[int], limit: float, size: Size, least: float) -> Plan:
    """The column that fits into an allowance.

    First sources go, the last in rank first, until one is left; then the column becomes narrower; if that is not enough
    it reads nothing, and is as wide as fits.

    Args:
        allowance: parameters at most; enough for the smallest column without sources.
        ranked: the sources, best first.
        limit: the largest width.
        size: what columns cost.
        least: the smallest width.
    """
    for count in range(len(ranked), 0, -1):
        if size(ranked[:count], limit) <= allowance:
            return Plan(tuple(ranked[:count]), limit)
    if ranked and (width := widest(partial(size, ranked[:1]), allowance, limit, least)) is not None:
        return Plan((ranked[0],), width)
    width = widest(partial(size, ()), allowance, limit, least)
    return Plan((), min(limit, least) if width is None else width)


def narrowest(backbone: Backbone) -> float:
    """The smallest width of a backbone that a budget may choose: `NARROWEST`, or 1 where it takes none."""
    return NARROWEST if accepts_width(backbone) else 1.0


def widest(size: Callable[[float], int], largest: int, limit: float, least: float) -> float | None:
    """The largest width from `least` to `limit` with at most `largest` parameters; None where even `least` has more."""
    if size(limit) <= largest:
        return limit
    low, high = min(limit, least), limit
    if size(low) > largest:
        return None
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        low, high = (middle, high) if size(middle) <= largest else (low, middle)
    return low


def column_size(
    network: ProgressiveNetwork,
    backbone: Backbone,
    task: Task,
    sites: Sequence[str] | str | None,
    sources: Sequence[int],
    width: float,
) -> int:
    """The parameters of a column that would be added for a task; it is made on torch's meta device, without numbers."""
    read = sorted(sources)
    with torch.device("meta"):
        module = network_for(backbone, task, width)
        found = probe(module, example_of(task), sites).sites
        return count_parameters(
            Column(module, found, [network.column(source).sites for source in read], network.adapter, read)
        )
