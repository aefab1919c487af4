import json
from dataclasses import asdict, replace
from math import nan
from typing import Any

import numpy as np
import pytest

from prognet.errors import JSONValueError, RunFolderError
from prognet.inference import GateRecord, gate_from_json
from prognet.results import RESULT_FILE, RunResult, result_to_json, to_json
from tests.helpers.gates import record, with_gates
from tests.helpers.results import make_run

COUNTS = [[3, 1], [0, 0]]
RECORD = record([None, (0.1 + 0.2, nan)], COUNTS, parameters=7, shared=True)


def plain(found: GateRecord) -> dict[str, Any]:
    text = json.dumps(to_json(asdict(found)), allow_nan=False)
    document: dict[str, Any] = json.loads(text)
    return document


def test_a_record_is_the_same_after_json() -> None:
    again = gate_from_json(plain(RECORD), 2, 2)
    np.testing.assert_array_equal(again.accuracy, [[nan, nan], [0.1 + 0.2, nan]])
    assert again.accuracy.dtype == np.float64
    assert again.confusion[0] is None
    counts = again.confusion[1]
    assert counts is not None
    assert counts.dtype == np.int64
    np.testing.assert_array_equal(counts, COUNTS)
    assert (again.parameters, again.shared_names) == ((7, 7), True)


def test_measured_steps_and_shares() -> None:
    assert RECORD.measured == (1,)
    np.testing.assert_array_equal(RECORD.shares(1), [[0.75, 0.25], [nan, nan]])
    np.testing.assert_array_equal(RECORD.shares(0), [[nan, nan], [nan, nan]])


def test_a_whole_result_is_the_same_after_its_file(tmp_path: Any) -> None:
    (run,) = with_gates([make_run(n_tasks=3)])
    read = RunResult.load(run.save(tmp_path))
    assert read == run
    assert list(read.gates) == ["confidence", "autoencoder"]
    other = replace(run, gates={**run.gates, "confidence": run.gates["autoencoder"]})
    assert other != run
    assert replace(run, gates={}) != run


@pytest.mark.parametrize(
    ("steps", "n_tasks", "found"),
    [
        (3, 2, "required 3 steps and 2 tasks, found 2, 2 and 2 steps, and confusion matrices of [(2, 2)]"),
        (4, 1, "required 4 steps and 1 tasks, found 4, 2 and 2 steps, and confusion matrices of [(2, 2)]"),
    ],
)
def test_another_shape_is_refused(steps: int, n_tasks: int, found: str) -> None:
    with pytest.raises(JSONValueError) as caught:
        gate_from_json(plain(RECORD), steps, n_tasks)
    assert str(caught.value) == f"gates: {found}"


@pytest.mark.parametrize("damage", ["missing", "shape", "text"])
def test_a_damaged_file_is_refused_by_its_name(damage: str, tmp_path: Any) -> None:
    (run,) = with_gates([make_run(n_tasks=2)])
    document = {"schema": "prognet.result", "version": 2, **result_to_json(run)}
    gate = document["gates"]["confidence"]
    if damage == "missing":
        del gate["parameters"]
    elif damage == "shape":
        gate["confusion"].pop()
    else:
        gate["accuracy"] = "high"
    (tmp_path / RESULT_FILE).write_text(json.dumps(document))
    with pytest.raises(RunFolderError, match="required a whole result, found"):
        RunResult.load(tmp_path / RESULT_FILE)
