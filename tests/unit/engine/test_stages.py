"""Stages: every parameter in exactly one, in the order in which layers are called."""

import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import cnn, mlp, vit_tiny
from prognet.engine.stages import Stage, modules_in, parameters_in, stages_of
from prognet.errors import SiteError
from tests.helpers.runs import modes
from tests.helpers.zoo import DENSE, MLP_NORM, RESNET, ZOO, AttentionBlock, Kind


@pytest.mark.parametrize("kind", ZOO, ids=lambda kind: kind.name)
def test_every_parameter_is_in_one_stage_and_nothing_changes(kind: Kind) -> None:
    network = kind.build()
    before, flags = modes(network), [p.requires_grad for p in network.parameters()]
    state = torch.get_rng_state()
    stages = stages_of(network, kind.example(2))
    found = [name for stage in stages for name in stage.parameters]
    assert sorted(found) == sorted(name for name, _ in network.named_parameters())
    assert stages[-1].modules[0] == kind.sites[-1]  # the output layer
    assert modes(network) == before
    assert [p.requires_grad for p in network.parameters()] == flags
    assert torch.equal(torch.get_rng_state(), state)


def test_norm_activation_and_dropout_belong_to_the_layer_before_them() -> None:
    stages = stages_of(MLP_NORM.build(), MLP_NORM.example(2))
    assert [stage.modules for stage in stages] == [("0", "1", "2", "3"), ("4", "5", "6"), ("7",)]
    assert stages[1].parameters == ("4.weight", "4.bias", "5.weight", "5.bias")


def test_blocks_are_stages_in_the_order_of_the_network() -> None:
    network = RESNET.build()
    stages = stages_of(network, RESNET.example(2))
    first = [stage.parameters[0].rpartition(".")[0] for stage in stages]
    assert first == ["stem.0", "layer1.0.conv1", "layer2.0.conv1", "layer2.1.conv1", "fc"]
    block = stages[2]
    assert set(parameters_in(network, [block])) == set(network.get_submodule("layer2.0").parameters())
    assert network.get_submodule("layer2.0.bn2") in set(modules_in(network, [block]))
    assert network.get_submodule("layer2.0") in set(modules_in(network, [block]))


def test_layers_count_in_the_order_of_their_calls_and_not_of_their_names() -> None:
    class Backwards(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.c, self.b, self.a = nn.Linear(4, 2), nn.Linear(4, 4), nn.Linear(4, 4)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(torch.relu(self.b(torch.relu(self.a(x)))))  # type: ignore[no-any-return]

    assert [stage.modules for stage in stages_of(Backwards(), torch.zeros(2, 4))] == [("a",), ("b",), ("c",)]


def test_norms_before_a_layer_of_a_block_stay_where_they_are_called() -> None:
    stages = stages_of(DENSE.build(), DENSE.example(2))
    assert stages[1].modules == ("layers.0.2", "layers.1.0", "layers.1.1")


def test_parameters_that_no_layer_holds_belong_to_their_block_or_to_the_first_stage() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.ones(4))
            self.stem, self.blocks, self.head = nn.Linear(4, 4), nn.ModuleList([AttentionBlock(4)]), nn.Linear(4, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.blocks[0](self.stem(x)).mean(1) * self.scale)  # type: ignore[no-any-return]

    stages = stages_of(Scaled(), torch.zeros(2, 3, 4))
    assert stages[0].parameters == ("scale", "stem.weight", "stem.bias")
    assert "blocks.0.attention.in_proj_weight" in stages[1].parameters
    assert len(stages) == 3


def test_a_transformer_has_a_stage_for_each_block() -> None:
    network = vit_tiny(patch=4, dim=6, depth=2, heads=3)((1, 8, 8), 3)
    assert len(stages_of(network, torch.zeros(2, 1, 8, 8))) == 4


@pytest.mark.parametrize(
    ("backbone", "count"), [(mlp(hidden=(8, 6, 5)), 4), (cnn(channels=(3, 4), batch_norm=True), 3)]
)
def test_plain_networks_have_a_stage_for_each_layer(backbone: object, count: int) -> None:
    assert callable(backbone)
    assert len(stages_of(backbone((1, 8, 8), 2), torch.zeros(2, 1, 8, 8))) == count


def test_a_single_layer_is_one_stage() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(4, 2))
    assert stages_of(network, torch.zeros(2, 4)) == (Stage(("0", "1"), ("1.weight", "1.bias")),)


def test_a_network_without_called_layers_is_refused() -> None:
    with pytest.raises(SiteError, match="required layers that are called in a forward pass, found none"):
        stages_of(nn.Sequential(), torch.zeros(2, 4, requires_grad=True))
