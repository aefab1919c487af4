"""What one column needs, measured on torch's meta device: shapes and operations without any numbers."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from prognet.capacity import BySources, ColumnCosts
from prognet.engine import Adapter, ProgressiveNetwork, Sites
from prognet.engine.digest import tensors_of
from prognet.engine.size import count_parameters
from prognet.errors import ConfigError
from prognet.training import counting_flops

_SAMPLES, _COLUMNS = 2, 4


def column_costs(
    backbone: Callable[..., nn.Module],
    input_shape: Sequence[int],
    n_classes: int,
    *,
    adapter: Adapter | None = None,
    sites: Sites = None,
) -> ColumnCosts:
    """What a column needs by the number of columns that it reads, all of them with the same shapes.

    Four columns that read all before them are made on the meta device and run once: one and two sources tell what each
    one adds, three that it is the same for every further one.

    Args:
        backbone: (input_shape, n_classes) -> nn.Module.
        input_shape: of one sample.
        n_classes: of every task.
        adapter: the lateral connections; by default `MLPAdapter()`, as in `ProgressiveNetwork`. A strategy's own is
            `Progressive(...).adapter`.
        sites: names or globs of the sites; None for the defaults.

    Raises:
        SiteError: when the backbone breaks the contract of a column.
        ConfigError: when the adapter does not grow by the same with every source.
    """
    network = ProgressiveNetwork(adapter)
    found: dict[str, list[float]] = {}
    with torch.device("meta"):
        x = torch.zeros(_SAMPLES, *input_shape)
        for _ in range(_COLUMNS):
            k = network.add_column(backbone(tuple(input_shape), n_classes), x, sites)
            for name, value in _measured(network, k, x).items():
                found.setdefault(name, []).append(value)
    return ColumnCosts(**{name: _by_sources(name, values, network.adapter) for name, values in found.items()})


def _by_sources(name: str, values: Sequence[float], adapter: Adapter) -> BySources:
    """From the values for 0, 1, 2 and 3 sources."""
    alone, one, two, three = values
    each = two - one
    if three - two != each:
        raise ConfigError(
            f"adapter: required one of which every further source adds the same {name}, found {adapter!r} with "
            f"{one:g}, {two:g} and {three:g} for 1, 2 and 3 sources; count the parameters column by column."
        )
    return BySources(alone=alone, joint=one - each - alone, each=each)


def _measured(network: ProgressiveNetwork, k: int, x: Tensor) -> dict[str, float]:
    """The fields of `ColumnCosts` for the newest column k, on inputs x (B, *input_shape)."""
    column, tensors = network.column(k), [tensor for _, tensor in tensors_of(network.column(k))]
    past = network.activations(x, column.sources)
    prepared = network.prepare(x, k)
    with counting_flops() as updating:
        network.train()(x, column=k, past=prepared).sum().backward()
    with torch.no_grad(), counting_flops() as predicting:
        network.eval().column(k)(x, [past[source] for source in column.sources])
    return {
        "parameters": count_parameters(column),
        "stored_bytes": sum(tensor.numel() * tensor.element_size() for tensor in tensors),
        "tensors": len(tensors),
        "feature_values": sum(h[0].numel() for h in prepared.tensors),
        "forward_flops": predicting.get_total_flops() / _SAMPLES,
        "update_flops": updating.get_total_flops() / _SAMPLES,
    }
