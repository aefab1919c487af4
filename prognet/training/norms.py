"""Whether batches are large enough for BatchNorm, which cannot learn from a single value a channel."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from prognet.engine.sites import edited
from prognet.errors import ConfigError
from prognet.seeds import derive_seed
from prognet.streams.task import Task
from prognet.training.batches import Sampling, shares
from prognet.training.budget import budget_of
from prognet.training.determinism import seeded
from prognet.training.measuring import evaluating
from prognet.training.procedure import Forward
from prognet.training.session import Session, computing


class _StarvedError(Exception):
    """Ends a forward pass in which a norm is given a single value a channel."""


def norms_of(module: nn.Module) -> dict[str, nn.Module]:
    """The BatchNorm layers of a module, by name."""
    named = module.named_modules()
    return {name: part for name, part in named if isinstance(part, nn.modules.batchnorm._BatchNorm)}


def check_batches(
    module: nn.Module, forward: Forward, tasks: Sequence[Task], session: Session, sampling: Sampling = 0.0
) -> None:
    """Refuses the joint training of some tasks where a batch has too few samples of one of them for a norm.

    Args:
        module: what is trained; left as it is.
        forward: the outputs of a batch.
        tasks: the tasks that are learned together.
        session: how to train.
        sampling: how joint training is shared between the tasks.

    Raises:
        ConfigError: when BatchNorm that sees the samples of one task alone would be given a single one.
    """
    budget = budget_of(session.training, tasks, sampling)
    if budget.updates and norms_of(module):
        batches = shares(budget.quotas, budget.round)
        check_passes(module, forward, tasks, session, batches, f"batches of at most {session.training.batch_size}")


def check_passes(
    module: nn.Module,
    forward: Forward,
    tasks: Sequence[Task],
    session: Session,
    counts: Sequence[Sequence[int]],
    where: str,
) -> None:
    """Refuses forward passes with too few samples of a task for a norm; what it sees, a pass over zeros shows.

    Args:
        module: what is trained; left as it is.
        forward: the outputs of a batch.
        tasks: the tasks that are learned together.
        session: how to train.
        counts: how many samples of each task every pass holds, (n_passes, n_tasks).
        where: what these passes are, for the message.

    Raises:
        ConfigError: when BatchNorm would be given a single value a channel.
    """
    starved = []
    for index, task in enumerate(tasks):
        lone = [[i for i, count in enumerate(numbers) if count] for numbers in counts if numbers[index] == 1]
        if lone:  # two samples of every other task are enough to see whether a norm has more than this one
            others = {tasks[i].label: tasks[i] for i in min(lone, key=len)}
            inputs = {
                label: torch.zeros(1 if label == task.label else 2, *other.input_shape, device=session.device)
                for label, other in others.items()
            }
            with seeded(derive_seed(session.seed, task.label, "norms"), session.device), computing(session):
                starved += [task.label] if _starves(module, forward, inputs) else []
    if starved:
        raise ConfigError(
            "batch_size: required two samples of a task or none, since BatchNorm in layers that see the samples of one "
            f"task alone cannot learn from one, found a single one of tasks {starved} in {where}; use larger batches, "
            "a network without BatchNorm, or an architecture whose norms see all tasks, such as Hard()."
        )


def _starves(module: nn.Module, forward: Forward, inputs: Mapping[int, Tensor]) -> bool:
    """Whether a norm that would be learning is given a single value a channel."""

    def look(x: Tensor) -> Tensor:  # (b, C, ...)
        if x.numel() == x.shape[1]:
            raise _StarvedError
        return x

    with evaluating(module):
        module.train()
        learning = [name for name, norm in norms_of(module).items() if norm.training]  # not those that are frozen
        module.eval()
        try:
            with edited(module, dict.fromkeys(learning, look)):
                forward(inputs)
        except _StarvedError:
            return True
    return False
