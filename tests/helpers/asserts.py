"""Properties of a progressive network, by name; each raises AssertionError where it does not hold.

What must not change is compared with `torch.equal`, never with a tolerance.
"""

import weakref
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.engine import ProgressiveNetwork
from prognet.engine.digest import tensors_of

Optimizer = Callable[[Sequence[nn.Parameter]], torch.optim.Optimizer]
Action = Callable[[], object]


def logits(net: ProgressiveNetwork, column: int, x: Tensor) -> Tensor:
    """What a column says without gradients, in the mode in which the network is."""
    with torch.no_grad():
        out: Tensor = net(x, column)
    return out.clone()


def snapshot(module: nn.Module) -> dict[str, Tensor]:
    """A copy of every parameter and buffer, by name."""
    return {name: tensor.detach().clone() for name, tensor in tensors_of(module)}


def assert_same_tensors(before: dict[str, Tensor], after: dict[str, Tensor]) -> None:
    """Same names, and the same bits."""
    assert before.keys() == after.keys()
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert not changed, changed


def learn(
    net: ProgressiveNetwork, column: int, x: Tensor, optimizer: Optimizer, steps: int = 3, target: Tensor | None = None
) -> None:
    """Trains with ALL parameters of the network in the optimiser, as a careless caller would, in training mode."""
    net.train()
    used = optimizer(list(net.parameters()))
    for _ in range(steps):
        used.zero_grad()
        y = net(x, column)
        wanted = torch.arange(len(x)) % y.shape[1] if target is None else target
        torch.autograd.backward(functional.cross_entropy(y, wanted))
        used.step()


def assert_no_forgetting(net: ProgressiveNetwork, columns: Sequence[int], x: Tensor, action: Action) -> None:
    """Logits and digests of `columns`, which are frozen, are the same bits after the action, in either mode."""
    before = {k: logits(net, k, x) for k in columns}
    digests = {k: net.digest(k) for k in columns}
    action()
    for mode in (True, False):
        net.train(mode)
        for k in columns:
            assert torch.equal(before[k], logits(net, k, x)), f"column {k} changed (train={mode})"
    assert digests == {k: net.digest(k) for k in columns}
    net.check_frozen()


def assert_only_last_column_learns(net: ProgressiveNetwork, x: Tensor, optimizer: Optimizer) -> None:
    """Parameters and buffers of all other columns keep their bits and get no gradient; the last column's move."""
    last = len(net) - 1
    old = [snapshot(net.column(k)) for k in range(last)]
    new = snapshot(net.column(last))
    learn(net, last, x, optimizer)
    for k in range(last):
        assert_same_tensors(old[k], snapshot(net.column(k)))
        assert all(parameter.grad is None for parameter in net.column(k).parameters())
    trained = [name for name, parameter in net.column(last).named_parameters() if parameter.requires_grad]
    assert trained
    after = snapshot(net.column(last))
    assert not [name for name in trained if torch.equal(new[name], after[name])]


def assert_every_adapter_matters(net: ProgressiveNetwork, x: Tensor) -> None:
    """Every adapter parameter moves the output of its own column, and of no column that does not read that one."""
    net.eval()
    before = [logits(net, k, x) for k in range(len(net))]
    for k in range(len(net)):
        for name, parameter in net.column(k).adapters.named_parameters():
            kept = parameter.detach().clone()
            with torch.no_grad():
                parameter.add_(torch.linspace(0.3, 0.7, parameter.numel(), dtype=parameter.dtype).view_as(parameter))
            for other in range(len(net)):
                same = torch.equal(before[other], logits(net, other, x))
                if other == k:
                    assert not same, f"{name} of column {k} does not matter"
                elif k not in net.closure([other]):
                    assert same, f"{name} of column {k} moves column {other}"
            with torch.no_grad():
                parameter.copy_(kept)


def assert_every_lateral_learns(net: ProgressiveNetwork, x: Tensor, optimizer: Optimizer) -> None:
    """After two steps every lateral parameter of the last column has had a gradient that is not zero."""
    last = len(net) - 1
    learn(net, last, x, optimizer, steps=3)  # the gradients of the third pass: after two steps
    parameters = dict(net.column(last).adapters.named_parameters())
    assert parameters
    idle = [name for name, value in parameters.items() if value.grad is None or not value.grad.count_nonzero()]
    assert not idle, idle


def assert_zero_adapters_give_the_backbone(
    net: ProgressiveNetwork, backbones: Sequence[nn.Module], x: Tensor, mode: bool
) -> None:
    """Column k says exactly what the independent backbone k says, in training or evaluation mode.

    Earlier columns are compared with a frozen backbone, since attention takes another path where nothing learns.
    """
    last = len(net) - 1
    net.train(mode)
    for k, backbone in enumerate(backbones):
        torch.manual_seed(7)
        own = net(x, k)
        torch.manual_seed(7)
        plain = backbone.train(mode) if k == last else backbone.eval().requires_grad_(False)
        assert torch.equal(own, plain(x)), f"column {k}"


def assert_features_are_shared(net: ProgressiveNetwork, x: Tensor) -> None:
    """What column k reads of column j is what column j itself receives when it is asked for its own output."""
    net.train()
    for k in range(1, len(net)):
        sources = net.column(k).sources
        seen = net.activations(x, sources)
        for j in sources:
            own = net.activations(x, net.column(j).sources)
            _, received = net.column(j)(x, [own[i] for i in net.column(j).sources])
            assert received.keys() == seen[j].keys()
            assert all(torch.equal(received[name], seen[j][name]) for name in received), (k, j)


def assert_every_source_matters(net: ProgressiveNetwork, x: Tensor) -> None:
    """Zeroing what column j hands on moves the output of every column that names it as a source."""
    for k in range(1, len(net)):
        column = net.column(k)
        column.eval()
        seen = net.activations(x, column.sources)
        y, _ = column(x, [seen[j] for j in column.sources])
        for j in column.sources:
            without = {**seen, j: {name: torch.zeros_like(h) for name, h in seen[j].items()}}
            other, _ = column(x, [without[i] for i in column.sources])
            assert not torch.equal(y, other), f"column {k} does not read column {j}"


def assert_generator_untouched(action: Action) -> None:
    """The action draws nothing from torch's generator."""
    before = torch.get_rng_state()
    action()
    assert torch.equal(before, torch.get_rng_state())


def assert_network_unchanged(net: ProgressiveNetwork, action: Action) -> None:
    """Number, digests, gradient flags, modes and hooks of the columns are the same after the action."""

    def state() -> object:
        flags = [(name, parameter.requires_grad) for name, parameter in net.named_parameters()]
        hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in net.modules()]
        frozen = [net.column(k).frozen for k in range(len(net))]
        return len(net), net.digests(), flags, frozen, [m.training for m in net.modules()], hooks, net.input_shape

    before = state()
    action()
    assert state() == before


def assert_no_activation_outlives_the_call(net: ProgressiveNetwork, x: Tensor) -> None:
    """Everything that the sites receive is gone as soon as the caller has dropped it, without a garbage collection."""
    found = net.activations(x, range(len(net)))
    references = [weakref.ref(h) for received in found.values() for h in received.values()]
    assert references
    del found
    assert not [reference for reference in references if reference() is not None]
