import errno
import gc
import pickle
import weakref
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from prognet.config import Execution, Measurement, Training
from prognet.errors import DivergedError, MemoryExhaustedError, PrognetError, RunError, UnwritableError
from prognet.evaluation import grid
from prognet.evaluation.failing import as_failure, attempt, explaining_memory, memory_exhausted
from prognet.evaluation.replication import run_together
from prognet.evaluation.store import ERROR_FILE, RunStore
from prognet.manifest import read_manifest
from prognet.results import RunResult
from prognet.strategies import FineTune, Independent
from prognet.streams.task import Task
from prognet.training import stacking, together
from prognet.training.memory import is_out_of_memory
from tests.helpers.runs import MEASUREMENT, PLAIN, TRAINING, assert_same_numbers, make_session, quick_run
from tests.helpers.streams import make_stream

STREAM = make_stream((2, 2))
HUGE = 2**60
"""Numbers that no machine has room for."""


class Stubborn(Independent):
    """Raises what it was given in the second task, with the seeds that it was given."""

    def __init__(self, error: BaseException | None, seeds: Sequence[int] = (0,)) -> None:
        super().__init__(PLAIN, name="stubborn")
        self.error, self.seeds = error, tuple(seeds)

    def learn(self, tasks: Sequence[Task]) -> None:
        session = self.current_session()
        if tasks[0].label == 1 and session.seed in self.seeds and session.training.epochs and self.error is not None:
            raise self.error
        super().learn(tasks)


class Greedy(Independent):
    """Wants more memory than there is."""

    def learn(self, tasks: Sequence[Task]) -> None:
        if self.current_session().training.epochs:
            torch.empty(HUGE)
        super().learn(tasks)


def compare(out: Path, strategies: Sequence[Any], seeds: Sequence[int] = (0, 1), **changes: Any) -> Any:
    arguments = {"training": TRAINING, "measurement": MEASUREMENT, "device": "cpu", **changes}
    return grid(strategies, lambda order: STREAM, out=out, seeds=seeds, **arguments)


def folder_of(out: Path, seed: int, strategy: str = "stubborn") -> Path:
    return RunStore.of(out, strategy, 0, seed).folder


def stacked(strategy: Any, out: Path | None = None, seeds: Sequence[int] = (0, 1, 2)) -> list[Any]:
    session = replace(make_session(), execution=Execution(stack=len(seeds)))
    return list(run_together(strategy, [STREAM] * len(seeds), session, seeds, 1, out))


def memory_message() -> str:
    """What torch says of the CPU's memory."""
    with pytest.raises(RuntimeError) as caught:
        torch.empty(HUGE)
    return str(caught.value).splitlines()[0]


def test_an_error_of_other_code_ends_its_run_and_no_other(tmp_path: Path) -> None:
    outcome = compare(tmp_path, [Stubborn(KeyError("no such\nlayer")), FineTune(PLAIN)])
    ended = sorted((result.strategy, result.seed) for result in outcome.results)
    assert ended == [("finetune", 0), ("finetune", 1), ("stubborn", 1)]
    path = folder_of(tmp_path, 0) / ERROR_FILE
    message = f"RunError: KeyError: 'no such\\nlayer'; the traceback is in {path}."
    assert outcome.failed == {"stubborn, order 0, seed 0": message}
    assert read_manifest(tmp_path).failed == outcome.failed
    written = path.read_text()
    assert written.startswith("Traceback (most recent call last):")
    assert "in learn\n    raise self.error" in written
    assert written.endswith("KeyError: 'no such\\nlayer'\n")


def test_only_the_first_line_of_an_error_is_shown(tmp_path: Path) -> None:
    outcome = compare(tmp_path, [Stubborn(ValueError("first\nsecond")), FineTune(PLAIN)], seeds=(0,))
    (message,) = outcome.failed.values()
    assert message.startswith("RunError: ValueError: first; the traceback is in ")
    assert "second" in (folder_of(tmp_path, 0) / ERROR_FILE).read_text()


