"""How a new column begins: from scratch or from a copy of an earlier one, with an output layer in closed form.

What speaks for a source is the leave-one-out cross-entropy of a ridge regression on its features, on the new task's own
training samples. It needs no training, and no sample is judged by a fit that has seen it. The features are those of the
plain backbones, since that is what is copied.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log
from time import perf_counter
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from prognet.analysis.relatedness import trunk_features
from prognet.analysis.ridge import RidgeFit, ridge_fit
from prognet.engine import ProgressiveNetwork, probe
from prognet.engine.digest import tensors_of
from prognet.engine.solved import SolvedLateral, solved_laterals
from prognet.errors import ConfigError
from prognet.strategies.base import Strategy, example_of
from prognet.strategies.sources import training_part
from prognet.strategies.specification import Specification
from prognet.streams.objectives import Classification
from prognet.streams.task import Task
from prognet.training import Session, counting_flops, evaluating, record_of_looking

StartName = Literal["scratch", "copy", "head", "auto"]
SAMPLES = 4000
"""Training samples that a start looks at, at most."""
OWN = "own"
_SURE, _USELESS, _FULL = 0.4, 0.9, 0.7


@dataclass(frozen=True, kw_only=True)
class Start(Specification):
    """How columns begin.

    Raises:
        ConfigError: when a value is out of its range.
    """

    kind: StartName = "auto"
    """`"scratch"`: as the backbone initialises itself. `"copy"`: the trunk is a copy of the best source's, and learns.
    `"head"`: the same, and only the output layer and the laterals learn. `"auto"`: a copy where the evidence is for it,
    and else from scratch."""
    margin: float = 0.8
    """A copy is taken by `"auto"` where its cross-entropy is below this share of that of the untrained trunk."""

    def __post_init__(self) -> None:
        if self.kind not in get_args(StartName):
            raise ConfigError(f"start: required one of {get_args(StartName)}, found {self.kind!r}.")
        if not 0 < self.margin <= 1:
            raise ConfigError(f"margin: required a number above 0 and at most 1, found {self.margin!r}.")


def decide_start(
    network: ProgressiveNetwork,
    k: int,
    task: Task,
    session: Session,
    start: Start,
    candidates: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Whether column k, as it was added, begins from a copy, and of which column: of all earlier ones, or `candidates`.

    Returns:
        `"start"`: `"scratch"`, `"copy"` or `"head"`; `"copied"`: the column, or None; `"cross_entropy"`: the evidence
        in nats, by column, `"own"` for the untrained trunk.
    """
    from_scratch: dict[str, Any] = {"start": "scratch", "copied": None, "cross_entropy": {}}
    if start.kind == "scratch" or k == 0 or not _can_be_judged(task):
        return from_scratch
    sources = [index for index in _alike(network, k, task) if candidates is None or index in candidates]
    if not sources:
        return from_scratch
    trunks = {**{str(index): network.column(index).backbone for index in sources}, OWN: network.column(k).backbone}
    fits = {name: _fit_on(trunk, task, session) for name, trunk in trunks.items()}
    evidence = {name: fit.cross_entropy for name, fit in fits.items() if fit is not None}
    if len(evidence) < len(fits):
        return from_scratch
    best = min(sources, key=lambda index: evidence[str(index)])
    if start.kind == "auto" and evidence[str(best)] >= start.margin * evidence[OWN]:
        return {**from_scratch, "cross_entropy": evidence}
    return {"start": "head" if start.kind == "head" else "copy", "copied": best, "cross_entropy": evidence}


def apply_start(network: ProgressiveNetwork, k: int, task: Task, session: Session, choice: Mapping[str, Any]) -> None:
    """Copies the trunk into column k where that was decided, and solves its output layer on the copied features."""
    if choice["copied"] is None or not _can_be_judged(task):
        return
    own, source = network.column(k).backbone, network.column(choice["copied"]).backbone
    head = _head_name(own, task)
    theirs = dict(tensors_of(source))
    with torch.no_grad():
        for name, tensor in tensors_of(own):
            if not _within(name, head):
                tensor.copy_(theirs[name])
    fit, layer = _fit_on(own, task, session), own.get_submodule(head or "")
    assert fit is not None and isinstance(layer, nn.Linear)
    with torch.no_grad():
        layer.weight.copy_(fit.weight)
        if layer.bias is not None:
            layer.bias.copy_(fit.bias)
    if choice["start"] == "head":
        own.requires_grad_(False)
        layer.requires_grad_(True)


def solve_laterals(network: ProgressiveNetwork, k: int, task: Task, session: Session) -> dict[str, Any]:
    """Solves the lateral of column k's output layer, where it is one to be solved, by ridge regression.

    Returns:
        `"lateral"`: the left-out cross-entropy in nats, and the weight with which its logits are added; or nothing.
    """
    if not _can_be_judged(task):
        return {}
    for site, lateral in solved_laterals(network.column(k)):
        x, y = training_part(task, session, SAMPLES)
        fit = ridge_fit(_lateral_features(network, k, site, lateral, x, session), y, task.n_classes)
        weight = evidence_weight(fit.cross_entropy, task.n_classes)
        lateral.solve(weight * fit.weight, weight * fit.bias)
        return {"lateral": {"cross_entropy": fit.cross_entropy, "weight": weight}}
    return {}


