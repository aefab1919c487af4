"""Which engine carries out a comparison."""

import torch

from prognet.config import Workers
from prognet.errors import ConfigError
from prognet.evaluation.engines.cluster import Cluster
from prognet.evaluation.engines.engine import Engine, InTurn
from prognet.evaluation.engines.processes import Processes
from prognet.evaluation.environment import resolve_device, resolve_threads
from prognet.evaluation.ranks import joined


def engine_for(workers: Workers, device: str) -> Engine:
    """The engine that was asked for.

    Args:
        workers: what was asked for.
        device: where to train, as it was asked for; `"auto"` and `"cuda"` are all GPUs of the machine.

    Raises:
        ConfigError: when there is no such device, or the library of the engine is missing.
    """
    if workers.engine == "ray":
        return Cluster(workers)
    if workers.jobs == 1:
        return InTurn()
    target = resolve_device(device)
    if target.type == "cuda" and device in ("auto", "cuda"):
        return Processes(workers.jobs, [torch.device("cuda", index) for index in range(torch.cuda.device_count())])
    return Processes(workers.jobs, [target])


def device_for(workers: Workers, device: str, is_deterministic: bool = False) -> torch.device:
    """Where runs are trained: a device of this machine, or with Ray one that each worker finds on its own.

    There the choice depends on nothing but what was asked for, so that all runs have the same kind of device.

    Args:
        workers: what carries out the runs.
        device: where to train, as it was asked for.
        is_deterministic: whether it is to compute the same bits every time.

    Raises:
        ConfigError: when there is no such device, or Ray sets none aside.
    """
    if workers.engine != "ray":
        return joined(device, is_deterministic)
    wants_gpus = workers.gpus_per_run > 0
    if device == "auto":
        return torch.device("cuda" if wants_gpus else "cpu")
    if device.startswith("cuda:"):
        raise ConfigError(
            f"device: required 'cuda' with engine='ray', which chooses a GPU for every run, found {device!r}."
        )
    if wants_gpus != (device == "cuda"):
        required = "0 with a device that is no GPU" if wants_gpus else "above 0 with device='cuda' and engine='ray'"
        raise ConfigError(
            f"gpus_per_run: required {required}, found {workers.gpus_per_run:g} with device={device!r}; 1 sets a GPU "
            "aside for every run, 0.25 lets four share one."
        )
    return torch.device("cuda") if wants_gpus else resolve_device(device)


def trial_device_for(workers: Workers, device: torch.device) -> torch.device:
    """Where this process tries what a comparison builds: with Ray it may lack the device of the runs."""
    return torch.device("cpu") if workers.engine == "ray" else device


def threads_for(workers: Workers, threads: int | None) -> int:
    """The CPU threads of a run: what is asked for, or the cores that are its own.

    Those are torch's own choice, which several jobs share, or with Ray what is set aside for a run.

    Raises:
        ConfigError: when it is not a number of threads.
    """
    if threads is not None:
        return resolve_threads(threads)
    if workers.engine == "ray":
        return max(1, int(workers.cpus_per_run))
    return max(1, torch.get_num_threads() // workers.jobs)