def test_the_traceback_goes_when_the_run_succeeds(tmp_path: Path) -> None:
    compare(tmp_path, [Stubborn(ValueError("once"))], seeds=(0,))
    assert (folder_of(tmp_path, 0) / ERROR_FILE).exists()
    outcome = compare(tmp_path, [Stubborn(None)], seeds=(0,))
    assert outcome.failed == {}
    assert not (folder_of(tmp_path, 0) / ERROR_FILE).exists()
    assert_same_numbers(outcome.results[0], quick_run(Stubborn(None), STREAM))


def test_a_library_call_raises_what_was_raised(tmp_path: Path) -> None:
    with pytest.raises(KeyError) as caught:
        quick_run(Stubborn(KeyError("mine")), STREAM, out=tmp_path)
    assert caught.value.args == ("mine",)
    assert caught.traceback[-1].name == "learn"
    assert not list(tmp_path.rglob(ERROR_FILE))
    assert quick_run(Stubborn(None), STREAM, out=tmp_path).schedule == ((0,), (1,))


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(3)], ids=["Ctrl-C", "exit"])
@pytest.mark.parametrize("stack", [1, 2])
def test_the_end_of_the_program_is_no_failure_of_a_run(error: BaseException, stack: int, tmp_path: Path) -> None:
    with pytest.raises(type(error)) as caught:
        compare(tmp_path, [Stubborn(error)], execution=Execution(stack=stack))
    assert caught.value.args == error.args
    assert read_manifest(tmp_path).failed == {}
    assert not list(tmp_path.rglob("*.lock"))


def test_one_of_a_stack_that_fails_leaves_the_others(tmp_path: Path) -> None:
    first, second, third = stacked(Stubborn(ValueError("odd"), seeds=(1,)), tmp_path)
    assert isinstance(first, RunResult)
    assert isinstance(third, RunResult)
    assert isinstance(second, RunError)
    assert str(second) == f"ValueError: odd; the traceback is in {folder_of(tmp_path, 1) / ERROR_FILE}."
    progress = RunStore(folder_of(tmp_path, 1)).progress()
    assert progress is not None
    assert progress.schedule == ((0,),)
    assert [isinstance(one, RunResult) for one in stacked(Stubborn(None, seeds=(1,)), tmp_path)] == [True] * 3


def test_an_error_of_the_training_together_belongs_to_all(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(stack: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB.\nMore text.")

    monkeypatch.setattr(stacking.Stack, "train", fail)
    found = stacked(FineTune(PLAIN))
    assert [type(one) for one in found] == [MemoryExhaustedError] * 3
    assert str(found[1]) == (
        "memory: required more than there is on 'cpu', found OutOfMemoryError: CUDA out of memory. Tried to allocate 2 "
        "GiB.; reduce Execution.stack (3, seeds that are trained together), Training.batch_size (16), "
        "Measurement.evaluation_batch_size (16), Execution.feature_memory (1024 MiB); or set Execution.precision to "
        "'bfloat16'."
    )


def test_memory_that_is_exhausted_in_the_rehearsal_does_not_change_how_it_is_computed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(rehearsal: Any) -> None:
        torch.empty(HUGE)

    monkeypatch.setattr(together._Rehearsal, "_together", fail)
    assert [type(one) for one in stacked(FineTune(PLAIN))] == [MemoryExhaustedError] * 3


def test_exhausted_memory_says_what_to_reduce(tmp_path: Path) -> None:
    outcome = compare(tmp_path, [Greedy(PLAIN), FineTune(PLAIN)], seeds=(0,), execution=Execution(feature_memory=7))
    assert [result.strategy for result in outcome.results] == ["finetune"]
    assert outcome.failed == {
        "independent, order 0, seed 0": (
            f"MemoryExhaustedError: memory: required more than there is on 'cpu', found RuntimeError: "
            f"{memory_message()}; reduce Training.batch_size (16), Measurement.evaluation_batch_size (16), "
            "Execution.feature_memory (7 MiB); or set Execution.precision to 'bfloat16'."
        )
    }
    assert not list(tmp_path.rglob(ERROR_FILE))


def test_a_library_call_says_what_to_reduce_too_and_shows_where_it_came_from() -> None:
    with pytest.raises(MemoryError) as caught:
        quick_run(Greedy(PLAIN), STREAM)
    assert isinstance(caught.value, MemoryExhaustedError)
    assert "reduce Training.batch_size (16)" in str(caught.value)
    assert isinstance(caught.value.__cause__, RuntimeError)
    assert str(caught.value.__cause__).splitlines()[0] == memory_message()


def test_a_device_has_room_for_samples_to_reduce() -> None:
    session = replace(
        make_session(Training(batch_size=3), Measurement(evaluation_batch_size=5)),
        device=torch.device("cuda:1"),
        execution=Execution(precision="bfloat16", data_memory=11, feature_memory=13),
    )
    assert str(memory_exhausted(MemoryError(), session)) == (
        "memory: required more than there is on 'cuda:1', found MemoryError; reduce Training.batch_size (3), "
        "Measurement.evaluation_batch_size (5), Execution.feature_memory (13 MiB), Execution.data_memory (11 MiB)."
    )


@pytest.mark.parametrize(
    ("error", "is_memory"),
    [
        (MemoryError(), True),
        (torch.OutOfMemoryError("anything"), True),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:1] DefaultCPUAllocator: can't allocate memory: 4 bytes"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 4 bytes."), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("cuDNN error: CUDNN_STATUS_ALLOC_FAILED"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (3x2 and 3x2)"), False),
        (ValueError("out of memory"), False),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), False),
    ],
)
def test_which_errors_speak_of_memory(error: Exception, is_memory: bool) -> None:
    assert is_out_of_memory(error) is is_memory


