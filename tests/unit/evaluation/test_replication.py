"""Seeds that are trained together: each as alone but for rounding, and a stack that was killed goes on as a stack."""

import shutil
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import cnn, mlp, vit_tiny
from prognet.config import Execution, Training
from prognet.errors import ConfigError, DivergedError, PrognetError, RunFolderError, StackingWarning
from prognet.evaluation import grid, replication, verify
from prognet.evaluation.harness import run
from prognet.evaluation.replication import run_together
from prognet.evaluation.store import RunStore, settle
from prognet.metrics import forgetting
from prognet.results import RunResult
from prognet.strategies import FineTune, Independent, MultiTask, Progressive, Strategy, wrapped
from prognet.streams import PerSeed, low_data_digits
from prognet.streams.stream import Stream
from prognet.streams.task import Task
from prognet.training import Session
from prognet.training.together import train_stacked
from tests.helpers.runs import KINDS, MEASUREMENT, PLAIN, assert_same_numbers, assert_same_tensors, tensors
from tests.helpers.streams import make_byte_stream, make_stream

SEEDS = (4, 0, 7)
STREAM = make_stream()
TRAINING = Training(epochs=2, batch_size=16, lr=0.01)
GATED = replace(MEASUREMENT, gates=("autoencoder",))
NORMED = mlp(hidden=(8, 6), batch_norm=True)
DROPPING = mlp(hidden=(8, 6), dropout=0.2)


def settings(training: Training = TRAINING, **changes: Any) -> Session:
    execution = Execution(stack=len(SEEDS), **changes.pop("execution", {}))
    return Session(
        training=training,
        measurement=changes.pop("measurement", MEASUREMENT),
        execution=execution,
        seed=0,
        device=torch.device("cpu"),
        **changes,
    )


def together(
    strategy: Strategy, stream: Stream = STREAM, session: Session | None = None, out: Path | None = None
) -> list[RunResult | PrognetError]:
    return run_together(strategy, [stream] * len(SEEDS), session or settings(), SEEDS, 1, out)


def one_by_one(strategy: Strategy, stream: Stream = STREAM, session: Session | None = None) -> list[RunResult]:
    session = session or settings()
    return [
        run(
            strategy,
            stream,
            training=session.training,
            measurement=session.measurement,
            execution=session.execution,
            seed=seed,
            device="cpu",
            threads=1,
        )
        for seed in SEEDS
    ]


def results_of(outcomes: Sequence[RunResult | PrognetError]) -> list[RunResult]:
    assert all(isinstance(outcome, RunResult) for outcome in outcomes), outcomes
    return [outcome for outcome in outcomes if isinstance(outcome, RunResult)]


def both(
    strategy: Callable[[], Strategy], stream: Stream = STREAM, session: Session | None = None
) -> tuple[list[RunResult], list[RunResult]]:
    """The runs of all seeds, trained together, and one by one."""
    return results_of(together(strategy(), stream, session)), one_by_one(strategy(), stream, session)


def assert_close_runs(found: Sequence[RunResult], required: Sequence[RunResult], bound: float = 2e-4) -> None:
    """Equal but for rounding: networks, curves, matrices; and to the digit what was counted."""
    for ours, theirs in zip(found, required, strict=True):
        assert (ours.seed, ours.schedule, ours.config) == (theirs.seed, theirs.schedule, theirs.config)
        numbers = tensors(ours.learner)
        for name, tensor in tensors(theirs.learner).items():
            torch.testing.assert_close(numbers[name], tensor, rtol=bound, atol=bound, msg=name)
        for one, other in zip(ours.costs, theirs.costs, strict=True):
            assert (one.updates, one.samples, one.parameters) == (other.updates, other.samples, other.parameters)
            assert one.training_flops == other.training_flops
            assert one.feature_flops == other.feature_flops
        for curve, expected in zip(ours.curves, theirs.curves, strict=True):
            assert (curve.task, curve.updates, len(curve.validation)) == (
                expected.task,
                expected.updates,
                len(expected.validation),
            )
            assert curve.accuracy == pytest.approx(expected.accuracy, abs=0.051)  # one of 20 samples may tip
            assert curve.validation == pytest.approx(expected.validation, rel=1e-3, nan_ok=True)


