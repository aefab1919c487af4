from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from prognet.config import Measurement, Training
from prognet.errors import CheckpointError
from prognet.evaluation import tuning
from prognet.evaluation.agnostic import Gates, gates_for, infer
from prognet.evaluation.harness import run
from prognet.evaluation.store import RunStore
from prognet.gates import AutoEncoderGate, ConfidenceGate, EntropyGate, Gate
from prognet.results import RESULT_FILE, RunResult, load_results, result_to_json
from prognet.streams import permuted_digits
from prognet.streams.objectives import Classification, Objective
from prognet.streams.stream import Stream
from tests.helpers.gates import apart, part_of, read_logits, written_stream
from tests.helpers.runs import (
    KINDS,
    MEASUREMENT,
    NORMED,
    PLAIN,
    TRAINING,
    assert_same_numbers,
    assert_same_tensors,
    make_session,
    modes,
    quick_run,
    tensors,
)
from tests.helpers.streams import make_stream

ALL: Any = ("confidence", "entropy", "autoencoder")
WITHOUT = replace(MEASUREMENT, gates=())
EVERY = replace(MEASUREMENT, gates=ALL, gate_steps="every")
CPU = torch.device("cpu")

ROWS: list[list[tuple[Sequence[float], int]]] = [
    [((9.0, 0, 0, 0, 1), 0), ((0, 5.0, 8.0, 0, 0), 1), ((4.0, 0, 0, 3.0, 0), 1)],
    [((0, 1.0, 0, 0, 7.0), 2), ((6.0, 0, 0, 1.0, 0), 1)],
]
"""Task 0: right; task 1 chosen for; task 0 and the wrong class. Task 1: right; task 0 chosen for."""


@pytest.fixture(autouse=True)
def short_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """Auto-encoders of a run are trained for a few updates only."""
    monkeypatch.setattr("prognet.evaluation.agnostic.GATES", {**_gates(), "autoencoder": short})


def short() -> AutoEncoderGate:
    return AutoEncoderGate(updates=20, lr=0.01)


def _gates() -> dict[str, Any]:
    return {"confidence": ConfidenceGate, "entropy": EntropyGate}


def counted(stream: Stream, gate: Gate, true: int, batch: int = 16) -> tuple[list[int], int]:
    session = make_session(measurement=Measurement(evaluation_batch_size=batch))
    counts, right = infer(read_logits, {"gate": gate}, stream, true, [0, 1], session)["gate"]
    return counts.tolist(), right


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_choices_and_right_names_are_counted(batch: int) -> None:
    stream = written_stream(ROWS)
    assert counted(stream, ConfidenceGate(), 0, batch) == ([2, 1], 1)
    assert counted(stream, ConfidenceGate(), 1, batch) == ([1, 1], 1)


def test_the_same_name_in_another_task_is_right() -> None:
    # the second sample of task 0 is class "b"; task 1 says its class 0, which is "b" here, and "c" in the other stream
    assert counted(written_stream(ROWS, (("a", "b"), ("b", "a", "e"))), ConfidenceGate(), 0) == ([2, 1], 2)
    # the second sample of task 1 is class 1, "a"; task 0 says its class 0, "a"
    assert counted(written_stream(ROWS, (("a", "b"), ("b", "a", "e"))), ConfidenceGate(), 1) == ([1, 1], 2)


def test_the_same_place_under_another_name_is_wrong() -> None:
    # task 0 says class 0 for the second sample of task 1, whose class 0 has another name
    rows: list[list[tuple[Sequence[float], int]]] = [ROWS[0], [((6.0, 0, 1.0, 0, 0), 0)]]
    assert counted(written_stream(rows), ConfidenceGate(), 1) == ([1, 0], 0)


