"""Which earlier columns know something about a new task: evidence from their features, before anything is trained.

The features of a column are what its output layer receives, on the training inputs of the new task. Frozen columns are
run with their own laterals, so the features are those that their own task is predicted from.
"""

from collections.abc import Callable, Sequence
from contextlib import ExitStack

import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.engine import ProgressiveNetwork, probe
from prognet.engine.sites import edited
from prognet.errors import ConfigError
from prognet.training import evaluating

_FLOOR = 1e-6


def penultimate_features(
    network: ProgressiveNetwork, columns: Sequence[int], x: Tensor, *, batch_size: int = 256
) -> dict[int, Tensor]:
    """What the output layer of each column receives; images are averaged over pixels, tokens over their positions.

    The output layer is the last called layer whose output is that of the column's backbone, whether it is a site or
    not. All columns and those that they read are run once for each batch.

    Args:
        network: the network; it is left as it is.
        columns: the columns to look at.
        x: inputs (N, *input_shape), on the device of the network.
        batch_size: inputs in a pass.

    Returns:
        By column, features (N, D), on the device of x.

    Raises:
        ConfigError: when there is no such column, no input, or a column without an output layer.
    """
    if not len(x):
        raise ConfigError("x: required at least one input, found none.")
    heads = {column: _output_layer(network, column, x) for column in columns}
    parts: dict[int, list[Tensor]] = {column: [] for column in columns}
    with evaluating(network), ExitStack() as stack:
        for column, name in heads.items():
            backbone = network.column(column).backbone
            note = _noting(parts[column], backbone.get_submodule(name))
            stack.enter_context(edited(backbone, {name: note}))
        for batch in torch.split(x, batch_size):
            network.activations(batch, columns)
    return {column: torch.cat(found) for column, found in parts.items()}


def has_features(network: ProgressiveNetwork, columns: Sequence[int], x: Tensor) -> bool:
    """Whether every one of the columns has an output layer, whose input are its features.

    Args:
        network: the network; it is left as it is.
        columns: the columns to look at.
        x: inputs (N, *input_shape), at least two, on the device of the network.
    """
    return all(probe(network.column(column).backbone, x[:2]).output_layer is not None for column in columns)


def trunk_features(backbone: nn.Module, x: Tensor, *, batch_size: int = 256) -> Tensor | None:
    """What the output layer of a network receives when it runs by itself, without laterals.

    Args:
        backbone: the network; it is left as it is.
        x: inputs (N, *input_shape), on its device.
        batch_size: inputs in a pass.

    Returns:
        Features (N, D), on the device of x; None where the output layer is no Linear layer that reads vectors.
    """
    name = probe(backbone, x[:2]).output_layer
    if name is None or not isinstance(backbone.get_submodule(name), nn.Linear):
        return None
    found: list[Tensor] = []

    def note(h: Tensor) -> Tensor:
        found.append(h.detach().clone())
        return h

    with evaluating(backbone), edited(backbone, {name: note}):
        for batch in torch.split(x, batch_size):
            backbone(batch)
    return torch.cat(found) if found[0].ndim == 2 else None


def knn_accuracy(features: Tensor, y: Tensor, *, k: int = 3) -> float:
    """Leave-one-out accuracy of k nearest neighbours on standardised features; a tie goes to the class of the nearest.

    Args:
        features: (N, D), at least two samples; every feature is brought to mean 0 and variance 1 over them.
        y: classes (N,).
        k: neighbours, N - 1 at most.

    Returns:
        The share of samples whose neighbours vote for their class, in [0, 1].

    Raises:
        ConfigError: when the shapes do not fit, or there are too few samples.
    """
    if features.ndim != 2 or y.shape != features.shape[:1] or len(features) < 2:
        raise ConfigError(
            "features: required (N, D) and classes (N,) of at least two samples, found "
            f"{tuple(features.shape)} and {tuple(y.shape)}."
        )
    std, mean = torch.std_mean(features.double(), dim=0, correction=0)  # (D,), (D,)
    scaled = (features - mean) / std.clamp_min(_FLOOR)
    distances = torch.cdist(scaled, scaled)  # (N, N)
    distances.fill_diagonal_(float("inf"))
    nearest = distances.topk(min(k, len(features) - 1), largest=False).indices  # (N, k), the nearest first
    votes = functional.one_hot(y[nearest]).double()  # (N, k, C)
    votes[:, 0] *= 1.5  # more than one vote, less than two
    return float((votes.sum(1).argmax(1) == y).double().mean())


def _output_layer(network: ProgressiveNetwork, column: int, x: Tensor) -> str:
    name = probe(network.column(column).backbone, x[:2]).output_layer
    if name is None:
        raise ConfigError(
            f"column {column}: required an output layer, whose input are the features, found none; choose sources by "
            "number instead."
        )
    return name


def _noting(found: list[Tensor], head: nn.Module) -> Callable[[Tensor], Tensor]:
    last = isinstance(head, nn.Linear)

    def note(h: Tensor) -> Tensor:
        features = h if h.ndim == 2 else h.flatten(1, -2).mean(1) if last else h.flatten(2).mean(2)  # (B, D)
        found.append(features.detach().clone())
        return h

    return note
