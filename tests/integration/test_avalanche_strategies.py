"""A progressive network in Avalanche, and Avalanche's strategies in this harness, from end to end."""

import io
import warnings
from collections.abc import Iterator
from math import isnan
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.optim import Adam

import prognet
from prognet.avalanche import ProgressiveModule, ProgressiveStrategy
from prognet.cli import main
from prognet.errors import ConfigError, StreamError
from prognet.seeds import derive_seed
from prognet.strategies import wrapped
from tests.helpers.avalanche import (
    BENCHMARKS,
    CHECKPOINTING,
    EVALUATION,
    LOGGING,
    METRICS,
    MODELS,
    TRAINING,
    accuracies,
    by_class,
    evaluator,
)
from tests.helpers.plain import plain_batches, plain_network, plain_orders
from tests.helpers.runs import NORMED, PLAIN, assert_same_tensors, from_scratch, quick_run, tensors
from tests.helpers.runs import TRAINING as SETTINGS
from tests.helpers.streams import make_stream

STREAM = make_stream()


class SameBatches(ProgressiveStrategy):
    """Trains on the batches of the training loop, which this writes down once more."""

    def make_train_dataloader(self, **_: Any) -> None:
        task = STREAM[int(self.experience.task_labels[0])]
        self.orders = iter(plain_orders(task, SETTINGS.epochs))
        torch.manual_seed(derive_seed(0, task.label, "training"))
        self.dataloader = self

    def __iter__(self) -> Iterator[list[Tensor]]:
        task = STREAM[int(self.experience.task_labels[0])]
        for chosen in plain_batches(next(self.orders), SETTINGS.batch_size):
            labels = torch.full((len(chosen),), task.label)
            yield [task.normalisation(task.train.x[chosen]), task.train.y[chosen], labels]


def strategy_for(
    kind: type[ProgressiveStrategy] = ProgressiveStrategy, evaluation: Any = None, backbone: Any = NORMED, **more: Any
) -> ProgressiveStrategy:
    model = ProgressiveModule(backbone, seed=0)
    return kind(
        model=model,
        optimizer=Adam(model.parameters(), lr=SETTINGS.lr, fused=True),
        train_mb_size=SETTINGS.batch_size,
        train_epochs=SETTINGS.epochs,
        evaluator=evaluation or evaluator(),
        **more,
    )


def matrix(strategy: ProgressiveStrategy, benchmark: Any, seen_only: bool = False) -> list[list[float]]:
    """The ten lines of an Avalanche user -> the accuracies on the test stream after each experience."""
    torch.manual_seed(0)
    rows = []
    for step, experience in enumerate(benchmark.train_stream):
        strategy.train(experience)
        state = torch.get_rng_state()  # loaders draw a random number each, whatever they load
        results = strategy.eval(benchmark.test_stream[: step + 1] if seen_only else benchmark.test_stream)
        torch.set_rng_state(state)
        rows.append(accuracies(results))
    return rows


@pytest.mark.parametrize("benchmark", [STREAM.benchmark, by_class(task_labels=True)], ids=["stream", "nc_benchmark"])
def test_evaluating_the_whole_stream_is_evaluating_what_was_seen(benchmark: Any) -> None:
    whole, seen = strategy_for(), strategy_for()
    all_rows, seen_rows = matrix(whole, benchmark), matrix(seen, benchmark, seen_only=True)
    for step, (row, own) in enumerate(zip(all_rows, seen_rows, strict=True)):
        assert row[: step + 1] == own[: step + 1]
        assert row[step + 1 :] == [0.0] * (2 - step)
        assert all(later[: step + 1] == row[: step + 1] for later in all_rows[step:])  # nothing is forgotten
    assert_same_tensors(tensors(whole.model), tensors(seen.model))
    assert np.mean(all_rows[-1]) > 0.4  # more than chance


