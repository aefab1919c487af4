"""Whether what a result says fits together: its tasks, its steps, and the shapes of what was measured."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prognet.documents import require, shaped

if TYPE_CHECKING:
    from prognet.results import RunResult

STORED = re.compile(r"(state|proof|gates)-[1-9][0-9]{0,5}\.safetensors")
"""The names of the files of tensors that a run has."""
MOST_THREADS = 1024
_DIGEST = re.compile(r"[0-9a-f]{64}")
_SECTIONS = ("strategy", "backbone", "stream", "training", "measurement", "execution")


def check_result(result: "RunResult") -> None:
    """Checks a result whose fields have the right types.

    Raises:
        JSONValueError: when two of them do not fit; the message begins with the name of the field.
    """
    steps, n = len(result.schedule), len(result.tasks)
    require(n > 0, "tasks", "at least one task", n)
    require(steps > 0, "schedule", "at least one step", steps)
    _check_tasks(result)
    for step, group in enumerate(result.schedule):
        fits = bool(group) and all(0 <= label < n for label in group) and len(set(group)) == len(group)
        require(fits, f"schedule[{step}]", f"different labels of {n} tasks", group)
    for name, matrix in result.metrics.items():
        shaped(matrix, (steps, n), f"metrics.{name}")
    learned = {label for group in result.schedule for label in group}
    for task in result.tasks:
        known = task.label not in learned or task.primary in result.metrics
        require(known, "metrics", repr(task.primary), list(result.metrics))
    _check_curves(result)
    _check_steps(result)
    for name, gate in result.gates.items():
        lengths = {len(gate.confusion), len(gate.parameters)}
        require(lengths == {steps}, f"gates.{name}", f"{steps} steps", lengths)
        shaped(gate.accuracy, (steps, n), f"gates.{name}.accuracy")
        for counts in gate.confusion:
            if counts is not None:
                shaped(counts, (n, n), f"gates.{name}.confusion")
                require(bool((counts >= 0).all()), f"gates.{name}.confusion", "counts, at least 0", int(counts.min()))
    _check_settings(result.config, result.environment)
    for name, digest in result.files.items():
        require(STORED.fullmatch(name) is not None, "files", "names such as state-1.safetensors", name)
        require(_DIGEST.fullmatch(digest) is not None, f"files.{name}", "64 hexadecimal digits", digest)


def check_threads(settings: Mapping[str, Any], where: str) -> None:
    """Checks the number of threads that somebody recorded, before so many are started.

    Raises:
        JSONValueError: when it is there and is no such number.
    """
    threads = settings.get("threads", 1)
    fits = type(threads) is int and 1 <= threads <= MOST_THREADS
    require(fits, f"{where}.threads", f"a whole number from 1 to {MOST_THREADS}", threads)


def _check_tasks(result: "RunResult") -> None:
    for place, task in enumerate(result.tasks):
        where = f"tasks[{place}]"
        require(task.label == place, f"{where}.label", f"its position {place}", task.label)
        for name in ("n_classes", "head", "n_train", "n_val", "n_test"):
            require(getattr(task, name) >= 0, f"{where}.{name}", "a number, at least 0", getattr(task, name))
        sizes = task.input_shape
        require(all(size >= 1 for size in sizes), f"{where}.input_shape", "sizes, at least 1", sizes)


def _check_curves(result: "RunResult") -> None:
    for place, curve in enumerate(result.curves):
        where = f"curves[{place}]"
        require(0 <= curve.step < len(result.schedule), f"{where}.step", "a step of the schedule", curve.step)
        require(0 <= curve.task < len(result.tasks), f"{where}.task", "a task of the stream", curve.task)
        updates, points = curve.updates, len(curve.accuracy)
        ascending = all(before < after for before, after in zip((-1, *updates), updates, strict=False))
        require(ascending, f"{where}.updates", "ascending numbers, at least 0", updates)
        require(len(updates) == points, f"{where}.accuracy", f"{len(updates)} points", points)


def _check_steps(result: "RunResult") -> None:
    steps = len(result.schedule)
    records: Mapping[str, Sequence[Any]] = {"costs": result.costs, "digests": result.digests}
    for name, record in records.items():
        require(len(record) == steps, name, f"a record of each of {steps} steps", len(record))
    require(len(result.choices) in (0, steps), "choices", f"a record of each of {steps} steps", len(result.choices))
    for step, cost in enumerate(result.costs):
        length, n = len(cost.forward_flops), len(result.tasks)
        require(length == n, f"costs[{step}].forward_flops", f"a number for each of {n} tasks", length)


def _check_settings(config: Mapping[str, Any], environment: Mapping[str, Any]) -> None:
    for name in _SECTIONS:
        if name in config:
            require(isinstance(config[name], Mapping), f"config.{name}", "an object", config[name])
    for name in ("strategy", "backbone", "stream"):
        arguments = config.get(name, {}).get("arguments") or {}
        require(isinstance(arguments, Mapping), f"config.{name}.arguments", "an object", arguments)
    check_threads(environment, "environment")
