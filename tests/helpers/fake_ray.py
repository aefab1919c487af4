"""A Ray without processes: tasks are carried out one after the other, where somebody waits for them.

It has what the cluster engine calls, and nothing more; workers and machines die where a test says so.
"""

import io
import pickle
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import pytest


class RayError(Exception):
    """The base of what Ray raises."""


class RayTaskError(RayError):
    """What the code of a task has raised."""

    def __init__(self, cause: Exception) -> None:
        super().__init__(f"ray::task() (pid=1)\n{type(cause).__name__}: {cause}")
        self.cause = cause


class WorkerCrashedError(RayError):
    """A worker has died."""


class RayActorError(RayError):
    """An actor has died."""


class DeathError(BaseException):
    """The worker that carries out a task dies here."""


class Reference:
    """Stands for a value that is not there yet, or is somewhere else."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.work, self.is_done = work, False
        self.value: Any = None
        self.error: RayError | None = None

    def settle(self) -> None:
        """Does the work."""
        self.is_done = True
        try:
            self.value = self.work()
        except DeathError:
            self.error = WorkerCrashedError("The worker died unexpectedly.\nPages follow.")
        except RayError as error:
            self.error = error
        except Exception as error:
            self.error = RayTaskError(error)


class Handle:
    """A method of an actor, or a task, that is called elsewhere."""

    def __init__(self, call: Callable[..., Reference]) -> None:
        self.remote = call


class Actor:
    """An actor, which answers at once."""

    def __init__(self, ray: "FakeRay", inner: Any) -> None:
        self._ray, self._inner, self.is_alive = ray, inner, True

    def __getattr__(self, name: str) -> Handle:
        def call(*arguments: Any) -> Reference:
            self._ray.calls.append(name)
            if not self.is_alive:
                return Reference(_die)
            if name == "put":
                self._ray.before_put(arguments[0])
            value = getattr(self._inner, name)(*arguments)
            return done(value)

        return Handle(call)


class Definition:
    """A function or a class, with what Ray is to set aside for it."""

    def __init__(self, ray: "FakeRay", target: Any, options: Mapping[str, Any]) -> None:
        self._ray, self._target, self._options = ray, target, options

    def options(self, **options: Any) -> "Definition":
        return Definition(self._ray, self._target, options)

    def remote(self, *arguments: Any) -> Any:
        self._ray.options.append(self._options)
        if isinstance(self._target, type):
            return Actor(self._ray, self._target(*arguments))
        values = [one.value if isinstance(one, Reference) else one for one in arguments]
        return Reference(lambda: self._target(*values))


@dataclass
class FakeRay:
    """Takes the place of the module `ray`."""

    machines: list[dict[str, float]] = field(default_factory=lambda: [{"CPU": 2.0}])
    before_put: Callable[[bytes], None] = lambda letter: None
    """Called with every letter before it is put into the mailbox; it may raise `DeathError`."""
    before_wait: Callable[[], None] = lambda: None
    joined: list[Mapping[str, Any]] = field(default_factory=list)
    """The arguments of every call of `init`."""
    calls: list[str] = field(default_factory=list)
    """Methods of actors that were called."""
    options: list[Mapping[str, Any]] = field(default_factory=list)
    stored: list[Any] = field(default_factory=list)
    cancelled: list[Reference] = field(default_factory=list)
    killed: list[Actor] = field(default_factory=list)
    _is_up: bool = False

    def is_initialized(self) -> bool:
        return self._is_up

    def init(self, **settings: Any) -> None:
        self.joined.append(settings)
        self._is_up = True

    def shutdown(self) -> None:
        self._is_up = False

    def nodes(self) -> list[dict[str, Any]]:
        return [{"Alive": True, "Resources": one} for one in self.machines]

    def remote(self, target: Any) -> Definition:
        return Definition(self, target, {})

    def put(self, value: Any) -> Reference:
        self.stored.append(value)
        return done(value)

    def get(self, reference: Reference) -> Any:
        if not reference.is_done:
            reference.settle()
        if reference.error is not None:
            raise reference.error
        return reference.value

    def wait(self, references: Sequence[Reference], timeout: float) -> tuple[list[Reference], list[Reference]]:
        self.before_wait()
        references[0].settle()
        return [references[0]], list(references[1:])

    def cancel(self, reference: Reference, *, force: bool) -> None:
        assert force
        self.cancelled.append(reference)

    def kill(self, actor: Actor) -> None:
        self.killed.append(actor)

    def get_runtime_context(self) -> Any:
        return self

    def get_node_id(self) -> str:
        return "here"


def done(value: Any) -> Reference:
    """A reference to a value that is there."""
    reference = Reference(lambda: value)
    reference.settle()
    return reference


def installed(monkeypatch: pytest.MonkeyPatch) -> FakeRay:
    """A Ray that `import ray` finds during a test."""
    ray = FakeRay()
    modules = {name: ModuleType(name) for name in ("ray", "ray.util", "ray.util.scheduling_strategies")}
    exceptions = ModuleType("ray.exceptions")
    for kind in (RayError, RayTaskError, WorkerCrashedError, RayActorError):
        setattr(exceptions, kind.__name__, kind)
    cloudpickle = ModuleType("ray.cloudpickle")
    for name, value in {"dumps": _dumps, "register_pickle_by_value": id, "unregister_pickle_by_value": id}.items():
        setattr(cloudpickle, name, value)
    modules["ray.util.scheduling_strategies"].__dict__["NodeAffinitySchedulingStrategy"] = lambda node, soft: (
        node,
        soft,
    )
    for name in dir(FakeRay):
        if not name.startswith("_") and callable(getattr(ray, name)):
            modules["ray"].__dict__[name] = getattr(ray, name)
    modules["ray"].__dict__.update(exceptions=exceptions, cloudpickle=cloudpickle)
    for name, module in {**modules, "ray.exceptions": exceptions, "ray.cloudpickle": cloudpickle}.items():
        monkeypatch.setitem(sys.modules, name, module)
    return ray


def _die() -> None:
    raise RayActorError("The actor is dead.")


def _dumps(value: Any) -> bytes:
    content = io.BytesIO()
    pickle.Pickler(content).dump(value)
    return content.getvalue()
