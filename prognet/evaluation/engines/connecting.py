"""The way into a Ray cluster: one that runs already, or one of this machine that ends with the comparison."""

import logging
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from types import MappingProxyType
from typing import Any, final

from prognet.config import Workers
from prognet.errors import ClusterWarning, ConfigError, WorkerLostError

_LOOK_EVERY, _PATIENCE = 2.0, 600.0  # seconds
_SILENCE = MappingProxyType({"RAY_USAGE_STATS_ENABLED": "0", "RAY_DEDUP_LOGS_SKIP_REGEX": "."})
"""No statistics to its makers, and none of its own lines among ours: what it would say of a worker, we warn of."""


def require_ray() -> None:
    """Imports Ray, which reads then how much it is to say.

    Raises:
        ConfigError: when it is not installed.
    """
    try:
        with _quiet():
            import ray  # noqa: F401
    except ImportError as error:
        raise ConfigError(
            f"engine: required the package ray with engine='ray', found {error}; install it with: pip install "
            "'prognet[ray]', here and on every machine of the cluster."
        ) from error


@contextmanager
def connected(workers: Workers) -> Iterator[None]:
    """Within the block this process belongs to a cluster.

    A cluster that is begun here ends with the block and reports nothing to anybody. One that runs already is left as
    it is, and so is the connection of a program that had joined one before.

    Raises:
        ConfigError: when there is no such cluster, or this machine does not belong to it.
    """
    import ray

    if ray.is_initialized():
        yield
        return
    with _quiet():
        _join(workers.address)
    try:
        yield
    finally:
        ray.shutdown()


def slots(workers: Workers) -> int:
    """How many runs can go on at once on the machines that the cluster has at present."""
    return sum(_slots_of(machine, workers) for machine in _machines())


def require_slots(workers: Workers) -> None:
    """Checks that there is a machine that can hold a run, since Ray would wait for one without a word.

    Raises:
        ConfigError: when there is none.
    """
    if slots(workers):
        return
    found = [f"{one.get('CPU', 0.0):g} cores and {one.get('GPU', 0.0):g} GPUs" for one in _machines()]
    raise ConfigError(
        f"cpus_per_run, gpus_per_run: required a machine with {workers.cpus_per_run:g} cores and "
        f"{workers.gpus_per_run:g} GPUs for a run, found machines with {', '.join(found) or 'nothing'}; ask for less, "
        "or add such a machine with `ray start` (a cluster that grows by itself needs one of them to begin with)."
    )


@final
class Outlook:
    """Looks now and then for machines that can hold a run; without one, nothing goes on."""

    def __init__(self, workers: Workers) -> None:
        """
        Args:
            workers: what is set aside for a run.
        """
        self._workers = workers
        self._found, self._next, self._last = 1, 0.0, monotonic()

    def slots(self) -> int:
        """How many runs can go on at once, as of a moment ago.

        Raises:
            WorkerLostError: when there was no room for any for ten minutes.
        """
        now = monotonic()
        if now < self._next:
            return self._found
        before, self._found, self._next = self._found, slots(self._workers), now + _LOOK_EVERY
        if self._found:
            self._last = now
        elif before:
            warnings.warn(
                f"engine: no machine of the cluster is left that can hold a run; waits {_PATIENCE / 60:g} minutes for "
                "one to join (ray start --address=HOST:PORT).",
                ClusterWarning,
                stacklevel=2,
            )
        elif now - self._last > _PATIENCE:
            raise WorkerLostError(
                f"engine: required a machine of the cluster that can hold a run, found none for {_PATIENCE / 60:g} "
                "minutes; start machines, then run the same command again: finished steps are kept."
            )
        return self._found


def _join(address: str | None) -> None:
    import ray

    settings: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    if address is None:
        settings |= {"address": "local", "include_dashboard": False}
    elif "://" in address:
        raise ConfigError(
            f"address: required host:port, or auto, found {address!r}; carry out the comparison on a machine of the "
            "cluster, which may have no cores for runs: ray start --address=HOST:PORT --num-cpus=0."
        )
    else:
        settings |= {"address": address}
    try:
        ray.init(**settings)
    except (OSError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        remedy = (
            "begin one with `ray start --head`, and let other machines join it with `ray start --address=HOST:PORT`"
        )
        if "AuthToken" in f"{error}{error.__cause__}":
            remedy = "it asks for a token: set RAY_AUTH_MODE=token here, with the token of the cluster"
        raise ConfigError(
            f"address: required a Ray cluster to which this machine belongs, found none at {address!r} ({reason}); "
            f"{remedy}."
        ) from error


def _machines() -> list[dict[str, float]]:
    """The resources of every machine that is alive."""
    import ray

    return [dict(node["Resources"]) for node in ray.nodes() if node["Alive"]]


def _slots_of(machine: dict[str, float], workers: Workers) -> int:
    rooms = [machine.get("CPU", 0.0) / workers.cpus_per_run]
    if workers.gpus_per_run:
        rooms.append(_runs_on(machine.get("GPU", 0.0), workers.gpus_per_run))
    return int(min(rooms) + 1e-6)


def _runs_on(gpus: float, per_run: float) -> float:
    """Runs that fit: one that takes a part of a GPU has it on a single one."""
    return gpus / per_run if per_run >= 1 else gpus * int(1 / per_run + 1e-6)


@contextmanager
def _quiet() -> Iterator[None]:
    """Within the block what Ray begins is silent, unless the environment says otherwise."""
    logger = logging.getLogger("ray")
    level, ours = logger.level, {name: value for name, value in _SILENCE.items() if name not in os.environ}
    logger.setLevel(logging.ERROR)
    os.environ.update(ours)
    try:
        yield
    finally:
        logger.setLevel(level)
        for name in ours:
            os.environ.pop(name, None)