def test_the_accuracy_matrix_is_that_of_a_run_on_the_same_batches() -> None:
    result = quick_run(from_scratch(NORMED), STREAM)
    strategy = strategy_for(SameBatches)
    rows = np.array(matrix(strategy, STREAM.benchmark))
    assert np.array_equal(rows[np.tril_indices(3)], result.accuracy[np.tril_indices(3)])
    assert_same_tensors(tensors(strategy.progressive.network), tensors(result.learner.columns.network))


def test_the_accuracies_are_near_those_of_a_run_on_other_batches() -> None:
    stream = prognet.streams.split_digits(n_tasks=3, seed=0)
    training = prognet.Training(epochs=10, batch_size=64, lr=0.01)
    run = prognet.run(prognet.Progressive(PLAIN), stream, training=training, seed=0, device="cpu")
    model = ProgressiveModule(PLAIN, seed=0)
    strategy = ProgressiveStrategy(
        model=model,
        optimizer=Adam(model.parameters(), lr=0.01),
        train_mb_size=64,
        train_epochs=10,
        eval_mb_size=256,
        evaluator=evaluator(),
    )
    rows = np.array(matrix(strategy, stream.benchmark))
    assert run.accuracy[-1].min() > 0.9
    assert np.abs(rows[-1] - run.accuracy[-1]).max() < 0.05


def test_forward_transfer_with_an_initial_evaluation_changes_nothing() -> None:
    metrics = [
        METRICS.forward_transfer_metrics(experience=True, stream=True),
        METRICS.forgetting_metrics(experience=True),
    ]
    looking, plain = strategy_for(evaluation=evaluator(*metrics), eval_every=1), strategy_for()
    for step, experience in enumerate(STREAM.benchmark.train_stream):
        torch.manual_seed(step)
        looking.train(experience, eval_streams=[STREAM.benchmark.test_stream])
        torch.manual_seed(step)
        plain.train(experience)
    results = looking.eval(STREAM.benchmark.test_stream)
    assert results["StreamForwardTransfer/eval_phase/test_stream"] == 0.0
    forgotten = [value for key, value in results.items() if key.startswith("ExperienceForgetting")]
    assert forgotten == [0.0, 0.0]
    assert [looking.model.network.column(k).frozen for k in range(3)] == [True, True, False]
    assert accuracies(results)[0] > 0.7  # the first column did learn


def test_looking_while_training_draws_from_the_generator_only() -> None:
    """With batches in a fixed order, a strategy that evaluates all the time ends as one that never does."""
    looking, plain = strategy_for(SameBatches, eval_every=1, backbone=PLAIN), strategy_for(SameBatches, backbone=PLAIN)
    for experience in STREAM.benchmark.train_stream:
        looking.train(experience, eval_streams=[STREAM.benchmark.test_stream])
        plain.train(experience)
    assert_same_tensors(tensors(looking.model), tensors(plain.model))


def test_loggers_say_what_they_say_of_every_strategy(capsys: pytest.CaptureFixture[str]) -> None:
    text = io.StringIO()
    metrics = [
        METRICS.accuracy_metrics(epoch=True, experience=True, stream=True),
        METRICS.loss_metrics(experience=True),
    ]
    loggers = [LOGGING.TextLogger(text), LOGGING.InteractiveLogger()]
    strategy = strategy_for(evaluation=EVALUATION.EvaluationPlugin(*metrics, loggers=loggers))
    strategy.train(STREAM.benchmark.train_stream[0])
    results = strategy.eval(STREAM.benchmark.test_stream)
    assert "Top1_Acc_Exp/eval_phase/test_stream/Task001/Exp001 = 0.0000" in text.getvalue()
    assert "Top1_Acc_Epoch/train_phase/train_stream/Task000" in capsys.readouterr().out
    assert isnan(results["Loss_Exp/eval_phase/test_stream/Task002/Exp002"])
    assert results["Loss_Exp/eval_phase/test_stream/Task000/Exp000"] < 1


