"""Progressive and independent networks: one column a task."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

from prognet.backbones import cnn, mlp
from prognet.config import Training
from prognet.engine import LinearAdapter, MLPAdapter
from prognet.errors import ConfigError, ControlUnavailableError, SiteError
from prognet.strategies import Independent, IndependentWide, Progressive, ProgressiveRandom, Start
from prognet.strategies.independent import column_parameters, matching_width
from prognet.training import count_parameters
from tests.helpers.parities import parity_stream
from tests.helpers.plain import assert_equal_numbers, assert_other_numbers, plain_network
from tests.helpers.runs import (
    FROZEN,
    KINDS,
    NORMED,
    PLAIN,
    column_of,
    from_scratch,
    learn_all,
    network_of,
    quick_run,
    with_session,
)
from tests.helpers.streams import make_stream, make_task

TRUNK = 16 * 8 + 8 + 8 * 6 + 6


def lateral(n_sources: int, n_classes: int) -> int:
    """Equation 2 at both sites, hidden width n: alpha, V with bias, U."""
    first = n_sources + (n_sources * 8 * 8 + 8) + 8 * 6
    return first + n_sources + (n_sources * 6 * 6 + 6) + 6 * n_classes


def solved(n_sources: int, n_classes: int) -> int:
    """The map of all sources to the output, with bias."""
    return n_sources * 6 * n_classes + n_classes


def own(n_classes: int) -> int:
    return TRUNK + 6 * n_classes + n_classes


@pytest.mark.parametrize("kind", FROZEN)
def test_a_task_is_learned_once(kind: str) -> None:
    strategy = with_session(KINDS[kind](PLAIN))
    strategy.learn([make_task(0, 2)])
    with pytest.raises(ConfigError, match="tasks: required a new task, found task 0, which has been learned already."):
        strategy.learn([make_task(0, 2)])


@pytest.mark.parametrize("kind", FROZEN)
def test_after_a_step_nothing_can_learn(kind: str) -> None:
    strategy = learn_all(KINDS[kind](NORMED), make_stream())
    assert not any(parameter.requires_grad for parameter in strategy.parameters())
    strategy.train()
    assert not any(part.training for part in network_of(strategy, 2)[0].modules())


def test_every_column_reads_all_earlier_ones() -> None:
    network = learn_all(Progressive(PLAIN), make_stream()).columns.network  # type: ignore[union-attr]
    assert [column.sources for column in network.columns] == [(), (0,), (0, 1)]  # type: ignore[union-attr]


def test_independent_networks_read_nothing() -> None:
    network = learn_all(Independent(PLAIN), make_stream()).columns.network  # type: ignore[union-attr]
    assert [column.sources for column in network.columns] == [(), (), ()]  # type: ignore[union-attr]
    assert not any("adapters." in name for name, _ in network.named_parameters())  # type: ignore[union-attr]


def test_the_parameters_of_progressive_columns_by_hand() -> None:
    costs = quick_run(from_scratch(PLAIN), make_stream()).costs
    assert [cost.added for cost in costs] == [own(2), own(5) + lateral(1, 5), own(3) + lateral(2, 3)]
    assert [cost.trainable for cost in costs] == [cost.added for cost in costs]
    assert costs[2].parameters == sum(cost.added for cost in costs)


def test_what_is_solved_by_default_is_added_and_not_trained() -> None:
    costs = quick_run(Progressive(PLAIN, start=Start(kind="scratch")), make_stream()).costs
    assert [cost.trainable for cost in costs] == [own(2), own(5) + lateral(1, 5), own(3) + lateral(2, 3)]
    assert [cost.added - cost.trainable for cost in costs] == [0, solved(1, 5), solved(2, 3)]


def test_the_lateral_connections_of_the_strategy_are_used() -> None:
    costs = quick_run(Progressive(PLAIN, adapter=LinearAdapter(), sites=["5"]), make_stream()).costs
    assert [cost.added for cost in costs] == [own(2), own(5) + 6 * 5, own(3) + 2 * 6 * 3]  # equation 1 at the output


def test_a_site_that_is_none_is_refused() -> None:
    with pytest.raises(SiteError, match="'layer9' names no submodule"):
        quick_run(Progressive(PLAIN, sites=["layer9"]), make_stream((2,)))


def test_adapters_differ_between_tasks_and_seeds() -> None:
    def draws(task: int, seed: int) -> torch.Tensor:
        """The first random numbers of a column's V, brought to [-1, 1) by its number of inputs."""
        strategy = Progressive(PLAIN)
        with_session(strategy, Training(epochs=0), seed=seed)
        for label in range(task + 1):
            strategy.learn([make_task(label, 2)])
        adapter = strategy.columns.network.column(task).adapters["3"]
        assert isinstance(adapter.V, nn.Linear)
        scale = adapter.V.in_features**0.5
        return torch.tensor([number * scale for number in adapter.V.weight.flatten()[:8].tolist()])

    assert torch.equal(draws(1, 0), draws(1, 0))
    assert not torch.allclose(draws(1, 0), draws(1, 1), atol=1e-3)
    assert not torch.allclose(draws(1, 0), draws(2, 0), atol=1e-3)


