"""What goes between a comparison and the workers of a cluster: plan and streams out, letters home."""

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, final

from prognet.errors import ConfigError, WorkerLostError
from prognet.evaluation.engines import mailbox
from prognet.evaluation.engines.shipping import StreamFiles
from prognet.evaluation.work import Plan, Unit

_ROOM = 256 * 2**20  # bytes of letters


@final
class Shelf:
    """The files of streams in the store of the cluster: each is put there once, as long as a unit needs it."""

    def __init__(self, files: StreamFiles) -> None:
        self._files = files
        self._references: dict[Path, Any] = {}

    def of(self, unit: Unit) -> list[Any]:
        """For each run of a unit a reference to the files of its stream."""
        import ray

        places = self._files.of(unit)
        for place in places:
            if place not in self._references:
                self._references[place] = ray.put({path.name: path.read_bytes() for path in place.iterdir()})
        return [self._references[place] for place in places]

    def released(self, unit: Unit) -> None:
        """Lets go of the streams that no unit needs any more."""
        self._files.released(unit)
        self._references = {place: one for place, one in self._references.items() if place.exists()}


@final
class Mail:
    """The mailbox of a comparison, on the machine of this process, and what was taken out of it."""

    def __init__(self) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        with _sent_as_it_is():
            self.box = ray.remote(mailbox.Mailbox).options(num_cpus=0, scheduling_strategy=here).remote(_ROOM)
            _answer_of(self.box.has_room.remote())
        self.letters: deque[bytes] = deque()
        self._asked: Any = None

    def fetch(self) -> Mapping[tuple[int, int], int]:
        """Takes out all letters -> by unit and attempt the updates that are done."""
        self._asked = self._asked or self.box.empty.remote()  # Ctrl-C may have come while the answer was under way
        answer: tuple[list[bytes], dict[tuple[int, int], int]] = _answer_of(self._asked)
        letters, updates = answer
        self._asked = None
        self.letters.extend(letters)
        return updates

    def close(self) -> None:
        """Takes the mailbox away."""
        import ray

        ray.kill(self.box)


def _answer_of(reference: Any) -> Any:
    """
    Raises:
        WorkerLostError: when the mailbox is no more.
    """
    import ray

    try:
        return ray.get(reference)
    except ray.exceptions.RayError as error:
        raise WorkerLostError(
            f"engine: required a mailbox that lives as long as the comparison, found it dead ({gist(error)}); "
            "run the same command again: finished steps are kept."
        ) from error


@contextmanager
def _sent_as_it_is() -> Iterator[None]:
    """Within the block Ray sends the class of the mailbox itself, not the name of a module to import."""
    from ray import cloudpickle

    cloudpickle.register_pickle_by_value(mailbox)
    try:
        yield
    finally:
        cloudpickle.unregister_pickle_by_value(mailbox)


def packed_by_value(plan: Plan) -> bytes:
    """The plan as bytes.

    Raises:
        ConfigError: when a strategy, or its backbone, has no such form.
    """
    from ray import cloudpickle

    for name, strategy in plan.strategies.items():
        try:
            cloudpickle.dumps(strategy)
        except Exception as error:  # whatever an object of somebody's own may raise
            raise ConfigError(
                f"strategies: required what can be sent to another machine, found in {name!r} {type(error).__name__}: "
                f"{error}; let it hold no open file, lock or connection, or use jobs=1."
            ) from error
    return bytes(cloudpickle.dumps(plan))


def gist(error: BaseException) -> str:
    """The first sentence of what an error says, without the pages that Ray adds."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return lines[0].split(". ")[0].rstrip(".")
