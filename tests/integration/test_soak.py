"""Task after task in one process: nothing is left behind but the network, and the counts are those of the model."""

import gc
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
import torch

import prognet
from prognet.analysis import column_costs
from prognet.backbones import mlp
from prognet.capacity import Workload, run_capacity
from prognet.strategies.sources import Sources
from prognet.streams.task import Task
from tests.helpers.runs import MEASUREMENT, TRAINING, quick_run
from tests.helpers.streams import make_stream

PROCESS = Path("/proc/self")
ON_LINUX = pytest.mark.skipif(not (PROCESS / "fd").exists(), reason="the system does not list what a process holds")
BACKBONE = mlp(hidden=(8, 6))


class Notes:
    """What the process held before each step; a copy of it is the same."""

    def __init__(self) -> None:
        self.handles: list[int] = []
        self.threads: list[int] = []
        self.objects: list[int] = []
        self.tensor_bytes: list[int] = []

    def __deepcopy__(self, memo: Mapping[int, object]) -> "Notes":
        return self

    def take(self) -> None:
        """Notes what is held now that all that is not needed has been given back."""
        gc.collect()
        held = gc.get_objects()
        places: dict[int, int] = {}
        for tensor in (o for o in held if type(o) in (torch.Tensor, torch.nn.Parameter) and o.device.type == "cpu"):
            with suppress(RuntimeError):  # sparse or fake ones, which other tests have left
                places[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        self.objects.append(len(held))
        self.tensor_bytes.append(sum(places.values()))
        self.handles.append(len(list((PROCESS / "fd").iterdir())))
        self.threads.append(len(list((PROCESS / "task").iterdir())))


class Watched(prognet.Progressive):
    """Takes notes before it learns."""

    def __init__(self, sources: Sources | None, notes: Notes) -> None:
        super().__init__(BACKBONE, sources=sources)
        self.notes = notes

    def learn(self, tasks: Sequence[Task]) -> None:
        self.notes.take()
        super().learn(tasks)


def soaked(n_tasks: int, most: int | None, out: Path) -> tuple[Notes, prognet.RunResult]:
    """A run of so many tasks that is stored, and what was held on the way."""
    notes = Notes()
    sources = None if most is None else prognet.LastSources(most)
    stream = make_stream((3,) * n_tasks)
    result = quick_run(Watched(sources, notes), stream, out=out, threads=1)
    notes.take()
    return notes, result


def assert_nothing_is_left_behind(notes: Notes, result: prognet.RunResult, most: int | None) -> None:
    """After a few tasks, in which modules are imported and caches are filled."""
    task = result.tasks[0]
    costs = column_costs(BACKBONE, task.input_shape, 3, adapter=prognet.Progressive(BACKBONE).adapter)
    work = Workload(
        tasks=result.n_tasks,
        train=task.n_train,
        test=task.n_test,
        validation=task.n_val,
        sources=most,
        training=TRAINING,
        measurement=MEASUREMENT,
    )
    predicted = run_capacity(costs, work)
    assert predicted.stored_bytes.tolist() == [cost.stored_bytes for cost in result.costs]
    assert len(set(notes.handles[2:-1])) == 1
    assert notes.handles[-1] <= notes.handles[-2]  # the lock of the folder is given back with it
    assert len(set(notes.threads[2:])) == 1
    grown = np.diff(notes.tensor_bytes)[2:-1]  # the column that has been added, and nothing else
    assert grown.tolist() == np.diff(predicted.stored_bytes)[1:-1].tolist()
    late = np.diff(notes.objects)[3:-1]
    assert late.max() < 1000
    if most is not None:
        assert late.max() - late.min() < 60  # a line: the modules of a column, and the records of a step


@ON_LINUX
@pytest.mark.parametrize("most", [None, 2])
def test_a_few_tasks_leave_nothing_behind(most: int | None, tmp_path: Path) -> None:
    assert_nothing_is_left_behind(*soaked(6, most, tmp_path), most)


@pytest.mark.slow
@ON_LINUX
def test_a_dozen_tasks_leave_nothing_behind(tmp_path: Path) -> None:
    notes, result = soaked(14, 2, tmp_path)
    assert_nothing_is_left_behind(notes, result, 2)
    files = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(files) == ["proof-14.safetensors", "result.json", "state-14.safetensors"]
