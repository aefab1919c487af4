"""One training on several processes: each computes the gradients of its share of every batch.

All processes draw the same batches. The samples of a batch are lined up, task by task, and dealt out in turn, so that
shares differ by one sample at most and hold all tasks alike. Of R processes, with n_r of the N samples in share r and
its mean loss L_r, process r computes the gradient of R n_r / N L_r. The mean of these over the processes, which torch's
DistributedDataParallel makes during the backward pass, is the gradient of the mean loss of the whole batch.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from prognet.engine.digest import tensors_of
from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.streams.task import Task
from prognet.training.batches import Batch, BatchSource, Part
from prognet.training.budget import Budget
from prognet.training.determinism import seeded
from prognet.training.loop import Run
from prognet.training.measuring import Predict, evaluating
from prognet.training.norms import check_passes, norms_of
from prognet.training.procedure import Forward, Penalised, Procedure
from prognet.training.ranks import Ranks, current_ranks
from prognet.training.session import Session, computing


def share_of(batch: Batch, ranks: Ranks) -> dict[int, Part]:
    """The samples of a batch that a process learns from; tasks without any are left out."""
    share, before = {}, 0
    for label, part in batch.items():
        mine = _mine(before, ranks)
        before += len(part.y)
        if len(part.y[mine]):
            rows = partial(_rows, mine)
            share[label] = Part(rows(part.x), rows(part.y), None if part.past is None else part.past.map(rows))
    return share


def dealt(counts: Sequence[int], ranks: Ranks) -> list[int]:
    """How many samples of each task a process learns from, of a batch that holds so many."""
    return [len(range(count)[_mine(sum(counts[:index]), ranks)]) for index, count in enumerate(counts)]


def _mine(before: int, ranks: Ranks) -> slice:
    """The samples of a task that are a process's own, where so many of other tasks stand before them."""
    return slice((ranks.index - before) % ranks.count, None, ranks.count)


def _rows(chosen: slice, tensor: Tensor) -> Tensor:
    return tensor[chosen].contiguous()