def test_random_columns_are_never_trained() -> None:
    stream = make_stream()
    strategy = learn_all(ProgressiveRandom(NORMED), stream)
    assert isinstance(strategy, ProgressiveRandom)
    fresh = with_session(ProgressiveRandom(NORMED))
    for label in range(2):
        stand_in = strategy.columns.network.column(2 * label + 1).backbone
        assert_equal_numbers([stand_in], [fresh.build(stream[label], "random column")])
        assert_other_numbers(stand_in, plain_network(NORMED, stream[label]))


def test_random_columns_are_all_that_is_read() -> None:
    network = learn_all(ProgressiveRandom(PLAIN), make_stream()).columns.network  # type: ignore[union-attr]
    assert [column.sources for column in network.columns] == [(), (), (1,), (), (1, 3)]  # type: ignore[union-attr]


def test_the_random_control_has_columns_of_the_size_of_the_progressive_ones() -> None:
    random, progressive = (quick_run(kind(PLAIN), make_stream()).costs for kind in (ProgressiveRandom, Progressive))
    assert [cost.trainable for cost in random] == [cost.trainable for cost in progressive]
    # beside its own, a step adds the stand-in for the column of the task before
    assert [cost.added for cost in random] == [
        own(2),
        own(2) + own(5) + lateral(1, 5) + solved(1, 5),
        own(5) + own(3) + lateral(2, 3) + solved(2, 3),
    ]


def test_the_random_control_starts_as_the_progressive_network_does() -> None:
    stream = make_stream()
    random, progressive = (
        learn_all(kind(NORMED, adapter=MLPAdapter(), start=Start(kind="scratch")), stream, Training(epochs=0))
        for kind in (ProgressiveRandom, Progressive)
    )
    for task in stream:
        assert_equal_numbers(network_of(random, task.label), network_of(progressive, task.label))
    ours = random.columns.network.column(column_of(random, 2)).adapters  # type: ignore[union-attr, operator]
    theirs = progressive.columns.network.column(2).adapters  # type: ignore[union-attr, operator]
    assert_equal_numbers([ours], [theirs])


def test_the_random_control_copies_the_trained_column_that_the_progressive_network_copies() -> None:
    training = Training(epochs=40, batch_size=32, lr=0.02)
    random, progressive = (
        quick_run(kind(mlp(hidden=(24, 16))), parity_stream(), training=training)
        for kind in (ProgressiveRandom, Progressive)
    )
    copied = [choice["copied"] for choice in progressive.choices]
    assert any(column is not None for column in copied)
    assert [choice["copied"] for choice in random.choices] == [None if k is None else 2 * k for k in copied]
    looked_at = [sorted(choice["cross_entropy"]) for choice in random.choices]
    assert all(name == "own" or int(name) % 2 == 0 for names in looked_at for name in names)  # no random column


