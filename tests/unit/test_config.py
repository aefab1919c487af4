import dataclasses
from math import inf, nan
from typing import Any

import pytest

from prognet.config import Measurement, Training
from prognet.errors import ConfigError

GOOD_TRAINING: list[dict[str, Any]] = [
    {},
    {"epochs": 0},
    {"updates": 1},
    {"first_updates": 600, "first_batch_size": 100},
    {"batch_size": 1},
    {"optimiser": "adamw"},
    {"optimiser": "sgd", "momentum": 0.9},
    {"lr": 1},
    {"weight_decay": 0},
    {"schedule": "cosine"},
    {"label_smoothing": 0.5},
    {"clip_norm": 1.0},
    {"patience": 1},
]
BAD_TRAINING: list[tuple[str, Any, str]] = [
    ("epochs", -1, "a whole number, at least 0"),
    ("epochs", 1.0, "a whole number, at least 0"),
    ("epochs", True, "a whole number, at least 0"),
    ("batch_size", 0, "a whole number, at least 1"),
    ("batch_size", "64", "a whole number, at least 1"),
    *[
        (name, value, "None or a whole number, at least 1")
        for name in ("updates", "first_updates", "first_batch_size")
        for value in (0, 2.0, True)
    ],
    ("optimiser", "Adam", "one of ('adam', 'adamw', 'sgd', 'rmsprop')"),
    ("lr", 0.0, "a finite number above 0"),
    ("lr", inf, "a finite number above 0"),
    ("lr", nan, "a finite number above 0"),
    ("lr", "0.1", "a finite number above 0"),
    ("lr", None, "a finite number above 0"),
    ("momentum", 1.0, "a number in [0, 1)"),
    ("momentum", nan, "a number in [0, 1)"),
    ("momentum", "0.9", "a number in [0, 1)"),
    ("weight_decay", -0.1, "a finite number, at least 0"),
    ("weight_decay", "0", "a finite number, at least 0"),
    ("schedule", "step", "one of ('constant', 'cosine', 'linear')"),
    ("label_smoothing", 1.0, "a number in [0, 1)"),
    ("label_smoothing", "0.1", "a number in [0, 1)"),
    ("clip_norm", 0.0, "None or a finite number above 0"),
    ("clip_norm", inf, "None or a finite number above 0"),
    ("clip_norm", "1", "None or a finite number above 0"),
    ("patience", 0, "None or a whole number, at least 1"),
    ("augment", ("turn",), "a tuple of ('flip', 'crop'), none of them twice"),
    ("augment", ("flip", "flip"), "a tuple of ('flip', 'crop'), none of them twice"),
    ("augment", "flip", "a tuple of ('flip', 'crop'), none of them twice"),
    ("patience", False, "None or a whole number, at least 1"),
]


@pytest.mark.parametrize("arguments", GOOD_TRAINING)
def test_training_within_its_ranges_is_made_and_keeps_its_values(arguments: dict[str, Any]) -> None:
    training = Training(**arguments)
    assert {name: getattr(training, name) for name in arguments} == arguments


@pytest.mark.parametrize(("name", "value", "required"), BAD_TRAINING)
def test_training_out_of_range_is_refused_by_name(name: str, value: Any, required: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Training(**{name: value})
    assert str(caught.value) == f"{name}: required {required}, found {value!r}."


@pytest.mark.parametrize(
    ("name", "least"), [("lca_updates", 0), ("curve_points", 0), ("curve_samples", 1), ("evaluation_batch_size", 1)]
)
def test_measurement_is_checked_at_its_lower_limits(name: str, least: int) -> None:
    assert getattr(Measurement(**{name: least}), name) == least  # type: ignore[arg-type]
    for wrong in (least - 1, float(least), True):
        with pytest.raises(ConfigError) as caught:
            Measurement(**{name: wrong})  # type: ignore[arg-type]
        assert str(caught.value) == f"{name}: required a whole number, at least {least}, found {wrong!r}."


def test_the_default_optimiser_is_adam() -> None:
    assert Training().optimiser == "adam"


@pytest.mark.parametrize("value", [Training(), Measurement()])
def test_settings_are_values(value: Training | Measurement) -> None:
    assert value == dataclasses.replace(value)
    assert hash(value) == hash(dataclasses.replace(value))
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, dataclasses.fields(value)[0].name, 3)


def test_replacing_a_setting_checks_it_again() -> None:
    with pytest.raises(ConfigError, match="lr: required"):
        dataclasses.replace(Training(), lr=-1.0)
