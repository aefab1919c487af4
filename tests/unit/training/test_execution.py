"""Other precisions and layouts: the same networks, nothing forgotten, and every run the same bits again."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prognet.backbones import cnn, mlp
from prognet.config import Execution, Training
from prognet.errors import ConfigError
from prognet.evaluation import verify
from prognet.metrics import forgetting
from prognet.strategies import FineTune, MultiTask, Progressive, Strategy, wrapped
from tests.helpers.runs import assert_same_numbers, assert_same_tensors, from_scratch, quick_run, tensors
from tests.helpers.streams import make_stream

HALF = Execution(precision="bfloat16")
LAST = Execution(channels_last=True)
TRAINING = Training(epochs=3, batch_size=16, lr=0.01)
STREAM = make_stream((2, 3, 2), shape=(1, 8, 8))
CONVOLUTIONS = cnn(channels=(3, 4, 5))

STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "progressive": lambda: Progressive(mlp(hidden=(8, 6), batch_norm=True)),
    "convolutions": lambda: from_scratch(CONVOLUTIONS),
    "finetune": lambda: FineTune(mlp(hidden=(8,))),
    "multitask": lambda: MultiTask(mlp(hidden=(8,))),
    "avalanche's": lambda: wrapped("EWC", mlp(hidden=(8,))),
}


@pytest.mark.parametrize("execution", [HALF, LAST, Execution(precision="bfloat16", feature_memory=0)])
@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_runs_and_gives_the_same_bits_again(name: str, execution: Execution) -> None:
    first, second = (quick_run(STRATEGIES[name](), STREAM, training=TRAINING, execution=execution) for _ in range(2))
    assert_same_numbers(first, second)
    assert_same_tensors(tensors(first.learner), tensors(second.learner))
    assert all(tensor.dtype != torch.bfloat16 for tensor in tensors(first.learner).values())


@pytest.mark.parametrize("execution", [HALF, LAST])
@pytest.mark.parametrize("name", ["progressive", "convolutions"])
def test_nothing_is_forgotten_and_the_files_prove_it(name: str, execution: Execution, tmp_path: Path) -> None:
    result = quick_run(STRATEGIES[name](), STREAM, training=TRAINING, execution=execution, out=tmp_path)
    assert forgetting(result.accuracy) == 0.0
    assert [verdict.problem for verdict in verify(tmp_path)] == [None]


def test_half_precision_is_used_in_training_and_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: set[tuple[bool, torch.dtype]] = set()
    original = torch.nn.Linear.forward

    def noting(layer: torch.nn.Linear, x: Tensor) -> Tensor:
        out = original(layer, x)
        seen.add((layer.training, out.dtype))
        return out

    monkeypatch.setattr(torch.nn.Linear, "forward", noting)
    quick_run(FineTune(mlp(hidden=(8,))), STREAM.first(1), training=TRAINING, execution=HALF)
    assert (True, torch.bfloat16) in seen
    assert (False, torch.bfloat16) in seen
    assert (True, torch.float32) not in seen


def test_half_precision_learns_as_well() -> None:
    half, full = (
        quick_run(from_scratch(mlp(hidden=(8, 6))), STREAM, training=TRAINING, execution=execution)
        for execution in (HALF, Execution())
    )
    found, required = tensors(half.learner), tensors(full.learner)
    assert any(not torch.equal(found[name], tensor) for name, tensor in required.items())
    for name, tensor in required.items():
        assert torch.allclose(found[name], tensor, atol=0.1), name


def test_another_layout_changes_rounding_only() -> None:
    last, first = (
        quick_run(from_scratch(CONVOLUTIONS), STREAM, training=TRAINING, execution=execution)
        for execution in (LAST, Execution())
    )
    weights = [tensor for tensor in last.learner.state_dict().values() if tensor.ndim == 4 and tensor.shape[1] > 1]
    assert any(weight.is_contiguous(memory_format=torch.channels_last) for weight in weights)
    found = tensors(last.learner)
    for name, tensor in tensors(first.learner).items():
        assert torch.allclose(found[name], tensor, rtol=2e-3, atol=2e-3), name


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"precision": "float16"}, "precision: required one of ('float32', 'bfloat16'), found 'float16'."),
        ({"channels_last": 1}, "channels_last: required True or False, found 1."),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Execution(**arguments)  # type: ignore[arg-type]
    assert str(caught.value) == message