def test_the_module_in_a_strategy_of_avalanche() -> None:
    model = ProgressiveModule(PLAIN, seed=0)
    naive = TRAINING.Naive(
        model=model,
        optimizer=Adam(model.parameters(), lr=0.01, weight_decay=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        train_epochs=2,
        eval_mb_size=16,
        evaluator=evaluator(),
    )
    rows = []
    for experience in STREAM.benchmark.train_stream:
        naive.train(experience)
        rows.append(accuracies(naive.eval(STREAM.benchmark.test_stream)))
    assert [row[0] for row in rows] == [rows[0][0]] * 3
    assert [row[1:] for row in rows[:1]] == [[0.0, 0.0]]
    assert rows[1][1] == rows[2][1] > 0.3


def test_joint_training_is_refused() -> None:
    model = ProgressiveModule(PLAIN, seed=0)
    joint = TRAINING.JointTraining(
        model=model,
        optimizer=Adam(model.parameters(), lr=0.01),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=16,
        evaluator=evaluator(),
    )
    with pytest.raises(ConfigError, match=r"\(JointTraining adapts to all experiences before it trains\)"):
        joint.train(STREAM.benchmark.train_stream)


def test_a_benchmark_without_labels_is_refused_at_its_second_experience() -> None:
    strategy = strategy_for()
    first, second, _ = by_class(task_labels=False).train_stream
    strategy.train(first)
    with pytest.raises(
        StreamError, match=r"required a task label of its own for classes \[0, 1\], found label 0 again"
    ):
        strategy.train(second)
    assert len(strategy.model.network) == 1


def test_a_tensors_benchmark_with_heads_of_different_sizes() -> None:
    benchmark = BENCHMARKS.tensors_benchmark(
        train_tensors=[(task.train.x, task.train.y) for task in STREAM],
        test_tensors=[(task.test.x, task.test.y) for task in STREAM],
        task_labels=[4, 2, 7],
    )
    strategy = strategy_for()
    rows = matrix(strategy, benchmark)
    assert sorted(strategy.model.tasks) == [2, 4, 7]
    assert [len(strategy.model.tasks[label].classes) for label in (4, 2, 7)] == [2, 5, 3]
    assert rows[-1][0] == rows[0][0]


def test_avalanches_own_checkpoint_goes_on_bit_for_bit(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.pkl"
    first, second, third = STREAM.benchmark.train_stream
    strategy = strategy_for(evaluation=silent())
    torch.manual_seed(3)
    strategy.train(first)
    strategy.train(second)
    CHECKPOINTING.save_checkpoint(strategy, path)
    strategy.train(third)
    torch.manual_seed(99)
    resumed, begin = CHECKPOINTING.maybe_load_checkpoint(strategy_for(evaluation=silent()), path)
    assert begin == 2
    assert len(resumed.model.network) == 2
    resumed.train(third)
    assert_same_tensors(tensors(resumed.model), tensors(strategy.model))
    assert accuracies(resumed.eval(STREAM.benchmark.test_stream)) == accuracies(
        strategy.eval(STREAM.benchmark.test_stream)
    )


def silent() -> Any:
    """Metrics whose logger can be pickled."""
    return EVALUATION.EvaluationPlugin(METRICS.accuracy_metrics(experience=True), loggers=[LOGGING.InteractiveLogger()])


class FedByTheLoop:
    """Makes a strategy of Avalanche take the batches of the training loop, which this writes down once more."""

    def make_train_dataloader(self, **_: Any) -> None:
        (label,) = self.experience.task_labels  # type: ignore[attr-defined]
        self.task, self.orders = STREAM[int(label)], iter(plain_orders(STREAM[int(label)], SETTINGS.epochs))
        torch.manual_seed(derive_seed(0, self.task.label, "training"))
        self.optimizer = Adam(self.model.parameters(), lr=SETTINGS.lr, fused=True)  # type: ignore[attr-defined]
        self.dataloader = self

    def make_optimizer(self, **_: Any) -> None:
        pass

    def __iter__(self) -> Iterator[list[Tensor]]:
        for chosen in plain_batches(next(self.orders), SETTINGS.batch_size):
            x, y = self.task.train.x[chosen], self.task.train.y[chosen]
            yield [x, y, torch.full((len(chosen),), self.task.label)]


class Heads(MODELS.MultiTaskModule):  # type: ignore[misc]
    """A trunk with a head per task, made here and now from the same initial numbers."""

    def __init__(self, seed: int = 0) -> None:
        super().__init__()
        nets = [plain_network(PLAIN, task, seed) for task in STREAM]
        self.trunk = nets[0][:-1]  # type: ignore[index]
        self.heads = nn.ModuleList([net[-1] for net in nets])  # type: ignore[index]

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        out: Tensor = self.heads[task_label](self.trunk(x))
        return out

    def forward(self, x: Tensor, task_labels: Any) -> Any:
        if task_labels is None:
            return {label: self.forward_single_task(x, label) for label in range(3)}
        (label,) = set(task_labels.tolist())
        return self.forward_single_task(x, label)


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("EWC", {"ewc_lambda": 1e4}),
        ("MAS", {"lambda_reg": 3.0, "alpha": 0.5}),
        ("LwF", {"alpha": 2.0, "temperature": 2.0}),
    ],
)
def test_a_wrapped_method_is_avalanches_own_strategy(name: str, options: dict[str, float]) -> None:
    """The same numbers as Avalanche's class in Avalanche's loop, over another module that has all its heads at once."""
    result = quick_run(wrapped(name, PLAIN, options), STREAM)
    kind = type("Fed", (FedByTheLoop, getattr(TRAINING, name)), {})
    model = Heads()
    own = kind(
        model=model,
        optimizer=Adam(model.parameters(), lr=SETTINGS.lr),
        criterion=nn.CrossEntropyLoss(),
        train_mb_size=SETTINGS.batch_size,
        train_epochs=SETTINGS.epochs,
        evaluator=evaluator(),
        **options,
    )
    for experience in STREAM.benchmark.train_stream:
        own.train(experience)
    shared = result.learner.shared
    pairs = [(shared.trunk, model.trunk), *zip(shared.heads.values(), model.heads, strict=True)]
    for found, required in pairs:
        for tensor, other in zip(tensors(found).values(), tensors(required).values(), strict=True):
            torch.testing.assert_close(tensor, other, atol=2e-5, rtol=1e-4)


