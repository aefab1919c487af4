"""How a progressive network grows: counted exactly, narrowed, and kept within a budget."""

from collections.abc import Sequence
from itertools import pairwise
from math import sqrt

import pytest
import torch
from torch import nn

from prognet.backbones import mlp
from prognet.config import Training
from prognet.engine import MLPAdapter
from prognet.errors import ConfigError
from prognet.strategies import (
    AllSources,
    ConstantWidth,
    FittedWidth,
    LastSources,
    Progressive,
    PruneLaterals,
    RootWidth,
    TopSources,
)
from prognet.strategies.growth import Width
from prognet.strategies.planning import NARROWEST, Plan, allowance, column_size, plan_within, widest
from prognet.strategies.sources import Sources
from prognet.training import count_parameters
from tests.helpers.runs import PLAIN, ZeroAdapter, from_scratch, learn_all, quick_run, with_session
from tests.helpers.streams import make_stream, make_task

UNTRAINED = Training(epochs=0)
BACKBONE = mlp(hidden=(16, 12))
K = 6


def own(width: float = 1.0, n_classes: int = 2) -> int:
    a, b = max(1, round(16 * width)), max(1, round(12 * width))
    return 16 * a + a + a * b + b + b * n_classes + n_classes


def lateral(n_sources: int, n_classes: int = 2) -> int:
    """Equation 2 at both sites, all columns of full width: alpha, V with bias, U."""
    if not n_sources:
        return 0
    first = n_sources + (n_sources * 16 * 16 + 16) + 16 * 12
    return first + n_sources + (n_sources * 12 * 12 + 12) + 12 * n_classes


def sizes(strategy: Progressive, n_tasks: int = K) -> list[int]:
    """The parameters of the whole network after each task."""
    stream = make_stream((2,) * n_tasks)
    strategy.prepare([task.outline() for task in stream])
    with_session(strategy, UNTRAINED)
    found = []
    for task in stream:
        strategy.learn([task])
        found.append(count_parameters(strategy))
    return found


def sources_of(strategy: Progressive) -> list[tuple[int, ...]]:
    net = strategy.columns.network
    return [net.column(k).sources for k in range(len(net))]


@pytest.mark.parametrize("sources", [LastSources(2), TopSources(2, by="knn"), TopSources(2, by="ridge", closure=4)])
def test_bounded_sources_grow_linearly(sources: Sources) -> None:
    found = sizes(from_scratch(BACKBONE, sources=sources))
    assert found == [sum(own() + lateral(min(k, 2)) for k in range(n)) for n in range(1, K + 1)]
    steps = [after - before for before, after in pairwise(found[2:])]
    assert set(steps) == {own() + lateral(2)}


def test_all_sources_grow_with_the_square() -> None:
    found = sizes(from_scratch(BACKBONE))
    assert found == [sum(own() + lateral(k) for k in range(n)) for n in range(1, K + 1)]
    steps = [after - before for before, after in pairwise(found[1:])]
    assert {after - before for before, after in pairwise(steps)} == {16 * 16 + 12 * 12 + 2}


def test_later_columns_are_narrower_by_a_constant() -> None:
    strategy = from_scratch(BACKBONE, sources=LastSources(1), width=ConstantWidth(0.5))
    found = sizes(strategy, 4)
    first = 1 + (16 * 8 + 8) + 8 * 6 + 1 + (12 * 6 + 6) + 6 * 2  # hidden width 8 and 6, from 16 and 12
    later = 1 + (8 * 8 + 8) + 8 * 6 + 1 + (6 * 6 + 6) + 6 * 2
    narrow = own(0.5)
    assert found == [
        own(),
        own() + narrow + first,
        own() + 2 * narrow + first + later,
        own() + 3 * narrow + first + 2 * later,
    ]


def test_the_root_of_the_number_of_columns() -> None:
    strategy = from_scratch(BACKBONE, width=RootWidth())
    sizes(strategy, 5)
    widths = [next(strategy.columns.network.column(k).backbone.parameters()).shape[0] for k in range(5)]
    assert widths == [round(16 / sqrt(k)) for k in (1, 2, 3, 4, 5)]