@pytest.fixture
def sizes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many runs each training had that was carried out together."""
    found: list[int] = []
    original = train_stacked

    def noting(runs: Any, sources: Any) -> Any:
        outcome = original(runs, sources)
        found.append(len(runs))
        return outcome

    monkeypatch.setattr(replication, "train_stacked", noting)
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_every_strategy_has_the_numbers_that_it_has_alone(kind: str, sizes: list[int]) -> None:
    found, required = both(lambda: KINDS[kind](PLAIN))
    assert_close_runs(found, required)
    assert len(sizes) >= len(found[0].schedule)
    assert set(sizes) == {len(SEEDS)}


def repeating(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    """A network in which one layer stands at two places, and another one has a weight of it."""
    twice, tied = nn.Linear(8, 8), nn.Linear(8, 8)
    tied.weight = twice.weight
    first = nn.Linear(torch.Size(input_shape).numel(), 8)
    return nn.Sequential(nn.Flatten(), first, nn.Tanh(), twice, nn.Tanh(), twice, tied, nn.Linear(8, n_classes))


@pytest.mark.parametrize(
    ("strategy", "stream"),
    [
        pytest.param(lambda: Progressive(NORMED), STREAM, id="norms"),
        pytest.param(lambda: FineTune(NORMED), STREAM, id="shared norms"),
        pytest.param(
            lambda: Progressive(cnn(channels=(3, 4))), make_stream((2, 3), shape=(1, 8, 8)), id="convolutions"
        ),
        pytest.param(
            lambda: FineTune(vit_tiny()),
            make_stream((2, 2), [20, 20], shape=(1, 8, 8)),
            marks=pytest.mark.slow,
            id="attention",
        ),
        pytest.param(lambda: FineTune(repeating), make_stream((2, 3)), id="a layer at two places"),
        pytest.param(lambda: Independent(PLAIN), make_byte_stream(), id="bytes"),
        pytest.param(lambda: MultiTask(PLAIN, sampling=1.0), make_stream((2, 3), [40, 21]), id="proportional"),
        pytest.param(lambda: FineTune(PLAIN), make_stream((3, 3), heads="shared"), id="one head"),
        pytest.param(lambda: Independent(PLAIN), make_stream(n_val=0), id="no validation"),
    ],
)
def test_networks_and_streams_of_many_kinds(strategy: Callable[[], Strategy], stream: Stream, sizes: list[int]) -> None:
    # plain gradient descent: Adam makes as much of a gradient that is nothing but rounding as of any other
    session = settings(Training(epochs=2, batch_size=16, lr=0.05, optimiser="sgd"))
    assert_close_runs(*both(strategy, stream, session))
    assert sizes


@pytest.mark.parametrize(
    "training",
    [
        Training(epochs=2, batch_size=16, optimiser="sgd", lr=0.1, momentum=0.9, weight_decay=0.01, schedule="cosine"),
        Training(epochs=2, batch_size=16, optimiser="rmsprop", lr=0.001, label_smoothing=0.1),
        Training(epochs=2, batch_size=16, optimiser="adamw", lr=0.01, clip_norm=0.05),
        Training(updates=7, first_updates=5, batch_size=9, first_batch_size=20, lr=0.01),
    ],
    ids=["sgd", "rmsprop", "clipped", "updates"],
)
@pytest.mark.parametrize("kind", ["progressive", "multitask"])
def test_every_way_to_train(kind: str, training: Training, sizes: list[int]) -> None:
    session = settings(training)
    assert_close_runs(*both(lambda: KINDS[kind](PLAIN), session=session))
    assert sizes


def test_early_stopping_stops_each_seed_by_itself(sizes: list[int]) -> None:
    session = settings(Training(epochs=12, batch_size=8, lr=0.05, patience=1))
    found, required = both(lambda: Independent(PLAIN), session=session)
    assert_close_runs(found, required)
    assert sizes == [3, 3, 3]
    assert len({cost.updates for result in required for cost in result.costs}) > 2  # they did stop at different times


@pytest.mark.parametrize("kind", ["progressive", "finetune-head"])
def test_features_that_are_not_kept(kind: str, sizes: list[int]) -> None:
    session = settings(execution={"feature_memory": 0})
    assert_close_runs(*both(lambda: KINDS[kind](PLAIN), session=session))
    assert sizes == [3, 3, 3]


def test_half_precision(sizes: list[int]) -> None:
    session = settings(execution={"precision": "bfloat16"})
    found, required = both(lambda: FineTune(PLAIN), session=session)
    assert sizes == [3, 3, 3]
    for ours, theirs in zip(found, required, strict=True):
        numbers = tensors(ours.learner)
        assert all(torch.allclose(numbers[name], one, atol=0.1) for name, one in tensors(theirs.learner).items())


@pytest.mark.slow
def test_gates_that_learn(sizes: list[int]) -> None:
    session = settings(measurement=GATED)
    found, required = both(lambda: Independent(PLAIN), session=session)
    assert_close_runs(found, required)
    assert len(found[0].gates) == 1
    assert sizes == [3, 3, 3]  # the gates themselves are trained one by one


def test_draws_of_their_own(tmp_path: Path, sizes: list[int]) -> None:
    made: list[int] = []

    def make(order: int, seed: int) -> Stream:
        made.append(seed)
        return low_data_digits(2, 4, views=("inverted",), task_order="seeded", seed=order, draw=seed)

    arguments: dict[str, Any] = {"seeds": SEEDS, "training": TRAINING, "measurement": MEASUREMENT, "device": "cpu"}
    strategies = [Progressive(PLAIN), FineTune(PLAIN)]
    found = grid(strategies, PerSeed(make), out=tmp_path / "a", execution=Execution(stack=2), **arguments)
    assert made == [4, 0, 7]  # once for all strategies
    assert set(sizes) == {2}  # the third seed is alone
    required = grid(strategies, PerSeed(make), out=tmp_path / "b", **arguments)
    expected_of = {(result.strategy, result.seed): result for result in required.results}
    assert len(expected_of) == len(found.results) == 6
    for ours in found.results:
        theirs = expected_of[ours.strategy, ours.seed]
        assert ours.environment["together"] == ([7] if ours.seed == 7 else [4, 0])
        for curve, expected in zip(ours.curves, theirs.curves, strict=True):
            assert curve.validation == pytest.approx(expected.validation, rel=1e-3, nan_ok=True)


def test_the_same_bits_again_and_nothing_forgotten(tmp_path: Path) -> None:
    first = results_of(together(Progressive(NORMED), out=tmp_path))
    second = results_of(together(Progressive(NORMED)))
    for one, other in zip(first, second, strict=True):
        assert_same_numbers(one, other)
        assert_same_tensors(tensors(one.learner), tensors(other.learner))
        assert forgetting(one.accuracy) == 0.0
    assert [verdict.problem for verdict in verify(tmp_path)] == [None] * len(SEEDS)


def test_random_numbers_outside_are_left_alone() -> None:
    torch.manual_seed(1)
    before = torch.get_rng_state()
    together(FineTune(PLAIN))
    assert torch.equal(torch.get_rng_state(), before)


def test_an_equal_share_of_the_time_is_booked_for_each() -> None:
    started = perf_counter()
    found = results_of(together(FineTune(PLAIN)))
    elapsed = perf_counter() - started
    for costs in zip(*(result.costs for result in found), strict=True):
        assert len({cost.seconds for cost in costs}) == 1
        assert costs[0].seconds > 0
    assert sum(cost.seconds + cost.evaluation_seconds for result in found for cost in result.costs) < elapsed


class Apart(FineTune):
    """Computes with a number that is in no module."""

    factor: Tensor

    def learn(self, tasks: Sequence[Task]) -> None:
        self.factor = torch.tensor(1.0 + self.current_session().seed)
        super().learn(tasks)

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return super().predict(x, task_label) * self.factor


class Uneven(Independent):
    """A network that is wider for odd seeds."""

    def build(self, task: Task, purpose: str = "backbone", width: float = 1.0) -> nn.Module:
        return super().build(task, purpose, width=1.0 + self.current_session().seed % 2)


class Gated(nn.Module):
    """A network that looks at its numbers."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.layer = nn.Linear(16, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layer(x.flatten(1))
        return y if y.sum() > 0 else 2 * y


