import dataclasses
import json
from collections.abc import Mapping
from math import inf, nan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prognet.errors import JSONValueError, RunFolderError
from prognet.files import write_json
from prognet.results import (
    RESULT_FILE,
    SCHEMA,
    VERSION,
    LearningCurve,
    Results,
    RunResult,
    StepCost,
    TaskSummary,
    load_results,
    result_from_json,
    result_to_json,
    to_json,
)
from tests.helpers.sealing import reseal

FLOATS = st.floats(width=64)
R = ((0.875, nan), (0.1 + 0.2, 1.0))


def make_result(
    strategy: str = "progressive",
    seed: int = 0,
    order: int = 0,
    accuracy: tuple[tuple[float, float], ...] = R,
    number: float = 0.1,
    name: str = "0 1",
    config: Mapping[str, Any] | None = None,
) -> RunResult:
    """Two tasks learned one after the other; `number` stands wherever a result holds a measured number."""
    task = TaskSummary(label=0, name=name, n_classes=2, input_shape=(1, 8, 8), head=0, n_train=9, n_val=2, n_test=3)
    cost = StepCost(
        parameters=7,
        trainable=5,
        added=5,
        stored_bytes=28,
        updates=4,
        samples=16,
        training_flops=number,
        forward_flops=(number, nan),
        feature_flops=number,
        seconds=number,
        feature_seconds=number,
        evaluation_seconds=0.5,
        peak_memory=1024,
        gradient_norm=nan,
    )
    curve = LearningCurve(step=0, task=0, updates=(0, 4), accuracy=(0.5, number), validation=(number, 0.25))
    return RunResult(
        strategy=strategy,
        seed=seed,
        order=order,
        stream="split-digits",
        tasks=(task, dataclasses.replace(task, label=1, name="2 3", head=1)),
        schedule=((0,), (1,)),
        metrics={"accuracy": np.array(accuracy), "cross_entropy": np.array([[number, nan], [number, 0.0]])},
        curves=(curve,),
        costs=(cost, dataclasses.replace(cost, updates=5)),
        digests=({}, {"column 0": "ab" * 32}),
        config={"training": {"lr": 0.001}} if config is None else config,
        environment={"prognet": "0.1.0", "threads": 2},
        learner=object(),
    )


def bits(values: object) -> bytes:
    """The bytes of doubles, with one pattern for all NaN."""
    array = np.array(values, dtype=np.float64)
    array[np.isnan(array)] = nan
    return array.tobytes()


def assert_same_bits(one: RunResult, other: RunResult) -> None:
    assert list(one.metrics) == list(other.metrics)
    for name, matrix in one.metrics.items():
        assert matrix.dtype == other.metrics[name].dtype == np.float64
        assert matrix.shape == other.metrics[name].shape
        assert bits(matrix) == bits(other.metrics[name]), name
    for mine, theirs in zip(one.curves + one.costs, other.curves + other.costs, strict=True):
        for field in dataclasses.fields(mine):
            values, read = getattr(mine, field.name), getattr(theirs, field.name)
            assert type(values) is type(read), field.name
            assert bits(values) == bits(read), field.name
    for field in dataclasses.fields(one):
        if field.name not in ("metrics", "curves", "costs", "learner"):
            assert getattr(one, field.name) == getattr(other, field.name), field.name


def assert_damage_is_refused(folder: Path, document: object, reason: str) -> None:
    reseal(folder / RESULT_FILE, document)
    with pytest.raises(RunFolderError) as caught:
        RunResult.load(folder / RESULT_FILE)
    assert str(caught.value) == (
        f"{folder / RESULT_FILE}: {reason}; remove the folder {folder} and run the same command again."
    )


@given(st.tuples(st.tuples(FLOATS, FLOATS), st.tuples(FLOATS, FLOATS)), FLOATS, st.text())
@settings(deadline=None, max_examples=100)
def test_a_result_is_the_same_bit_for_bit_after_json(
    accuracy: tuple[tuple[float, float], ...], number: float, name: str
) -> None:
    result = make_result(accuracy=accuracy, number=number, name=name)
    text = json.dumps(result_to_json(result), allow_nan=False)
    assert_same_bits(result, result_from_json(json.loads(text)))


@pytest.mark.parametrize("number", [nan, inf, -inf, -0.0, 5e-324, 1 / 3])
def test_a_result_is_the_same_bit_for_bit_after_its_file(tmp_path: Path, number: float) -> None:
    result = make_result(number=number, name="inf")
    path = result.save(tmp_path / "runs" / "progressive")
    assert path == tmp_path / "runs" / "progressive" / "result.json"
    assert_same_bits(result, RunResult.load(path))
    assert RunResult.load(path) == result


def test_the_learner_stays_out_of_file_and_comparison(tmp_path: Path) -> None:
    result = make_result()
    assert "learner" not in result_to_json(result)
    assert RunResult.load(result.save(tmp_path)).learner is None
    assert dataclasses.replace(result, learner=None) == result


@pytest.mark.parametrize(
    "change",
    [{"seed": 1}, {"strategy": "finetune"}, {"metrics": {"accuracy": np.array([[0.875, nan], [0.3, 1.0]])}}],
)
def test_results_that_differ_anywhere_are_not_equal(change: dict[str, Any]) -> None:
    assert dataclasses.replace(make_result(), **change) != make_result()


def test_a_result_is_no_other_thing_and_no_key() -> None:
    assert make_result() != "progressive"
    with pytest.raises(TypeError, match="unhashable"):
        hash(make_result())