def test_the_allocator_of_this_machine_speaks_of_memory() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(HUGE)
    assert is_out_of_memory(caught.value)


def raising(error: Callable[[], Exception], held: list[Any]) -> Any:
    """Work that holds a tensor when it fails."""

    def work() -> Any:
        tensor = torch.ones(3)
        held.append(weakref.ref(tensor))
        raise error()

    return work


def chained() -> Exception:
    error = RunError("second")
    error.__cause__ = ValueError("first")
    return error


@pytest.mark.parametrize("error", [lambda: ValueError("x"), lambda: DivergedError("x"), MemoryError, chained])
def test_the_tensors_of_a_run_that_failed_are_let_go(error: Callable[[], Exception], tmp_path: Path) -> None:
    held: list[Any] = []
    failure = attempt(raising(error, held), tmp_path, make_session())
    gc.collect()
    assert isinstance(failure, PrognetError)
    assert [reference() for reference in held] == [None]


def test_the_cache_of_the_device_is_emptied_after_its_memory_was_exhausted_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    emptied: list[bool] = []
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "empty_cache", lambda: emptied.append(held[0]() is None))
    held: list[Any] = []
    attempt(raising(lambda: ValueError("x"), held), None, make_session())
    assert emptied == []
    held.clear()
    attempt(raising(MemoryError, held), None, make_session())
    assert emptied == [True]  # and by then nothing holds the tensors


def test_a_full_disk_is_no_failure_of_one_run(tmp_path: Path) -> None:
    error = UnwritableError("disk: required room, found none.")
    with pytest.raises(UnwritableError) as caught:
        attempt(raising(lambda: error, []), tmp_path, make_session())
    assert caught.value is error


def test_a_traceback_that_cannot_be_kept_is_no_error_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for folder in (None, tmp_path / "file" / "run"):
        assert str(as_failure(ValueError(), folder, make_session())) == (
            "ValueError; the traceback could not be kept: carry out this run by itself to see it."
        )


def test_an_error_of_prognet_stays_what_it_is(tmp_path: Path) -> None:
    error = DivergedError("lr: required another.")
    assert as_failure(error, tmp_path, make_session()) is error
    assert list(tmp_path.iterdir()) == []


def test_a_failure_can_be_sent_to_another_process(tmp_path: Path) -> None:
    class OddError(Exception):
        """Cannot be made without its second argument, so it cannot be read back."""

        def __init__(self, first: str, second: Tensor) -> None:
            super().__init__(first)

    for error in (OddError("first", torch.ones(1)), MemoryError("memory")):
        failure = as_failure(error, tmp_path, make_session())
        copy = pickle.loads(pickle.dumps(failure))
        assert (type(copy), str(copy)) == (type(failure), str(failure))


def test_what_does_not_speak_of_memory_comes_as_it_was_raised() -> None:
    for error in (ValueError("x"), DivergedError("x"), MemoryExhaustedError("x"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, explaining_memory(make_session()):
            raise error
        assert caught.value is error
