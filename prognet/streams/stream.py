"""A stream: a sequence of tasks that is at the same time an Avalanche benchmark."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property, partial
from hashlib import sha256
from pathlib import Path
from typing import Any, cast, overload

from prognet.config import Heads
from prognet.engine.digest import tensor_bytes
from prognet.errors import ConfigError, StreamError
from prognet.results import to_json
from prognet.streams.bridge import benchmark_of
from prognet.streams.checks import check_tasks
from prognet.streams.storage import STREAM_FILE, read_stream, write_stream
from prognet.streams.task import Task


class Stream(Sequence[Task]):
    """Tasks in the order in which they arrive.

    Whatever a stream is made from, its tasks are checked here: finite numbers, local integer labels, no empty training
    or test split. The validation split may be empty (`validation=0`). With a head per task the shapes of inputs may
    differ; tasks with inputs of one shape have one type and one normalisation.

    Args:
        tasks: the tasks; each one's label is its position, counted from 0.
        name: what the stream is called, e.g. `"split-digits"`.
        heads: an output head for each task, or one that all share (domain-incremental).
        seed: the seed of class order, task order and validation split.
        draw: which subset of a data set was drawn for training; None where a stream is always the same.
        arguments: how the stream was made, without seed, draw and the place of the data; JSON values.
        benchmark: the Avalanche benchmark that the tasks came from; made from their tensors on first use if absent.

    Raises:
        ConfigError: when `heads` is not known.
        StreamError: when the tasks cannot be one stream; the message names the task and the field.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        name: str,
        heads: Heads = "per-task",
        seed: int = 0,
        draw: int | None = None,
        arguments: Mapping[str, Any] | None = None,
        benchmark: Any = None,
    ) -> None:
        check_tasks(tasks, heads)
        self.name = name
        self.heads: Heads = heads
        self.seed = seed
        self.draw = draw
        self.arguments: Mapping[str, Any] = _plain(arguments or {})
        self._given_benchmark = benchmark
        self._tasks = tuple(
            replace(task, make_experience=partial(self._experience, position)) for position, task in enumerate(tasks)
        )

    @cached_property
    def benchmark(self) -> Any:
        """The stream as an Avalanche benchmark, made once: `train_stream`, `test_stream` and `valid_stream`.

        Its samples are those of the tasks, normalised; a stream with one shared head has task label 0 throughout.
        A stream from `from_avalanche` gives back the benchmark that it was made from.
        """
        if self._given_benchmark is not None:
            return self._given_benchmark
        return benchmark_of(self._tasks, self.heads)

    @cached_property
    def digest(self) -> str:
        """SHA-256, in hexadecimal, of all samples of all splits: the identity of the data, computed once."""
        digest = sha256()
        for task in self._tasks:
            for samples in (task.train, task.val, task.test):
                for tensor in (samples.x, samples.y):
                    digest.update(f"{tensor.dtype} {tuple(tensor.shape)} ".encode())
                    digest.update(tensor_bytes(tensor))
        return digest.hexdigest()

    def first(self, n_tasks: int) -> "Stream":
        """A stream of the first `n_tasks` tasks, for instance to choose hyper-parameters on.

        Raises:
            ConfigError: when the stream does not have so many.
        """
        if not 1 <= n_tasks <= len(self):
            raise ConfigError(f"n_tasks: required 1 to {len(self)}, found {n_tasks!r}; ask for fewer tasks.")
        name = f"{self.name}[:{n_tasks}]"
        return self.having(self._tasks[:n_tasks], name)

    def having(self, tasks: Sequence[Task], name: str | None = None) -> "Stream":
        """A stream of other tasks that was made in the same way; its name is the same unless another one is given."""
        return Stream(
            tasks,
            name=name or self.name,
            heads=self.heads,
            seed=self.seed,
            draw=self.draw,
            arguments=self.arguments,
        )

    def save(self, folder: str | Path) -> Path:
        """Writes the stream into `folder`, atomically, and returns the path of its `stream.json`.

        Raises:
            RunFolderError: when it cannot be written.
            StreamError: when a task has an objective that has no form on disk.
        """
        header = {
            "name": self.name,
            "heads": self.heads,
            "seed": self.seed,
            "draw": self.draw,
            "arguments": self.arguments,
        }
        return write_stream(Path(folder), header, self._tasks)

    @staticmethod
    def load(folder: str | Path) -> "Stream":
        """Reads a stream that `save` wrote, bit for bit; its benchmark is made from the tensors.

        Raises:
            RunFolderError: when `stream.json` is missing, unreadable or of another version.
            StreamError: when a field or a file of tensors is missing or damaged.
        """
        header, tasks = read_stream(Path(folder))
        try:
            return Stream(
                tasks,
                name=header.name,
                heads=header.heads,
                seed=header.seed,
                draw=header.draw,
                arguments=header.arguments,
            )
        except (ConfigError, StreamError) as error:
            raise StreamError(f"{Path(folder) / STREAM_FILE}: {error}") from error

    def __len__(self) -> int:
        return len(self._tasks)

    @overload
    def __getitem__(self, index: int) -> Task: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Task]: ...

    def __getitem__(self, index: int | slice) -> Task | Sequence[Task]:
        return self._tasks[index]

    def __repr__(self) -> str:
        shapes = " or ".join(map(str, dict.fromkeys(task.input_shape for task in self._tasks)))
        counts = sorted({task.n_classes for task in self._tasks})
        classes = str(counts[0]) if len(counts) == 1 else f"{counts[0]} to {counts[-1]}"
        return (
            f"Stream({self.name!r}, {len(self)} tasks of {classes} classes, input {shapes}, "
            f"heads={self.heads!r}, seed={self.seed})"
        )

    def _experience(self, position: int) -> Any:
        return self.benchmark.train_stream[position]


def _plain(arguments: Mapping[str, Any]) -> Mapping[str, Any]:
    try:
        return cast(Mapping[str, Any], to_json(arguments))
    except TypeError as error:
        raise StreamError(f"arguments: required values that JSON can hold ({error}); give numbers and text.") from error