def test_accuracy_and_number_of_tasks() -> None:
    np.testing.assert_array_equal(make_result().accuracy, np.array(R))
    assert make_result().n_tasks == 2


def test_another_schema_version_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / RESULT_FILE, SCHEMA, VERSION + 1, result_to_json(make_result()))
    with pytest.raises(RunFolderError) as caught:
        RunResult.load(tmp_path / RESULT_FILE)
    assert str(caught.value) == (
        f"{tmp_path / RESULT_FILE}: required version {VERSION} of prognet.result, found {VERSION + 1}; it was "
        "written by another release of prognet: read it with that one, or choose another folder."
    )


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.99])
def test_a_truncated_file_is_refused(tmp_path: Path, share: float) -> None:
    path = make_result().save(tmp_path)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])
    with pytest.raises(RunFolderError, match=r"result.json: required a prognet.result file, found unreadable content"):
        RunResult.load(path)


def test_damaged_results_are_refused(tmp_path: Path) -> None:
    whole = {"schema": SCHEMA, "version": VERSION, **result_to_json(make_result())}
    without = {key: value for key, value in whole.items() if key != "tasks"}
    assert_damage_is_refused(tmp_path, without, "tasks: required a value, found none")
    assert_damage_is_refused(
        tmp_path,
        whole | {"metrics": {"accuracy": [[0.5, 0.5]]}},
        "metrics.accuracy: required shape (2, 2), found (1, 2)",
    )
    assert_damage_is_refused(tmp_path, whole | {"metrics": {}}, "metrics: required 'accuracy', found []")
    assert_damage_is_refused(tmp_path, whole | {"metrics": []}, "metrics: required an object, found []")
    assert_damage_is_refused(tmp_path, whole | {"tasks": [3]}, "tasks[0]: required an object, found 3")


def test_an_unknown_field_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / RESULT_FILE, SCHEMA, VERSION, {**result_to_json(make_result()), "extra": 1})
    with pytest.raises(
        RunFolderError, match=r"extra: required one of the fields \['choices', .*\], found 'extra'; remove the folder"
    ):
        RunResult.load(tmp_path / RESULT_FILE)


def test_a_folder_is_loaded_sorted_by_strategy_order_and_seed(tmp_path: Path) -> None:
    cells = [("progressive", 0, 1), ("finetune", 1, 0), ("progressive", 0, 0), ("finetune", 0, 10), ("finetune", 0, 9)]
    for strategy, order, seed in cells:
        make_result(strategy, seed, order).save(tmp_path / "runs" / strategy / f"order-{order}-seed-{seed}")
    results = load_results(str(tmp_path))
    assert [(run.strategy, run.order, run.seed) for run in results] == sorted(cells)
    assert results.strategies == ("finetune", "progressive")
    assert len(results) == 5
    assert repr(results) == "Results(5 runs of finetune, progressive)"
    assert results[0].seed == 9
    assert [run.seed for run in results[:2]] == [9, 10]


def test_a_folder_without_a_finished_run_is_refused(tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_text("{}")
    for folder in (tmp_path, tmp_path / "absent"):
        with pytest.raises(RunFolderError) as caught:
            load_results(folder)
        assert str(caught.value) == (
            f"folder: required at least one finished run below {folder}, found none; name the folder that "
            "`prognet run` wrote to."
        )


def test_one_damaged_run_is_named(tmp_path: Path) -> None:
    make_result().save(tmp_path / "good")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / RESULT_FILE).write_text("{")
    with pytest.raises(RunFolderError, match="bad/result.json: required a prognet.result file"):
        load_results(tmp_path)


def test_the_frame_has_one_row_per_run_step_and_task() -> None:
    frame = Results([make_result("progressive", seed=3, order=2), make_result("finetune")]).frame
    assert list(frame.columns) == [
        *("strategy", "order", "seed", "step", "task", "task_name", "accuracy", "cross_entropy"),
    ]
    assert len(frame) == 2 * 2 * 2
    row = frame.iloc[2]
    assert (row.strategy, row.order, row.seed, row.step, row.task, row.task_name) == ("progressive", 2, 3, 1, 0, "0 1")
    assert row.accuracy == 0.1 + 0.2
    assert np.isnan(frame.iloc[1].accuracy)  # task 1 after step 0


def test_no_runs_are_an_empty_sequence() -> None:
    assert len(Results([])) == 0
    assert repr(Results([])) == "Results(0 runs of nothing)"
    assert Results([]).frame.empty


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (nan, None),
        (inf, "inf"),
        (np.float64(-inf), "-inf"),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3),
        (np.bool_(True), True),
        (np.array([[1.0, nan]]), [[1.0, None]]),
        ((1, "a", None, False), [1, "a", None, False]),
        ({1: Path("a/b")}, {"1": "a/b"}),
    ],
)
def test_values_become_json(value: object, expected: object) -> None:
    found = to_json(value)
    assert found == expected
    assert type(found) is type(expected)


@pytest.mark.parametrize("value", [{1, 2}, object(), lambda: None, 1j])
def test_a_value_without_a_json_form_is_refused(value: object) -> None:
    with pytest.raises(JSONValueError) as caught:
        result_to_json(make_result(config={"strategy": [value]}))
    assert str(caught.value) == (
        f"value: required numbers, text, lists and mappings, which JSON can hold, found {type(value).__name__}."
    )
