"""What tasks share: hard sharing of all or of some layers, and what holds for every architecture."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import prognet
from prognet.config import Training
from prognet.errors import ConfigError, SiteError, UnlearnedTaskError
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.store import RunStore
from prognet.strategies import MultiTask, strategy_from
from prognet.strategies.multitask import (
    DWA,
    FAMO,
    Added,
    Adversarial,
    Architecture,
    Attention,
    Concatenated,
    CrossStitch,
    FiLM,
    GradNorm,
    Hard,
    PCGrad,
    Soft,
    Stems,
    Uncertainty,
    UPGrad,
    Weighting,
)
from prognet.streams.stream import Stream
from tests.helpers.plain import plain_network
from tests.helpers.runs import (
    NORMED,
    PLAIN,
    TRAINING,
    assert_same_numbers,
    assert_same_tensors,
    learn_all,
    make_session,
    quick_run,
    tensors,
    with_session,
)
from tests.helpers.streams import make_stream, make_task
from tests.helpers.zoo import GATED, LAZY, ZOO, Kind

ARCHITECTURES: tuple[Architecture, ...] = (
    Hard(),
    Hard(shared=["1"]),
    Stems(),
    Soft(penalty=0.1),
    CrossStitch(),
    CrossStitch(reads="earlier"),
    Attention(),
    Added(),
    Concatenated(descriptor=3),
    FiLM(descriptor=2),
    Adversarial(),
)
EACH = pytest.mark.parametrize("architecture", ARCHITECTURES, ids=repr)


def models(architecture: Architecture, stream: Stream, backbone: Any = PLAIN, training: Training = TRAINING) -> Any:
    """The trained model of a stream."""
    return learn_all(MultiTask(backbone, architecture=architecture), stream, training)


def untrained(architecture: Architecture, stream: Stream, backbone: Any = PLAIN) -> Any:
    return models(architecture, stream, backbone, Training(epochs=0))


@EACH
def test_every_parameter_learns(architecture: Architecture) -> None:
    stream = make_stream()
    before, strategy = tensors(untrained(architecture, stream, NORMED)), models(architecture, stream, NORMED)
    after, constant = tensors(strategy), {name for name, _ in strategy.named_buffers()}
    assert before.keys() == after.keys()
    assert not [name for name in before if name not in constant and torch.equal(before[name], after[name])]


@EACH
def test_it_learns(architecture: Architecture) -> None:
    stream = make_stream((2, 3))
    result = quick_run(
        MultiTask(PLAIN, architecture=architecture), stream, training=Training(epochs=20, batch_size=16, lr=0.02)
    )
    assert result.accuracy.min() > 0.8


@EACH
def test_predicting_together_is_predicting_one_by_one(architecture: Architecture) -> None:
    stream = make_stream()
    strategy = models(architecture, stream, NORMED)
    inputs = {task.label: task.test.x[: 3 + task.label] for task in stream}
    with torch.no_grad():
        found = strategy.shared.predict_together(inputs)
        outputs = getattr(found, "outputs", found)
        for label, x in inputs.items():
            assert torch.allclose(outputs[label], strategy.predict(x, label), atol=1e-6)


@EACH
def test_a_batch_may_lack_a_task(architecture: Architecture) -> None:
    strategy = untrained(architecture, make_stream())
    x = make_task(2, 3).test.x
    found = strategy.shared.predict_together({2: x})
    outputs = getattr(found, "outputs", found)
    assert list(outputs) == [2]
    assert torch.allclose(outputs[2], strategy.predict(x, 2))


@EACH
def test_a_task_that_was_not_learned_is_refused(architecture: Architecture) -> None:
    with pytest.raises(UnlearnedTaskError, match=r"found that nothing has been learned yet|found 7"):
        MultiTask(PLAIN, architecture=architecture).predict(torch.zeros(1, 1, 4, 4), 7)
    with pytest.raises(
        UnlearnedTaskError, match="required one of the learned tasks .0, 1, 2., found 7; learn it first"
    ):
        untrained(architecture, make_stream()).predict(torch.zeros(1, 1, 4, 4), 7)


@EACH
def test_a_copy_is_another_model_with_the_same_numbers(architecture: Architecture) -> None:
    stream = make_stream()
    strategy = models(architecture, stream)
    copy = deepcopy(strategy)
    x = stream[1].test.x
    with torch.no_grad():
        required = strategy.predict(x, 1)
        for parameter in strategy.parameters():
            parameter.zero_()
        assert torch.equal(copy.predict(x, 1), required)
        assert not torch.equal(strategy.predict(x, 1), required)


@EACH
def test_a_stored_run_is_rebuilt_without_data_and_verified(architecture: Architecture, tmp_path: Path) -> None:
    stream = make_stream()
    strategy = MultiTask(
        NORMED, architecture=architecture, weighting=Uncertainty(), sampling=0.5, schedule="cumulative"
    )
    result = quick_run(strategy, stream, out=tmp_path)
    assert [verdict.problem for verdict in prognet.verify(tmp_path)] == [None]
    outlines = [task.outline() for task in stream]
    again = rebuild(strategy_from(result.config["strategy"], NORMED), outlines, result.schedule, make_session())
    found, required = tensors(again), tensors(result.learner)
    assert {name: tensor.shape for name, tensor in found.items()} == {n: tensor.shape for n, tensor in required.items()}
    RunStore.of(tmp_path, strategy.name, stream.seed, 0).load_weights(again, result)
    assert_same_tensors(tensors(again), required)
    x = stream[1].test.x
    with torch.no_grad():
        assert torch.equal(again.eval().predict(x, 1), result.learner.predict(x, 1))


class KilledError(Exception):
    """Ends a run from outside."""


@pytest.mark.parametrize(
    ("architecture", "weighting"),
    [(CrossStitch(), FAMO()), (FiLM(), DWA()), (Adversarial(), GradNorm()), (Hard(), UPGrad())],
    ids=repr,
)
def test_a_run_that_was_killed_ends_undisturbed(
    architecture: Architecture, weighting: Weighting, tmp_path: Path
) -> None:
    """What a weighting keeps lives and dies with the training of one step."""
    stream = make_stream()
    strategy = MultiTask(NORMED, architecture=architecture, weighting=weighting, schedule="cumulative")
    calls: list[int] = []

    def advance(updates: int) -> None:
        calls.append(updates)
        if len(calls) == 6:
            raise KilledError

    with pytest.raises(KilledError):
        quick_run(strategy, stream, out=tmp_path, advance=advance)
    resumed, required = quick_run(strategy, stream, out=tmp_path), quick_run(strategy, stream)
    assert_same_numbers(resumed, required)
    assert_same_tensors(tensors(resumed.learner), tensors(required.learner))


@EACH
def test_two_runs_of_one_seed_are_the_same_bits_and_leave_the_generator_alone(architecture: Architecture) -> None:
    stream, state = make_stream(), torch.get_rng_state()
    strategy = MultiTask(NORMED, architecture=architecture, weighting=PCGrad(), sampling=0.5)
    first = quick_run(strategy, stream)
    torch.manual_seed(123)
    second = quick_run(strategy, stream)
    assert_same_numbers(first, second)
    torch.set_rng_state(state)
    quick_run(strategy, stream)
    assert torch.equal(torch.get_rng_state(), state)


@EACH
def test_it_learns_in_half_precision(architecture: Architecture) -> None:
    strategy = MultiTask(NORMED, architecture=architecture, weighting=UPGrad())
    execution = prognet.Execution(precision="bfloat16")
    result = quick_run(strategy, make_stream((2, 2)), execution=execution, training=Training(epochs=10, batch_size=16))
    assert all(torch.isfinite(tensor).all() for tensor in tensors(result.learner).values())
    assert result.learner.records[0].gradient_norm > 0


def of_kind(kind: Kind) -> Callable[[Sequence[int], int], nn.Module]:
    return lambda shape, n_classes: kind.make(n_classes).eval()


def learn_two(architecture: Architecture, kind: Kind) -> None:
    """Two tasks of unlike classes can be learned and predicted."""
    tasks = [make_task(label, 2 + label, 12, shape=kind.input_shape) for label in range(2)]
    strategy = with_session(MultiTask(of_kind(kind), architecture=architecture, weighting=UPGrad()))
    assert isinstance(strategy, MultiTask)
    strategy.learn(tasks)
    for task in tasks:
        with torch.no_grad():
            assert strategy.predict(task.test.x, task.label).shape == (30, task.n_classes)


@pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.name)
@pytest.mark.parametrize(
    "architecture",
    [Soft(), CrossStitch(), Attention(), Added(), Concatenated(), FiLM(), Adversarial()],
    ids=lambda architecture: type(architecture).__name__,
)
def test_any_network_can_be_shared(architecture: Architecture, kind: Kind) -> None:
    learn_two(architecture, kind)


@pytest.mark.parametrize("kind", [kind for kind in ZOO if kind not in (GATED, LAZY)], ids=lambda kind: kind.name)
def test_any_network_has_layers_between_stem_and_head_to_share(kind: Kind) -> None:
    learn_two(Stems(), kind)


INNER: Mapping[str, tuple[str, ...]] = {
    "mlp": ("2",),
    "mlp_norm": ("1", "4", "5"),
    "lenet": ("conv*", "fc1"),
    "resnet": ("layer1", "layer2.*"),
    "transformer": ("blocks",),
    "recurrent": ("cells.1", "cells.*.gru"),
    "gated": ("fc1",),
    "dense": ("layers", "layers.0", "layers.0.2"),
    "lazy": ("0", "2"),
    "pretrained": ("0",),
    "swin": ("1", "2"),
}
"""Names of some layers of each kind: single ones, containers, and ones that lie in others."""


@pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.name)
def test_layers_of_any_network_can_be_shared_by_name(kind: Kind) -> None:
    learn_two(Hard(shared=INNER[kind.name]), kind)


def test_a_network_without_layers_between_stem_and_head_is_refused() -> None:
    for kind in (GATED, LAZY):
        with pytest.raises(SiteError, match="required layers between the first and the output layer to be shared"):
            learn_two(Stems(), kind)


# Some layers only


WIDE, NARROW = make_task(0, 2), make_task(1, 3, shape=(1, 3, 3))
"""Two tasks whose samples have 16 and 9 values."""


def of_two_shapes(architecture: Architecture, training: Training = TRAINING, weighting: Any = None) -> Any:
    """The model of both tasks, learned outside of a stream."""
    strategy = with_session(MultiTask(PLAIN, architecture=architecture, weighting=weighting), training)
    strategy.learn([WIDE, NARROW])
    return strategy


def test_tasks_of_different_inputs_share_the_layers_behind_their_stems() -> None:
    strategy = of_two_shapes(Hard(shared=["3"]))
    first, second = (strategy.shared.network(label) for label in range(2))
    assert [type(layer).__name__ for layer in second] == ["Flatten", "Linear", "ReLU", "Linear", "ReLU", "Linear"]
    assert second[3] is first[3]
    assert first[1].weight.shape == (8, 16)
    assert second[1].weight.shape == (8, 9)
    assert first[5] is not second[5]
    own = 16 * 8 + 8 + 9 * 8 + 8 + (6 * 2 + 2) + (6 * 3 + 3)
    assert sum(parameter.numel() for parameter in strategy.parameters()) == own + 8 * 6 + 6
    before = of_two_shapes(Hard(shared=["3"]), Training(epochs=0)).shared.network(0)
    learned = of_two_shapes(Hard(shared=["3"]), weighting=UPGrad()).shared.network(0)
    assert not torch.equal(before[3].weight, first[3].weight)
    assert not torch.equal(learned[3].weight, first[3].weight)


def test_own_layers_begin_as_those_of_the_single_tasks() -> None:
    strategy = of_two_shapes(Hard(shared=["3"]), Training(epochs=0))
    for task in (WIDE, NARROW):
        plain: Any = plain_network(PLAIN, task)
        network = strategy.shared.network(task.label)
        assert torch.equal(network[1].weight, plain[1].weight)
        assert torch.equal(network[5].weight, plain[5].weight)
        assert torch.equal(network[3].weight, plain_network(PLAIN, WIDE).get_parameter("3.weight"))


def test_all_layers_by_name_are_the_hard_sharing_of_the_whole() -> None:
    stream = make_stream()
    whole, named = untrained(Hard(), stream), untrained(Hard(shared=["1", "3"]), stream)
    x = stream[2].test.x
    with torch.no_grad():
        assert torch.equal(whole.predict(x, 2), named.predict(x, 2))


def test_a_stream_of_one_head_has_one_whatever_is_shared() -> None:
    strategy = untrained(Hard(shared=["1"]), make_stream((3, 3), heads="shared"))
    first, second = (strategy.shared.network(label) for label in range(2))
    assert second[5] is first[5]
    assert second[1] is first[1]
    assert type(second[3]) is nn.Linear


@pytest.mark.parametrize(
    ("shared", "message"),
    [
        (
            ["1"],
            "shared: required in '1' of task 1 the parameters of the first task's [(8, 16), (8,)], found [(8, 9), "
            "(8,)]; leave it to every task, or let the layers before it bring the inputs to one shape.",
        ),
        (["9"], "sites: '9' names no submodule of the backbone; print named_modules() for the names."),
        (["2"], "shared: required submodules with parameters, found none in ['2']."),
    ],
)
def test_layers_that_cannot_be_shared_are_refused(shared: list[str], message: str) -> None:
    with pytest.raises(SiteError) as caught:
        of_two_shapes(Hard(shared=shared))
    assert str(caught.value) == message


@pytest.mark.parametrize("architecture", [Hard(), CrossStitch(), Attention(), FiLM(), Adversarial()])
def test_a_shared_trunk_needs_inputs_of_one_shape(architecture: Architecture) -> None:
    with pytest.raises(ConfigError) as caught:
        of_two_shapes(architecture)
    assert str(caught.value) == (
        "architecture: required inputs of one shape in all tasks, found (1, 4, 4) in task 0 and (1, 3, 3) in task 1; "
        "share some layers only, with Stems() or Hard(shared=[...]), or use Soft, where every task has a network of "
        "its own."
    )


def test_soft_sharing_takes_inputs_of_different_shapes() -> None:
    strategy = of_two_shapes(Soft(penalty=0.5))
    assert sorted(strategy.shared.factors) == ["1.bias", "3.bias", "3.weight"]  # the stems differ in their weights


def test_a_task_has_the_same_network_whatever_it_shares() -> None:
    """Every architecture begins from the networks that the seed gives to the tasks."""
    stream = make_stream()
    x: Tensor = stream[0].test.x
    with torch.no_grad():
        required = plain_network(PLAIN, stream[0]).eval()(x)
        for architecture in (Hard(), Soft(), CrossStitch(own=1.0), Attention(), Added(), Concatenated(), FiLM()):
            assert torch.allclose(untrained(architecture, stream).predict(x, 0), required, atol=1e-6), architecture