def gated(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return Gated(n_classes)


@pytest.mark.parametrize(
    ("strategy", "training", "reason"),
    [
        (lambda: FineTune(DROPPING), TRAINING, "vmap: called random operation"),
        (lambda: wrapped("EWC", PLAIN), TRAINING, "their updates are not plain ones"),
        (
            lambda: Apart(PLAIN, name="finetune"),
            TRAINING,
            "what they compute together differs from what each computes alone",
        ),
        (
            lambda: Independent(gated),
            TRAINING,
            "vmap: It looks like you're attempting",
        ),
        (
            lambda: FineTune(PLAIN),
            replace(TRAINING, augment=("flip",)),
            "their images are augmented, each with random numbers of its own",
        ),
    ],
    ids=["dropout", "avalanche", "apart", "data-dependent", "augmented"],
)
def test_what_cannot_be_done_together_is_done_one_by_one_and_said(
    strategy: Callable[[], Strategy], training: Training, reason: str
) -> None:
    session = settings(training)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        found = results_of(together(strategy(), session=session))
    assert [warning.category for warning in caught] == [StackingWarning]  # once, not for every task
    name = strategy().name
    assert all(
        str(warning.message).startswith(f"{name}: its seeds are trained one by one, since {reason}")
        for warning in caught
    )
    for ours, theirs in zip(found, one_by_one(strategy(), session=session), strict=True):
        assert_same_numbers(replace(ours, environment=theirs.environment), theirs)  # bit for bit
        assert_same_tensors(tensors(ours.learner), tensors(theirs.learner))


def test_only_like_networks_are_trained_together(sizes: list[int]) -> None:
    found = results_of(together(Uneven(mlp(hidden=(8,)))))
    assert_close_runs(found, one_by_one(Uneven(mlp(hidden=(8,)))))
    assert sizes == [2, 2, 2]  # seeds 4 and 0


class Exploding(Independent):
    """Seed 0 fails in the second task."""

    def build(self, task: Task, purpose: str = "backbone", width: float = 1.0) -> nn.Module:
        network = super().build(task, purpose, width)
        if self.current_session().seed == 0 and task.label == 1:
            for parameter in network.parameters():
                parameter.data.fill_(float("inf"))
        return network


def test_a_seed_that_diverges_leaves_the_others(tmp_path: Path) -> None:
    first, second, third = together(Exploding(PLAIN), out=tmp_path)
    assert isinstance(second, DivergedError)
    assert "found nan at update 0" in str(second)
    required = one_by_one(Independent(PLAIN, name="independent"))
    assert isinstance(first, RunResult)
    assert isinstance(third, RunResult)
    for found, expected in ((first, required[0]), (third, required[2])):
        assert found.accuracy == pytest.approx(expected.accuracy, abs=0.04, nan_ok=True)
    again = together(Exploding(PLAIN), out=tmp_path)
    assert again[0] == first
    assert isinstance(again[1], DivergedError)


class Killed(BaseException):
    """Stands in for the end of the process: nothing catches it."""


def killed_at(call: int) -> Any:
    """`Path.replace`, but the process ends before one of its calls, counted from 1."""
    calls: list[Path] = []
    move = Path.replace

    def wrapped_move(path: Path, target: Path) -> Path:
        calls.append(target)
        if len(calls) == call:
            raise Killed
        return move(path, target)

    return wrapped_move


SHORT = make_stream((2, 3)), settings(Training(epochs=1, batch_size=16, lr=0.01))


@cache
def undisturbed() -> list[RunResult]:
    return results_of(together(FineTune(NORMED), *SHORT))


@pytest.mark.parametrize("write", range(1, 28))
def test_a_stack_that_is_killed_before_any_write_goes_on_as_a_stack(
    write: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # each of three seeds writes proof, tensors and progress, then each promotes it, in two steps; then three results
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at(write))
        with pytest.raises(Killed):
            together(FineTune(NORMED), *SHORT, tmp_path)
    found = results_of(together(FineTune(NORMED), *SHORT, tmp_path))
    for ours, theirs in zip(found, undisturbed(), strict=True):
        assert_same_numbers(ours, theirs)
    assert [verdict.problem for verdict in verify(tmp_path)] == [None] * len(SEEDS)


@pytest.mark.parametrize(("write", "steps"), [(9, 0), (10, 1), (11, 1), (12, 1), (13, 1), (21, 1), (22, 2)])
def test_a_step_that_all_have_written_is_not_done_again(
    write: int, steps: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", killed_at(write))
        with pytest.raises(Killed):
            together(FineTune(NORMED), *SHORT, tmp_path)
    stores = [RunStore.of(tmp_path, "finetune", 0, seed) for seed in SEEDS]
    settle(stores)
    progress = [store.progress() for store in stores]
    assert [0 if result is None else len(result.schedule) for result in progress] == [steps] * len(SEEDS)


def test_a_stack_is_not_continued_with_other_seeds(tmp_path: Path) -> None:
    def stop(updates: int) -> None:
        if len(told := [*stopped, updates]) > 12:
            raise Killed
        stopped[:] = told

    stopped: list[int] = []
    with pytest.raises(Killed):
        together(FineTune(PLAIN), session=settings(advance=stop), out=tmp_path)
    (failed,) = run_together(FineTune(PLAIN), [STREAM], replace(settings(), seed=4), (4,), 1, tmp_path)
    assert isinstance(failed, RunFolderError)
    assert "required together [4, 0, 7], with which this run was begun, found [4]" in str(failed)


def test_finished_seeds_are_read_and_the_others_go_on(tmp_path: Path) -> None:
    first = results_of(together(FineTune(PLAIN), out=tmp_path))
    shutil.rmtree(tmp_path / "runs" / "finetune" / "order-0-seed-0")
    second = results_of(together(FineTune(PLAIN), out=tmp_path))
    assert [one == other for one, other in zip(first, second, strict=True)] == [True, False, True]
    assert [result.schedule for result in second] == [result.schedule for result in first]


def test_a_stack_is_a_number_of_seeds_and_is_not_compiled() -> None:
    for value in (0, True, 2.0):
        with pytest.raises(ConfigError, match="stack: required a whole number of seeds, at least 1"):
            Execution(stack=value)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="stack: required 1 with compile='default'"):
        Execution(stack=2, compile="default")
