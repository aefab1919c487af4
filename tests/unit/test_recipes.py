import re
from dataclasses import FrozenInstanceError, replace
from typing import Any

import pytest

from prognet.backbones import mlp
from prognet.catalogue import STRATEGIES, STREAMS, lookup, make_backbone, parse_call, stream_maker
from prognet.config import Measurement, Training
from prognet.errors import ConfigError
from prognet.options import LowDataDigits, SplitDigits, SplitImages
from prognet.recipes import CONTROLS, MAIN, OWN_DATA, RECIPES, Experiment
from prognet.streams import PerSeed
from prognet.training.measuring import measuring_points
from tests.helpers.commands import defaults_of_builder


def test_every_stream_is_a_recipe_or_data_of_ones_own() -> None:
    assert {*(make().stream for make in RECIPES.values()), *OWN_DATA} == set(STREAMS)
    assert not set(RECIPES) & set(OWN_DATA)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_named_after_its_stream(name: str) -> None:
    assert RECIPES[name]().stream == ("split-digits" if name == "demo" else re.sub(r"-\d+$", "", name))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_has_the_defaults_of_its_builder(name: str) -> None:
    recipe = RECIPES[name]()
    defaults = defaults_of_builder(lookup("stream", recipe.stream, STREAMS))
    if name.startswith("low-data-mnist-"):
        defaults["per_class"] = int(name.rpartition("-")[2])
    assert vars(recipe.experiment.options) == defaults


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_names_what_there_is(name: str) -> None:
    experiment = RECIPES[name]().experiment
    assert set(experiment.strategies) <= set(STRATEGIES)
    assert make_backbone(experiment.backbone).name == parse_call(experiment.backbone)[0]


def test_a_recipe_is_the_same_value_every_time() -> None:
    assert RECIPES["demo"]() == RECIPES["demo"]()
    with pytest.raises(FrozenInstanceError):
        RECIPES["demo"]().stream = "other"  # type: ignore[misc]


def test_the_demo_compares_everything_that_a_claim_needs() -> None:
    recipe = RECIPES["demo"]()
    assert recipe.experiment.strategies == (*MAIN, *CONTROLS, "multitask-cumulative")
    assert MAIN == ("progressive", "copytune", "finetune", "multitask", "independent")
    assert CONTROLS == ("independent-wide", "progressive-random", "finetune-head")
    assert (recipe.experiment.seeds, recipe.experiment.orders, recipe.experiment.threads) == (5, 1, 1)
    assert recipe.experiment.options == SplitDigits()


def test_the_published_streams_are_trained_as_published() -> None:
    experiment = RECIPES["permuted-mnist"]().experiment
    assert experiment.training == Training(epochs=1, batch_size=10)
    assert RECIPES["split-cifar100"]().experiment.options == SplitImages(n_tasks=10)
    assert RECIPES["split-cifar100"]().experiment.backbone == "cnn"


def test_the_low_data_protocol() -> None:
    found = [RECIPES[f"low-data-mnist-{n}"]().experiment for n in (5, 40, 400)]
    found.append(RECIPES["low-data-digits"]().experiment)
    for experiment, updates in zip(found, (200, 400, 600, 200), strict=True):
        training = Training(updates=updates, first_updates=600, batch_size=50, first_batch_size=100)
        assert (experiment.training, experiment.backbone) == (training, "mlp")
        assert make_backbone(experiment.backbone) == mlp(hidden=(100, 100))
        assert (experiment.seeds, experiment.orders, experiment.threads) == (10, 1, 1)
        assert experiment.measurement.curve_samples == 500
        points = sorted(measuring_points(updates, experiment.measurement))
        assert points == [*range(11), *range(20, updates + 1, 10)]  # so an area over 100 updates has no wide gap


def test_a_recipe_that_is_no_stream_says_what_it_is() -> None:
    for name in set(RECIPES) - set(STREAMS):
        assert (RECIPES[name].__doc__ or "").splitlines()[0].endswith(".")


def test_the_defaults_of_an_experiment() -> None:
    experiment = Experiment(options=SplitDigits())
    assert (experiment.strategies, experiment.backbone, experiment.seeds, experiment.orders) == (MAIN, "mlp", 5, 1)
    assert (experiment.device, experiment.threads) == ("auto", None)
    assert (experiment.training, experiment.measurement) == (Training(), Measurement())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seeds": 0}, "seeds: required a whole number, at least 1, found 0."),
        ({"orders": -1}, "orders: required a whole number, at least 1, found -1."),
        (
            {"strategies": ()},
            "strategies: required at least one name, found none; for instance progressive copytune finetune "
            "multitask independent.",
        ),
        ({"strategies": ("a", "b", "a")}, "strategies: required each name once, found a b a."),
    ],
)
def test_an_experiment_out_of_range_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(RECIPES["demo"]().experiment, **changes)
    assert str(caught.value) == message


def test_the_seed_of_a_run_is_the_draw_of_its_stream() -> None:
    make = stream_maker("low-data-digits", LowDataDigits(per_class=2, first_per_class=3, views=("noisy", "inverted")))
    assert isinstance(make, PerSeed)
    stream = make(1, 4)
    assert (stream.seed, stream.draw, len(stream)) == (1, 4, 3)
    assert make(1).draw == 0
    assert not isinstance(stream_maker("split-digits", SplitDigits()), PerSeed)


def test_the_order_of_an_experiment_is_the_seed_of_its_stream() -> None:
    make = stream_maker("split-digits", SplitDigits(n_tasks=2, validation=0.2))
    streams = [make(order) for order in (0, 3)]
    assert [stream.seed for stream in streams] == [0, 3]
    assert streams[0].arguments == streams[1].arguments
    assert (len(streams[0]), streams[0].arguments["validation"]) == (2, 0.2)
    assert streams[0][0].classes != streams[1][0].classes
