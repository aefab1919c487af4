"""A stream on disk: one safetensors file for each task and one JSON file that names them.

The tensor files carry their SHA-256 in their names and the JSON file is replaced last, so a reader, or a kill at any
moment, sees the old stream or the new one. No Avalanche and no pickle is involved.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors

from prognet.config import Heads
from prognet.documents import record_from, require
from prognet.engine.checkpoint import MALFORMED
from prognet.errors import ConfigError, JSONValueError, PrognetError, StreamError
from prognet.files import read_json, shown, write_atomically, write_json
from prognet.streams.checks import SPLITS
from prognet.streams.kinds import objective_from
from prognet.streams.objectives import Classification, Objective
from prognet.streams.task import Normalisation, Samples, Task

SCHEMA, VERSION = "prognet.stream", 2
STREAM_FILE = "stream.json"

_REMEDY = "make the stream again and save it"
_FILE = re.compile(r"task-[0-9]{1,6}-[0-9a-f]{16}\.safetensors")
"""The names that a save gives to its files; no other one is followed."""


@dataclass(frozen=True, kw_only=True)
class _TaskRecord:
    """What `stream.json` says of one task."""

    label: int
    name: str
    classes: tuple[str, ...]
    head: int
    normalisation: Normalisation
    file: str
    sha256: str
    objective: Mapping[str, Any] | None
    """None for a classification."""


@dataclass(frozen=True, kw_only=True)
class StreamRecord:
    """What `stream.json` says of a stream, but for its tasks."""

    name: str
    heads: Heads
    seed: int
    draw: int | None
    arguments: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class _Document(StreamRecord):
    tasks: tuple[_TaskRecord, ...]


def write_stream(folder: Path, header: Mapping[str, Any], tasks: Sequence[Task]) -> Path:
    """Writes the tasks and then the JSON file, whose path is returned; files of an older stream there are removed.

    Raises:
        RunFolderError: when something cannot be written.
        StreamError: when a task has an objective that has no form on disk.
    """
    records = [_write_task(folder, task) for task in tasks]
    path = folder / STREAM_FILE
    write_json(path, SCHEMA, VERSION, {**header, "tasks": records})
    named = {record["file"] for record in records}
    for old in folder.glob("task-*.safetensors"):
        if old.name not in named:
            old.unlink(missing_ok=True)
    return path


def read_stream(folder: Path) -> tuple[StreamRecord, tuple[Task, ...]]:
    """The header and the tasks that `write_stream` wrote, bit for bit.

    Raises:
        RunFolderError: when `stream.json` is missing, unreadable, changed, or of another version.
        StreamError: when a field or a file of tensors is missing or damaged.
    """
    path = folder / STREAM_FILE
    try:
        document = record_from(_Document, read_json(path, SCHEMA, VERSION, remedy=_REMEDY))
        for index, record in enumerate(document.tasks):
            named = _FILE.fullmatch(record.file) is not None
            require(named, f"tasks[{index}].file", "a name such as task-0-0123456789abcdef.safetensors", record.file)
    except (JSONValueError, ConfigError) as error:
        raise StreamError(f"{path}: {str(error).rstrip('.')}; {_REMEDY}.") from error
    return document, tuple(_read_task(path, index, record) for index, record in enumerate(document.tasks))


def _write_task(folder: Path, task: Task) -> dict[str, Any]:
    objective = task.objective.record()
    if objective is None:
        found = type(task.objective).__name__
        raise StreamError(f"task {task.label}: objective: required one of prognet's own to be saved, found {found}.")
    tensors = {
        f"{split}.{part}": getattr(getattr(task, split), part).detach().cpu().clone().contiguous()
        for split in SPLITS
        for part in ("x", "y")
    }
    content = safetensors.save(tensors)
    digest = sha256(content).hexdigest()
    name = f"task-{task.label}-{digest[:16]}.safetensors"
    if not (folder / name).exists() or _digest(folder / name) != digest:
        write_atomically(folder / name, content)
    return {
        "label": task.label,
        "name": task.name,
        "classes": list(task.classes),
        "head": task.head,
        "normalisation": {"mean": list(task.normalisation.mean), "std": list(task.normalisation.std)},
        "file": name,
        "sha256": digest,
        "objective": None if isinstance(task.objective, Classification) else dict(objective),
    }


def _read_task(path: Path, index: int, record: _TaskRecord) -> Task:
    train, val, test = _read_splits(path, index, record)
    return Task(
        label=record.label,
        name=record.name,
        classes=record.classes,
        objective=_read_objective(path, index, record),
        head=record.head,
        normalisation=record.normalisation,
        train=train,
        val=val,
        test=test,
    )


def _read_objective(path: Path, index: int, record: _TaskRecord) -> Objective:
    if record.objective is None:
        return Classification(len(record.classes))
    try:
        return objective_from(record.objective)
    except PrognetError as error:
        raise StreamError(f"{path}: tasks[{index}].{error}") from error


def _read_splits(path: Path, index: int, record: _TaskRecord) -> list[Samples]:
    file = path.parent / record.file
    try:
        content = file.read_bytes()
    except OSError as error:
        raise _damaged(path, f"tasks[{index}].file", "a file beside stream.json", f"no {file.name}") from error
    digest = sha256(content).hexdigest()
    if digest != record.sha256:
        raise _damaged(file, "sha256", f"{record.sha256}, as {STREAM_FILE} says", digest)
    try:
        tensors = safetensors.load(content)
        return [Samples(tensors[f"{split}.x"], tensors[f"{split}.y"]) for split in SPLITS]
    except (SafetensorError, *MALFORMED) as error:
        raise _damaged(file, "content", "tensors x and y of train, val and test", error) from error


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _damaged(path: Path, field: str, required: str, found: object) -> StreamError:
    return StreamError(f"{path}: {field}: required {required}, found {shown(found)}; {_REMEDY}.")