class DistributedRun(Run):
    """A training that is shared by the processes of torch.distributed."""

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
        """
        Raises:
            ConfigError: when its updates are not those of the mean loss over the samples.
        """
        super().__init__(module, forward, predict, tasks, session, budget, procedure)
        self.ranks = current_ranks(session.device)
        self._masks: list[Tensor] = []
        self._shared: DistributedDataParallel | None = None
        self._has_unused = False
        self._check_plain()

    def train(self, source: BatchSource) -> None:
        """All updates; leaves the module as it is in every process the same.

        Raises:
            ConfigError: when batches are too small for the norms of the module.
        """
        self._check_batches(source.shares)
        self.ranks.from_first([tensor for _, tensor in tensors_of(self.module)])
        every = all(count >= self.ranks.count for counts in source.shares for count in counts)
        self._has_unused = len(self.tasks) > 1 and not every  # the heads of tasks that a share lacks
        label = next(iter(self.tasks))
        purpose = f"training of process {self.ranks.index}"
        with seeded(derive_seed(self.session.seed, label, purpose), self.session.device):
            self._masks = _generators(self.session.device)
        try:
            super().train(source)
        finally:
            self._shared = None  # with it go the hooks that send gradients

    def whole(self, losses: Tensor) -> Tensor:
        return self.ranks.total(losses)

    def _update(self, batch: Batch, optimiser: torch.optim.Optimizer) -> Tensor:
        loss = super()._update(batch, optimiser)
        if self.updates == 1:
            size = sum(len(part.y) for part in batch.values())
            counted = round(self.flops_per_sample * size) if share_of(batch, self.ranks) else 0
            counts = torch.tensor([counted], dtype=torch.int64, device=self.session.device)
            self.flops_per_sample = int(self.ranks.total(counts)) / size
        return loss

    def _backward(self, batch: Batch, size: int) -> Tensor:
        """The gradients of the whole batch -> the part of this process in its loss, on the device."""
        share, weight = share_of(batch, self.ranks), float(self.ranks.count)
        if not share:  # fewer samples than processes: all of them, which count as nothing
            share, weight = dict(batch), 0.0
        with self._own_masks():
            # the operations of the first update are counted, and it shows which parameters are used
            loss = (self.loss if self.updates == 0 else self._sharing())(share, size) * weight
            loss.backward()
        if self.updates == 0:
            self._average_gradients()
        return loss.detach() / self.ranks.count

    def _sharing(self) -> DistributedDataParallel:
        """The loss of a share, whose gradients are averaged while they are computed; made when it is first needed."""
        if self._shared is None:
            self._shared = DistributedDataParallel(
                _LossOf(self.module, self.loss),
                init_sync=False,  # it is the same in all processes by now
                forward_sync_buffers=False,
                find_unused_parameters=self._has_unused,
            )
        return self._shared

    def _average_gradients(self) -> None:
        """Gradients become their mean over the processes; one that no process has stays away."""
        has_one = torch.tensor([p.grad is not None for p in self.parameters], device=self.session.device)
        used = self.ranks.total(has_one.int()).bool().tolist()
        self._has_unused |= not all(used)
        for parameter, is_used in zip(self.parameters, used, strict=True):
            if is_used:
                own = torch.zeros_like(parameter) if parameter.grad is None else parameter.grad
                parameter.grad = self.ranks.total(own) / self.ranks.count

    @contextmanager
    def _own_masks(self) -> Iterator[None]:
        """Within the block random numbers are those of this process; outside they are the same in all."""
        common = _generators(self.session.device)
        _set_generators(self._masks, self.session.device)
        try:
            yield
        finally:
            self._masks = _generators(self.session.device)
            _set_generators(common, self.session.device)

    @contextmanager
    def _measuring(self) -> Iterator[None]:
        self._agree_on_statistics()
        with super()._measuring():
            yield

    def _validate(self) -> float:
        loss = super()._validate()
        if self.training.patience is not None:  # the end of training hangs on it
            self.ranks.agree("the validation loss", {"validation loss": repr(loss)})
        return loss

    def _agree_on_statistics(self) -> None:
        """Running statistics, which follow the shares of each process, become their mean; counters the largest."""
        parts = (part for part in self.module.modules() if part.training)
        buffers = list({id(b): b for part in parts for b in part.buffers(recurse=False)}.values())
        if not buffers:
            return
        every = self.ranks.every(torch.cat([buffer.double().flatten() for buffer in buffers]))  # (count, n)
        is_same = (every == every[0]).all(dim=0)
        mean = torch.where(is_same, every[0], every.mean(dim=0))  # not to be moved by rounding
        sizes = [buffer.numel() for buffer in buffers]
        agreed = zip(buffers, torch.split(mean, sizes), torch.split(every.amax(dim=0), sizes), strict=True)
        for buffer, middle, largest in agreed:
            buffer.copy_((middle if buffer.is_floating_point() else largest).view_as(buffer))

    def _check_plain(self) -> None:
        if self.procedure != Procedure():
            raise ConfigError(
                f"strategy: required, with {self.ranks.count} processes, updates by the mean loss over the samples, "
                f"found a recipe or a weighting of its own for tasks {list(self.tasks)}; use one process."
            )
        examples = {
            label: torch.zeros(2, *task.input_shape, device=self.session.device) for label, task in self.tasks.items()
        }
        with evaluating(self.module), computing(self.session):
            penalised = isinstance(self.forward(examples), Penalised)
        if penalised:
            raise ConfigError(
                f"strategy: required, with {self.ranks.count} processes, a loss that is a mean over samples, found a "
                f"penalty beside it for tasks {list(self.tasks)}; use one process."
            )

    def _check_batches(self, shares: Sequence[Sequence[int]]) -> None:
        if not norms_of(self.module):
            return
        count, smallest = self.ranks.count, min(sum(counts) for counts in shares)
        if smallest < 2 * count:
            raise ConfigError(
                f"batch_size: required two samples for each of the {count} processes, since the network has "
                f"BatchNorm, found a batch of {smallest}; use larger batches or fewer processes."
            )
        every = [dealt(counts, Ranks(index, count)) for counts in shares for index in range(count)]
        where = f"the shares of {count} processes in batches of at most {self.training.batch_size}"
        check_passes(self.module, self.forward, list(self.tasks.values()), self.session, every, where)


class _LossOf(nn.Module):
    """The loss of a share as the output of a module, so that gradients can be sent while others are computed."""

    def __init__(self, module: nn.Module, loss: Callable[[Batch, int], Tensor]) -> None:
        super().__init__()
        self.module = module
        self._loss = loss

    def forward(self, share: Mapping[int, Part], size: int) -> Tensor:
        """The part of a share in the mean loss over the `size` samples of its batch, ()."""
        return self._loss(share, size)


def _generators(device: torch.device) -> list[Tensor]:
    """The states of torch's generators with which a run on the device computes."""
    return [torch.get_rng_state(), *([torch.cuda.get_rng_state(device)] if device.type == "cuda" else [])]


def _set_generators(states: Sequence[Tensor], device: torch.device) -> None:
    torch.set_rng_state(states[0])
    for state in states[1:]:
        torch.cuda.set_rng_state(state, device)
