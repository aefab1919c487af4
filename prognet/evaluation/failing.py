"""Errors of a run: one that fails leaves the others, and says what can be done about it.

Whatever other code raises while a run of a comparison is computed becomes a failure of that run: a backbone, a strategy
or an objective of somebody's own may raise anything. A disk that is full ends everything, as do Ctrl-C and the end of
the process.
"""

import gc
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import torch

from prognet.errors import DivergedError, MemoryExhaustedError, PrognetError, RunError, UnwritableError
from prognet.evaluation.store import ERROR_FILE
from prognet.files import write_atomically
from prognet.results import RunResult
from prognet.training import Session
from prognet.training.memory import is_out_of_memory
from prognet.training.ranks import current_ranks


def attempt(work: Callable[[], RunResult], folder: Path | None, session: Session) -> RunResult | PrognetError:
    """Carries out a run of a comparison.

    Args:
        work: the run.
        folder: its own folder, if it has one.
        session: its settings.

    Returns:
        Its result, or the error that ended it.

    Raises:
        UnwritableError: when a disk is full: no further run can be kept.
    """
    try:
        return work()
    except UnwritableError:
        raise
    except Exception as error:
        if not (current_ranks(session.device).is_alone or isinstance(error, DivergedError)):
            raise  # the other processes that share the run may know nothing of it
        failure = as_failure(error, folder, session)
    if isinstance(failure, MemoryExhaustedError):
        _free_memory()
    return failure


def as_failure(error: Exception, folder: Path | None, session: Session) -> PrognetError:
    """The error of a run as a `PrognetError` that can be sent to another process; the tensors of its frames are let go.

    Args:
        error: what was raised. One that is no `PrognetError`, and does not speak of memory, is written with its whole
            traceback into `error.txt`.
        folder: the run's own folder, if it has one.
        session: the settings of the run.
    """
    if isinstance(error, PrognetError):
        failure = error
    elif is_out_of_memory(error):
        failure = memory_exhausted(error, session)
    else:
        failure = RunError(f"{_named(error)}; {_written(error, folder)}")
    _let_go(error)
    return failure


@contextmanager
def explaining_memory(session: Session) -> Iterator[None]:
    """Within the block an error that says that memory is exhausted becomes one that says what to reduce.

    Raises:
        MemoryExhaustedError: from the error that it explains.
    """
    try:
        yield
    except PrognetError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise memory_exhausted(error, session) from error
        raise


def memory_exhausted(error: Exception, session: Session) -> MemoryExhaustedError:
    """The error that says what to reduce, with the present values.

    Args:
        error: what torch, numpy or Python said.
        session: the settings of the run.
    """
    training, measurement, execution = session.training, session.measurement, session.execution
    ways = [f"Training.batch_size ({training.batch_size})"]
    if execution.stack > 1:
        ways.insert(0, f"Execution.stack ({execution.stack}, seeds that are trained together)")
    ways.append(f"Measurement.evaluation_batch_size ({measurement.evaluation_batch_size})")
    ways.append(f"Execution.feature_memory ({execution.feature_memory} MiB)")
    if session.device.type != "cpu":
        ways.append(f"Execution.data_memory ({execution.data_memory} MiB)")
    precision = "" if execution.precision == "bfloat16" else "; or set Execution.precision to 'bfloat16'"
    return MemoryExhaustedError(
        f"memory: required more than there is on {str(session.device)!r}, found {_named(error)}; reduce "
        f"{', '.join(ways)}{precision}."
    )


@contextmanager
def locating_divergence(step: int, steps: int, folder: Path | None) -> Iterator[None]:
    """Within the block a training that diverges says in which step it was, and where the state before that is.

    Args:
        step: step of the schedule, from 0.
        steps: all steps of the schedule.
        folder: the run's own folder, if it has one.

    Raises:
        DivergedError: as it was raised, with that added.
    """
    try:
        yield
    except DivergedError as error:
        if folder is None:
            kept = "nothing is kept, since the run has no folder"
        elif step == 0:
            kept = "no step before it was finished"
        else:
            kept = f"the state after step {step - 1} is kept in {folder}"
        raise DivergedError(f"{error} Step {step} of {steps}, counted from 0, was broken off; {kept}.") from error


def _named(error: Exception) -> str:
    """The type and the message of an error, in one line."""
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0]}" if text else type(error).__name__


def _written(error: Exception, folder: Path | None) -> str:
    """Where the whole traceback is, in words."""
    if folder is not None:
        path = folder / ERROR_FILE
        with suppress(UnwritableError):
            write_atomically(path, "".join(traceback.format_exception(error)).encode(errors="replace"))
            return f"the traceback is in {path}."
    return "the traceback could not be kept: carry out this run by itself to see it."


def _let_go(error: BaseException) -> None:
    """Drops what the frames of an error hold, and of those before it: the tensors of a run that is over."""
    seen: set[int] = set()
    current: BaseException | None = error
    while current is not None and id(current) not in seen:
        seen.add(id(current))
        traceback.clear_frames(current.__traceback__)
        current = current.__cause__ or current.__context__


def _free_memory() -> None:
    """Gives back what torch keeps of a device's memory, so that the next run has room."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
