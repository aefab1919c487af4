"""Columns that are learned together: independent where nothing joins them, one where everything does."""

from collections.abc import Callable
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prognet.backbones import mlp
from prognet.config import Training
from prognet.errors import ConfigError, SiteError
from prognet.strategies import MultiTask
from prognet.strategies.multitask import Architecture, CrossStitch, Soft
from prognet.strategies.multitask.parallel import Parallel, fold
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training import Penalised, fit
from prognet.training.batches import BatchSource, quotas
from tests.helpers.plain import assert_equal_numbers, plain_network
from tests.helpers.runs import NORMED, PLAIN, learn_all, make_session, tensors, with_session
from tests.helpers.streams import make_stream, make_task
from tests.helpers.structures import SHAPE, Encoder, Keywords, Named
from tests.helpers.zoo import ZOO, Kind

LONG = Training(epochs=40, batch_size=16, lr=0.01)


def learned(architecture: Architecture, stream: Stream, training: Training, backbone: Any = PLAIN) -> Any:
    return learn_all(MultiTask(backbone, architecture=architecture), stream, training)


def untrained(architecture: Architecture, stream: Stream, backbone: Any = PLAIN) -> Any:
    return learned(architecture, stream, Training(epochs=0), backbone)


def alone_on_joint_batches(stream: Stream, training: Training) -> list[nn.Module]:
    """A network a task, each with an optimiser of its own, trained on its part of the joint batches: in plain torch."""
    sizes = [len(task.train) for task in stream]
    n_batches = -(-sum(sizes) // training.batch_size)
    networks = [plain_network(PLAIN, task) for task in stream]
    optimisers = [torch.optim.Adam(network.parameters(), lr=training.lr, fused=True) for network in networks]
    rounds = BatchSource(list(stream), quotas(sizes, 0.0), n_batches, 0, torch.device("cpu"), 2**40).rounds()
    for _ in range(n_batches * training.epochs):
        batch = next(rounds)
        size = sum(len(part.y) for part in batch.values())
        for label, part in batch.items():
            optimisers[label].zero_grad()
            loss = cross_entropy(networks[label](part.x), part.y) * (len(part.y) / size)
            loss.backward()  # type: ignore[no-untyped-call]
            optimisers[label].step()
    return networks


# Soft sharing


def test_without_a_penalty_soft_sharing_is_independent_networks_bit_for_bit() -> None:
    stream, training = make_stream((2, 5, 3), [40, 60, 21]), Training(epochs=5, batch_size=16, lr=0.01)
    found = learned(Soft(penalty=0.0), stream, training)
    required = alone_on_joint_batches(stream, training)
    assert_equal_numbers([found.shared.network(label) for label in range(3)], required)


def test_a_large_penalty_makes_one_network_of_all() -> None:
    spread = [spread_of(learned(Soft(penalty=factor), make_stream(), LONG)) for factor in (0.0, 0.1, 100.0)]
    assert spread[0] > 3 * spread[1] > 3 * 3 * spread[2]
    assert spread[2] < 0.02 * spread[0]


def spread_of(strategy: Any) -> float:
    """The largest distance of a bound parameter from its mean over the tasks."""
    networks = list(strategy.shared.networks.values())
    stacks = [
        torch.stack([network.get_parameter(name).detach() for network in networks]) for name in strategy.shared.factors
    ]
    return max(float((stack - stack.mean(dim=0)).abs().max()) for stack in stacks)


def test_the_penalty_by_hand() -> None:
    model = untrained(Soft(penalty=0.5), make_stream((2, 5))).shared
    distance = 0.0
    for name in ("1.weight", "1.bias", "3.weight", "3.bias"):
        first, second = (model.network(label).get_parameter(name).detach() for label in range(2))
        distance += float((first - second).square().sum()) / 2  # both are half of the difference from the mean
    assert float(model.penalty().detach()) == pytest.approx(0.5 * distance, rel=1e-5)
    out = model.predict_together({0: make_task(0, 2).test.x})
    assert isinstance(out, Penalised)
    assert torch.equal(out.penalty, model.penalty())


def test_a_penalty_for_each_layer_takes_the_first_name_that_fits() -> None:
    model = untrained(Soft(penalty={"3": 2.0, "*": 0.1}), make_stream()).shared
    assert model.factors == {"3.weight": 2.0, "3.bias": 2.0, "1.weight": 0.1, "1.bias": 0.1}
    assert list(untrained(Soft(penalty={"3": 2.0}), make_stream()).shared.factors) == ["3.weight", "3.bias"]


def test_output_layers_are_not_bound() -> None:
    model = untrained(Soft(), make_stream((3, 3, 3))).shared
    assert not [name for name in model.factors if name.startswith("5.")]
    with pytest.raises(SiteError, match=r"penalty: required parameters that all tasks have in one shape, found none"):
        untrained(Soft(penalty={"5": 1.0}), make_stream((3, 3, 3)))


# Cross-stitch


def identical(kind: Kind) -> tuple[Any, list[Any]]:
    """Cross-stitch columns that do not read each other, and tasks for them."""
    tasks = [make_task(label, 2 + label, 12, shape=kind.input_shape) for label in range(3)]

    def backbone(shape: Any, n_classes: int) -> nn.Module:
        return kind.build(n_classes, seed=n_classes)

    strategy = with_session(MultiTask(backbone, architecture=CrossStitch(own=1.0)), Training(epochs=0))
    strategy.learn(tasks)
    return strategy, [(task, kind.build(task.n_classes, seed=task.n_classes)) for task in tasks]


@pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.name)
def test_cross_stitch_at_the_identity_is_independent_networks(kind: Kind) -> None:
    strategy, pairs = identical(kind)
    for mode in (False, True) if kind.name != "mlp_norm" else (False,):  # dropout draws for all columns at once
        strategy.train(mode)
        for task, plain in pairs:
            with torch.no_grad():
                found = strategy.predict(task.test.x, task.label)
                assert torch.allclose(found, plain.train(mode)(task.test.x), rtol=1e-5, atol=1e-6)


