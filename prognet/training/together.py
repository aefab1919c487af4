"""Whether replicas of a run can be trained together: what they compute is compared with what each computes alone."""

import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from prognet.errors import DivergedError, NotStackableError, PrognetError
from prognet.training.batches import BatchSource
from prognet.training.flops import counting_flops
from prognet.training.loop import Run
from prognet.training.measuring import evaluating, keeping_buffers
from prognet.training.memory import is_out_of_memory
from prognet.training.procedure import Procedure
from prognet.training.session import computing
from prognet.training.stacking import Stack, StackedBatch, loss_of, outputs_for, size_of

_TOLERANCE = {"float32": 1e-3, "bfloat16": 0.1}
"""Largest difference, as a fraction of the largest number, between what a replica computes alone and in the stack."""


def train_stacked(runs: Sequence[Run], sources: Sequence[BatchSource]) -> list[DivergedError | None]:
    """Trains the replicas of a run together, each as it would be trained alone but for rounding.

    The first batch is computed in both ways, so that what cannot be done together is found before it matters.

    Args:
        runs: one for each replica; they differ in the numbers of their networks and in the order of their batches.
        sources: the batches of each.

    Returns:
        For each replica, why its training was broken off, or None.

    Raises:
        NotStackableError: when they cannot be trained together; then nothing has been changed.
    """
    _require_plain(runs, sources)
    reasons = []
    # What most runs compute with is the module and frozen features; the whole strategy has more tensors to replace.
    for roots in ([run.module for run in runs], [run.owner for run in runs]):
        try:
            stack = Stack(runs, sources, roots)
            _Rehearsal(stack).carry_out()
        except NotStackableError as reason:
            reasons.append(reason)
        else:
            return stack.train()
    raise reasons[-1]


def _require_plain(runs: Sequence[Run], sources: Sequence[BatchSource]) -> None:
    first = runs[0]
    if any(type(run) is not Run for run in runs) or any(run.procedure != Procedure() for run in runs):
        raise NotStackableError("their updates are not plain ones")
    if any(source.augment for source in sources):
        raise NotStackableError("their images are augmented, each with random numbers of its own")
    if any(task.train.y.is_floating_point() for task in first.tasks.values()):
        raise NotStackableError("their targets are no classes")
    if any(source.is_ahead for source in sources):
        raise NotStackableError("their samples do not lie on the device")
    if any(run.budget != first.budget or run.tasks.keys() != first.tasks.keys() for run in runs):
        raise NotStackableError("they learn different tasks, or for different times")


class _Rehearsal:
    """One batch, computed together and alone."""

    def __init__(self, stack: Stack) -> None:
        self._stack, self._session = stack, stack.session
        counts = zip(stack.data.items(), stack.sources[0].shares[0], strict=True)
        self._batch: StackedBatch = {label: data.take(data.first(count)) for (label, data), count in counts if count}
        size = self._session.measurement.evaluation_batch_size
        self._looked = [(split.task.label, split.take(split.first(size))) for split in stack.splits]

    def carry_out(self) -> None:
        """Changes nothing but the number of operations that every run has counted.

        Raises:
            NotStackableError: when the results differ by more than rounding, or cannot be computed together.
        """
        try:
            with warnings.catch_warnings():
                warnings.filterwarnings("error", "There is a performance drop")  # where vmap loops over replicas
                together = self._together()
        except (PrognetError, RuntimeError, TypeError, ValueError, UserWarning) as error:
            if is_out_of_memory(error):
                raise  # for one by one they would be other numbers
            raise NotStackableError(str(error).strip().splitlines()[0]) from error
        with counting_flops() as counter:
            self._loss_alone(0)
        _taken(self._stack.tensors.own_learned(0))
        for run in self._stack.runs:
            run.flops_per_sample = counter.get_total_flops() / size_of(self._batch)
        for replica in range(len(self._stack.runs)):
            if not self._agree(self._alone(replica), [tensor[replica] for tensor in together]):
                raise NotStackableError("what they compute together differs from what each computes alone")

    def _agree(self, alone: Sequence[Tensor], together: Sequence[Tensor]) -> bool:
        """Whether tensors differ by rounding only, each as measured by its own largest number or by that of all.

        What is no number has to be none in both.
        """
        bound = _TOLERANCE[self._session.execution.precision]
        largest = torch.stack([one.nan_to_num().abs().max() for one in alone])
        allowed = bound * torch.maximum(
            largest, largest.max() / 100
        )  # the gradient of a bias before a norm is rounding
        found = torch.stack([_distance(one, other) for one, other in zip(alone, together, strict=True)])
        return bool((found <= allowed).all())

    def _together(self) -> list[Tensor]:
        """Losses, gradients and outputs for the first samples of every split; replicas first."""
        stack, module = self._stack, self._stack.base.module
        module.train()
        losses = stack.losses(self._batch)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        gradients = _taken(stack.tensors.learned)
        stack.tensors.read()  # the batch may have moved running statistics
        with evaluating(module), computing(self._session):
            outputs = [stack.said(label, x, features) for label, (x, _, features) in self._looked]
        return [losses.detach(), *gradients, *outputs]

    def _alone(self, replica: int) -> list[Tensor]:
        """The same of one replica by itself, without the replicas' dimension."""
        run = self._stack.runs[replica]
        loss = self._loss_alone(replica)
        gradients = _taken(self._stack.tensors.own_learned(replica))
        with evaluating(run.module), computing(self._session):
            outputs = [
                outputs_for(run, label, x[replica], _of(replica, features)) for label, (x, _, features) in self._looked
            ]
        return [loss, *gradients, *outputs]

    def _loss_alone(self, replica: int) -> Tensor:
        """The loss of one replica by itself, (), whose parameters get their gradients."""
        run = self._stack.runs[replica]
        batch = {label: (x[replica], y[replica], _of(replica, past)) for label, (x, y, past) in self._batch.items()}
        run.module.train()
        with keeping_buffers(run.owner):
            loss = loss_of(run, batch, size_of(batch))
            loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()


def _distance(one: Tensor, other: Tensor) -> Tensor:
    """The largest difference, (); NaN where one is no number and the other is."""
    same = (one == other) | (one.isnan() & other.isnan())
    return torch.where(same, torch.zeros_like(one), (one - other).abs()).max()


def _taken(tensors: Sequence[Tensor]) -> list[Tensor]:
    """The gradients of some tensors, which lose them."""
    gradients = [torch.zeros_like(tensor) if tensor.grad is None else tensor.grad for tensor in tensors]
    for tensor in tensors:
        tensor.grad = None
    return gradients


def _of(replica: int, features: Mapping[str, tuple[Tensor, ...]]) -> dict[str, tuple[Tensor, ...]]:
    return {site: tuple(h[replica] for h in handed) for site, handed in features.items()}
