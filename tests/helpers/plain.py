"""Training written once more, in plain torch: what the one training loop must equal bit for bit.

It shares no code with prognet but the seeds and the tasks.
"""

from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prognet.config import Training
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone
from prognet.streams.task import Samples, Task

MakeOptimiser = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]
Factor = Callable[[int, int], float]
"""(update, all updates) -> factor of the learning rate."""


def plain_network(backbone: Backbone, task: Task, seed: int = 0) -> nn.Module:
    """The network of a task before any training."""
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, task.label, "backbone"))
        return backbone(task.input_shape, task.n_classes)


def plain_orders(task: Task, epochs: int, seed: int = 0) -> list[Tensor]:
    """The order of the training samples in each epoch."""
    generator = torch.Generator().manual_seed(derive_seed(seed, task.label, "order"))
    return [torch.randperm(len(task.train), generator=generator) for _ in range(epochs)]


def plain_batches(order: Tensor, batch_size: int) -> list[Tensor]:
    """An epoch in ceil(N / batch_size) batches of equal size."""
    n_batches = -(-len(order) // batch_size)
    cuts = [len(order) * index // n_batches for index in range(n_batches + 1)]
    return [order[start:stop] for start, stop in pairwise(cuts)]


def plain_training(
    network: nn.Module,
    task: Task,
    training: Training,
    make_optimiser: MakeOptimiser,
    *,
    factor: Factor = lambda update, updates: 1.0,
    seed: int = 0,
) -> list[dict[str, Tensor]]:
    """Trains the network -> its state after every epoch."""
    orders, states, update = plain_orders(task, training.epochs, seed), [], 0
    optimiser = make_optimiser(network.parameters())
    updates = training.epochs * len(plain_batches(orders[0], training.batch_size))
    with torch.random.fork_rng():
        torch.manual_seed(derive_seed(seed, task.label, "training"))
        for order in orders:
            network.train()
            for chosen in plain_batches(order, training.batch_size):
                optimiser.param_groups[0]["lr"] = training.lr * factor(update, updates)
                x, y = task.train.x[chosen], task.train.y[chosen]
                optimiser.zero_grad()
                cross_entropy(network(x), y, label_smoothing=training.label_smoothing).backward()  # type: ignore[no-untyped-call]
                if training.clip_norm is not None:
                    nn.utils.clip_grad_norm_(network.parameters(), training.clip_norm)
                optimiser.step()
                update += 1
            states.append({name: tensor.clone() for name, tensor in network.state_dict().items()})
    network.eval()
    return states


def plain_loss(network: nn.Module, samples: Samples) -> float:
    """Mean cross-entropy, in evaluation mode."""
    network.eval()
    with torch.no_grad():
        return cross_entropy(network(samples.x), samples.y).item()


def plain_accuracy(network: nn.Module, samples: Samples) -> float:
    """Share of the samples whose largest logit is that of their class, in evaluation mode."""
    network.eval()
    with torch.no_grad():
        right: Tensor = network(samples.x).argmax(dim=1) == samples.y
        return right.double().mean().item()


def numbers_of(modules: Sequence[nn.Module]) -> list[Tensor]:
    """The parameters of all modules, then their buffers."""
    parameters = [parameter.detach() for module in modules for parameter in module.parameters()]
    return parameters + [buffer for module in modules for buffer in module.buffers()]


def assert_equal_numbers(found: Sequence[nn.Module], required: Sequence[nn.Module]) -> None:
    """Equal parameters and buffers, bit for bit and in the same order."""
    ours, theirs = numbers_of(found), numbers_of(required)
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs, strict=True))


def assert_other_numbers(found: nn.Module, other: nn.Module) -> None:
    """At least one number differs."""
    assert not all(torch.equal(a, b) for a, b in zip(numbers_of([found]), numbers_of([other]), strict=True))
