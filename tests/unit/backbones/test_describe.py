"""How a backbone is written down, and whether it can be widened."""

from collections.abc import Sequence
from functools import partial
from typing import Any

import pytest
from torch import nn

from prognet.backbones import accepts_width, cnn, describe_backbone, mlp, resnet18, vit_tiny
from prognet.errors import ConfigError
from tests.helpers.names import without_addresses


def plain(input_shape: Sequence[int], n_classes: int) -> nn.Module:
    return nn.Linear(input_shape[0], n_classes)


def widening(input_shape: Sequence[int], n_classes: int, width: float = 1.0) -> nn.Module:
    return nn.Linear(input_shape[0], n_classes)


def configurable(hidden: object, input_shape: Sequence[int], n_classes: int, *, width: float = 1.0) -> nn.Module:
    return nn.Linear(input_shape[0], n_classes)


def greedy(input_shape: Sequence[int], n_classes: int, **width: float) -> nn.Module:
    return nn.Linear(input_shape[0], n_classes)


class Callable:
    def __call__(self, input_shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Linear(input_shape[0], n_classes)


HERE = plain.__module__


@pytest.mark.parametrize(
    ("backbone", "expected"),
    [
        (
            mlp(hidden=(9, 7), dropout=0.5),
            {
                "name": "mlp",
                "arguments": {"hidden": [9, 7], "activation": "relu", "batch_norm": False, "dropout": 0.5},
            },
        ),
        (cnn(), {"name": "cnn", "arguments": {"channels": [32, 64, 128], "batch_norm": False}}),
        (resnet18(20), {"name": "resnet18", "arguments": {"channels": 20}}),
        (
            vit_tiny(),
            {"name": "vit_tiny", "arguments": {"patch": None, "dim": 192, "depth": 12, "heads": 3, "dropout": 0.0}},
        ),
        (plain, {"name": f"{HERE}:plain", "arguments": {}}),
        (partial(configurable, (3, 4)), {"name": f"{HERE}:configurable", "arguments": {"hidden": [3, 4]}}),
        (partial(configurable, hidden=2.5), {"name": f"{HERE}:configurable", "arguments": {"hidden": 2.5}}),
        (Callable(), {"name": f"{HERE}:Callable", "arguments": {}}),
        (nn.Linear, {"name": "torch.nn.modules.linear:Linear", "arguments": {}}),
    ],
    ids=without_addresses,
)
def test_a_backbone_is_described_in_json(backbone: Any, expected: dict[str, Any]) -> None:
    assert describe_backbone(backbone) == expected


@pytest.mark.parametrize(
    ("backbone", "widens"),
    [
        (mlp(), True),
        (resnet18(), True),
        (widening, True),
        (partial(configurable, 3), True),
        (plain, False),
        (greedy, False),
        (Callable(), False),
        (lambda shape, n_classes: nn.Identity(), False),
    ],
)
def test_a_backbone_widens_if_it_has_an_argument_width(backbone: Any, widens: bool) -> None:
    assert accepts_width(backbone) is widens


@pytest.mark.parametrize("ask", [describe_backbone, accepts_width])
def test_what_is_no_backbone_is_refused(ask: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        ask("mlp")
    assert str(caught.value) == (
        "backbone: required a function (input_shape, n_classes) -> nn.Module, found 'mlp'; take one of "
        "prognet.backbones, e.g. prognet.backbones.mlp()."
    )
    with pytest.raises(ConfigError) as caught:
        ask(nn.Linear(2, 2))
    assert str(caught.value) == (
        "backbone: required a function (input_shape, n_classes) -> nn.Module, found the module Linear; pass the "
        "function that builds it, since every task needs a fresh one."
    )


def test_bound_arguments_must_have_a_json_form() -> None:
    with pytest.raises(ConfigError, match="required bound arguments that JSON can hold, found functools.partial"):
        describe_backbone(partial(configurable, hidden=object()))
