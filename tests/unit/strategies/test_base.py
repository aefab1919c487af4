from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.config import Training
from prognet.engine import LinearAdapter
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.strategies import FineTune, Independent
from prognet.strategies.base import example_of
from tests.helpers.plain import assert_equal_numbers, assert_other_numbers, plain_network
from tests.helpers.runs import KINDS, NORMED, PLAIN, SEQUENTIAL, from_scratch, network_of, tensors, with_session
from tests.helpers.streams import CLASSES, make_stream, make_task


@pytest.mark.parametrize("kind", KINDS)
def test_every_strategy_has_its_name_of_the_catalogue(kind: str) -> None:
    assert KINDS[kind](PLAIN).name == ("multitask" if kind == "multitask-cumulative" else kind)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("backbone", [nn.Linear(2, 2), "mlp", None])
def test_a_backbone_is_a_function(kind: str, backbone: Any) -> None:
    with pytest.raises(ConfigError, match="backbone: required a function"):
        KINDS[kind](backbone)


def test_the_message_of_a_module_says_what_to_do() -> None:
    with pytest.raises(ConfigError) as caught:
        FineTune(nn.Linear(2, 2))
    assert str(caught.value) == (
        "backbone: required a function (input_shape, n_classes) -> nn.Module, found a Linear; wrap it in a function "
        "that builds a new network at every call."
    )


@pytest.mark.parametrize("kind", KINDS)
def test_learning_needs_a_session(kind: str) -> None:
    with pytest.raises(ConfigError, match=r"strategy: required a session, found none; let `prognet.run` call `learn`."):
        KINDS[kind](PLAIN).learn([make_task(0, 2)])


@pytest.mark.parametrize("kind", SEQUENTIAL)
def test_a_sequential_strategy_learns_one_task_a_step(kind: str) -> None:
    strategy = with_session(KINDS[kind](PLAIN))
    with pytest.raises(ConfigError, match=f"tasks: required one task a step for '{kind}', found 2."):
        strategy.learn(list(make_stream((2, 2))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_task_that_was_not_learned_is_refused_and_nothing_is_added(kind: str) -> None:
    strategy, x = with_session(KINDS[kind](PLAIN)), torch.zeros(2, 1, 4, 4)
    with pytest.raises(UnlearnedTaskError, match=r"task_label: required one of the learned tasks \[\], found 0"):
        strategy.predict(x, 0)
    strategy.learn([make_task(0, 2)])
    before = tensors(strategy)
    for label in (1, 2, -1):
        with pytest.raises(UnlearnedTaskError) as caught:
            strategy.predict(x, label)
        message = f"task_label: required one of the learned tasks [0], found {label}; learn it first."
        assert str(caught.value).startswith(message)
    assert tensors(strategy).keys() == before.keys()


@pytest.mark.parametrize("kind", KINDS)
def test_every_head_has_the_classes_of_its_task(kind: str) -> None:
    stream, x = make_stream(), torch.zeros(4, 1, 4, 4)
    strategy = with_session(KINDS[kind](PLAIN))
    for group in [list(stream)] if kind.startswith("multitask") else [[task] for task in stream]:
        strategy.learn(group)
    assert (
        [strategy.predict(x, label).shape for label in range(3)]
        == [(4, n) for n in CLASSES]
        == [(4, 2), (4, 5), (4, 3)]
    )


def test_a_network_depends_on_seed_task_and_purpose_alone() -> None:
    tasks = list(make_stream((2, 2)))
    built = []
    for seed in (3, 4):
        torch.manual_seed(seed)
        built.append(with_session(FineTune(PLAIN)).build(tasks[0]))
    assert_equal_numbers([built[0]], [built[1]])
    assert_equal_numbers([built[0]], [plain_network(PLAIN, tasks[0])])
    strategy = with_session(FineTune(PLAIN))
    others = [strategy.build(tasks[1]), strategy.build(tasks[0], "random column")]
    others.append(with_session(FineTune(PLAIN), seed=1).build(tasks[0]))
    for other in others:
        assert_other_numbers(other, built[0])


@pytest.mark.parametrize("kind", KINDS)
def test_the_first_network_is_the_same_for_every_strategy(kind: str) -> None:
    strategy = with_session(KINDS[kind](NORMED), Training(epochs=0))
    strategy.learn([make_task(0, 3)])
    assert_equal_numbers(network_of(strategy, 0), [plain_network(NORMED, make_task(0, 3))])


def test_building_adapters_moves_no_other_random_stream() -> None:
    stream = make_stream()
    found = []
    for strategy in (from_scratch(NORMED), from_scratch(NORMED, adapter=LinearAdapter()), Independent(NORMED)):
        untrained = with_session(strategy, Training(epochs=0))
        for task in stream:
            untrained.learn([task])
        found.append([network_of(untrained, task.label)[0] for task in stream])
    assert_equal_numbers(found[0], found[2])
    assert_equal_numbers(found[1], found[2])


@pytest.mark.parametrize("kind", KINDS)
def test_learning_leaves_the_global_generator_as_it_was(kind: str) -> None:
    strategy = with_session(KINDS[kind](NORMED))
    state = torch.get_rng_state()
    strategy.learn([make_task(0, 2)])
    assert torch.equal(torch.get_rng_state(), state)


def test_the_example_has_the_shape_of_the_inputs_and_none_of_their_data() -> None:
    example: Tensor = example_of(make_task(0, 2))
    assert torch.equal(example, torch.zeros(2, 1, 4, 4))
