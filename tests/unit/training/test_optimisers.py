from math import cos, pi
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from prognet.config import Schedule, Training
from prognet.errors import ConfigError
from prognet.training import RateGroup
from prognet.training.optimisers import make_optimiser, make_schedule

WORDS: dict[str, tuple[type[Optimizer], dict[str, Any]]] = {
    "adam": (Adam, {"lr": 0.02, "weight_decay": 0.1, "betas": (0.9, 0.999), "eps": 1e-8}),
    "adamw": (AdamW, {"lr": 0.02, "weight_decay": 0.1, "betas": (0.9, 0.999), "eps": 1e-8}),
    "sgd": (SGD, {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.5, "nesterov": False, "dampening": 0}),
    "rmsprop": (RMSprop, {"lr": 0.02, "weight_decay": 0.1, "momentum": 0.5, "alpha": 0.99}),
}


def parameter() -> nn.Parameter:
    return nn.Parameter(torch.ones(3))


@pytest.mark.parametrize("word", WORDS)
def test_every_word_gives_its_optimiser_with_its_settings(word: Any) -> None:
    kind, settings = WORDS[word]
    optimiser = make_optimiser([parameter()], Training(optimiser=word, lr=0.02, momentum=0.5, weight_decay=0.1))
    assert type(optimiser) is kind
    assert {name: optimiser.defaults[name] for name in settings} == settings


def test_the_fused_form_is_taken_where_torch_has_one() -> None:
    assert make_optimiser([parameter()], Training()).defaults["fused"] is True
    assert make_optimiser([nn.Parameter(torch.ones(3, device="meta"))], Training()).defaults["fused"] is False


def rates(schedule: Schedule, updates: int) -> list[float]:
    """The learning rate of each update, as a factor of the first."""
    optimiser = SGD([parameter()], lr=2.0)
    scheduler = make_schedule(optimiser, schedule, updates)
    found = []
    for _ in range(updates):
        found.append(optimiser.param_groups[0]["lr"] / 2.0)
        optimiser.step()
        scheduler.step()
    return found


def test_constant() -> None:
    assert rates("constant", 4) == [1, 1, 1, 1]


def test_linear_goes_down_to_zero_after_the_last_update() -> None:
    assert rates("linear", 4) == [1, 0.75, 0.5, 0.25]


def test_cosine_goes_down_to_zero_after_the_last_update() -> None:
    # (1 + cos(pi t / 4)) / 2: 1, (1 + sqrt(1/2)) / 2, 1/2, (1 - sqrt(1/2)) / 2
    assert rates("cosine", 4) == pytest.approx([1, 0.853553, 0.5, 0.146447], abs=1e-6)
    assert rates("cosine", 3)[1] == pytest.approx((1 + cos(pi / 3)) / 2)


def test_groups_have_rates_of_their_own_and_all_others_that_of_the_training() -> None:
    a, b, c, never = (parameter() for _ in range(4))
    optimiser = make_optimiser([a, b, c], Training(lr=0.02), [RateGroup([b, never], 0.5)])
    assert [(group["params"], group["lr"]) for group in optimiser.param_groups] == [([b], 0.01), ([a, c], 0.02)]


def test_a_schedule_scales_every_group_alike() -> None:
    a, b = parameter(), parameter()
    optimiser = make_optimiser([a, b], Training(optimiser="sgd", lr=2.0), [RateGroup([a], 0.25)])
    scheduler = make_schedule(optimiser, "linear", 4)
    for _ in range(2):
        optimiser.step()
        scheduler.step()
    assert [group["lr"] for group in optimiser.param_groups] == [0.25, 1.0]


def test_a_group_of_which_nothing_is_trained_is_none() -> None:
    a = parameter()
    optimiser = make_optimiser([a], Training(lr=0.02), [RateGroup([parameter()], 0.5)])
    assert [group["params"] for group in optimiser.param_groups] == [[a]]


def test_a_parameter_with_two_rates_is_refused() -> None:
    a = parameter()
    with pytest.raises(ConfigError) as caught:
        make_optimiser([a], Training(), [RateGroup([a], 0.5), RateGroup([a], 0.1)])
    assert str(caught.value) == "groups: required every parameter in one group at most, found one in two of them."
