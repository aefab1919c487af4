"""Generators that have no owner, and kernels that give the same bits every time."""

import os
import random
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prognet.config import Execution, Training
from prognet.errors import ConfigError, DeterminismError, PrognetError
from prognet.evaluation.environment import resolve_device
from prognet.evaluation.lockstep import Job, in_lockstep
from prognet.evaluation.replication import run_together
from prognet.results import RunResult
from prognet.strategies import FineTune, Independent
from prognet.training.determinism import deterministic, random_states, seeded, set_random_states
from tests.helpers.runs import TRAINING, assert_same_numbers, assert_same_tensors, make_session, quick_run, tensors
from tests.helpers.streams import make_stream

CPU, STREAM = torch.device("cpu"), make_stream((2, 3))
Draws = list[tuple[float, float, float]]
ALWAYS, MAYBE = Execution(deterministic=True), Execution()


def drawn() -> tuple[float, float, float]:
    """A number from each of the generators."""
    return random.random(), float(np.random.rand()), torch.rand(()).item()


class Drawing(nn.Module):
    """Draws its first weights and its noise from Python's and from NumPy's generator, in evaluation as well."""

    def __init__(self, n_in: int, n_classes: int) -> None:
        super().__init__()
        start = np.random.standard_normal((n_classes, n_in)).astype(np.float32) * random.uniform(0.1, 0.3)
        self.layer = nn.Linear(n_in, n_classes)
        self.layer.weight = nn.Parameter(torch.from_numpy(start))

    def forward(self, x: Tensor) -> Tensor:
        noise = torch.tensor(np.random.rand(*x.shape) < 0.9, dtype=x.dtype) * random.uniform(0.9, 1.1)
        out: Tensor = self.layer((x * noise).flatten(1))
        return out