def _can_be_judged(task: Task) -> bool:
    """Whether there are samples of classes: the evidence is a cross-entropy."""
    return len(task.train) >= 2 and isinstance(task.objective, Classification)


def evidence_weight(cross_entropy: float, n_classes: int) -> float:
    """How much logits count, by their left-out cross-entropy in nats relative to that of guessing, ln C.

    Nothing where it is `_USELESS` or more, `_FULL` where it is `_SURE` or less, in proportion between.
    """
    relative = cross_entropy / log(n_classes) if n_classes > 1 else 0.0
    return _FULL * min(1.0, max(0.0, (_USELESS - relative) / (_USELESS - _SURE)))


def _alike(network: ProgressiveNetwork, k: int, task: Task) -> list[int]:
    """The earlier columns that see inputs of column k's shape, and whose trunk has the tensors of its own."""
    own = network.column(k).backbone
    head = _head_name(own, task)
    if head is None:
        return []

    def shapes(backbone: nn.Module) -> list[tuple[str, torch.Size, torch.dtype]]:
        return [(name, t.shape, t.dtype) for name, t in tensors_of(backbone) if not _within(name, head)]

    earlier = [index for index in network.alike(task.input_shape) if index < k]
    return [index for index in earlier if shapes(network.column(index).backbone) == shapes(own)]


def _head_name(backbone: nn.Module, task: Task) -> str | None:
    return probe(backbone, example_of(task)).output_layer


def _within(name: str, module: str | None) -> bool:
    return module is not None and name.startswith(f"{module}.")


def _fit_on(backbone: nn.Module, task: Task, session: Session) -> RidgeFit | None:
    """The ridge regression on what the output layer of a plain backbone reads; None where that is no finite vector.

    An untrained network whose BatchNorm has seen nothing can overflow in evaluation.
    """
    x, y = training_part(task, session, SAMPLES)
    features = trunk_features(backbone, x, batch_size=session.measurement.evaluation_batch_size)
    if features is None or not features.isfinite().all():
        return None
    return ridge_fit(features, y, task.n_classes)


def _lateral_features(
    network: ProgressiveNetwork, k: int, site: str, lateral: SolvedLateral, x: Tensor, session: Session
) -> Tensor:
    """What the last map of the lateral reads, (N, hidden)."""
    sources = network.column(k).reads[site]
    parts: list[Tensor] = []
    with evaluating(network), torch.no_grad():
        for batch in torch.split(x, session.measurement.evaluation_batch_size):
            activations = network.activations(batch, sources)
            parts.append(lateral.features([activations[source][site] for source in sources]))
    return torch.cat(parts)


def begin(
    strategy: Strategy,
    network: ProgressiveNetwork,
    task: Task,
    start: Start,
    candidates: Sequence[int] | None = None,
) -> None:
    """Begins the newest column of a network: decides, copies and solves, and books what it costs as part of learning.

    Candidates to be copied are all earlier columns, or those that are named.

    Nothing is done where the task has no samples, as in a run that is being rebuilt.
    """
    k, session = len(network) - 1, strategy.current_session()
    solved = any(True for _ in solved_laterals(network.column(k)))
    if start.kind == "scratch" and not solved:
        return
    started, choice = perf_counter(), {}
    if start.kind != "scratch":
        choice = {**strategy.choose(lambda: decide_start(network, k, task, session, start, candidates))}
        apply_start(network, k, task, session, choice)
    if solved:
        choice |= strategy.choose(lambda: solve_laterals(network, k, task, session))
    seconds = perf_counter() - started
    strategy.records.append(record_of_looking(_flops_of_looking(network, k, task, choice), seconds))


def _flops_of_looking(network: ProgressiveNetwork, k: int, task: Task, choice: Mapping[str, Any]) -> float:
    """Operations of the forward passes behind a choice: counted on two samples, since counting every pass takes longer
    than the passes."""
    looked = min(SAMPLES, len(task.train))
    if looked < 2:
        return 0.0
    own = network.column(k).backbone
    seen = [own if name == OWN else network.column(int(name)).backbone for name in choice.get("cross_entropy", {})]
    solved_on_a_copy = [own] if choice.get("copied") is not None else []
    x = example_of(task).to(next(own.parameters()).device)
    with evaluating(network), counting_flops() as counter:
        for backbone in [*seen, *solved_on_a_copy]:
            backbone(x)
        if "lateral" in choice:
            network.activations(x, network.column(k).sources)
    return float(counter.get_total_flops() / len(x) * looked)
