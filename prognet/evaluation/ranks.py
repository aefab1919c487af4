"""A run that several processes share, as torchrun starts them: how they meet, and what the first one does for all.

Every process carries out the same run. Batches are shared, see `prognet.training.distributed`; all else is computed in
each of them alike and compared after every step. Files are read and written by the first process, which tells the
others what it read, so that they need no folder in common.
"""

import atexit
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

from prognet.config import Workers
from prognet.engine.column import Column
from prognet.engine.digest import fingerprints, tensors_of
from prognet.errors import ConfigError
from prognet.evaluation.checks import schedule_of
from prognet.evaluation.environment import resolve_device
from prognet.evaluation.observer import Observer, Silence
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.store import RunStore
from prognet.results import RunResult, result_from_json, result_to_json, to_json
from prognet.strategies import Strategy
from prognet.streams.stream import Stream
from prognet.training import Session
from prognet.training.distributed import DistributedRun
from prognet.training.ranks import Ranks, current_ranks
from prognet.training.session import ignore_files, ignore_progress

_LONGEST_WAIT = timedelta(hours=2)
"""For the first process, while it computes the proofs of a step and writes files."""
_TRIED_TASKS = 2
_VARIABLES = ("RANK", "MASTER_ADDR", "MASTER_PORT")


def joined(device: str, is_deterministic: bool = False) -> torch.device:
    """The device of this process, which has met the others that torchrun has started, if it has; they part at exit.

    Args:
        device: as it was asked for; `"auto"` and `"cuda"` are a GPU of its own for each process of a machine.
        is_deterministic: whether it is to compute the same bits every time, which CUDA has to know before it starts.

    Raises:
        ConfigError: when there is no such device, when it cannot be shared by processes, or when there are said to be
            several processes and not where they meet.
    """
    count = max(_count_asked_for(), current_ranks(torch.device("cpu")).count)
    if count == 1:
        return resolve_device(device, is_deterministic)
    if device in ("auto", "cuda") and torch.cuda.device_count() > 1 and "LOCAL_RANK" in os.environ:
        _take_own_gpu(int(os.environ["LOCAL_RANK"]), torch.cuda.device_count())
    target = resolve_device(device, is_deterministic)
    if target.type not in ("cpu", "cuda"):
        raise ConfigError(f"device: required 'cpu' or 'cuda' with {count} processes, found {str(target)!r}.")
    if not dist.is_initialized():
        backend = "cpu:gloo,cuda:nccl" if target.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=_LONGEST_WAIT)
        atexit.register(_part)
    return target


def _take_own_gpu(place: int, gpus: int) -> None:
    if place >= gpus:
        raise ConfigError(
            f"device: required a GPU for each process of a machine, found {gpus} for process {place}, counted from 0; "
            "start fewer processes, or use device='cpu'."
        )
    torch.cuda.set_device(place)


def _count_asked_for() -> int:
    """The number of processes that torchrun has started; 1 without it."""
    said = os.environ.get("WORLD_SIZE", "1")
    if not said.isdecimal() or said == "1":
        return 1
    missing = [name for name in _VARIABLES if name not in os.environ]
    if missing and not dist.is_initialized():
        raise ConfigError(
            f"WORLD_SIZE: required the variables of torchrun beside it, found {said} without {', '.join(missing)}; "
            "start with torchrun, or without WORLD_SIZE."
        )
    return int(said)


def _part() -> None:
    if dist.is_initialized():
        dist.destroy_process_group()


def shared(strategy: Strategy, stream: Stream, settings: Session) -> tuple[Session, Ranks]:
    """The settings of a run in this process, and the processes that share it.

    Where there are several, they share its batches, compare what they come to, and the first alone tells of progress.

    Raises:
        ConfigError: when they cannot share it.
    """
    ranks = current_ranks(settings.device)
    if ranks.is_alone:
        return settings, ranks
    several = f"with {ranks.count} processes"
    if not strategy.shareable:
        raise ConfigError(
            f"strategy: required one {several} that is trained by prognet's own loop, found {strategy.name!r}; use one "
            "process."
        )
    for name, idle in (("compile", "none"), ("stack", 1)):
        if (found := getattr(settings.execution, name)) != idle:
            raise ConfigError(f"{name}: required {idle!r} {several}, found {found!r}.")
    told = (settings.advance, settings.kept) if ranks.is_first else (ignore_progress, ignore_files)
    settings = replace(settings, make_run=DistributedRun, agree=_agreement(ranks), advance=told[0], kept=told[1])
    tasks = stream[:_TRIED_TASKS]
    groups = tuple(group for group in schedule_of(strategy, stream) if max(group) < len(tasks))
    # every training looks whether it can be shared
    rebuild(strategy, tasks, groups or (tuple(range(len(tasks))),), settings)
    return settings, ranks