def test_the_matrix_and_the_confusion_of_a_run_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    stream = written_stream(ROWS)
    strategy = KINDS["independent"](PLAIN)
    monkeypatch.setattr(type(strategy), "predict", lambda self, x, label: read_logits(x, label))
    measurement = Measurement(gates=("confidence",), gate_steps="every")
    result = quick_run(strategy, stream, measurement=measurement, training=Training(epochs=0))
    record = result.gates["confidence"]
    np.testing.assert_array_equal(record.accuracy, [[2 / 3, np.nan], [1 / 3, 1 / 2]])
    first, second = record.confusion
    np.testing.assert_array_equal(first, [[3, 0], [0, 0]])
    np.testing.assert_array_equal(second, [[2, 1], [1, 1]])
    assert record.parameters == (0, 0)
    assert not record.shared_names


def sure_of(task: int) -> Any:
    """Answers rightly in every task, and is the surest by far in one of them, whatever the input."""

    def predict(x: Tensor, label: int) -> Tensor:
        mean = part_of(x, label)
        sign = torch.where(mean > 0, 1.0, -1.0) * (50.0 if label == task else 1.0)
        return torch.stack([-sign, sign], dim=1)

    return predict


def trained(stream: Stream, gate: Gate) -> Gate:
    for task in stream:
        gate.learn(task, 0, CPU)
    return gate


def test_auto_encoders_are_right_where_confidence_must_fail() -> None:
    stream = apart()
    gates = {
        "confidence": ConfidenceGate(),
        "entropy": EntropyGate(),
        "autoencoder": trained(stream, AutoEncoderGate(updates=400, lr=0.01)),
    }
    session = make_session()
    for label in range(3):
        found = infer(sure_of(2), gates, stream, label, [0, 1, 2], session)
        chosen = {name: counts.tolist() for name, (counts, _) in found.items()}
        own = [30 * (label == task) for task in range(3)]
        assert chosen == {"confidence": [0, 0, 30], "entropy": [0, 0, 30], "autoencoder": own}
        right = {name: number for name, (_, number) in found.items()}
        assert right == {"confidence": own[2], "entropy": own[2], "autoencoder": 30}


def test_with_shared_names_a_wrong_task_may_be_right() -> None:
    stream = apart(names=("low", "high"))
    counts, right = infer(sure_of(2), {"gate": ConfidenceGate()}, stream, 2, [0, 1, 2], make_session())["gate"]
    assert (counts.tolist(), right) == ([0, 0, 30], 30)
    # task 2 sees nothing but noise in the samples of task 0, and still is often right by name
    counts, right = infer(sure_of(2), {"gate": ConfidenceGate()}, stream, 0, [0, 1, 2], make_session())["gate"]
    assert counts.tolist() == [0, 0, 30]
    noise = part_of(stream[0].test.x, 2) > 0
    assert right == int((noise == stream[0].test.y.bool()).sum()) > 5


def test_only_learned_tasks_are_chosen() -> None:
    counts, _ = infer(sure_of(2), {"gate": ConfidenceGate()}, apart(), 0, [0, 1], make_session())["gate"]
    assert counts.tolist() == [30, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_gates_change_nothing_but_their_own_record(kind: str) -> None:
    plain = quick_run(KINDS[kind](NORMED), make_stream(), measurement=WITHOUT)
    gated = quick_run(KINDS[kind](NORMED), make_stream(), measurement=EVERY)
    assert plain.gates == {}
    assert list(gated.gates) == list(ALL)
    assert_same_tensors(tensors(gated.learner), tensors(plain.learner))
    assert modes(gated.learner) == modes(plain.learner)
    assert_same_numbers(replace(gated, gates={}, config=plain.config), plain)
    for record in gated.gates.values():
        assert (np.isnan(record.accuracy) == np.isnan(gated.accuracy)).all()
        assert len(record.measured) == len(gated.schedule)


def test_a_gate_that_is_always_right_gives_the_accuracy_with_labels_bit_for_bit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "prognet.evaluation.agnostic.GATES", {"autoencoder": lambda: AutoEncoderGate(updates=400, lr=0.01)}
    )
    measurement = replace(MEASUREMENT, gates=("autoencoder",), gate_steps="every")
    result = quick_run(KINDS["finetune"](PLAIN), apart(), measurement=measurement)
    record = result.gates["autoencoder"]
    np.testing.assert_array_equal(record.accuracy, result.accuracy)
    for step, counts in enumerate(record.confusion):
        np.testing.assert_array_equal(counts, np.diag([30 * (task <= step) for task in range(3)]))
    assert record.parameters == (162, 324, 486)  # 2 * 12 * 6 + 6 + 12 for each task


