from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from prognet.catalogue import STRATEGIES, STREAMS, lookup, make_backbone, stream_maker
from prognet.config import Measurement, Training
from prognet.errors import ConfigError
from prognet.options import SplitDigits, SplitImages
from prognet.recipes import CONTROLS, MAIN, OWN_DATA, RECIPES, Experiment
from tests.helpers.commands import defaults_of_builder


def test_every_stream_is_a_recipe_or_data_of_ones_own() -> None:
    assert {*RECIPES, *OWN_DATA} - {"demo"} == set(STREAMS)
    assert not set(RECIPES) & set(OWN_DATA)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_after_its_stream(name: str) -> None:
    assert RECIPES[name]().stream == ("split-digits" if name == "demo" else name)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_defaults_of_its_builder(name: str) -> None:
    recipe = RECIPES[name]()
    assert vars(recipe.experiment.options) == defaults_of_builder(lookup("stream", recipe.stream, STREAMS))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_there_is(name: str) -> None:
    experiment = RECIPES[name]().experiment
    assert set(experiment.strategies) <= set(STRATEGIES)
    assert make_backbone(experiment.backbone).name == experiment.backbone


def test_a_recipe_is_the_same_value_every_time() -> None:
    assert RECIPES["demo"]() == RECIPES["demo"]()
    with pytest.raises(FrozenInstanceError):
        RECIPES["demo"]().stream = "other"  # type: ignore[misc]


def test_the_demo_compares_everything_that_a_claim_needs() -> None:
    recipe = RECIPES["demo"]()
    assert recipe.experiment.strategies == (*MAIN, *CONTROLS, "multitask-cumulative")
    assert MAIN == ("progressive", "finetune", "multitask", "independent")
    assert CONTROLS == ("independent-wide", "progressive-random", "finetune-head")
    assert (recipe.experiment.seeds, recipe.experiment.orders, recipe.experiment.threads) == (5, 1, 1)
    assert recipe.experiment.options == SplitDigits()


def test_the_published_streams_are_trained_as_published() -> None:
    experiment = RECIPES["permuted-mnist"]().experiment
    assert experiment.training == Training(epochs=1, batch_size=10)
    assert RECIPES["split-cifar100"]().experiment.options == SplitImages(n_tasks=10)
    assert RECIPES["split-cifar100"]().experiment.backbone == "cnn"


def test_the_defaults_of_an_experiment() -> None:
    experiment = Experiment(options=SplitDigits())
    assert (experiment.strategies, experiment.backbone, experiment.seeds, experiment.orders) == (MAIN, "mlp", 5, 1)
    assert (experiment.device, experiment.threads) == ("auto", None)
    assert (experiment.training, experiment.measurement) == (Training(), Measurement())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds: required at least 1, found 0."),
        ({"orders": -1}, "orders: required at least 1, found -1."),
        (
            {"strategies": ()},
            "strategies: required at least one name, found none; for instance progressive finetune multitask "
            "independent.",
        ),
        ({"strategies": ("a", "b", "a")}, "strategies: required each name once, found a b a."),
    ],
)
def test_an_experiment_out_of_range_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(RECIPES["demo"]().experiment, **changes)
    assert str(caught.value) == message


def test_the_order_of_an_experiment_is_the_seed_of_its_stream() -> None:
    make = stream_maker("split-digits", SplitDigits(n_tasks=2, validation=0.2))
    streams = [make(order) for order in (0, 3)]
    assert [stream.seed for stream in streams] == [0, 3]
    assert streams[0].arguments == streams[1].arguments
    assert (len(streams[0]), streams[0].arguments["validation"]) == (2, 0.2)
    assert streams[0][0].classes != streams[1][0].classes
