"""Every cheap measure of relatedness between the tasks of a stream, with its control."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call

from prognet.analysed import Pairs
from prognet.analysis.affinity import Loss, Parameters, affinities
from prognet.analysis.distances import class_mean_distance, mean_distance, mmd
from prognet.analysis.estimates import OF_OUTPUTS, Estimate, estimates
from prognet.analysis.relatedness import has_features, penultimate_features
from prognet.analysis.similarity import linear_cka
from prognet.engine import ProgressiveNetwork, probe
from prognet.evaluation.looking import drawn
from prognet.related import PAIR_KEYS
from prognet.results import Floats
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, example_of, network_for
from prognet.streams.objectives import Classification
from prognet.streams.task import Task
from prognet.training import seeded

_ESTIMATES: Mapping[Estimate, str] = {
    name: {"cka": "cka_labels"}.get(name, name) for name in ("knn", "ridge", "leep", "nce", "logme", "hscore", "cka")
}
"""Their keys among the measures."""
_POINTS = 10
"""Of the steps on the shared network, how many are looked at."""


@dataclass(frozen=True, eq=False)
class Relations:
    """By the key of each measure, a matrix (T, T): rows the earlier task, columns the later; NaN elsewhere."""

    values: Mapping[str, Floats]
    shuffled: Mapping[str, Floats]
    samples: tuple[int, ...]


@dataclass(frozen=True, eq=False)
class _Part:
    """Samples of one task as a network sees them, and an order in which its labels say nothing."""

    x: Tensor
    y: Tensor
    order: Tensor
    task: Task

    @property
    def mixed(self) -> Tensor:
        """The labels in that order."""
        return self.y[self.order]


def related(tasks: Sequence[Task]) -> list[Task]:
    """The tasks for which the measures are defined: classifications with samples; none where there is but one."""
    found = [task for task in tasks if isinstance(task.objective, Classification) and len(task.train) >= 4]
    return found if len(found) > 1 else []


def spread(found: Relations, places: Sequence[int], n: int) -> Relations:
    """The relations of some of n tasks at their places among all: NaN for pairs with others, and no samples of them."""

    def of(matrix: Floats) -> Floats:
        whole = np.full((n, n), np.nan)
        whole[np.ix_(places, places)] = matrix
        return whole

    samples = dict(zip(places, found.samples, strict=True))
    return Relations(
        {key: of(matrix) for key, matrix in found.values.items()},
        {key: of(matrix) for key, matrix in found.shuffled.items()},
        tuple(samples.get(place, 0) for place in range(n)),
    )


def relate(
    network: ProgressiveNetwork,
    sources: Mapping[int, int],
    tasks: Sequence[Task],
    backbone: Backbone,
    pairs: Pairs,
    *,
    own: Mapping[int, int] | None = None,
    earlier: Sequence[Task] | None = None,
    seed: int = 0,
    batch_size: int = 256,
) -> Relations:
    """Every measure for every pair of an earlier and a later task, on training samples.

    What a measure needs and is not there, such as the output layer of a column or inputs of one shape, leaves it NaN.

    Args:
        network: holds the columns; it is left as it is.
        sources: by label, the index of the column that learned the task when it was the earlier one.
        tasks: the tasks, in order, as they are learned later: their samples are looked at.
        backbone: makes the network that all tasks share, for the gradients.
        pairs: how it is looked at.
        own: by label, the column that learned the task as the later one; by default `sources`.
        earlier: the tasks as they were learned earlier; by default `tasks`.
        seed: of the samples, the permutations and the shared network.
        batch_size: samples in a pass.

    Raises:
        ConfigError: when a column is missing, or says no logits of classes.
    """
    n, device = len(tasks), next(network.parameters()).device
    looked = [_part(task, pairs, seed, device) for task in tasks]
    before = looked if earlier is None else [_part(task, pairs, seed, device) for task in earlier]
    values = {key: np.full((n, n), np.nan) for key in PAIR_KEYS}
    shuffled = {key: np.full((n, n), np.nan) for key in PAIR_KEYS}
    for t in range(1, n):
        alike = [s for s in range(t) if tasks[s].input_shape == tasks[t].input_shape]
        columns = [sources[tasks[s].label] for s in alike]
        for s in alike:
            for key, (distance, control) in _distances(before[s], looked[t]).items():
                values[key][s, t], shuffled[key][s, t] = distance, control
        if not alike:
            continue
        part, mine = looked[t], (own or sources).get(tasks[t].label)
        whole = has_features(network, columns, part.x)
        names = [name for name in _ESTIMATES if whole or name in OF_OUTPUTS]
        for matrices, y in ((values, part.y), (shuffled, part.mixed)):
            found = estimates(network, columns, part.x, y, part.task.n_classes, names, batch_size=batch_size)
            for name, row in found.items():
                matrices[_ESTIMATES[name]][alike, t] = row
        if whole and mine is not None and has_features(network, [mine], part.x):
            likeness = _likeness(network, columns, mine, part, batch_size)
            values["cka"][alike, t], shuffled["cka"][alike, t] = likeness
    _pull(looked, backbone, pairs, seed, values, shuffled)
    return Relations(values, shuffled, tuple(len(part.y) for part in looked))


def _part(task: Task, pairs: Pairs, seed: int, device: torch.device) -> _Part:
    x, y = drawn(task, task.train, pairs.pair_samples, seed, "relatedness", device)
    generator = torch.Generator().manual_seed(derive_seed(seed, task.label, "relatedness control"))
    return _Part(x, y, torch.randperm(len(y), generator=generator).to(device), task)


def _distances(a: _Part, b: _Part) -> dict[str, tuple[float, float]]:
    """Between inputs; the control mixes the inputs of both tasks, and leaves labels where they were."""
    if a.x.shape[1:] != b.x.shape[1:]:
        return {}
    pool = torch.cat([a.x, b.x])
    generator = torch.Generator().manual_seed(derive_seed(len(a.x), len(b.x), "mixed"))
    pool = pool[torch.randperm(len(pool), generator=generator).to(pool.device)]
    one, other = pool[: len(a.x)], pool[len(a.x) :]
    return {
        "mean_distance": (mean_distance(a.x, b.x), mean_distance(one, other)),
        "class_distance": (
            class_mean_distance(a.x, a.y, b.x, b.y),
            class_mean_distance(one, a.y, other, b.y),
        ),
        "mmd": (mmd(a.x, b.x), mmd(one, other)),
    }


def _likeness(
    network: ProgressiveNetwork, columns: Sequence[int], mine: int, part: _Part, batch_size: int
) -> tuple[list[float], list[float]]:
    features = penultimate_features(network, [*columns, mine], part.x, batch_size=batch_size)
    return (
        [linear_cka(features[column], features[mine], debiased=True) for column in columns],
        [linear_cka(features[column], features[mine][part.order], debiased=True) for column in columns],
    )


def _pull(
    parts: Sequence[_Part],
    backbone: Backbone,
    pairs: Pairs,
    seed: int,
    values: Mapping[str, Floats],
    shuffled: Mapping[str, Floats],
) -> None:
    """Gradient cosine and TAG on a shared network, where one trunk fits all tasks."""
    for matrices, labels in ((values, [part.y for part in parts]), (shuffled, [part.mixed for part in parts])):
        made = _shared(parts, labels, backbone, seed)
        if made is None:
            return
        every = max(1, pairs.tag_steps // _POINTS)
        found = affinities(*made, steps=pairs.tag_steps, lr=pairs.tag_lr, every=every)
        above = np.triu_indices(len(parts), 1)
        matrices["cosine"][above], matrices["lookahead"][above] = found.cosine[above], found.lookahead[above]


def _shared(
    parts: Sequence[_Part], labels: Sequence[Tensor], backbone: Backbone, seed: int
) -> tuple[Parameters, list[Parameters], list[Loss]] | None:
    """The trunk of the first task's network for all tasks, each with an output layer of its own."""
    networks, heads = [], []
    for part in parts:
        device = part.x.device
        with seeded(derive_seed(seed, part.task.label, "backbone"), device):
            network = network_for(backbone, part.task).to(device)
        name = probe(network, example_of(part.task).to(device)).output_layer
        if name is None:
            return None
        networks.append(network.eval())
        heads.append(f"{name}.")
    trunks = [_split(network, head, False) for network, head in zip(networks, heads, strict=True)]
    shapes = [{name: value.shape for name, value in trunk.items()} for trunk in trunks]
    if any(shape != shapes[0] for shape in shapes) or not shapes[0]:
        return None
    own = [_split(network, head, True) for network, head in zip(networks, heads, strict=True)]
    losses = [
        partial(_loss, network, part.task, part.x, y) for network, part, y in zip(networks, parts, labels, strict=True)
    ]
    return trunks[0], list(own), list(losses)


def _split(network: nn.Module, head: str, within: bool) -> dict[str, Tensor]:
    return {name: value for name, value in network.named_parameters() if name.startswith(head) == within}


def _loss(network: nn.Module, task: Task, x: Tensor, y: Tensor, shared: Parameters, own: Parameters) -> Tensor:
    return task.objective.loss(functional_call(network, {**shared, **own}, (x,)), y)
