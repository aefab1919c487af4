"""A stream on disk: one safetensors file for each task and one JSON file that names them.

The tensor files carry their SHA-256 in their names and the JSON file is replaced last, so a reader, or a kill at any
moment, sees the old stream or the new one. No Avalanche and no pickle is involved.
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors

from prognet.errors import StreamError
from prognet.files import read_json, write_atomically, write_json
from prognet.streams.checks import SPLITS
from prognet.streams.kinds import objective_from
from prognet.streams.objectives import Classification, Objective
from prognet.streams.task import Normalisation, Samples, Task

SCHEMA, VERSION = "prognet.stream", 1
STREAM_FILE = "stream.json"

_FIELDS: Mapping[str, type] = {
    "label": int,
    "name": str,
    "classes": list,
    "head": int,
    "normalisation": dict,
    "file": str,
    "sha256": str,
}


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


def read_stream(folder: Path) -> tuple[dict[str, Any], tuple[Task, ...]]:
    """The header and the tasks that `write_stream` wrote, bit for bit.

    Raises:
        RunFolderError: when `stream.json` is missing, unreadable or of another version.
        StreamError: when a field or a file of tensors is missing or damaged.
    """
    path = folder / STREAM_FILE
    header = read_json(path, SCHEMA, VERSION)
    for field, kind in {"name": str, "heads": str, "seed": int, "arguments": dict, "tasks": list}.items():
        if not isinstance(header.get(field), kind):
            raise _damaged(path, field, f"a {kind.__name__}", header.get(field))
    if not isinstance(header.get("draw"), int | None):
        raise _damaged(path, "draw", "an int or null", header.get("draw"))
    records = header.pop("tasks")
    return header, tuple(_read_task(path, index, record) for index, record in enumerate(records))


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
        **({} if isinstance(task.objective, Classification) else {"objective": dict(objective)}),
    }


def _read_task(path: Path, index: int, record: Any) -> Task:
    for field, kind in _FIELDS.items():
        value = record.get(field) if isinstance(record, dict) else None
        if not isinstance(value, kind):
            raise _damaged(path, f"tasks[{index}].{field}", f"a {kind.__name__}", value)
    train, val, test = _read_splits(path, index, record)
    classes = tuple(str(name) for name in record["classes"])
    return Task(
        label=record["label"],
        name=record["name"],
        classes=classes,
        objective=_read_objective(path, index, record.get("objective"), len(classes)),
        head=record["head"],
        normalisation=_read_normalisation(path, index, record["normalisation"]),
        train=train,
        val=val,
        test=test,
    )


def _read_objective(path: Path, index: int, record: Any, n_classes: int) -> Objective:
    """That of the record; a task without one is a classification."""
    if record is None:
        return Classification(n_classes)
    if not isinstance(record, dict):
        raise _damaged(path, f"tasks[{index}].objective", "a dict", record)
    return objective_from(record)


def _read_normalisation(path: Path, index: int, record: Mapping[str, Any]) -> Normalisation:
    try:
        return Normalisation(*(tuple(float(number) for number in record[key]) for key in ("mean", "std")))
    except (KeyError, TypeError, ValueError) as error:
        raise _damaged(path, f"tasks[{index}].normalisation", "lists of numbers mean and std", record) from error


def _read_splits(path: Path, index: int, record: Mapping[str, Any]) -> list[Samples]:
    file = path.parent / Path(record["file"]).name
    if not file.is_file():
        raise _damaged(path, f"tasks[{index}].file", "a file beside stream.json", f"no {file.name}")
    content = file.read_bytes()
    digest = sha256(content).hexdigest()
    if digest != record["sha256"]:
        raise _damaged(file, "sha256", f"{record['sha256']}, as {STREAM_FILE} says", digest)
    try:
        tensors = safetensors.load(content)
        return [Samples(tensors[f"{split}.x"], tensors[f"{split}.y"]) for split in SPLITS]
    except (SafetensorError, KeyError) as error:
        raise _damaged(file, "content", "tensors x and y of train, val and test", error) from error


def _digest(file: Path) -> str:
    return sha256(file.read_bytes()).hexdigest()


def _damaged(path: Path, field: str, required: str, found: object) -> StreamError:
    return StreamError(f"{path}: {field}: required {required}, found {found!r}; make the stream again and save it.")