def _agreement(ranks: Ranks) -> Callable[[nn.Module, Any], None]:
    def agree(learner: nn.Module, said: Any) -> None:
        numbers = {f"tensor {name}": found for name, found in fingerprints(learner).items()}
        ranks.agree("what was learned", {**numbers, "measurements and choices": json.dumps(to_json(said))})

    return agree


def silent_but_first(observer: Observer, ranks: Ranks) -> Observer:
    """The observer in the first process, silence in the others."""
    return observer if ranks.is_first else Silence()


def check_workers(workers: Workers, ranks: Ranks) -> None:
    """Refuses to send runs to other processes where several share every run.

    Raises:
        ConfigError: when they are to be sent.
    """
    if not ranks.is_alone and workers != Workers():
        raise ConfigError(
            f"workers: required jobs=1 and no cluster with {ranks.count} processes, which share every run, found "
            f"{workers}; start many runs at once without torchrun, or share each without jobs."
        )


def check_same_request(config: Mapping[str, Any], threads: int, ranks: Ranks) -> None:
    """Checks that all processes were asked for the same.

    Raises:
        DisagreementError: when one of them was asked for another run.
    """
    asked = {name: json.dumps(value) for name, value in config.items()}
    ranks.agree("a run", {**asked, "threads": str(threads)})


@contextmanager
def held_by_first(lock: Callable[[], AbstractContextManager[None]], ranks: Ranks) -> Iterator[None]:
    """Within the block the first process holds a lock.

    Raises:
        PrognetError: in every process, when it cannot be had.
    """

    def enter() -> None:
        held.enter_context(lock())

    with ExitStack() as held:
        ranks.first_does(enter)
        yield


def store_for(store: RunStore | None, ranks: Ranks) -> RunStore | None:
    """The folder of a run, as a process sees it that shares the run with others."""
    return store if store is None or ranks.is_alone else SharedStore(store.folder, ranks)


@dataclass(frozen=True)
class SharedStore(RunStore):
    """One run's folder, which the first process reads and writes for all; an error of its is raised in each."""

    ranks: Ranks

    def finished(self) -> RunResult | None:
        return self._read_by_first(RunStore.finished)

    def progress(self) -> RunResult | None:
        return self._read_by_first(RunStore.progress)

    def keep(self, learner: Strategy, gates: nn.Module, result: RunResult) -> RunResult:
        return result_from_json(self.ranks.first_does(lambda: result_to_json(self._own.keep(learner, gates, result))))

    def commit(self, result: RunResult) -> None:
        self.ranks.first_does(lambda: self._own.commit(result))

    @property
    def is_over(self) -> bool:
        return bool(self.ranks.first_does(lambda: self._own.is_over))

    def tidy(self, result: RunResult) -> None:
        self.ranks.first_does(lambda: self._own.tidy(result))

    def finish(self, result: RunResult) -> None:
        self.ranks.first_does(lambda: self._own.finish(result))

    def load_weights(self, learner: Strategy, result: RunResult) -> None:
        self.ranks.first_does(lambda: self._own.load_weights(learner, result))
        self._hand_on(learner)

    def load_gates(self, gates: nn.Module, result: RunResult) -> None:
        self.ranks.first_does(lambda: self._own.load_gates(gates, result))
        self._hand_on(gates)

    @property
    def _own(self) -> RunStore:
        """The folder as a process by itself sees it."""
        return RunStore(self.folder)

    def _hand_on(self, module: nn.Module) -> None:
        """Fills a module with the tensors that it has in the first process, frozen columns for good."""
        self.ranks.from_first([tensor for _, tensor in tensors_of(module)])
        for part in module.modules():
            if isinstance(part, Column) and part.frozen:
                part.seal()

    def _read_by_first(self, read: Callable[[RunStore], RunResult | None]) -> RunResult | None:
        def document() -> Any:
            found = read(self._own)
            return None if found is None else result_to_json(found)

        said = self.ranks.first_does(document)
        return None if said is None else result_from_json(said)