def test_a_start_that_is_none_is_refused_by_the_random_control_too() -> None:
    with pytest.raises(ConfigError, match="start: required"):
        ProgressiveRandom(PLAIN, start="copy")  # type: ignore[arg-type]


WIDE = {
    "mlp": mlp(hidden=(30, 20)),
    "mlp-normed": mlp(hidden=(40,), batch_norm=True),
    "cnn": cnn(channels=(8, 12, 16)),
}


@pytest.mark.parametrize("name", WIDE)
def test_the_wide_control_has_the_parameters_of_the_progressive_column(name: str) -> None:
    stream, training = make_stream(shape=(1, 8, 8)), Training(epochs=0)
    wide, progressive = (
        quick_run(kind(WIDE[name]), stream, training=training).costs for kind in (IndependentWide, Progressive)
    )
    assert wide[0].added == progressive[0].added
    for ours, theirs in zip(wide, progressive, strict=True):
        assert ours.added == pytest.approx(theirs.added, rel=0.02)


def test_the_wide_control_matches_the_laterals_that_it_is_told() -> None:
    backbone, stream, training = mlp(hidden=(30, 20)), make_stream(), Training(epochs=0)
    adapter = MLPAdapter(hidden=0.25)
    wide = quick_run(IndependentWide(backbone, adapter=adapter, sites=["5"]), stream, training=training).costs
    theirs = quick_run(Progressive(backbone, adapter=adapter, sites=["5"]), stream, training=training).costs
    default = quick_run(Progressive(backbone), stream, training=training).costs
    assert wide[2].added == pytest.approx(theirs[2].added, rel=0.02)
    assert default[2].added > 1.1 * wide[2].added


def test_no_other_width_comes_nearer() -> None:
    def build(width: float) -> nn.Module:
        return mlp(hidden=(30, 20))((16,), 3, width=width)

    target = 2000
    found = count_parameters(build(matching_width(build, target)))
    sizes = {count_parameters(build(1 + step / 200)) for step in range(400)}
    assert abs(found - target) == min(abs(size - target) for size in sizes)
    assert count_parameters(build(matching_width(build, 0))) == count_parameters(build(1.0))


def test_the_first_wide_network_is_the_independent_one() -> None:
    stream = make_stream((5,))
    wide, independent = (learn_all(kind(NORMED), stream) for kind in (IndependentWide, Independent))
    assert_equal_numbers(network_of(wide, 0), network_of(independent, 0))


def test_the_parameters_of_a_column_are_known_before_it_is_built() -> None:
    shapes = [make_task(label, n_classes) for label, n_classes in enumerate((2, 5, 3))]
    state = torch.get_rng_state()
    assert column_parameters(PLAIN, shapes, MLPAdapter()) == own(3) + lateral(2, 3)
    assert column_parameters(PLAIN, shapes[:1], MLPAdapter()) == own(2)
    assert column_parameters(PLAIN, shapes, LinearAdapter(), ["5"]) == own(3) + 2 * 6 * 3
    assert torch.equal(torch.get_rng_state(), state)


def test_a_backbone_of_fixed_width_has_no_such_control() -> None:
    def fixed(input_shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), nn.Linear(16, n_classes))

    with pytest.raises(ControlUnavailableError) as caught:
        IndependentWide(fixed)
    assert str(caught.value) == (
        "backbone: required an argument width=1.0 by which the network can be widened, found none; add it to get this "
        "control."
    )


def test_a_parameter_used_twice_counts_once() -> None:
    layer = nn.Linear(3, 3)
    assert count_parameters(nn.Sequential(layer, nn.ReLU(), layer)) == 12
