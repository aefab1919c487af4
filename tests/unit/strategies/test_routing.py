"""Batches of several tasks."""

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from prognet.strategies.routing import MASK, cross_entropy, route

WIDTHS = {3: 2, 8: 4, 9: 2}


def predict(x: Tensor, label: int) -> Tensor:
    """Outputs that tell task, unit and sample: (b, 1) -> (b, width of the task)."""
    return 100.0 * label + torch.arange(WIDTHS[label]) + 10.0 * x


def test_every_row_is_that_of_its_own_task() -> None:
    x = torch.arange(5.0).unsqueeze(1)
    found = route(predict, x, torch.tensor([8, 3, 9, 8, 3]))
    assert found.tolist() == [
        [800.0, 801.0, 802.0, 803.0],
        [310.0, 311.0, MASK, MASK],
        [920.0, 921.0, MASK, MASK],
        [830.0, 831.0, 832.0, 833.0],
        [340.0, 341.0, MASK, MASK],
    ]


@pytest.mark.parametrize("labels", [torch.tensor([8, 8, 8]), 8])
def test_a_batch_of_one_task_is_not_taken_apart(labels: Tensor | int) -> None:
    x, seen = torch.rand(3, 1), []

    def noting(part: Tensor, label: int) -> Tensor:
        seen.append(part)
        return predict(part, label)

    assert torch.equal(route(noting, x, labels), predict(x, 8))
    assert seen[0] is x
    assert len(seen) == 1


def test_gradients_reach_every_sample_and_no_masked_unit() -> None:
    x = torch.zeros(3, 1, requires_grad=True)
    logits = route(lambda part, label: part * torch.ones(WIDTHS[label]), x, torch.tensor([3, 8, 3]))
    logits.retain_grad()
    loss = cross_entropy(logits, torch.tensor([1, 3, 0]), 0.0)
    loss.backward()  # type: ignore[no-untyped-call]
    assert logits.grad is not None
    assert logits.grad[0].tolist() == pytest.approx([1 / 6, -1 / 6, 0, 0])
    assert logits.grad[0, 2:].tolist() == [0.0, 0.0]
    assert x.grad is not None


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_the_loss_of_masked_rows_is_that_of_the_own_units(smoothing: float) -> None:
    random = torch.Generator().manual_seed(0)
    narrow, wide = torch.randn(3, 2, generator=random), torch.randn(2, 4, generator=random)
    y = torch.tensor([0, 1, 1, 3, 0])
    together = torch.cat([functional.pad(narrow, (0, 2), value=MASK), wide])
    alone = [
        functional.cross_entropy(part, own, label_smoothing=smoothing, reduction="sum")
        for part, own in ((narrow, y[:3]), (wide, y[3:]))
    ]
    torch.testing.assert_close(cross_entropy(together, y, smoothing), sum(alone) / 5)


def test_the_loss_without_masked_units_is_torchs() -> None:
    logits, y = torch.randn(6, 3, generator=torch.Generator().manual_seed(0)), torch.tensor([0, 1, 2, 2, 1, 0])
    assert torch.equal(cross_entropy(logits, y, 0.0), functional.cross_entropy(logits, y))
    expected = functional.cross_entropy(logits, y, label_smoothing=0.2)
    torch.testing.assert_close(cross_entropy(logits, y, 0.2), expected)
