"""A strategy of Avalanche, driven by the one training loop.

Avalanche begins and ends an experience and takes every update, from the forward pass to the step of the optimiser, with
the method's plugin at work in it. The loop chooses batches, optimiser and learning rate, measures curves and costs, and
ends training. Events of epochs are not triggered; no method here listens to them.
"""

import random
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from time import perf_counter
from typing import Any

import torch
from torch import Tensor, nn

from prognet.engine.digest import tensors_of
from prognet.seeds import derive_seed
from prognet.strategies.heads import SharedTrunk
from prognet.strategies.repairs import with_repairs
from prognet.strategies.routing import cross_entropy, route
from prognet.streams.bridge import benchmark_of, import_avalanche
from prognet.streams.task import Task
from prognet.training import FitRecord, Forward, Predict, Procedure, Session, computing, counting_flops
from prognet.training.batches import Batch, BatchSource, EndlessOrder, Part
from prognet.training.budget import Budget
from prognet.training.loop import Run
from prognet.training.session import synchronise


@dataclass(frozen=True, slots=True)
class Method:
    """A strategy of Avalanche: what its plugin is called, and its hyper-parameters under their names there."""

    plugin: str
    defaults: Mapping[str, int | float]
    """A whole number is a count, at least 1; any other is at least 0."""
    passes: int = 0
    """Further passes over the training samples of a task, forward and backward, after it was learned."""


class Agent:
    """The strategy of Avalanche behind a wrapped one, and what it remembers from task to task."""

    def __init__(
        self, method: Method, options: Mapping[str, int | float], shared: SharedTrunk, session: Session
    ) -> None:
        self.method = method
        plugins = import_avalanche("avalanche.training.plugins")
        self.plugin: Any = getattr(plugins, method.plugin)(**options) if method.plugin else None
        self.strategy = make_driven(shared, with_repairs(self.plugin), session)
        self._memory: Memory | None = None
        self._label = 0

    def learn(self, task: Task, session: Session, train: Callable[[], None]) -> None:
        """Lets Avalanche learn a task: its own setup, then `train`, then what its method does at the end."""
        self._label = task.head
        self._memory = Memory.of(self.plugin, task, session)
        self.strategy.clip_norm, self.strategy.run_epochs = session.training.clip_norm, train
        with _python_seeded(derive_seed(session.seed, task.label, "memory")), warnings.catch_warnings():
            warnings.filterwarnings("ignore", "__array_wrap__", DeprecationWarning)  # numpy's square of a tensor, in SI
            self.strategy.train(experience_of(task), eval_streams=[])
        self.strategy.run_epochs = self._memory = None

    def mini_batch(self, part: Part) -> list[Tensor]:
        """What Avalanche is given for a batch: inputs, targets and task labels, with as many samples from memory."""
        batch = [part.x, part.y, torch.full((len(part.y),), self._label)]
        if self._memory is None:
            return batch
        return [torch.cat(pair) for pair in zip(batch, self._memory.take(len(part.y)), strict=True)]

    def update(self, batch: list[Tensor], optimiser: torch.optim.Optimizer) -> Tensor:
        """One step of the optimiser -> the loss with the method's penalty, on the device."""
        self.strategy.optimizer, self.strategy.dataloader = optimiser, [batch]
        self.strategy.training_epoch()
        loss: Tensor = self.strategy.loss.detach().squeeze()
        return loss

    def kept_bytes(self) -> int:
        """Bytes of everything that the method remembers."""
        return sum(tensor.numel() * tensor.element_size() for tensor in _remembered(self.plugin, set()))


class AvalancheRun(Run):
    """A training whose updates are taken by Avalanche."""

    def __init__(
        self,
        agent: Agent,
        module: nn.Module,
        forward: Forward,
        predict: Predict,
        tasks: Sequence[Task],
        session: Session,
        budget: Budget,
        procedure: Procedure,
    ) -> None:
        super().__init__(module, forward, predict, tasks, session, budget, procedure)
        self.agent, self.task = agent, tasks[0]
        self.trained = 0

    def train(self, source: BatchSource) -> None:
        """All updates, within Avalanche's own beginning and end of an experience."""
        started = perf_counter()
        self.agent.learn(self.task, self.session, partial(self._train, source))
        self.module.eval()
        synchronise(self.session.device)
        self.seconds = perf_counter() - started - self.measuring_seconds

    def _train(self, source: BatchSource) -> None:
        super().train(source)
        self.trained = sum(parameter.numel() for parameter in self.parameters if parameter.grad is not None)

    def _update(self, batch: Batch, optimiser: torch.optim.Optimizer) -> Tensor:
        (part,) = batch.values()
        mini_batch = self.agent.mini_batch(part)
        with counting_flops() if self.updates == 0 else nullcontext() as counter, computing(self.session):
            loss = self.agent.update(mini_batch, optimiser)
        size = len(mini_batch[0])
        if counter is not None:
            self.flops_per_sample = counter.get_total_flops() / size
        self.updates += 1
        self.samples += size
        return loss

    def record(self) -> FitRecord:
        record = super().record()
        passes = self.agent.method.passes * self.flops_per_sample * len(self.task.train)
        return replace(record, trainable=self.trained, flops=record.flops + passes)


