from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import mlp
from prognet.config import Execution, Training
from prognet.errors import DivergedError, StackingWarning
from prognet.evaluation.replication import run_together
from prognet.results import RunResult
from prognet.strategies import FineTune, Independent
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training.diverging import check_parameters
from prognet.training.loop import Run, fit
from tests.helpers.runs import PLAIN, make_session, quick_run
from tests.helpers.streams import make_stream, make_task

STREAM = make_stream((2, 2))
TOO_FAST = Training(updates=1, batch_size=16, lr=1e39, optimiser="sgd")
"""A finite loss, after which no parameter with a gradient is a finite number."""


class NaNWhenLookedAt(nn.Module):
    """A network whose outputs are no numbers in evaluation, from the n-th batch on."""

    def __init__(self, after: int = 0) -> None:
        super().__init__()
        self.layer, self.after, self.looks = nn.Linear(16, 2), after, 0

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(1))
        if self.training:
            return y
        self.looks += 1
        return y * float("nan") if self.looks > self.after else y


def fit_alone(network: nn.Module, task: Task, training: Training) -> Any:
    def forward(inputs: Any) -> dict[int, Tensor]:
        return {label: network(x) for label, x in inputs.items()}

    return fit(network, forward, lambda x, label: network(x), [task], make_session(training))


@pytest.mark.parametrize("patience", [None, 1])
def test_a_validation_loss_that_is_no_number_ends_the_training(patience: int | None) -> None:
    with pytest.raises(DivergedError) as caught:
        fit_alone(NaNWhenLookedAt(), make_task(3, 2), Training(epochs=2, batch_size=16, lr=0.5, patience=patience))
    assert str(caught.value) == (
        "training of tasks [3]: required a finite validation loss, found nan after update 2 of 6; use a smaller lr "
        "than 0.5, or clip_norm."
    )


def test_without_validation_there_is_no_such_loss() -> None:
    record = fit_alone(NaNWhenLookedAt(), make_task(0, 2, n_val=0), Training(epochs=1, batch_size=16))
    assert record.updates == 3


def test_the_last_update_is_looked_at_too() -> None:
    layer = nn.Linear(16, 2)
    with pytest.raises(DivergedError) as caught:
        fit_alone(nn.Sequential(nn.Flatten(), layer), make_task(5, 2, n_val=0), TOO_FAST)
    wrong = int((~torch.isfinite(layer.weight)).sum())
    assert 0 < wrong <= 32
    assert str(caught.value) == (
        f"training of tasks [5]: required finite parameters, found {wrong} of 32 numbers of '1.weight' that are not, "
        "after update 0 of 1; use a smaller lr than 1e+39, or clip_norm."
    )


def test_parameters_that_are_not_trained_may_be_anything() -> None:
    network = nn.Sequential(nn.Flatten(), nn.Linear(16, 2))
    network.register_parameter("unused", nn.Parameter(torch.tensor(float("nan")), requires_grad=False))
    network.register_buffer("mask", torch.tensor(float("-inf")))
    assert fit_alone(network, make_task(0, 2), Training(epochs=1, batch_size=16)).updates == 3


def test_where_nothing_is_trained_nothing_is_looked_at() -> None:
    broken = nn.Linear(1, 1).requires_grad_(False)
    broken.bias.fill_(float("nan"))
    check_parameters(cast(Run, SimpleNamespace(module=broken)))


def stacked(strategy: Any, training: Training, stream: Stream) -> Sequence[Any]:
    session = replace(make_session(training), execution=Execution(stack=2))
    return run_together(strategy, [stream] * 2, session, (0, 1), 1, None)


def test_seeds_that_are_trained_together_are_looked_at_too() -> None:
    stream = make_stream((2, 2), n_val=0)
    with pytest.raises(DivergedError) as alone:
        quick_run(FineTune(PLAIN), stream, training=TOO_FAST)
    assert ": required finite parameters, found " in str(alone.value)
    found = stacked(FineTune(PLAIN), TOO_FAST, stream)
    assert [type(one) for one in found] == [DivergedError] * 2
    for one in found:
        assert "training of tasks [0]: required finite parameters, found " in str(one)
        assert str(one).endswith(
            "after update 0 of 1; use a smaller lr than 1e+39, or clip_norm. Step 0 of 2, counted from 0, was broken "
            "off; nothing is kept, since the run has no folder."
        )


class Unrooted(Independent):
    """With seed 1 the running variance of the second network is negative: in evaluation nothing is a number."""

    def build(self, task: Task, purpose: str = "backbone", width: float = 1.0) -> nn.Module:
        network = super().build(task, purpose, width)
        for part in network.modules():
            if isinstance(part, nn.BatchNorm1d) and task.label == self.current_session().seed == 1:
                assert part.running_var is not None
                part.running_var.fill_(-1e6)
        return network


def test_a_seed_whose_validation_loss_is_no_number_leaves_the_other() -> None:
    backbone = mlp(hidden=(8,), batch_norm=True)
    first, second = stacked(Unrooted(backbone), Training(epochs=2, batch_size=16), STREAM)
    assert isinstance(first, RunResult)
    assert isinstance(second, DivergedError)
    assert "training of tasks [1]: required a finite validation loss, found nan after update 2 of 6" in str(second)


class Silent(Independent):
    """With seed 1 nothing that is said of the second task is a number, and no tensor tells."""

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        y = super().predict(x, task_label)
        return y * float("nan") if task_label == self.current_session().seed == 1 and not torch.is_grad_enabled() else y


def test_what_is_no_number_alone_and_is_one_together_is_found() -> None:
    with pytest.warns(StackingWarning, match="what they compute together differs from what each computes alone"):
        first, second = stacked(Silent(PLAIN), Training(epochs=1, batch_size=16), STREAM)
    assert isinstance(first, RunResult)
    assert isinstance(second, DivergedError)


class Forgetful(Independent):
    """Says nothing of the first task once it has learned the second."""

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        y = super().predict(x, task_label)
        y[0] = float("nan") if task_label == 0 and self.current_session().step == 1 else y[0]
        return y


def test_no_accuracy_is_booked_for_outputs_that_are_no_numbers(tmp_path: Path) -> None:
    with pytest.raises(DivergedError) as caught:
        quick_run(Forgetful(PLAIN), STREAM, out=tmp_path)
    message = str(caught.value)
    assert message.startswith("outputs for task 0: required numbers, found NaN in ")
    assert "after the training of tasks up to 1; no accuracy is booked for it. Step 1 of 2, counted from 0" in message