def test_in_training_the_norms_of_a_column_see_the_samples_of_all_tasks() -> None:
    """The one exception: with BatchNorm columns that do not read each other are not quite independent networks."""
    stream, backbone = make_stream((2, 3)), mlp(hidden=(8, 6), batch_norm=True)
    model = untrained(CrossStitch(own=1.0), stream, backbone).shared
    inputs = {task.label: task.train.x[: 8 + task.label] for task in stream}
    whole, rows = torch.cat(list(inputs.values())), {0: slice(0, 8), 1: slice(8, None)}
    for task in stream:
        plain = plain_network(backbone, task)
        alone, found = plain.eval()(inputs[task.label]), model.eval().predict_together(inputs)[task.label]
        assert torch.allclose(found, alone, atol=1e-6)
        alone, found = plain.train()(inputs[task.label]), model.train().predict_together(inputs)[task.label]
        assert not torch.allclose(found, alone, atol=0.01)
        assert torch.allclose(found, plain(whole)[rows[task.label]], atol=1e-6)
        model = untrained(CrossStitch(own=1.0), stream, backbone).shared  # with statistics that have not moved


def test_cross_stitch_held_at_the_identity_learns_what_independent_networks_learn() -> None:
    stream, training = make_stream((2, 5, 3), [40, 60, 21]), Training(epochs=5, batch_size=16, lr=0.01)
    strategy = untrained(CrossStitch(own=1.0), stream)
    model = strategy.shared
    for mix in model.mixes:
        mix.requires_grad_(False)
    fit(model, model.predict_together, model.predict, list(stream), make_session(training))
    required = alone_on_joint_batches(stream, training)
    for task, plain in zip(stream, required, strict=True):
        with torch.no_grad():
            assert torch.allclose(model.predict(task.test.x, task.label), plain(task.test.x), atol=1e-4)