class Memory:
    """The samples that a method kept of earlier tasks, on the device, in a random order of their own."""

    def __init__(self, samples: Sequence[Tensor], seed: int) -> None:
        self._samples = samples
        self._order = EndlessOrder(len(samples[0]), torch.Generator().manual_seed(seed))

    @staticmethod
    def of(plugin: Any, task: Task, session: Session) -> "Memory | None":
        """The memory of a method that learns kept samples in every batch, before it learns `task`; None without."""
        policy = getattr(plugin, "storage_policy", None)
        if policy is None or not len(policy.buffer):
            return None
        x, y, labels = import_avalanche("avalanche.training.utils").load_all_dataset(policy.buffer)
        return Memory(
            [x.to(session.device), y.to(session.device), labels], derive_seed(session.seed, task.label, "memory")
        )

    def take(self, count: int) -> list[Tensor]:
        """The next `count` samples: inputs, targets, task labels."""
        chosen = self._order.take(count)
        return [part[chosen.to(part.device)] for part in self._samples]


def make_driven(shared: SharedTrunk, plugins: Sequence[Any], session: Session) -> Any:
    """A strategy of Avalanche with these plugins, whose epochs are somebody else's."""
    templates = import_avalanche("avalanche.training.templates")
    models = import_avalanche("avalanche.models")

    class Routed(models.MultiTaskModule):  # type: ignore[misc, name-defined]
        """A trunk with heads under Avalanche's call; heads have the sizes of their own tasks and come from outside."""

        def __init__(self) -> None:
            super().__init__()
            self.shared = shared

        def adaptation(self, experience: Any) -> None:
            """Nothing is left to adapt."""

        def forward(self, x: Tensor, task_labels: Tensor | int | None) -> Any:
            """The logits of each sample's task, or of all tasks by label, after one pass of the trunk."""
            if task_labels is not None:
                return route(self.shared.predict, x, task_labels)
            features = self.shared.features(x)
            return {int(key): head(features) for key, head in self.shared.heads.items()}

    class Driven(templates.SupervisedTemplate):  # type: ignore[misc, name-defined]
        """One training experience, whose batches come one at a time from outside."""

        run_epochs: Callable[[], None] | None = None
        clip_norm: float | None = None

        def _train_exp(self, *_: Any, **__: Any) -> None:
            assert self.run_epochs is not None
            self.run_epochs()

        def make_optimizer(self, **_: Any) -> None:
            """A fresh one comes with the first batch."""

        def make_train_dataloader(self, **_: Any) -> None:
            """Every batch is handed in."""

        def _unpack_minibatch(self) -> None:
            """It is where it belongs; labels stay on the host, so that routing waits for nothing."""

        def optimizer_step(self) -> None:
            if self.clip_norm is not None:
                (group,) = self.optimizer.param_groups
                nn.utils.clip_grad_norm_(group["params"], self.clip_norm)
            super().optimizer_step()

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that no metric is logged: this harness evaluates
        return Driven(
            model=Routed(),
            optimizer=None,
            criterion=partial(cross_entropy, smoothing=session.training.label_smoothing),
            train_mb_size=session.training.batch_size,
            device=session.device,
            plugins=plugins,
            evaluator=None,
        )


def experience_of(task: Task) -> Any:
    """The task's samples as a training experience of Avalanche; its task label is the head, one for all if shared."""
    return benchmark_of([replace(task, label=task.head)], "per-task").train_stream[0]


def _remembered(value: Any, seen: set[int]) -> Iterator[Tensor]:
    """Every tensor that a plugin holds, once: importances, old parameters, an old network, kept samples."""
    if id(value) in seen:
        return
    seen.add(id(value))
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, nn.Module):
        yield from (tensor for _, tensor in tensors_of(value))
    elif hasattr(value, "targets_task_labels"):  # a data set, of samples that are made when they are asked for
        for part in map(torch.as_tensor, value[0][:2] if len(value) else ()):
            yield part.expand(len(value), *part.shape)
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from _remembered(item, seen)
    elif type(value).__module__.startswith("avalanche."):
        yield from _remembered(vars(value), seen)


@contextmanager
def _python_seeded(seed: int) -> Iterator[None]:
    """Within the block Python's own generator, with which Avalanche chooses samples to keep, starts from `seed`."""
    state = random.getstate()
    random.seed(seed)
    try:
        yield
    finally:
        random.setstate(state)
