"""Batches that are too small for a norm are refused before anything is learned from them."""

from collections.abc import Mapping, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import cnn
from prognet.config import Training
from prognet.errors import ConfigError
from prognet.strategies import MultiTask, Strategy
from prognet.strategies.alignment import FeatureAlignment
from prognet.strategies.multitask import Adversarial, Architecture, CrossStitch, Hard, Soft, Stems
from prognet.training.norms import check_passes
from tests.helpers.runs import NORMED, PLAIN, assert_same_tensors, make_session, quick_run, tensors
from tests.helpers.streams import make_stream, make_task

NINE = make_stream((2,) * 9, [20] * 9)
SMALL = Training(epochs=1, batch_size=16)
"""One or two samples of each of nine tasks in a batch."""


def joint(architecture: Architecture, backbone: Any = NORMED) -> Strategy:
    return MultiTask(backbone, architecture=architecture)


@pytest.mark.parametrize(
    "strategy",
    [
        joint(Stems()),
        joint(Hard(shared=["5"])),
        joint(Soft()),
        joint(Adversarial()),
        FeatureAlignment(NORMED, source="joint"),
    ],
    ids=["stems", "hard by name", "soft", "adversarial", "aligned"],
)
def test_a_single_sample_of_a_task_is_refused_where_a_norm_sees_nothing_else(strategy: Strategy) -> None:
    told: list[int] = []
    with pytest.raises(ConfigError) as caught:
        quick_run(strategy, NINE, training=SMALL, advance=told.append)
    assert str(caught.value) == (
        "batch_size: required two samples of a task or none, since BatchNorm in layers that see the samples of one "
        "task alone cannot learn from one, found a single one of tasks [0, 1, 2, 3, 4, 5, 6, 7, 8] in batches of at "
        "most 16; use larger batches, a network without BatchNorm, or an architecture whose norms see all tasks, such "
        "as Hard()."
    )
    assert not told


@pytest.mark.parametrize(
    ("strategy", "training"),
    [
        (joint(Hard()), SMALL),
        (joint(CrossStitch()), SMALL),
        (joint(Soft(), PLAIN), SMALL),
        (joint(Soft()), Training(epochs=1, batch_size=20)),
        (joint(Soft(), cnn(channels=(3, 4), batch_norm=True)), SMALL),
    ],
    ids=["hard", "cross-stitch", "without norms", "two of each", "norms over pixels"],
)
def test_what_can_be_learned_is_not_refused(strategy: Strategy, training: Training) -> None:
    assert quick_run(strategy, NINE, training=training).costs[0].updates == -(-180 // training.batch_size)


class Halves(nn.Module):
    """A norm of all tasks but the last, and one of the last alone; draws random numbers whenever it is called."""

    def __init__(self) -> None:
        super().__init__()
        self.common, self.last = nn.BatchNorm1d(16), nn.BatchNorm1d(16, track_running_stats=False)

    def forward(self, inputs: Mapping[int, Tensor]) -> Mapping[int, Tensor]:
        torch.rand(1)
        rows = {label: x.flatten(1) for label, x in inputs.items()}
        others = [x for label, x in rows.items() if label != 2]
        if others:
            self.common(torch.cat(others))
        return {**rows, **({2: self.last(rows[2])} if 2 in rows else {})}


@pytest.mark.parametrize(
    ("counts", "starved"),
    [
        ([[1, 1, 2], [2, 2, 2]], []),
        ([[2, 2, 2], [1, 1, 1]], [2]),
        ([[1, 1, 2], [1, 0, 2]], [0]),
        ([[0, 0, 1], [0, 1, 0]], [1, 2]),
        ([[0, 0, 2], [3, 0, 0]], []),
    ],
)
def test_the_tasks_are_named_that_stand_alone_in_a_norm(counts: Sequence[Sequence[int]], starved: list[int]) -> None:
    module, tasks = Halves(), [make_task(label, 2) for label in range(3)]
    module.common.eval()
    before, state = tensors(module), torch.get_rng_state()
    found: list[int] = []
    try:
        check_passes(module, module, tasks, make_session(), counts, "these")
    except ConfigError as error:
        found = [label for label in range(3) if str(label) in str(error).partition("tasks [")[2].partition("]")[0]]
    assert found == starved
    assert_same_tensors(tensors(module), before)
    assert torch.equal(torch.get_rng_state(), state)
    assert (module.training, module.common.training, module.last.training) == (True, False, True)
    assert not any(norm._forward_pre_hooks for norm in (module.common, module.last))


def test_norms_that_stay_as_they_are_need_no_samples() -> None:
    class Frozen(nn.BatchNorm1d):
        def train(self, mode: bool = True) -> "Frozen":
            return super().train(False)

    module, norm = nn.Module(), Frozen(16)
    module.norm = norm
    task = make_task(0, 2)
    check_passes(module, lambda inputs: {0: norm(inputs[0].flatten(1))}, [task], make_session(), [[1]], "these")