def test_after_the_last_step_only_unless_asked_for() -> None:
    result = quick_run(KINDS["progressive"](PLAIN), make_stream(), measurement=replace(MEASUREMENT, gates=ALL))
    for record in result.gates.values():
        assert record.measured == (2,)
        assert record.confusion[:2] == (None, None)
        assert np.isnan(record.accuracy[:2]).all()
        assert not np.isnan(record.accuracy[2]).any()
    assert Measurement().gates == ("confidence", "entropy")
    assert Measurement().gate_steps == "last"


def test_a_joint_schedule_has_its_one_step() -> None:
    (counts,) = quick_run(KINDS["multitask"](PLAIN), make_stream()).gates["confidence"].confusion
    assert counts is not None
    assert counts.sum(axis=1).tolist() == [30, 30, 30]


def test_a_task_that_is_learned_again_keeps_its_auto_encoder() -> None:
    stream, gates = make_stream(), Gates(ALL)
    gates.learn([stream[0]], make_session())
    before = tensors(gates)
    gates.learn([stream[0], stream[1]], make_session())
    after = tensors(gates)
    assert_same_tensors({name: after[name] for name in before}, before)
    assert len(after) == 2 + 2 * 4


def test_all_strategies_have_the_same_auto_encoders() -> None:
    confusions = [
        quick_run(KINDS[kind](PLAIN), make_stream(), measurement=EVERY).gates["autoencoder"].confusion[-1]
        for kind in ("independent", "finetune", "multitask")
    ]
    for confusion in confusions[1:]:
        np.testing.assert_array_equal(confusion, confusions[0])


def test_permuted_digits_share_their_names() -> None:
    stream = permuted_digits(n_tasks=2)
    strategy = KINDS["independent"](PLAIN)
    result = quick_run(strategy, stream, measurement=replace(MEASUREMENT, gates=("confidence",)))
    record = result.gates["confidence"]
    assert record.shared_names
    learner = result.learner.eval()
    x = stream[0].normalisation(stream[0].test.x)
    with torch.no_grad():
        outputs = {label: learner.predict(x, label) for label in range(2)}
    chosen = torch.where(
        outputs[1].softmax(1).amax(1) > outputs[0].softmax(1).amax(1),
        outputs[1].argmax(1),
        outputs[0].argmax(1),
    )
    right = (chosen == stream[0].test.y).double().mean().item()
    assert record.accuracy[-1, 0] == pytest.approx(right, abs=2 / len(x))  # single precision against double


def test_one_head_for_all_gives_the_accuracy_with_labels() -> None:
    stream = make_stream((3, 3, 3), heads="shared")
    result = quick_run(KINDS["finetune"](PLAIN), stream, measurement=replace(MEASUREMENT, gates=ALL))
    for record in result.gates.values():
        np.testing.assert_array_equal(record.accuracy[-1], result.accuracy[-1])
    counts = result.gates["confidence"].confusion[-1]
    np.testing.assert_array_equal(counts, [[30, 0, 0]] * 3)  # of equal evidence the lowest label wins


def test_nothing_is_measured_without_logits() -> None:
    class Other(Objective):
        primary = "accuracy"
        loss = Classification.loss
        metrics = Classification.metrics
        correct = Classification.correct

    tasks = [replace(task, objective=Other()) for task in make_stream((2, 2))]
    assert len(gates_for(ALL, tasks)) == 0
    assert len(gates_for(ALL, make_stream((2, 2)))) == 3


class Killed(BaseException):
    """Stands in for the end of the process: nothing catches it."""


def killed_at(name: str, after: bool) -> Any:
    """`Path.replace`, but the process ends where a file of this name is put in its place; `after` that or before."""
    move = Path.replace

    def wrapped(path: Path, target: Path) -> Path:
        if target.name == name and not after:
            raise Killed
        moved = move(path, target)
        if target.name == name:
            raise Killed
        return moved

    return wrapped