def test_synaptic_intelligence_of_avalanche_is_void_on_the_cpu_and_ours_is_not() -> None:
    """Why its plugin is repaired: where this fails, Avalanche has been, and the repair can go."""
    model = Heads()
    own = type("Fed", (FedByTheLoop, TRAINING.SynapticIntelligence), {})(
        model=model,
        optimizer=Adam(model.parameters(), lr=SETTINGS.lr),
        criterion=nn.CrossEntropyLoss(),
        si_lambda=10.0,
        train_mb_size=SETTINGS.batch_size,
        train_epochs=SETTINGS.epochs,
        evaluator=evaluator(),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        own.train(STREAM.benchmark.train_stream[0])
    plugin = next(plugin for plugin in own.plugins if hasattr(plugin, "syn_data"))
    assert all(item.data.eq(0).all() for item in plugin.ewc_data[1].values())
    ours = quick_run(wrapped("SI", PLAIN), STREAM).learner._agent.plugin
    assert any(item.data.gt(0).any() for item in ours.ewc_data[1].values())


@pytest.mark.slow
def test_every_name_runs_from_the_command_line_with_a_report(tmp_path: Path) -> None:
    names = ["finetune", "ewc", "lwf", "si", "mas", "replay", "agem"]
    settings = [
        "--seeds",
        "1",
        "--epochs",
        "1",
        "--backbone",
        "mlp(hidden=(8,))",
        "--n-tasks",
        "2",
        "--out",
        str(tmp_path),
    ]
    assert main(["run", "split-digits", "--strategies", *names, *settings]) == 0
    assert main(["report", str(tmp_path)]) == 0
    assert main(["verify", str(tmp_path)]) == 0
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert all(name in page for name in names)
    results = prognet.load_results(tmp_path)
    assert sorted(result.strategy for result in results) == sorted(names)
    assert all(np.isfinite(result.accuracy[-1]).all() for result in results)
