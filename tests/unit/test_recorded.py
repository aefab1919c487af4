"""Results whose fields have the right types and do not fit each other: refused by the name of the field."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prognet.documents import value_from
from prognet.errors import JSONValueError, RunFolderError
from prognet.results import RunResult
from tests.helpers.results import make_run
from tests.helpers.sealing import edit


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(tasks=[]), "tasks: required at least one task, found 0"),
        (lambda d: d.update(schedule=[]), "schedule: required at least one step, found 0"),
        (lambda d: d["tasks"][1].update(label=0), "tasks[1].label: required its position 1, found 0"),
        (lambda d: d["tasks"][0].update(n_test=-1), "tasks[0].n_test: required a number, at least 0, found -1"),
        (
            lambda d: d["tasks"][0].update(input_shape=[3, 0]),
            "tasks[0].input_shape: required sizes, at least 1, found (3, 0)",
        ),
        (lambda d: d["schedule"].__setitem__(0, []), "schedule[0]: required different labels of 2 tasks, found ()"),
        (lambda d: d["schedule"].__setitem__(0, [2]), "schedule[0]: required different labels of 2 tasks, found (2,)"),
        (
            lambda d: d["schedule"].__setitem__(0, [0, 0]),
            "schedule[0]: required different labels of 2 tasks, found (0, 0)",
        ),
        (
            lambda d: d["schedule"].__setitem__(0, [-1]),
            "schedule[0]: required different labels of 2 tasks, found (-1,)",
        ),
        (lambda d: d["metrics"]["accuracy"].pop(), "metrics.accuracy: required shape (2, 2), found (1, 2)"),
        (lambda d: d["metrics"].pop("accuracy"), "metrics: required 'accuracy', found ['cross_entropy']"),
        (lambda d: d["curves"][0].update(step=2), "curves[0].step: required a step of the schedule, found 2"),
        (lambda d: d["curves"][0].update(task=-1), "curves[0].task: required a task of the stream, found -1"),
        (lambda d: d["curves"][0].update(updates=[1, 0]), "curves[0].updates: required ascending numbers, at least 0"),
        (lambda d: d["curves"][0].update(accuracy=[0.5]), "curves[0].accuracy: required 17 points, found 1"),
        (lambda d: d["costs"].pop(), "costs: required a record of each of 2 steps, found 1"),
        (lambda d: d["digests"].pop(), "digests: required a record of each of 2 steps, found 1"),
        (lambda d: d["choices"].append({}), "choices: required a record of each of 2 steps, found 1"),
        (
            lambda d: d["costs"][1]["forward_flops"].pop(),
            "costs[1].forward_flops: required a number for each of 2 tasks",
        ),
        (lambda d: d["config"].update(training=[1]), "config.training: required an object, found [1]"),
        (lambda d: d["config"]["stream"].update(arguments=3), "config.stream.arguments: required an object, found 3"),
        (
            lambda d: d["environment"].update(threads=10**6),
            "environment.threads: required a whole number from 1 to 1024",
        ),
        (lambda d: d["environment"].update(threads=0), "environment.threads: required a whole number from 1 to 1024"),
        (
            lambda d: d.update(files={"../x": "0" * 64}),
            "files: required names such as state-1.safetensors, found '../x'",
        ),
        (
            lambda d: d.update(files={"state-1.safetensors": "x"}),
            "files.state-1.safetensors: required 64 hexadecimal digits",
        ),
        (lambda d: d.update(seed=True), "seed: required a whole number of 64 bits, found True"),
        (lambda d: d.update(seed=2**63), "seed: required a whole number of 64 bits, found 9223372036854775808"),
        (lambda d: d["costs"][0].update(seconds=True), "costs[0].seconds: required a number, found True"),
        (lambda d: d["costs"][0].update(seconds="1"), "costs[0].seconds: required a number, found '1'"),
        (
            lambda d: d["metrics"]["accuracy"][0].__setitem__(0, "0.5"),
            "metrics.accuracy[0][0]: required a number, found '0.5'",
        ),
    ],
)
def test_a_field_that_does_not_fit_is_named(
    tmp_path: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    path = make_run("progressive", n_tasks=2).save(tmp_path)
    edit(path, change)
    with pytest.raises(RunFolderError) as caught:
        RunResult.load(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert str(caught.value).endswith(f"; remove the folder {tmp_path} and run the same command again.")


@pytest.mark.parametrize("kind", [int, float])
@pytest.mark.parametrize("value", [True, False])
def test_a_truth_is_no_number(kind: type, value: bool) -> None:
    with pytest.raises(JSONValueError, match="x: required a"):
        value_from(kind, value, "x")


@pytest.mark.parametrize("value", [0, 1, 1.0, "true", None])
def test_a_number_is_no_truth(value: object) -> None:
    with pytest.raises(JSONValueError, match="x: required true or false, found"):
        value_from(bool, value, "x")


def test_a_whole_number_that_a_float_cannot_hold_is_refused() -> None:
    assert value_from(float, 2**53, "x") == 2.0**53
    with pytest.raises(JSONValueError, match="x: required a number, found 9007199254740993"):
        value_from(float, 2**53 + 1, "x")
