"""The one training loop of all strategies."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import replace
from itertools import islice
from math import nan
from time import perf_counter

import torch
from torch import Tensor, nn

from prognet.results import LearningCurve
from prognet.seeds import derive_seed
from prognet.streams.task import Task
from prognet.training.batches import Batch, BatchSource, Sampling, on_device
from prognet.training.budget import Budget, budget_of
from prognet.training.compiling import compiled
from prognet.training.determinism import seeded
from prognet.training.diverging import check_losses, check_parameters, check_validation
from prognet.training.features import MIB, FeatureTable, Reading, Shelf
from prognet.training.flops import counting_flops
from prognet.training.measuring import CurveRecorder, Predict, Split, evaluating, keeping_buffers, mean_loss, single
from prognet.training.optimisers import make_optimiser, make_schedule
from prognet.training.procedure import Forward, Penalised, Procedure
from prognet.training.session import FitRecord, Session, computing, synchronise
from prognet.training.stopping import EarlyStopping
from prognet.training.weighting import Balance, total


def fit(
    module: nn.Module,
    forward: Forward,
    predict: Predict,
    tasks: Sequence[Task],
    session: Session,
    sampling: Sampling = 0.0,
    reading: Reading | None = None,
    procedure: Procedure | None = None,
    owner: nn.Module | None = None,
    make_run: "Callable[..., Run] | None" = None,
) -> FitRecord:
    """Trains the parameters of `module` that have a gradient, on the training splits of `tasks`.

    The loss of a batch is the mean over its samples of their task's loss, but for another weighting of the procedure.
    Early stopping, if any, looks at the validation splits only. The learning curves are measured on test samples and
    decide nothing.

    Args:
        module: what is trained; put into training mode here, and into evaluation mode at the end.
        forward: the outputs of a batch that may hold several tasks.
        predict: the outputs of one task, for measuring.
        tasks: the tasks that are learned together.
        session: how to train and what to measure.
        sampling: how joint training is shared between the tasks.
        reading: how frozen columns are read, where their features are to be computed once and not in every update.
        procedure: how updates depart from plain ones.
        owner: what holds every tensor that `forward` and `predict` compute with, where `module` does not.
        make_run: makes the run from its arguments, where the updates are taken in another way than by `Run`.

    Raises:
        DivergedError: when a loss is not a finite number, found at the end of its pass over the samples, or in the end
            a parameter.
    """
    budget = budget_of(session.training, tasks, sampling)
    make = make_run or session.make_run or Run
    run = make(module, forward, predict, tasks, session, budget, procedure or Procedure())
    run.owner = owner or module
    if budget.updates == 0:
        module.eval()
        return run.record()
    features = {} if reading is None else run.keep_features(reading)
    room, augment = session.execution.data_memory * MIB, session.training.augment
    source = BatchSource(tasks, budget.quotas, budget.round, session.seed, session.device, room, features, augment)
    with seeded(derive_seed(session.seed, tasks[0].label, "training"), session.device):
        if not session.train_together(run, source):
            run.train(source)
    return run.record()


class Run:
    """The state of one `fit`."""

    def __init__(
        self,
        module: nn.Module,
        forward: Forward,
        predict: Predict,
        tasks: Sequence[Task],
        session: Session,
        budget: Budget,
        procedure: Procedure,
    ) -> None:
        self.procedure = procedure
        self.owner = module
        self.module, self.forward, self.predict = module, forward, predict
        self.tasks = {task.label: task for task in tasks}
        self.session, self.training = session, session.training
        weighting = procedure.weighting
        self.balance = None if weighting is None else weighting(tuple(self.tasks), session.device)
        self.parameters = [parameter for parameter in module.parameters() if parameter.requires_grad]
        self.budget = budget
        self.recorder = CurveRecorder(tasks, budget.updates, session.measurement, session.seed, session.device)
        self.validating = [Split(task, on_device(task.val, session.device)) for task in tasks if len(task.val)]
        self.validation: list[float] = []
        self.reading: Reading | None = None
        self.compiled: Callable[[Batch], Tensor] | None = None
        self.feature_flops, self.feature_seconds = 0.0, 0.0
        self.counting, self.flops_per_sample, self.flops_apart = True, 0.0, 0.0
        self.updates, self.samples, self.seconds, self.measuring_seconds = 0, 0, 0.0, 0.0

    def keep_features(self, reading: Reading) -> dict[int, FeatureTable]:
        """Computes what frozen columns hand over on the splits, as far as the memory goes.

        A training split of which training sees a part only has no table, nor has one that is augmented. One that is
        seen once has, since large batches are cheaper than small ones.

        Returns:
            The tables of the training splits, by label; those of the other splits are kept with them.
        """
        self.reading, shelf = reading, Shelf(reading, self.session)
        started = perf_counter()
        tables = {}
        with computing(self.session):
            again = self.budget.updates >= self.budget.epoch and not self.training.augment
            for label, task in self.tasks.items() if again else ():
                if (table := shelf.table_of(task, task.train)) is not None:
                    tables[label] = table
        synchronise(self.session.device)
        self.feature_flops = sum(table.flops for table in tables.values())
        self.feature_seconds = perf_counter() - started
        with self._measuring():
            self.recorder.splits, self.validating = (
                [replace(split, features=shelf.table_of(split.task, split.samples)) for split in splits]
                for splits in (self.recorder.splits, self.validating)
            )
        return tables

    def train(self, source: BatchSource) -> None:
        """All updates, or as many as early stopping allows; leaves the module in evaluation mode."""
        optimiser = make_optimiser(self.parameters, self.training, self.procedure.groups)
        schedule = make_schedule(optimiser, self.training.schedule, self.budget.updates)
        stopping = EarlyStopping(self.module, self.training.patience)
        self.compiled = compiled(self.loss, self.session.execution)
        started = perf_counter()
        self._measure()
        with closing(source.rounds()) as batches:
            for number in range(-(-self.budget.updates // self.budget.epoch)):
                size = min(self.budget.epoch, self.budget.updates - self.updates)
                self._pass(number, islice(batches, size), optimiser, schedule)
                if stopping.is_over(self._validate()):
                    break
        if self.updates != self.recorder.updates[-1]:  # stopped early
            self._measure()
        self.compiled = None
        stopping.restore()
        check_parameters(self)
        self.module.eval()
        synchronise(self.session.device)
        self.seconds = perf_counter() - started - self.measuring_seconds + self.feature_seconds

    def _pass(
        self,
        number: int,
        batches: Iterator[Batch],
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
    ) -> None:
        self.module.train()
        if self.procedure.before_pass is not None:
            learning = [parameter.requires_grad for parameter in self.parameters]
            self.procedure.before_pass(number)
            self.counting |= learning != [parameter.requires_grad for parameter in self.parameters]
        first, losses = self.updates, []
        for batch in batches:
            losses.append(self._update(batch, optimiser))
            schedule.step()
            if self.recorder.is_due(self.updates):
                self._measure()
        if self.balance is not None:
            self.balance.after_pass()
        check_losses(self, self.whole(torch.stack(losses)), first)  # the only wait for the device in a pass
        self.session.advance(self.updates - first)

    def _update(self, batch: Batch, optimiser: torch.optim.Optimizer) -> Tensor:
        """One step of the optimiser -> the loss, on the device."""
        optimiser.zero_grad(set_to_none=True)
        size = sum(len(part.y) for part in batch.values())
        with counting_flops() if self.counting else nullcontext() as counter:  # then nothing is compiled
            loss = self._backward(batch, size)
        if counter is not None:
            counted = counter.get_total_flops() / size
            self.flops_apart += (self.flops_per_sample - counted) * self.samples  # samples so far cost as before
            self.flops_per_sample = counted
        if self.training.clip_norm is not None:
            nn.utils.clip_grad_norm_(self.parameters, self.training.clip_norm)
        optimiser.step()
        if self.balance is not None:
            self._rebalance(self.balance, batch, size)
        self.counting = False
        self.updates += 1
        self.samples += size
        return loss

    def _backward(self, batch: Batch, size: int) -> Tensor:
        if self.balance is not None:
            parts, penalty = self._parts(batch, size)
            self.balance.backward(parts, penalty, self.parameters)
            self.balance.note_norm(self.parameters)
            return total(parts, penalty).detach()
        loss = self.loss(batch, size) if self.compiled is None or self.counting else self.compiled(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.detach()

    def _rebalance(self, balance: Balance, batch: Batch, size: int) -> None:
        """What the weighting makes of the update; it may look at the batch once more."""
        with counting_flops() if self.counting else nullcontext() as counter:
            balance.after_step(keeping_buffers(self.owner)(lambda: self._parts(batch, size)[0]))
        if counter is not None:
            self.flops_per_sample += counter.get_total_flops() / size
            self.flops_apart -= counter.get_total_flops() / size * self.samples

    def whole(self, losses: Tensor) -> Tensor:
        """The losses (U,) of some updates, each of its whole batch."""
        return losses

    def loss(self, batch: Batch, size: int) -> Tensor:
        """The loss of a batch of `size` samples, ()."""
        return total(*self._parts(batch, size))

    def _parts(self, batch: Batch, size: int) -> tuple[dict[int, Tensor], Tensor | None]:
        """The part of each task in the mean loss over the samples, by label, and the penalty, if any."""
        with computing(self.session):
            outputs, penalty = self._outputs(batch)
        smoothing = self.training.label_smoothing
        parts = {
            label: self.tasks[label].objective.loss(single(outputs[label]), part.y, smoothing) * (len(part.y) / size)
            for label, part in batch.items()
        }
        return parts, penalty

    def _outputs(self, batch: Batch) -> tuple[Mapping[int, Tensor], Tensor | None]:
        """The outputs by label, and the penalty, if any."""
        if self.reading is not None and all(part.past is not None for part in batch.values()):
            past = {label: part.past for label, part in batch.items() if part.past}
            return {label: self.reading.predict(part.x, past[label]) for label, part in batch.items()}, None
        out = self.forward({label: part.x for label, part in batch.items()})
        return (out.outputs, out.penalty) if isinstance(out, Penalised) else (out, None)

    def _measure(self) -> None:
        with self._measuring():
            self.recorder.measure(self.predict, self.updates, self.reading)

    def _validate(self) -> float:
        if self.validating:
            with self._measuring():
                size = self.session.measurement.evaluation_batch_size
                self.validation.append(mean_loss(self.predict, self.validating, self.reading, size))
            check_validation(self, self.validation[-1])
        else:  # without waiting for the device: a pass may be a single update
            self.validation.append(nan)
        return self.validation[-1]

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        """Evaluation mode for a moment, with the time it takes booked apart."""
        synchronise(self.session.device)
        started = perf_counter()
        with evaluating(self.module), computing(self.session):
            yield
        synchronise(self.session.device)
        self.measuring_seconds += perf_counter() - started

    def record(self) -> FitRecord:
        """What was done so far."""
        return FitRecord(
            curves=self._curves() if self.recorder.updates else (),
            trainable=sum(parameter.numel() for parameter in self.parameters),
            updates=self.updates,
            samples=self.samples,
            flops=self.flops_per_sample * self.samples + self.flops_apart + self.feature_flops,
            seconds=self.seconds,
            measuring_seconds=self.measuring_seconds,
            feature_flops=self.feature_flops,
            feature_seconds=self.feature_seconds,
            gradient_norm=nan if self.balance is None else self.balance.mean_norm(),
        )

    def _curves(self) -> tuple[LearningCurve, ...]:
        return tuple(
            LearningCurve(
                step=self.session.step,
                task=label,
                updates=tuple(self.recorder.updates),
                accuracy=accuracy,
                validation=tuple(self.validation),
                joint=len(self.tasks) > 1,
            )
            for label, accuracy in zip(self.tasks, self.recorder.values(), strict=True)
        )