@cache
def undisturbed() -> RunResult:
    return quick_run(KINDS["progressive"](NORMED), make_stream(), measurement=EVERY)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("step", [1, 2, 3])
def test_a_killed_run_with_gates_ends_undisturbed(
    step: int, after: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at(f"gates-{step}.safetensors", after))
        with pytest.raises(Killed):
            quick_run(KINDS["progressive"](NORMED), make_stream(), out=tmp_path, measurement=EVERY)
    store = RunStore.of(tmp_path, "progressive", 0, 0)
    progress = store.progress()
    assert (0 if progress is None else len(progress.schedule)) == step - 1
    resumed = quick_run(KINDS["progressive"](NORMED), make_stream(), out=tmp_path, measurement=EVERY)
    assert_same_numbers(resumed, undisturbed())
    assert_same_tensors(tensors(resumed.learner), tensors(undisturbed().learner))
    assert_same_numbers(load_results(tmp_path)[0], undisturbed())
    assert [path.name for path in store.folder.glob("gates-*")] == ["gates-3.safetensors"]


def test_the_gates_of_a_resumed_run_are_those_that_were_stored(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at(RESULT_FILE, after=False))
        with pytest.raises(Killed):
            quick_run(KINDS["finetune"](PLAIN), make_stream(), out=tmp_path, measurement=EVERY)
    store = RunStore.of(tmp_path, "finetune", 0, 0)
    result = store.progress()
    assert result is not None
    gates = Gates(ALL)
    gates.learn([task.outline() for task in make_stream()], make_session())
    store.load_gates(gates, result)
    required = Gates(ALL)
    required.learn(make_stream(), make_session())
    assert_same_tensors(tensors(gates), tensors(required))


def test_gates_that_were_lost_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at("state-2.safetensors", after=False))
        with pytest.raises(Killed):
            quick_run(KINDS["finetune"](PLAIN), make_stream(), out=tmp_path, measurement=EVERY)
    lost = RunStore.of(tmp_path, "finetune", 0, 0).folder / "gates-1.safetensors"
    lost.unlink()
    with pytest.raises(CheckpointError) as caught:
        quick_run(KINDS["finetune"](PLAIN), make_stream(), out=tmp_path, measurement=EVERY)
    assert str(caught.value) == (
        f"{lost}: required a safetensors file, found none; remove the folder {lost.parent} and run the same command "
        "again."
    )


def test_gates_without_tensors_leave_no_file(tmp_path: Path) -> None:
    quick_run(KINDS["finetune"](PLAIN), make_stream(), out=tmp_path)
    folder = RunStore.of(tmp_path, "finetune", 0, 0).folder
    assert RESULT_FILE in {path.name for path in folder.iterdir()}
    assert not list(folder.glob("gates-*"))


def test_a_run_with_gates_is_read_back_as_it_was(tmp_path: Path) -> None:
    result = quick_run(KINDS["multitask-cumulative"](PLAIN), make_stream(), out=tmp_path, measurement=EVERY)
    read = load_results(tmp_path)[0]
    assert read == result
    assert result_to_json(read) == result_to_json(result)
    assert read.gates["autoencoder"].parameters == (280, 560, 840)  # 2 * 16 * 8 + 8 + 16 for each task


def test_the_time_of_the_gates_counts_as_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    now = iter(range(0, 10_000, 1000))
    monkeypatch.setattr("prognet.evaluation.agnostic.perf_counter", lambda: next(now))
    costs = quick_run(KINDS["finetune"](PLAIN), make_stream()).costs
    assert all(1000 <= cost.evaluation_seconds < 1900 and cost.seconds < 900 for cost in costs)


def test_a_search_measures_no_gates(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Measurement] = []

    def noting(*arguments: Any, **options: Any) -> RunResult:
        seen.append(options["measurement"])
        return run(*arguments, **options)

    monkeypatch.setattr("prognet.evaluation.tuning.run", noting)
    tuning.tune([KINDS["finetune"](PLAIN)], make_stream((2,)), training=TRAINING, trials=1, measurement=EVERY)
    assert [measurement.gates for measurement in seen] == [()]
