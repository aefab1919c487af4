"""The loss of a batch, compiled by torch.compile where that is asked for: fewer, larger kernels for an update.

One training is compiled by itself and forgotten with it: torch keeps what it compiled with the code of a function, so
that every training gets a code of its own. What was compiled for earlier tasks then neither counts against torch's
limits nor decides what is compiled for this one, and a run that goes on after a kill gets the same bits. For the same
reason torch's cache of whole graphs is not used, which may hold one that was made for another batch size, and nothing
is chosen by measuring time. Sources that were compiled before are found on disk as ever.
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FunctionType
from typing import Any

import torch
from torch import Tensor

from prognet.config import Execution
from prognet.errors import CompileError, CompileWarning, ConfigError
from prognet.training.batches import Batch

Loss = Callable[[Batch, int], Tensor]
"""A batch and the number of its samples -> the loss, ()."""

GRAPHS = 16
"""Versions of one training at most: for batches of one sample, for tasks that a batch lacks, for what is unfrozen."""


def check_compiling(execution: Execution, device: torch.device) -> None:
    """Refuses to compile where that cannot be done, before any work; it compiles a line of code to know.

    Raises:
        ConfigError: when CUDA graphs are asked for elsewhere, or when there is no compiler that torch can use.
    """
    if execution.compile == "none":
        return
    if execution.compile == "graphs" and device.type != "cuda":
        raise ConfigError(
            f"compile: required CUDA for 'graphs', found the device {device.type!r}; use 'default', or 'none'."
        )
    from torch._dynamo.exc import BackendCompilerFailed  # importing it takes seconds

    try:
        with _quiet():
            _fresh(_line, execution)(torch.ones(8, device=device))
    except (BackendCompilerFailed, RuntimeError, OSError) as error:
        raise ConfigError(
            f"compile: required a compiler that torch can use for {device.type!r}, found {_first_line(error)!r}; "
            "install one (for the CPU g++ or clang, for CUDA gcc and Triton), or use 'none'."
        ) from error


def compiled(loss: Loss, execution: Execution) -> Callable[[Batch], Tensor] | None:
    """A function with the values of `loss`, to rounding, that is compiled when it is first called.

    The numbers of samples are kept open, so that a batch of another size needs no other version. When more versions
    than `GRAPHS` would be needed it warns, and goes on with those there are and with `loss` itself.

    Args:
        loss: the loss of a batch and the number of its samples.
        execution: whether and how.

    Returns:
        The function; None where nothing is to be compiled.
    """
    if execution.compile == "none":
        return None
    from torch._dynamo import maybe_mark_dynamic
    from torch._dynamo.exc import BackendCompilerFailed, FailOnRecompileLimitHit, TorchDynamoException

    graphs = execution.compile == "graphs"
    fast = _fresh(lambda batch: loss(batch, sum(len(part.y) for part in batch.values())), execution)

    def call(batch: Batch) -> Tensor:
        for part in batch.values():
            for tensor in (part.x, part.y, *(part.past.tensors if part.past is not None else ())):
                maybe_mark_dynamic(tensor, 0)
        if graphs:
            torch.compiler.cudagraph_mark_step_begin()  # type: ignore[no-untyped-call]
        try:
            with _quiet():
                out: Tensor = fast(batch)
        except FailOnRecompileLimitHit:
            warnings.warn(
                f"compile: required at most {GRAPHS} versions of an update, found more; the others are computed as "
                "with 'none'.",
                CompileWarning,
                stacklevel=2,
            )
            return loss(batch, sum(len(part.y) for part in batch.values()))
        except (BackendCompilerFailed, TorchDynamoException) as error:
            raise CompileError(
                f"compile: required a forward pass and a loss that torch can capture as one graph, found "
                f"{_first_line(error)!r}; use 'none', or empty torch's folder of compiled files if one is broken."
            ) from error
        return out.clone() if graphs else out  # the next replay writes over it

    return call


def _line(x: Tensor) -> Tensor:
    return torch.relu(x + 1).sum()


def _fresh(function: Callable[..., Tensor], execution: Execution) -> Callable[..., Tensor]:
    """The function, compiled, with a code of its own."""
    assert isinstance(function, FunctionType)
    copy = FunctionType(function.__code__.replace(), function.__globals__, closure=function.__closure__)
    options: dict[str, Any] = {"fx_graph_cache": False, "deterministic": True}
    if execution.compile == "graphs":
        options["triton.cudagraphs"] = True
    fast: Callable[..., Tensor] = torch.compile(  # type: ignore[call-overload]  # its overloads lack the limit
        copy, fullgraph=True, dynamic=False, recompile_limit=GRAPHS, options=options
    )
    return fast


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block torch's hint that products could be less exact is no warning."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="TensorFloat32 tensor cores")
        yield


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
