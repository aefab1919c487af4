"""A stem of its own for every task: what brings inputs of any shape to the layers that all tasks share."""

from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from prognet.engine.probe import probe
from prognet.engine.stages import stages_of
from prognet.errors import SiteError
from prognet.strategies.base import example_of
from prognet.strategies.heads import TaskModel
from prognet.strategies.multitask.architecture import Architecture, Make, SharedSpan
from prognet.streams.task import Task


@dataclass(frozen=True)
class Stems(Architecture):
    """Each task has a stem and an output layer of its own; all between them is shared, so that inputs may differ.

    The stem is the first stage of a network, as in `prognet.engine.stages`: the layer that reads the input, with its
    norm and activation. Parameters that no layer holds, such as a class token, are a task's own, too. Tasks go through
    the shared layers one by one, as with `Hard(shared=[...])`.
    """

    @property
    def mixes_inputs(self) -> bool:
        """Yes."""
        return True

    def build(self, tasks: Sequence[Task], make: Make) -> TaskModel:
        return SharedSpan(tasks, make, between(make(tasks[0]), tasks[0]))


def between(network: nn.Module, task: Task) -> tuple[str, ...]:
    """The submodules between the stem of a network and its output layer, by name: the largest ones, in their order.

    Raises:
        SiteError: when there is none with parameters.
    """
    example = example_of(task)
    stem = stages_of(network, example)[0]
    own = {*stem.parameters, *_parameters_of(network, probe(network, example).output_layer)}
    found: list[str] = []
    for name, module in network.named_modules():
        inside = [f"{name}.{key}" for key, _ in module.named_parameters()]
        if name and inside and not own & {*inside} and not any(name.startswith(f"{outer}.") for outer in found):
            found.append(name)
    if not found:
        raise SiteError(
            f"backbone: required layers between the first and the output layer to be shared, found none in a network "
            f"of task {task.label}; take a deeper one, or Soft(), in which nothing is shared but by a penalty."
        )
    return tuple(found)


def _parameters_of(network: nn.Module, layer: str | None) -> list[str]:
    return [] if layer is None else [f"{layer}.{key}" for key, _ in network.get_submodule(layer).named_parameters()]
