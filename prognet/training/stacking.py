"""Training replicas of a run together: one loop, whose every operation is done for all of them at once."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from itertools import islice
from time import perf_counter

import torch
from torch import Tensor, nn

from prognet.errors import DivergedError
from prognet.training.batches import BatchSource, Part
from prognet.training.diverging import check_losses, check_parameters, check_validation
from prognet.training.loop import Run
from prognet.training.measuring import Split, evaluating, mean_loss_of, single
from prognet.training.optimisers import make_optimiser, make_schedule
from prognet.training.replicas import Rows, StackedSamples, StackedTensors, prepared_of
from prognet.training.session import computing, synchronise
from prognet.training.stopping import EarlyStopping

StackedBatch = Mapping[int, Rows]
"""Task label -> its part of a mini-batch, replicas first."""


class Stack:
    """The state of a training of several replicas."""

    def __init__(self, runs: Sequence[Run], sources: Sequence[BatchSource], roots: Sequence[nn.Module]) -> None:
        self.runs, self.sources, self.base = runs, sources, runs[0]
        self.session, self.budget = self.base.session, self.base.budget
        self.tensors = StackedTensors(roots, [run.parameters for run in runs])
        self.data = {
            task.label: StackedSamples.of(
                [run.tasks[task.label] for run in runs],
                [source.data[place] for source in sources],
                [source.features.get(task.label) for source in sources],
            )
            for place, task in enumerate(sources[0].tasks)
        }
        self.curves = _stacked_splits([run.recorder.splits for run in runs])
        self.validating = _stacked_splits([run.validating for run in runs])
        self.stopping = [EarlyStopping(run.module, run.training.patience) for run in runs]
        self.errors: list[DivergedError | None] = [None for _ in runs]
        self.active = list(range(len(runs)))
        self.updates, self.measuring_seconds = 0, 0.0
        self.started = perf_counter()

    def train(self) -> list[DivergedError | None]:
        """All updates, or as many as early stopping allows; leaves the modules in evaluation mode."""
        training, budget = self.base.training, self.budget
        optimiser = make_optimiser(self.tensors.learned, training)
        schedule = make_schedule(optimiser, training.schedule, budget.updates)
        self._measure(self.active)
        batches = self._batches()
        while self.updates < budget.updates and self.active:
            self._pass(islice(batches, min(budget.epoch, budget.updates - self.updates)), optimiser, schedule)
            self._validate()
            self._let_go()
        for replica in self.active:
            self.tensors.write(replica)
        for run, stopping in zip(self.runs, self.stopping, strict=True):
            stopping.restore()
            run.module.eval()
        for replica, error in enumerate(self.errors):
            if error is None:
                self._check(replica, partial(check_parameters, self.runs[replica]))
        self._book_time()
        return self.errors

    def _batches(self) -> Iterator[StackedBatch]:
        for choices in zip(*(source.choices() for source in self.sources), strict=True):
            yield {
                label: self.data[label].take(torch.stack([choice[label] for choice in choices])) for label in choices[0]
            }

    def _pass(
        self,
        batches: Iterator[StackedBatch],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self.base.module.train()
        first, losses = self.updates, []
        for batch in batches:
            losses.append(self._update(batch, optimiser))
            schedule.step()
            if self.base.recorder.is_due(self.updates):
                self._measure(self.active)
        by_replica = torch.stack(losses, dim=1)  # (S, updates of the pass)
        for replica in list(self.active):
            self._check(replica, partial(check_losses, self.runs[replica], by_replica[replica], first))
        for replica in self.active:
            self.runs[replica].session.advance(self.updates - first)

    def _update(self, batch: StackedBatch, optimiser: torch.optim.Optimizer) -> Tensor:
        """One step of the optimiser -> the losses (S,), on the device."""
        optimiser.zero_grad(set_to_none=True)
        losses = self.losses(batch)
        losses.sum().backward()  # type: ignore[no-untyped-call]
        if self.base.training.clip_norm is not None:
            clip_each(self.tensors.learned, self.base.training.clip_norm)
        optimiser.step()
        self.updates += 1
        for replica in self.active:
            self.runs[replica].updates = self.updates
            self.runs[replica].samples += size_of(batch)
        return losses.detach()

    def losses(self, batch: StackedBatch) -> Tensor:
        """The loss of each replica, (S,)."""
        return self.tensors(partial(loss_of, self.base, size=size_of(batch)), batch)

    def _measure(self, replicas: Sequence[int]) -> None:
        with self._measuring():
            outputs = [self._outputs(split) for split in self.curves]  # (S, N, n_outputs) each
            for replica in replicas:
                self.runs[replica].recorder.note([out[replica] for out in outputs], self.updates)

    def _validate(self) -> None:
        with self._measuring():
            outputs = [self._outputs(split) for split in self.validating]
            for replica in self.active:
                run = self.runs[replica]
                run.validation.append(mean_loss_of([out[replica] for out in outputs], run.validating))
        for replica in list(self.active) if self.validating else ():
            run = self.runs[replica]
            self._check(replica, partial(check_validation, run, run.validation[-1]))

    def _outputs(self, split: StackedSamples) -> Tensor:
        """What all replicas say of a split, (S, N, n_outputs)."""
        outputs = []
        for places in split.batches(self.session.measurement.evaluation_batch_size):
            x, _, features = split.take(places)
            outputs.append(self.said(split.task.label, x, features))
        return single(torch.cat(outputs, dim=1))

    def said(self, label: int, x: Tensor, features: Mapping[str, tuple[Tensor, ...]]) -> Tensor:
        """What all replicas say of the inputs (S, b, *input_shape) of a task, (S, b, n_outputs)."""
        return self.tensors(partial(outputs_for, self.base, label), x, features)

    @property
    def splits(self) -> list[StackedSamples]:
        """All splits that are looked at."""
        return [*self.curves, *self.validating]

    def _check(self, replica: int, check: Callable[[], None]) -> None:
        """Breaks off a replica that does not pass."""
        try:
            check()
        except DivergedError as error:
            self.errors[replica] = error
            self.active = [other for other in self.active if other != replica]

    def _let_go(self) -> None:
        """Lets those replicas go whose validation loss no longer falls."""
        for replica in list(self.active) if self.base.training.patience is not None else ():
            run = self.runs[replica]
            self.tensors.write(replica)
            if self.stopping[replica].is_over(run.validation[-1]):
                if run.updates != run.recorder.updates[-1]:
                    self._measure([replica])
                self.active.remove(replica)

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        synchronise(self.session.device)
        started = perf_counter()
        with evaluating(self.base.module), computing(self.session):
            yield
        synchronise(self.session.device)
        self.measuring_seconds += perf_counter() - started

    def _book_time(self) -> None:
        """Every replica took an equal share of the time."""
        synchronise(self.session.device)
        seconds = perf_counter() - self.started - self.measuring_seconds
        for run in self.runs:
            run.seconds = seconds / len(self.runs) + run.feature_seconds
            run.measuring_seconds += self.measuring_seconds / len(self.runs)


def clip_each(tensors: Sequence[Tensor], largest: float) -> None:
    """Scales the gradients (S, *shape) of every replica by itself to a norm of at most `largest`."""
    gradients = [tensor.grad for tensor in tensors if tensor.grad is not None]
    norms = torch.stack([gradient.flatten(1).norm(dim=1) for gradient in gradients]).norm(dim=0)  # (S,)
    factors = (largest / (norms + 1e-6)).clamp(max=1)  # as torch.nn.utils.clip_grad_norm_ has it
    for gradient in gradients:
        gradient.mul_(factors.view(-1, *[1] * (gradient.ndim - 1)))


def loss_of(run: Run, batch: StackedBatch, size: int) -> Tensor:
    """The loss of one replica, ()."""
    return run.loss({label: Part(x, y, prepared_of(past)) for label, (x, y, past) in batch.items()}, size)


def outputs_for(run: Run, label: int, x: Tensor, features: Mapping[str, tuple[Tensor, ...]]) -> Tensor:
    """The outputs (b, n_outputs) of one replica."""
    past = prepared_of(features)
    return run.predict(x, label) if run.reading is None or past is None else run.reading.predict(x, past)


def _stacked_splits(splits: Sequence[Sequence[Split]]) -> list[StackedSamples]:
    """Every split, of all replicas."""
    return [
        StackedSamples.of(
            [split.task for split in alike], [split.samples for split in alike], [split.features for split in alike]
        )
        for alike in zip(*splits, strict=True)
    ]


def size_of(batch: StackedBatch) -> int:
    """Samples of each replica in a batch."""
    return sum(y.shape[-1] for _, y, _ in batch.values())
