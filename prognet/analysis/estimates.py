"""Every estimate of what a column knows about a new task, from one look at its features and outputs."""

from collections.abc import Callable, Mapping, Sequence
from math import isnan
from types import MappingProxyType
from typing import Literal

import torch
from torch import Tensor

from prognet.analysis.relatedness import knn_accuracy, penultimate_features
from prognet.analysis.ridge import ridge_fit
from prognet.analysis.transferability import h_score, label_alignment, leep, log_me, nce
from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError
from prognet.training import evaluating

Estimate = Literal["knn", "ridge", "leep", "nce", "logme", "hscore", "cka"]
"""`"knn"`: leave-one-out accuracy of 3 nearest neighbours on the standardised features of the output layer; `"ridge"`:
minus the leave-one-out cross-entropy of a ridge regression on them; `"leep"` and `"nce"`: what the column's own outputs
say about the new labels; `"logme"` and `"hscore"`: evidence of a linear regression, and variance between classes, of
the features; `"cka"`: their debiased alignment with the labels. All are larger where more is known."""

_OF_FEATURES: Mapping[Estimate, Callable[[Tensor, Tensor, int], float]] = MappingProxyType(
    {
        "knn": lambda features, y, n_classes: knn_accuracy(features, y),
        "ridge": lambda features, y, n_classes: -ridge_fit(features, y, n_classes).cross_entropy,
        "logme": lambda features, y, n_classes: log_me(features, y),
        "hscore": lambda features, y, n_classes: h_score(features, y),
        "cka": lambda features, y, n_classes: label_alignment(features, y),
    }
)
_OF_OUTPUTS: Mapping[Estimate, Callable[[Tensor, Tensor, int], float]] = MappingProxyType(
    {
        "leep": lambda logits, y, n_classes: leep(logits.double().softmax(1), y),
        "nce": lambda logits, y, n_classes: nce(logits.argmax(1), y),
    }
)
OF_OUTPUTS: frozenset[Estimate] = frozenset(_OF_OUTPUTS)
"""Those that look at a column's outputs, which have to be logits of classes."""
LEAST = 4
"""Samples that every estimate can do with."""


def estimates(
    network: ProgressiveNetwork,
    columns: Sequence[int],
    x: Tensor,
    y: Tensor,
    n_classes: int,
    names: Sequence[Estimate],
    *,
    batch_size: int = 256,
) -> dict[Estimate, list[float]]:
    """What every column knows about a task, by each of several estimates.

    Args:
        network: the network; it is left as it is.
        columns: the columns to look at.
        x: training inputs of the task (N, *input_shape), on the device of the network; at least `LEAST`.
        y: their classes (N,), in [0, n_classes).
        n_classes: C.
        names: the estimates.
        batch_size: inputs in a pass.

    Returns:
        By name, one value a column; -1 where an estimate is not defined: `"cka"` where the features are the same for
        every sample or no two labels are alike, `"logme"` where all labels are.

    Raises:
        ConfigError: when there is no such column, too few inputs, or a column's outputs are no logits of classes.
    """
    found: dict[Estimate, list[float]] = {}
    wanted = [name for name in names if name in _OF_FEATURES]
    features = penultimate_features(network, columns, x, batch_size=batch_size) if wanted else {}
    logits = _logits(network, columns, x, batch_size) if len(wanted) < len(names) else {}
    for name in names:
        measure, values = (_OF_FEATURES[name], features) if name in _OF_FEATURES else (_OF_OUTPUTS[name], logits)
        found[name] = [_known(measure(values[column], y, n_classes)) for column in columns]
    return found


def _logits(network: ProgressiveNetwork, columns: Sequence[int], x: Tensor, batch_size: int) -> dict[int, Tensor]:
    with evaluating(network):
        found = {
            column: torch.cat([network(part, column=column) for part in torch.split(x, batch_size)])
            for column in columns
        }
    for column, outputs in found.items():
        if outputs.ndim != 2:
            raise ConfigError(
                f"column {column}: required logits of classes (N, C) for LEEP and NCE, found outputs "
                f"{tuple(outputs.shape)}; take an estimate of the features instead."
            )
    return found


def _known(value: float) -> float:
    return -1.0 if isnan(value) else value