class Unordered(nn.Module):
    """Calls an operation of which torch has no kernel that gives the same bits every time."""

    def __init__(self, n_in: int, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(n_in, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.layer(x.flatten(1) + torch.zeros(1).put_(torch.tensor([0]), torch.ones(1)))
        return out


def drawing(input_shape: Sequence[int], n_classes: int) -> nn.Module:
    return Drawing(int(np.prod(input_shape)), n_classes)


def unordered(input_shape: Sequence[int], n_classes: int) -> nn.Module:
    return Unordered(int(np.prod(input_shape)), n_classes)


# generators


def test_all_generators_begin_at_the_seed_and_go_on_as_if_nothing_had_been() -> None:
    with seeded(5, CPU):
        first = drawn()
    with seeded(5, CPU):
        assert drawn() == first
    with seeded(6, CPU):
        assert not set(drawn()) & set(first)
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    undisturbed = drawn()
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    with pytest.raises(KeyboardInterrupt), seeded(5, CPU):
        drawn()
        raise KeyboardInterrupt
    assert drawn() == undisturbed


def test_seeds_of_63_bits_are_taken() -> None:
    with seeded(2**63 - 1, CPU):
        first = drawn()
    with seeded(2**62, CPU):
        assert not set(drawn()) & set(first)


def test_states_are_those_of_every_generator() -> None:
    with seeded(0, CPU):
        states = random_states()
        first = drawn()
        set_random_states(states)
        assert drawn() == first


def test_jobs_side_by_side_have_generators_of_their_own() -> None:
    """Each draws what it draws alone, although the other draws in between."""

    def draws(seed: int, job: Job[str, Draws] | None) -> Draws:
        with seeded(seed, CPU):
            found = [drawn()]
            if job is not None:
                job.ask("go on?")
            return [*found, drawn()]

    alone = [draws(seed, None) for seed in (1, 2)]
    works = [partial(draws, seed) for seed in (1, 2)]
    together = in_lockstep(works, lambda jobs: dict.fromkeys(jobs))
    assert together == alone


def test_a_backbone_may_draw_from_any_of_them() -> None:
    """Its start, its training and its evaluation depend on the seed of the run alone; the generators outside stay."""
    results = []
    for outside in (1, 2):
        random.seed(outside), np.random.seed(outside), torch.manual_seed(outside)
        before = drawn()
        random.seed(outside), np.random.seed(outside), torch.manual_seed(outside)
        results.append(quick_run(FineTune(drawing), STREAM, seed=3))
        assert drawn() == before
    assert_same_numbers(*results)
    assert_same_tensors(tensors(results[0].learner), tensors(results[1].learner))
    other = quick_run(FineTune(drawing), STREAM, seed=4)
    assert any(not torch.equal(tensors(other.learner)[name], one) for name, one in tensors(results[0].learner).items())


def test_a_run_that_goes_on_leaves_them_as_they_were_and_ends_undisturbed(tmp_path: Path) -> None:
    class StoppedError(BaseException):
        pass

    def stop(updates: int) -> None:
        done.append(updates)
        if len(done) > TRAINING.epochs:  # in the second task
            raise StoppedError

    done: list[int] = []
    undisturbed = quick_run(FineTune(drawing), STREAM)
    with pytest.raises(StoppedError):
        quick_run(FineTune(drawing), STREAM, out=tmp_path, advance=stop)
    with seeded(1, CPU):
        before = drawn()
    with seeded(1, CPU):
        resumed = quick_run(FineTune(drawing), STREAM, out=tmp_path)
        assert drawn() == before
    assert_same_numbers(resumed, undisturbed)
    assert_same_tensors(tensors(resumed.learner), tensors(undisturbed.learner))


# kernels


def test_only_such_kernels_are_taken_within_the_block() -> None:
    def state() -> tuple[bool, bool, bool]:
        flags = torch.backends.cudnn
        return torch.are_deterministic_algorithms_enabled(), flags.benchmark, flags.deterministic

    before = state()
    with deterministic(MAYBE, CPU):
        assert state() == before
    with deterministic(ALWAYS, CPU):
        assert state() == (True, False, True)
        with deterministic(ALWAYS, CPU):
            assert state() == (True, False, True)
        assert state() == (True, False, True)
    with pytest.raises(KeyboardInterrupt), deterministic(ALWAYS, CPU):
        raise KeyboardInterrupt
    assert state() == before == (False, before[1], before[2])


def test_what_was_asked_for_outside_is_kept() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with deterministic(ALWAYS, CPU):
            assert not torch.is_deterministic_algorithms_warn_only_enabled()
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_an_operation_without_such_a_kernel_is_named() -> None:
    with pytest.raises(DeterminismError) as caught:
        quick_run(FineTune(unordered), STREAM, execution=ALWAYS)
    assert str(caught.value) == (
        "deterministic: required operations that give the same bits every time on cpu, found put_, for which torch has "
        "no such kernel there; use another operation in the backbone or the loss, or deterministic=False "
        "(--no-deterministic)."
    )
    assert issubclass(DeterminismError, PrognetError) and issubclass(DeterminismError, RuntimeError)
    assert not torch.are_deterministic_algorithms_enabled()
    assert quick_run(FineTune(unordered), STREAM).accuracy.shape == (2, 2)


def test_other_errors_come_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="^of another kind$"), deterministic(ALWAYS, CPU):
        raise RuntimeError("of another kind")


def test_seeds_that_are_trained_together_take_such_kernels_too() -> None:
    seen = set()

    class Noting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            seen.add((self.training, torch.are_deterministic_algorithms_enabled()))
            return super().forward(x.flatten(1))

    settings = replace(make_session(), execution=Execution(deterministic=True, stack=2))
    strategy = Independent(lambda input_shape, n_classes: Noting(int(np.prod(input_shape)), n_classes))
    results = run_together(strategy, [STREAM, STREAM], settings, (0, 1), 1, None)
    assert all(isinstance(result, RunResult) for result in results)
    assert seen == {(True, True), (False, True)}
    assert not torch.are_deterministic_algorithms_enabled()


def test_threads_that_add_into_one_tensor_do_it_in_one_order() -> None:
    """Without the setting eight of eight differ where the cores are free: torch adds gradients of rows atomically."""
    chosen = torch.randint(0, 50, (200_000,), generator=torch.Generator().manual_seed(0))
    x = torch.randn(200_000, 8, generator=torch.Generator().manual_seed(1))
    threads = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with deterministic(ALWAYS, CPU):
            found = set()
            for _ in range(6):
                w = torch.zeros(50, 8, requires_grad=True)
                (w[chosen] * x).sum().backward()  # type: ignore[no-untyped-call]
                assert w.grad is not None
                found.add(tuple(w.grad.flatten().tolist()))
    finally:
        torch.set_num_threads(threads)
    assert len(found) == 1


def test_one_thread_on_the_cpu_gives_the_same_bits_with_and_without() -> None:
    training = Training(epochs=2, batch_size=16, lr=0.01)
    runs = [quick_run(FineTune(drawing), STREAM, training=training, execution=one) for one in (ALWAYS, MAYBE)]
    assert_same_tensors(tensors(runs[0].learner), tensors(runs[1].learner))
    assert [run.config["execution"]["deterministic"] for run in runs] == [True, False]


# what CUDA has to know before it starts


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """A machine with CUDA that has not been started, as far as is asked."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", "")
    del os.environ["CUBLAS_WORKSPACE_CONFIG"]
    return monkeypatch


def test_it_is_set_before_cuda_starts(cuda: pytest.MonkeyPatch) -> None:
    resolve_device("auto")
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
    assert resolve_device("auto", is_deterministic=True) == torch.device("cuda", 0)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"
    cuda.setattr(torch.cuda, "is_initialized", lambda: True)
    with deterministic(ALWAYS, torch.device("cuda")):
        assert torch.are_deterministic_algorithms_enabled()


def test_a_worker_that_was_started_without_it_sets_it_too(cuda: pytest.MonkeyPatch) -> None:
    with deterministic(ALWAYS, torch.device("cuda")):
        assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":4096:8"


@pytest.mark.parametrize(("found", "said"), [(None, "CUDA started without it"), (":0:0", "':0:0'")])
def test_when_it_is_too_late_the_remedy_is_told(cuda: pytest.MonkeyPatch, found: str | None, said: str) -> None:
    if found is None:
        cuda.setattr(torch.cuda, "is_initialized", lambda: True)
    else:
        cuda.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", found)
    with pytest.raises(ConfigError) as caught:
        resolve_device("cuda", is_deterministic=True)
    assert str(caught.value) == (
        "deterministic: required CUBLAS_WORKSPACE_CONFIG=:4096:8 (or :16:8) before CUDA is started, found "
        f"{said}; set it in the environment of the program, or ask for the first run before anything is put on the GPU."
    )


def test_what_the_user_has_set_is_left(cuda: pytest.MonkeyPatch) -> None:
    cuda.setitem(os.environ, "CUBLAS_WORKSPACE_CONFIG", ":16:8")
    cuda.setattr(torch.cuda, "is_initialized", lambda: True)
    resolve_device("auto", is_deterministic=True)
    assert os.environ["CUBLAS_WORKSPACE_CONFIG"] == ":16:8"


def test_it_is_true_or_false() -> None:
    with pytest.raises(ConfigError, match="^deterministic: required True or False, found 1.$"):
        Execution(deterministic=1)  # type: ignore[arg-type]
    assert not Execution().deterministic


def test_the_cpu_needs_none_of_it(cuda: pytest.MonkeyPatch) -> None:
    assert resolve_device("cpu", is_deterministic=True) == CPU
    assert "CUBLAS_WORKSPACE_CONFIG" not in os.environ
