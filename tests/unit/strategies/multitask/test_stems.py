"""A stem and an output layer of every task's own, and one set of layers between them."""

import re
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from torch import nn

from prognet.backbones import cnn, mlp, resnet18, vit_tiny
from prognet.config import Training
from prognet.errors import ConfigError, SiteError
from prognet.strategies import MultiTask, strategy_from
from prognet.strategies.base import Backbone
from prognet.strategies.multitask import Architecture, Hard, Soft, Stems
from prognet.strategies.multitask.named import stems
from prognet.strategies.multitask.stems import between
from prognet.streams.task import Task
from tests.helpers.runs import TRAINING, assert_same_tensors, learn_all, tensors
from tests.helpers.shapes import COLOUR, GREY, mixed_stream, one_task

DEEP = mlp(hidden=(8, 6))


def model(architecture: Architecture | None = None, backbone: Backbone = DEEP, training: Training = TRAINING) -> Any:
    return learn_all(MultiTask(backbone, architecture=architecture or Stems()), mixed_stream(), training).shared


@pytest.mark.parametrize(
    ("backbone", "names"),
    [
        (DEEP, ["3"]),
        (mlp(hidden=(8, 6, 5), batch_norm=True), ["4", "5", "7", "8"]),  # the first norm belongs to the stem
        (cnn(channels=(4, 5, 6)), ["3", "6"]),
        (resnet18(channels=4), ["layer1", "layer2", "layer3", "layer4"]),
        (vit_tiny(depth=2), ["blocks", "norm"]),
    ],
    ids=["mlp", "norms", "cnn", "resnet", "vit"],
)
def test_all_between_the_stem_and_the_output_layer_is_shared(backbone: Backbone, names: Sequence[str]) -> None:
    task = one_task(0, (1, 16, 16), 3)
    assert list(between(backbone(task.input_shape, 3), task)) == names


def test_the_shared_parameters_are_one_set_and_the_others_are_a_tasks_own() -> None:
    shared = model(training=Training(epochs=0))
    networks = [shared.network(label) for label in range(4)]
    assert all(network[3] is networks[0][3] for network in networks[1:])
    counts = {1: 8 * (16 + 72 + 16 + 72 + 4), 3: 8 * 6 + 6, 5: sum(7 * n for n in (2, 3, 4, 2))}
    assert sum(p.numel() for p in shared.parameters()) == sum(counts.values())


def test_every_task_moves_the_shared_layers() -> None:
    shared = model(training=Training(epochs=0)).train()
    found = []
    for task in mixed_stream():
        _backward(shared, [task])
        found.append(shared.network(0)[3].weight.grad.clone())
        for other in range(4):
            stem = shared.network(other)[1].weight.grad
            assert (stem is not None and bool(stem.any())) == (other == task.label)
    _backward(shared, mixed_stream())
    assert all(gradient.any() for gradient in found)
    assert torch.allclose(shared.network(0)[3].weight.grad, torch.stack(found).sum(dim=0), atol=1e-5)


def _backward(shared: Any, tasks: Sequence[Task]) -> None:
    """The gradients of the sum of the losses of these tasks."""
    shared.zero_grad()
    outputs = shared.predict_together({task.label: task.normalisation(task.train.x) for task in tasks})
    losses = [task.objective.loss(outputs[task.label], task.train.y) for task in tasks]
    torch.stack(losses).sum().backward()  # type: ignore[no-untyped-call]


def test_stems_are_hard_sharing_of_these_layers() -> None:
    required = model(Hard(shared=["3"]))
    assert_same_tensors(tensors(model()), tensors(required))


def test_convolutions_are_shared_between_images_of_any_size_and_colour() -> None:
    shared = model(backbone=cnn(channels=(4, 5)))
    assert shared.network(1)[3] is shared.network(0)[3]
    for task in mixed_stream():
        x = task.normalisation(task.test.x)
        assert shared.predict(x, task.label).shape == (len(x), task.n_classes)


def test_the_named_one_is_described_and_made_again() -> None:
    strategy = stems(DEEP)
    assert (strategy.name, strategy.architecture) == ("multitask-stems", Stems())
    description = {"kind": "MultiTask", "name": "multitask-stems", "arguments": dict(strategy.arguments())}
    again = strategy_from(description, DEEP)
    assert isinstance(again, MultiTask) and again.architecture == Stems()


def test_a_network_with_nothing_between_is_refused() -> None:
    message = "required layers between the first and the output layer to be shared, found none in a network of task 0"
    with pytest.raises(SiteError, match=message):
        model(backbone=mlp(hidden=(8,)))


def wide(input_shape: Sequence[int], n_classes: int) -> nn.Module:
    n, features = input_shape[0] * 4, int(torch.Size(input_shape).numel())
    return nn.Sequential(
        *(nn.Flatten(), nn.Linear(features, n), nn.ReLU(), nn.Linear(n, n), nn.ReLU(), nn.Linear(n, n_classes))
    )


def outlines() -> list[Task]:
    return [task.outline() for task in mixed_stream()]


def test_layers_that_do_not_fit_are_found_before_any_work() -> None:
    message = (
        "architecture: Stems cannot join these tasks: shared: required in '3' of task 1 the parameters of the first "
        "task's [(4, 4), (4,)], found [(8, 8), (8,)]; leave it to every task, or let the layers before it bring the "
        "inputs to one shape."
    )
    with pytest.raises(ConfigError, match=re.escape(message)):
        MultiTask(wide, architecture=Stems()).prepare(outlines())
    with pytest.raises(ConfigError, match="architecture: Hard cannot join these tasks: shared: "):
        MultiTask(DEEP, architecture=Hard(shared=["1"])).prepare(outlines())
    for architecture in (Stems(), Soft(), Hard(shared=["3"])):
        MultiTask(DEEP, architecture=architecture).prepare(outlines())


def test_tasks_of_one_shape_and_networks_that_need_numbers_are_left_to_the_build() -> None:
    def needs_numbers(input_shape: Sequence[int], n_classes: int) -> nn.Module:
        network = DEEP(input_shape, n_classes)
        assert torch.ones(1).item() == 1
        return network

    MultiTask(needs_numbers, architecture=Stems()).prepare(outlines())
    MultiTask(wide, architecture=Stems()).prepare([one_task(label, COLOUR, 2).outline() for label in range(2)])
    with pytest.raises(SiteError, match="shared: required in '3' of task 1"):
        model(backbone=wide)


def test_architectures_with_one_stem_say_which_tasks_disagree() -> None:
    with pytest.raises(ConfigError) as caught:
        MultiTask(DEEP).prepare(outlines())
    assert str(caught.value) == (
        f"architecture: required inputs of one shape in all tasks, found {GREY} in task 0 and {COLOUR} in task 1; "
        "share some layers only, with Stems() or Hard(shared=[...]), or use Soft, where every task has a network of "
        "its own."
    )