def test_the_mix_by_hand() -> None:
    """Two columns of one hidden layer: the first head reads 0.7 h1 + 0.3 h2, the second one h1 / 2 + h2 / 2."""
    stream = make_stream((2, 2))

    def backbone(shape: Any, n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, 4), nn.Tanh(), nn.Linear(4, n_classes))

    model = untrained(CrossStitch(), stream, backbone).shared
    assert model.names == ["3"]
    assert torch.allclose(model.mixes[0], torch.tensor([[0.9, 0.1], [0.1, 0.9]]))
    x = stream[0].test.x
    first, second = (torch.tanh(layer(x.flatten(1))) for layer in model.trunks[1].parts)
    with torch.no_grad():
        model.mixes[0].copy_(torch.tensor([[0.7, 0.3], [0.5, 0.5]]))
        assert torch.allclose(model.predict(x, 0), model.heads["0"](0.7 * first + 0.3 * second), atol=1e-6)
        assert torch.allclose(model.predict(x, 1), model.heads["1"](0.5 * first + 0.5 * second), atol=1e-6)


def test_mixes_begin_near_the_identity_with_rows_that_add_up_to_1() -> None:
    model = untrained(CrossStitch(own=0.7), make_stream()).shared
    assert all(
        torch.allclose(m, torch.tensor([[0.7, 0.15, 0.15], [0.15, 0.7, 0.15], [0.15, 0.15, 0.7]])) for m in model.mixes
    )
    earlier = untrained(CrossStitch(own=0.7, reads="earlier"), make_stream()).shared
    assert all(torch.allclose(m, torch.tensor([[1, 0, 0], [0.3, 0.7, 0], [0.15, 0.15, 0.7]])) for m in earlier.mixes)


def test_columns_that_read_earlier_ones_never_read_later_ones() -> None:
    """The connections of a progressive network: what is later changes nothing that is earlier, in learning neither."""
    stream = make_stream()
    strategy = learned(CrossStitch(reads="earlier"), stream, Training(epochs=3, batch_size=16, lr=0.05))
    model, x = strategy.shared, stream[0].test.x
    gradients = torch.autograd.grad(
        model.predict(x, 1).sum(), list(model.trunks[1].parts.parameters()), allow_unused=True
    )
    reached = [bool(gradient.any()) for gradient in gradients]
    assert reached == [True, True, True, True, False, False]  # columns 0 and 1, not 2
    with torch.no_grad():
        before = model.predict(x, 1)
        for parameter in model.trunks[1].parts[2].parameters():
            parameter.add_(1.0)
        assert torch.equal(model.predict(x, 1), before)
        for parameter in model.trunks[1].parts[0].parameters():
            parameter.add_(1.0)
        assert not torch.equal(model.predict(x, 1), before)


def test_every_column_keeps_statistics_of_its_own() -> None:
    model = learned(CrossStitch(), make_stream(), Training(epochs=2, batch_size=16, lr=0.05), NORMED).shared
    means = [tensor for name, tensor in tensors(model).items() if name.endswith("running_mean")]
    assert len(means) == 2 * 3
    assert not torch.allclose(means[0], means[1], atol=1e-3)


class Token(nn.Module):
    """A network with a parameter outside of its layers, as a class token is."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.token = nn.Parameter(torch.randn(6))
        self.stem, self.mid, self.head = nn.Linear(16, 6), nn.Linear(6, 6), nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(torch.relu(self.mid(torch.relu(self.stem(x.flatten(1)) + self.token))))  # type: ignore[no-any-return]


def test_parameters_outside_of_all_layers_are_the_first_columns() -> None:
    stream = make_stream((2, 2))
    model = untrained(CrossStitch(own=1.0), stream, lambda shape, n: Token(n)).shared
    tokens = [name for name, _ in model.named_parameters() if name.endswith("token")]
    assert tokens == ["trunks.token"]
    assert torch.equal(model.trunks.token, plain_network(lambda shape, n: Token(n), stream[0]).token)  # type: ignore[arg-type]


class Centred(nn.Module):
    """A network whose samples look at each other."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.stem, self.head = nn.Linear(16, 6), nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        h = self.stem(x.flatten(1))
        return self.head(torch.relu(h - h.mean(dim=0) + 1))  # type: ignore[no-any-return]


