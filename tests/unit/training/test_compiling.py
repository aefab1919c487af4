"""Compiled updates: the same to rounding, one version of each training, the same bits again, and clear refusals."""

import gc
import weakref
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch._dynamo.utils import counters

from prognet.backbones import cnn, mlp
from prognet.config import Execution, Training
from prognet.engine.prepared import Prepared
from prognet.errors import CompileError, CompileWarning, ConfigError
from prognet.evaluation import verify
from prognet.metrics import forgetting
from prognet.results import RunResult
from prognet.strategies import MultiTask, Strategy
from prognet.training import compiling
from prognet.training.batches import Batch, Part
from tests.helpers.runs import assert_same_numbers, assert_same_tensors, from_scratch, quick_run, tensors
from tests.helpers.streams import make_stream

COMPILED = Execution(compile="default")
CPU = torch.device("cpu")
STREAM = make_stream((2, 3), shape=(1, 8, 8))
TRAINING = Training(epochs=3, batch_size=16, lr=0.01)  # batches of 13, 13 and 14 samples
PAST = Prepared({})


def learned(strategy: Strategy, execution: Execution = COMPILED, out: Path | None = None) -> RunResult:
    """A short run of two tasks."""
    return quick_run(strategy, STREAM, training=TRAINING, execution=execution, out=out)


def versions() -> int:
    """How many graphs torch has captured so far."""
    return int(counters["stats"]["unique_graphs"])


def batch_of(*sizes: int) -> Batch:
    """A batch with so many samples of each task."""
    return {
        label: Part(torch.rand(size, 4), torch.arange(size) % 3, Prepared({"site": (torch.rand(size, 3),)}))
        for label, size in enumerate(sizes)
    }


class Small:
    """A loss with parameters, which adds what was handed over."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.layer = nn.Linear(4, 3)

    def __call__(self, batch: Batch, size: int) -> Tensor:
        losses = [
            nn.functional.cross_entropy(self.layer(part.x) + (part.past or PAST)["site"][0], part.y)
            * (len(part.y) / size)
            for part in batch.values()
        ]
        return torch.stack(losses).sum()


def fast_of(loss: compiling.Loss) -> Callable[[Batch], Tensor]:
    """The compiled loss."""
    fast = compiling.compiled(loss, COMPILED)
    assert fast is not None
    return fast


def assert_near(found: RunResult, required: RunResult) -> None:
    """The same run to rounding, and not bit for bit, since it would not have been compiled."""
    after = tensors(found.learner)
    differences = [(after[name] - tensor).abs().max().item() for name, tensor in tensors(required.learner).items()]
    assert 0 < max(differences) < 1e-3
    assert [cost.training_flops for cost in found.costs] == [cost.training_flops for cost in required.costs]


def test_a_run_is_that_without_to_rounding_and_ends_undisturbed_with_the_same_bits(tmp_path: Path) -> None:
    before = versions()
    whole = learned(from_scratch(mlp(hidden=(8,))), out=tmp_path / "whole")
    assert versions() - before <= 1 + len(STREAM)  # a line to try the compiler with, and one version of each task
    assert_near(whole, learned(from_scratch(mlp(hidden=(8,))), Execution()))
    assert forgetting(whole.accuracy) == 0.0
    assert [verdict.problem for verdict in verify(tmp_path / "whole")] == [None]

    told: list[int] = []

    def stop(updates: int) -> None:
        told.append(updates)
        if len(told) == 5:  # three passes of task 0, then in the second of task 1
            raise KeyboardInterrupt

    arguments = {"training": TRAINING, "execution": COMPILED, "out": tmp_path / "killed"}
    with pytest.raises(KeyboardInterrupt):
        quick_run(from_scratch(mlp(hidden=(8,))), STREAM, advance=stop, **arguments)
    again = quick_run(from_scratch(mlp(hidden=(8,))), STREAM, **arguments)
    assert_same_numbers(again, whole)
    assert_same_tensors(tensors(again.learner), tensors(whole.learner))


@pytest.mark.slow
def test_convolutions_and_joint_training_too() -> None:
    for make in (lambda: from_scratch(cnn(channels=(3, 4))), lambda: MultiTask(mlp(hidden=(8,)))):
        first, second = learned(make()), learned(make())
        assert_near(first, learned(make(), Execution()))
        assert_same_numbers(first, second)
        assert_same_tensors(tensors(first.learner), tensors(second.learner))


def test_batches_of_other_sizes_need_no_other_version() -> None:
    small = Small()
    fast = fast_of(small)
    before = versions()
    for sizes in [(5, 5, 6), (5, 6, 5), (6, 5, 5), (5, 5, 5), (7, 9, 2)]:
        batch = batch_of(*sizes)
        found = torch.autograd.grad(fast(batch), small.layer.weight)[0]
        required = torch.autograd.grad(small(batch, sum(sizes)), small.layer.weight)[0]
        assert torch.allclose(found, required, rtol=1e-4, atol=1e-6)
    assert versions() - before == 1


def test_every_training_has_versions_of_its_own_and_leaves_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "GRAPHS", 1)
    alive = []
    for _ in range(3):  # more than GRAPHS, which counts for each by itself
        small = Small()
        fast_of(small)(batch_of(5))
        alive.append(weakref.ref(small))
        del small
    gc.collect()
    assert [reference() for reference in alive] == [None] * 3


def test_with_too_many_versions_it_warns_and_goes_on_uncompiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compiling, "GRAPHS", 1)
    small = Small()
    fast = fast_of(small)
    fast(batch_of(5))
    batch = batch_of(5, 5)
    with pytest.warns(CompileWarning, match="compile: required at most 1 versions of an update, found more; the oth"):
        found = fast(batch)
    assert torch.equal(found, small(batch, 10))


def test_what_cannot_be_captured_is_said() -> None:
    def asking(batch: Batch, size: int) -> Tensor:
        print(batch[0].x.sum().item())
        torch._dynamo.graph_break()
        return batch[0].x.sum()

    with pytest.raises(CompileError, match="compile: required a forward pass and a loss that torch can capture as one"):
        fast_of(asking)(batch_of(5))


def test_cuda_graphs_are_refused_elsewhere_before_any_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Strategy, "learn", None)
    with pytest.raises(ConfigError) as caught:
        learned(from_scratch(mlp(hidden=(8,))), Execution(compile="graphs"))
    assert str(caught.value) == (
        "compile: required CUDA for 'graphs', found the device 'cpu'; use 'default', or 'none'."
    )


def test_without_a_compiler_it_is_refused_before_any_work(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from torch._inductor import config

    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))  # nothing is found compiled
    monkeypatch.setattr(config.cpp, "cxx", ("no-such-compiler",))
    with pytest.raises(ConfigError, match="compile: required a compiler that torch can use for 'cpu', found .*Invalid"):
        compiling.check_compiling(COMPILED, CPU)


def test_nothing_is_compiled_unless_it_is_asked_for() -> None:
    before = versions()
    assert compiling.compiled(Small(), Execution()) is None
    compiling.check_compiling(Execution(), torch.device("meta"))
    learned(from_scratch(mlp(hidden=(8,))), Execution())
    assert versions() == before


def test_another_word_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        Execution(compile="yes")  # type: ignore[arg-type]
    assert str(caught.value) == "compile: required one of ('none', 'default', 'graphs'), found 'yes'."
