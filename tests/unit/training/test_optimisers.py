from math import cos, pi
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, Adam, AdamW, Optimizer, RMSprop

from prognet.config import Schedule, Training
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