def test_networks_whose_samples_look_at_each_other_cannot_run_side_by_side() -> None:
    with pytest.raises(SiteError) as caught:
        untrained(CrossStitch(), make_stream((2, 2)), lambda shape, n: Centred(n))
    assert str(caught.value) == (
        "backbone: required a network that treats every sample by itself, so that columns can run side by side, found "
        "one that does not; use Soft or Hard."
    )


def test_parallel_modules_see_their_own_part_of_the_batch() -> None:
    first, second = nn.Linear(3, 2), nn.Linear(3, 2)
    x = torch.randn(8, 3)
    found = Parallel([first, second])(x)
    assert torch.equal(found, torch.cat([first(x[:4]), second(x[4:])]))
    bilinear = Parallel([nn.Bilinear(3, 3, 2), nn.Bilinear(3, 3, 2)])
    parts: Any = bilinear.parts
    assert torch.equal(bilinear(x, x), torch.cat([parts[0](x[:4], x[:4]), parts[1](x[4:], x[4:])]))


def test_parallel_modules_divide_what_has_a_name_in_the_same_way() -> None:
    first, second = nn.Bilinear(3, 3, 2), nn.Bilinear(3, 3, 2)
    x, other = torch.randn(8, 3), torch.randn(8, 3)
    found = Parallel([first, second])(x, input2=other)
    assert torch.equal(found, torch.cat([first(x[:4], other[:4]), second(x[4:], other[4:])]))


def of_tokens(make: Callable[[int], nn.Module], architecture: Architecture) -> tuple[Any, list[Task]]:
    """The trained model of two tasks of tokens, and the tasks."""
    tasks = [make_task(label, 2 + label, 12, shape=SHAPE) for label in range(2)]
    strategy: Any = with_session(MultiTask(lambda shape, n_classes: make(n_classes), architecture=architecture))
    strategy.learn(tasks)
    return strategy.shared, tasks


@pytest.mark.parametrize(
    ("make", "sites"),
    [(Keywords, None), (Named, None), (Encoder, ["encoder", "head"])],
    ids=["keywords", "named", "encoder"],
)
def test_columns_call_their_layers_in_any_way(make: Callable[[int], nn.Module], sites: Any) -> None:
    model, tasks = of_tokens(make, CrossStitch(sites=sites))
    for task in tasks:
        assert model.predict(task.test.x, task.label).shape == (30, task.n_classes)


def test_sites_that_are_more_than_called_are_refused() -> None:
    with pytest.raises(SiteError) as caught:
        of_tokens(Encoder, CrossStitch())
    assert str(caught.value) == (
        "sites: required modules that those of all columns can stand for, found ['head', 'encoder.layers.0', "
        "'encoder.layers.1'] in a network that needs their own ('Parallel' object has no attribute "
        "'self_attn'); choose coarser sites, such as what holds them, or use Soft."
    )


def test_networks_of_other_shapes_cannot_be_folded() -> None:
    with pytest.raises(SiteError, match=r"backbone: required in '0' the same shapes for every task, found .*n_classes"):
        fold([nn.Sequential(nn.Linear(3, 2)), nn.Sequential(nn.Linear(3, 4))], [])
    with pytest.raises(SiteError, match="required modules around them that return one tensor, found a tuple"):
        Parallel([nn.LSTM(3, 2), nn.LSTM(3, 2)])(torch.randn(4, 5, 3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Soft(penalty=-1), "penalty: required finite numbers, at least 0, found -1."),
        (lambda: Soft(penalty={"*": float("nan")}), "penalty: required finite numbers, at least 0, found {'*': nan}."),
        (lambda: Soft(penalty=float("inf")), "penalty: required finite numbers, at least 0, found inf."),
        (lambda: Soft(penalty=cast(Any, "x")), "penalty: required finite numbers, at least 0, found 'x'."),
        (lambda: CrossStitch(own=cast(Any, "a")), "own: required a number above 0, at most 1, found 'a'."),
        (lambda: CrossStitch(own=0), "own: required a number above 0, at most 1, found 0."),
        (lambda: CrossStitch(own=1.1), "own: required a number above 0, at most 1, found 1.1."),
        (lambda: CrossStitch(reads=cast(Any, "later")), "reads: required one of ('all', 'earlier'), found 'later'."),
    ],
)
def test_bad_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