def test_every_column_is_fitted_to_a_number_of_parameters() -> None:
    strategy = from_scratch(BACKBONE, width=FittedWidth(700))
    found = sizes(strategy, 6)
    added = [after - before for before, after in zip([0, *found], found, strict=False)]
    assert added[0] == own()  # it fits as it is
    assert all(0.75 * 700 < count <= 700 for count in added[2:])
    with pytest.raises(ConfigError, match=r"width: required \d+ parameters for column 0 at the smallest width 0.0625"):
        sizes(from_scratch(BACKBONE, width=FittedWidth(10)))


def test_the_size_of_a_column_is_known_before_it_is_built() -> None:
    strategy = from_scratch(BACKBONE)
    sizes(strategy, 4)
    network, task = strategy.columns.network, make_task(4, 3).outline()
    state = torch.get_rng_state()
    assert column_size(network, BACKBONE, task, None, (), 1.0) == own(n_classes=3)
    assert column_size(network, BACKBONE, task, None, (3, 0), 1.0) == own(n_classes=3) + lateral(2, 3)
    assert column_size(network, BACKBONE, task, None, (), 0.5) == own(0.5, 3)
    assert torch.equal(state, torch.get_rng_state())


def test_what_does_not_fit_goes_in_the_order_of_the_rule() -> None:
    def size(sources: Sequence[int], width: float) -> int:
        return round(100 * width) + round(50 * width) * len(sources)

    ranked = (7, 3, 5)
    assert plan_within(250, ranked, 1.0, size, NARROWEST) == Plan((7, 3, 5), 1.0)
    assert plan_within(249, ranked, 1.0, size, NARROWEST) == Plan((7, 3), 1.0)
    assert plan_within(150, ranked, 1.0, size, NARROWEST) == Plan((7,), 1.0)
    narrower = plan_within(75, ranked, 1.0, size, NARROWEST)
    assert narrower.sources == (7,)
    assert size((7,), narrower.width) == 75
    assert plan_within(8, ranked, 1.0, size, NARROWEST).sources == ()
    assert plan_within(149, ranked, 1.0, size, 1.0) == Plan((), 1.0)  # a backbone of fixed width
    assert plan_within(60, (), 0.5, size, NARROWEST) == Plan((), 0.5)


def test_the_widest_that_fits() -> None:
    def size(width: float) -> int:
        return round(100 * width)

    assert widest(size, 100, 1.0, 0.1) == 1.0
    found = widest(size, 37, 1.0, 0.1)
    assert found is not None
    assert size(found) == 37
    assert size(found + 1e-3) >= 37
    assert widest(size, 9, 1.0, 0.1) is None


def test_what_is_left_is_shared_among_the_tasks_to_come() -> None:
    smallest = {0: 10, 1: 10, 2: 40}
    assert allowance(120, 0, smallest, 0) == 10 + 20
    assert allowance(120, 10, {1: 10, 2: 40}, 1) == 10 + 30  # what task 0 left goes on
    assert allowance(120, 30, {1: 10, 2: 40}, 2) == 40 + 20
    assert allowance(120, 80, {2: 40}, 2) == 40


@pytest.mark.parametrize("share", [0.15, 0.8, 2.0, 20.0])
@pytest.mark.parametrize("sources", [AllSources(), LastSources(2)])
def test_a_budget_is_kept_for_the_whole_stream(share: float, sources: Sources) -> None:
    budget = round(share * own() * K)
    strategy = from_scratch(BACKBONE, sources=sources, budget=budget)
    found = sizes(strategy)
    assert found[-1] <= budget
    if share == 20.0:
        assert found == sizes(from_scratch(BACKBONE, sources=sources))  # nothing had to be changed
    else:
        assert found[-1] > 0.8 * budget
    steps = [after - before for before, after in pairwise(found)]
    if share < 2:
        assert max(steps) < 2.2 * budget / K  # linear: no column takes much more than its share


def test_a_budget_with_heads_of_unequal_size() -> None:
    stream = make_stream((2, 40, 3, 2, 30))
    strategy = from_scratch(BACKBONE, budget=1500)
    result = quick_run(strategy, stream, training=UNTRAINED)
    assert 1200 < result.costs[-1].parameters <= 1500


def test_what_pruning_saves_goes_to_later_columns() -> None:
    stream, training = make_stream((2,) * 5), Training(epochs=8, batch_size=16, lr=0.01)
    budget = 5 * (own() + lateral(1))
    prune = PruneLaterals(drop=0.9)
    pruned = quick_run(from_scratch(BACKBONE, budget=budget, prune=prune), stream, training=training)
    plain = quick_run(from_scratch(BACKBONE, budget=budget), stream, training=training)
    assert all(cost.parameters <= budget for cost in (*pruned.costs, *plain.costs))
    assert pruned.choices[1]["pruned"]
    assert pruned.costs[-1].trainable > plain.costs[-1].trainable


