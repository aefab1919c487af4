import json
from collections.abc import Callable
from dataclasses import asdict, replace
from math import nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from prognet.documents import record_from
from prognet.errors import RunFolderError
from prognet.inference import GateRecord
from prognet.results import RunResult, to_json
from tests.helpers.gates import record, with_gates
from tests.helpers.results import make_run
from tests.helpers.sealing import edit

COUNTS = [[3, 1], [0, 0]]
RECORD = record([None, (0.1 + 0.2, nan)], COUNTS, parameters=7, shared=True)


def plain(found: GateRecord) -> dict[str, Any]:
    text = json.dumps(to_json(asdict(found)), allow_nan=False)
    document: dict[str, Any] = json.loads(text)
    return document


def test_a_record_is_the_same_after_json() -> None:
    again = record_from(GateRecord, plain(RECORD))
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


def test_a_whole_result_is_the_same_after_its_file(tmp_path: Path) -> None:
    (run,) = with_gates([make_run(n_tasks=3)])
    read = RunResult.load(run.save(tmp_path))
    assert read == run
    assert list(read.gates) == ["confidence", "autoencoder"]
    other = replace(run, gates={**run.gates, "confidence": run.gates["autoencoder"]})
    assert other != run
    assert replace(run, gates={}) != run


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda gate: gate.pop("parameters"), "gates.confidence.parameters: required a value, found none"),
        (lambda gate: gate["confusion"].pop(), "gates.confidence: required 2 steps, found {1, 2}"),
        (lambda gate: gate["accuracy"].pop(), r"gates.confidence.accuracy: required shape \(2, 2\), found \(1, 2\)"),
        (
            lambda gate: gate["confusion"][1].pop(),
            r"gates.confidence.confusion: required shape \(2, 2\), found \(1, 2\)",
        ),
        (lambda gate: gate["confusion"][1][0].pop(), r"confusion\[1\]: required rows of one length, found others"),
        (
            lambda gate: gate["confusion"][1][0].insert(0, -1) or gate["confusion"][1][0].pop(),
            "counts, at least 0, found",
        ),
        (
            lambda gate: gate["confusion"][1][0].insert(0, 0.5),
            r"confusion\[1\]\[0\]\[0\]: required a whole number of 64",
        ),
        (lambda gate: gate.update(accuracy="high"), "gates.confidence.accuracy: required a list, found 'high'"),
        (lambda gate: gate.update(shared_names=1), "gates.confidence.shared_names: required true or false, found 1"),
    ],
)
def test_a_damaged_record_is_refused_by_file_and_field(
    damage: Callable[[Any], object], message: str, tmp_path: Path
) -> None:
    (run,) = with_gates([make_run(n_tasks=2)])
    path = run.save(tmp_path)
    edit(path, lambda document: damage(document["gates"]["confidence"]))
    with pytest.raises(RunFolderError, match=message) as caught:
        RunResult.load(path)
    assert str(caught.value).startswith(f"{path}: gates.confidence")