@pytest.mark.parametrize("with_width", [True, False])
def test_a_budget_that_cannot_be_kept_is_refused_before_any_work(with_width: bool) -> None:
    built: list[float] = []

    def backbone(input_shape: Sequence[int], n_classes: int, width: float = 1.0) -> nn.Module:
        if torch.empty(0).device.type != "meta":
            built.append(width)
        return BACKBONE(input_shape, n_classes, width=width)

    def fixed(input_shape: Sequence[int], n_classes: int) -> nn.Module:
        return backbone(input_shape, n_classes)

    least = K * (own(NARROWEST) if with_width else own())
    strategy = Progressive(backbone if with_width else fixed, budget=least - 1)
    with pytest.raises(ConfigError) as caught:
        quick_run(strategy, make_stream((2,) * K))
    assert str(caught.value) == (
        f"budget: required at least {least} parameters for 6 tasks at width {NARROWEST if with_width else 1:g} without "
        f"sources, found {least - 1}; give more, or take a smaller backbone."
    )
    assert built == []
    enough = Progressive(backbone if with_width else fixed, budget=least)
    assert quick_run(enough, make_stream((2,) * K), training=UNTRAINED).costs[-1].parameters == least


def test_a_budget_needs_to_know_the_tasks() -> None:
    strategy = with_session(Progressive(PLAIN, budget=10**6))
    with pytest.raises(ConfigError, match=r"budget: required the tasks to come, found \[\] without task 0; call"):
        strategy.learn([make_task(0, 2)])
    learn = learn_all(Progressive(PLAIN), make_stream((2,)))
    with pytest.raises(ConfigError, match="tasks: required a new task, found task 0"):
        learn.learn([make_task(0, 2)])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ConstantWidth(0.0), "later: required a factor above 0, at most 1, found 0.0."),
        (lambda: ConstantWidth(1.1), "later: required a factor above 0, at most 1, found 1.1."),
        (lambda: FittedWidth(0), "parameters: required a whole number, at least 1, found 0."),
        (lambda: PruneLaterals(drop=1.0), "drop: required a share of the accuracy in [0, 1), found 1.0."),
        (lambda: PruneLaterals(drop=float("nan")), "drop: required a share of the accuracy in [0, 1), found nan."),
        (lambda: PruneLaterals(samples=1), "samples: required a whole number, at least 2, found 1."),
        (lambda: Progressive(PLAIN, budget=0), "budget: required a whole number, at least 1, found 0."),
        (lambda: Progressive(PLAIN, budget=1e6), "budget: required a whole number, at least 1, found 1000000.0."),  # type: ignore[arg-type]
        (
            lambda: Progressive(PLAIN, width=0.5),  # type: ignore[arg-type]
            "width: required one of ['ConstantWidth', 'FittedWidth', 'RootWidth'], found 0.5; e.g. "
            "width=ConstantWidth().",
        ),
        (
            lambda: Progressive(PLAIN, prune=0.01),  # type: ignore[arg-type]
            "prune: required one of ['PruneLaterals'], found 0.01; e.g. prune=PruneLaterals().",
        ),
        (
            lambda: Progressive(PLAIN, adapter=ZeroAdapter(), prune=PruneLaterals()),
            "prune: required one of ['LinearAdapter', 'MLPAdapter'] as adapter, found ZeroAdapter(); its laterals "
            "cannot lose a source.",
        ),
        (
            lambda: Progressive(lambda shape, n: nn.Linear(16, n), width=RootWidth()),
            "width: required a backbone with an argument width=1.0, found one without for RootWidth(); add it, or "
            "leave width out.",
        ),
    ],
)
def test_bad_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == message


def test_a_width_of_ones_own() -> None:
    class First(Width):
        def factor(self, position: int, size: object) -> float:
            return 1.0 if position == 0 else 0.25

        def __repr__(self) -> str:
            return "First()"

    strategy = from_scratch(BACKBONE, adapter=MLPAdapter(hidden=1), width=First())
    sizes(strategy, 3)
    widths = [next(strategy.columns.network.column(k).backbone.parameters()).shape[0] for k in range(3)]
    assert widths == [16, 4, 4]
