"""Avalanche's strategies under the one training loop."""

import copy
import json
import pickle
import random
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from prognet.config import Training
from prognet.errors import ConfigError, DivergedError, UnknownNameError
from prognet.evaluation import verify
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.store import RunStore
from prognet.results import RunResult
from prognet.strategies import FineTune, describe_strategy, strategy_from, wrapped
from prognet.strategies.driven import Agent
from prognet.strategies.wrapped import METHODS, Wrapped, agem, ewc, lwf, mas, replay, si
from prognet.streams import from_arrays
from prognet.training import count_parameters
from tests.helpers.runs import (
    NORMED,
    PLAIN,
    TRAINING,
    assert_same_numbers,
    assert_same_tensors,
    learn_all,
    make_session,
    quick_run,
    tensors,
    with_session,
)
from tests.helpers.streams import make_byte_stream, make_stream

STREAM = make_stream()
REMEMBERING = tuple(name for name in METHODS if name != "Naive")
STRONG: Mapping[str, Mapping[str, float]] = {"EWC": {"ewc_lambda": 1e8}, "MAS": {"lambda_reg": 1e4}}


def learner_of(result: RunResult) -> Wrapped:
    assert isinstance(result.learner, Wrapped)
    return result.learner


def agent_of(strategy: Any) -> Agent:
    agent = strategy._agent
    assert isinstance(agent, Agent)
    return agent


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"optimiser": "sgd", "momentum": 0.9, "weight_decay": 0.01, "schedule": "cosine", "clip_norm": 0.5},
        {"epochs": 6, "lr": 0.1, "patience": 1},
        {"updates": 7},
    ],
    ids=["adam", "sgd", "patience", "updates"],
)
def test_naive_is_fine_tuning_bit_for_bit(changes: dict[str, Any]) -> None:
    training = replace(TRAINING, **changes)
    naive = quick_run(wrapped("Naive", NORMED), STREAM, training=training)
    plain = quick_run(FineTune(NORMED), STREAM, training=training)
    assert_same_tensors(tensors(learner_of(naive)), tensors(plain.learner))
    assert_same_numbers(replace(naive, strategy="finetune", config=plain.config), plain)


@pytest.mark.parametrize("heads", ["per-task", "shared"])
def test_naive_is_fine_tuning_on_bytes_and_with_a_shared_head(heads: Any) -> None:
    stream = make_byte_stream() if heads == "per-task" else make_stream((3, 3, 3), heads="shared")
    naive, plain = quick_run(wrapped("Naive", PLAIN), stream), quick_run(FineTune(PLAIN), stream)
    assert_same_tensors(tensors(learner_of(naive)), tensors(plain.learner))


def test_label_smoothing_is_that_of_fine_tuning_to_rounding() -> None:
    training = replace(TRAINING, label_smoothing=0.2)
    naive = quick_run(wrapped("Naive", PLAIN), STREAM, training=training)
    plain = quick_run(FineTune(PLAIN), STREAM, training=training)
    for found, required in zip(tensors(learner_of(naive)).values(), tensors(plain.learner).values(), strict=True):
        torch.testing.assert_close(found, required, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("method", REMEMBERING)
def test_a_method_learns_the_first_task_plainly_and_the_second_in_its_own_way(method: str) -> None:
    options = STRONG.get(method)
    own = quick_run(wrapped(method, PLAIN, options), make_stream((2, 5)))
    plain = quick_run(FineTune(PLAIN), make_stream((2, 5)))
    assert own.curves[0] == plain.curves[0]
    assert own.accuracy[0, 0] == plain.accuracy[0, 0]
    found, other = tensors(learner_of(own)), tensors(plain.learner)
    assert any(not torch.equal(found[name], other[name]) for name in found if "trunk" in name)


@pytest.mark.parametrize("method", REMEMBERING)
def test_two_runs_are_equal_whatever_the_generators_were(method: str) -> None:
    options = {"patterns_per_experience": 9} if method == "AGEM" else {}  # which are drawn, of 40
    runs = []
    for state in range(2):
        random.seed(state)
        torch.manual_seed(state)
        runs.append(quick_run(wrapped(method, NORMED, options), make_stream((2, 5))))
    first, again = runs
    assert_same_numbers(again, first)
    assert_same_tensors(tensors(learner_of(again)), tensors(learner_of(first)))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_leaves_the_generators_as_they_were(method: str) -> None:
    torch.manual_seed(5)
    random.seed(5)
    before = torch.get_rng_state(), random.getstate()
    quick_run(wrapped(method, NORMED), make_stream((2, 3)))
    assert torch.equal(torch.get_rng_state(), before[0])
    assert random.getstate() == before[1]


@pytest.mark.parametrize("method", ["EWC", "MAS"])
def test_a_strong_penalty_holds_the_trunk_where_it_matters(method: str) -> None:
    """The movement of a parameter, weighed by its importance, shrinks against fine-tuning."""
    moved = {}
    for name, options in (("Naive", {}), (method, STRONG[method])):
        strategy = with_session(
            wrapped(method, PLAIN, {**STRONG[method], **options} if name == method else WEAK[method])
        )
        strategy.learn([STREAM[0]])
        start = tensors(strategy)
        importance = importances(agent_of(strategy))
        strategy.learn([STREAM[1]])
        moved[name] = sum(
            (importance[key] * (tensor - start[key]).square()).sum().item()
            for key, tensor in tensors(strategy).items()
            if key in importance
        )
    assert moved["Naive"] > 0
    assert moved[method] < 0.2 * moved["Naive"]


WEAK: Mapping[str, Mapping[str, float]] = {"EWC": {"ewc_lambda": 0.0}, "MAS": {"lambda_reg": 0.0}}


def importances(agent: Agent) -> dict[str, Tensor]:
    """Of the parameters after the first task, by their name in the strategy."""
    plugin = agent.plugin
    stored = plugin.importances[0] if hasattr(plugin, "importances") else plugin.importance
    return {name: item.data.clone() for name, item in stored.items()}


def test_the_importances_of_ewc_are_the_squared_gradients_of_its_batches() -> None:
    strategy = learn_all(wrapped("EWC", PLAIN), make_stream((2,)))
    task, found = STREAM[0], importances(agent_of(strategy))
    required = {name: torch.zeros_like(p) for name, p in strategy.named_parameters()}
    batches = torch.split(torch.arange(len(task.train)), TRAINING.batch_size)
    for chosen in batches:
        strategy.zero_grad()
        loss = functional.cross_entropy(strategy.predict(task.train.x[chosen], 0), task.train.y[chosen])
        loss.backward()  # type: ignore[no-untyped-call]
        for name, parameter in strategy.named_parameters():
            assert parameter.grad is not None
            required[name] += parameter.grad.square() / len(batches)
    assert found.keys() == required.keys()
    for name, importance in required.items():
        torch.testing.assert_close(found[name], importance)


def test_the_importances_of_si_are_its_path_integrals() -> None:
    """omega = max(-sum of gradient times step, up to 0.001) over the squared way, from a record of every update."""
    strategy = with_session(wrapped("SI", PLAIN, {"eps": 1e-3}))
    recorder = PathOf("shared.trunk.3.weight")
    made = Agent.__init__

    def with_recorder(self: Agent, *arguments: Any) -> None:
        made(self, *arguments)
        self.strategy.plugins.append(recorder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Agent, "__init__", with_recorder)
        strategy.learn([STREAM[0]])
    gradients, ways = torch.stack(recorder.gradients), torch.stack(recorder.ways)
    path, distance = (gradients * ways[1:].sub(ways[:-1])).sum(0), ways[-1] - ways[0]
    required = (-path / (distance.square() + 1e-3)).clamp(max=0.001)
    found = agent_of(strategy).plugin.ewc_data[1]["shared.trunk.3.weight"].data
    torch.testing.assert_close(found, required.flatten(), atol=1e-7, rtol=1e-4)
    assert found.gt(0).any()


class PathOf:
    """Records where a parameter goes, and its gradients on the way."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.ways: list[Tensor] = []
        self.gradients: list[Tensor] = []

    def before_training_iteration(self, strategy: Any, **_: Any) -> None:
        if not self.ways:
            self.ways.append(self._parameter(strategy).detach().clone())

    def after_training_iteration(self, strategy: Any, **_: Any) -> None:
        gradient = self._parameter(strategy).grad
        assert gradient is not None
        self.gradients.append(gradient.clone())
        self.ways.append(self._parameter(strategy).detach().clone())

    def _parameter(self, strategy: Any) -> Tensor:
        parameter: Tensor = strategy.model.get_parameter(self.name)
        return parameter


def test_the_old_network_of_lwf_is_frozen_in_evaluation_mode() -> None:
    strategy = learn_all(wrapped("LwF", NORMED), make_stream((2, 5)))
    teacher = agent_of(strategy).plugin.lwf.prev_model
    parts = [teacher.shared.trunk, *teacher.shared.heads.values()]
    assert not any(module.training for part in parts for module in part.modules())
    x = STREAM[0].test.x
    strategy.eval()
    assert torch.equal(teacher(x, 0), strategy.predict(x, 0))
    assert agent_of(strategy).plugin.lwf.prev_classes_by_task == {0: {0, 1}, 1: {0, 1, 2, 3, 4}}


def test_mas_survives_a_loss_of_zero() -> None:
    strategy = with_session(wrapped("MAS", PLAIN), Training(epochs=1, batch_size=16, lr=1e-3))
    strategy.learn([STREAM[0]])
    agent = agent_of(strategy)
    agent.strategy._criterion = lambda output, target: output.sum() * 0.0
    strategy.learn([STREAM[1]])
    assert len(strategy.records) == 2


def test_replay_adds_as_many_kept_samples_to_the_batches_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[list[Tensor]] = []
    take = Agent.update

    def recording(self: Agent, batch: list[Tensor], optimiser: Any) -> Tensor:
        batches.append([part.clone() for part in batch])
        return take(self, batch, optimiser)

    monkeypatch.setattr(Agent, "update", recording)
    quick_run(wrapped("Naive", PLAIN), STREAM)
    plain, batches[:] = batches[:], []
    result = quick_run(wrapped("Replay", PLAIN, {"mem_size": 11}), STREAM)
    assert [len(batch[0]) for batch in plain[:6]] == [13, 13, 14] * 2
    known = [
        {row.numpy().tobytes(): int(y) for row, y in zip(task.train.x, task.train.y, strict=True)} for task in STREAM
    ]
    for index, (own, alone) in enumerate(zip(batches, plain, strict=True)):
        n, task = len(alone[0]), index // 6
        assert all(torch.equal(part[:n], other) for part, other in zip(own, alone, strict=True))
        assert len(own[0]) == (n if task == 0 else 2 * n)
        for x, y, label in zip(*(part[n:] for part in own), strict=True):
            assert label < task
            assert known[int(label)][x.numpy().tobytes()] == y
    kept = {row.numpy().tobytes() for own in batches[12:] for row in own[0][14:]}
    assert len(kept & (known[0].keys() | known[1].keys())) >= 10
    assert [cost.samples for cost in result.costs] == [80, 160, 160]


def test_agem_never_steps_against_what_it_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    strategy = with_session(wrapped("AGEM", PLAIN, {"patterns_per_experience": 10, "sample_size": 8}))
    strategy.learn([STREAM[0]])
    agent, products = agent_of(strategy), []

    class Check:
        def after_backward(self, driven: Any, **_: Any) -> None:
            pairs = zip(driven.model.parameters(), sizes(driven), strict=True)
            products.append(sum((p.grad * part.view_as(p)).sum().item() for p, part in pairs if p.grad is not None))

    def sizes(driven: Any) -> Any:
        return torch.split(agent.plugin.reference_gradients, [p.numel() for p in driven.model.parameters()])

    agent.strategy.plugins.append(Check())
    strategy.learn([STREAM[1]])
    assert len(products) == 6
    assert min(products) > -1e-5
    assert [len(kept) for kept in agent.plugin.buffers] == [10, 10]


@pytest.mark.parametrize(
    ("method", "options", "n_bytes"),
    [
        ("Naive", {}, 0),
        ("EWC", {}, None),
        ("LwF", {}, 4 * 260),
        ("MAS", {}, 2 * 4 * 260),
        ("Replay", {"mem_size": 12}, 12 * (16 * 4 + 8) + 12 * 4),
    ],
)
def test_what_is_kept_is_counted(method: str, options: dict[str, float], n_bytes: int | None) -> None:
    result = quick_run(wrapped(method, PLAIN, options), STREAM)
    own = sum(tensor.numel() * tensor.element_size() for tensor in tensors(learner_of(result)).values())
    required = ewc_bytes(learner_of(result)) if n_bytes is None else n_bytes
    assert result.costs[-1].stored_bytes - own == required


def ewc_bytes(learner: Wrapped) -> int:
    """Importances and parameters after each task: trunk and the heads so far."""
    heads = [count_parameters(head) for head in learner.shared.heads.values()]
    trunk = count_parameters(learner) - sum(heads)
    return 2 * 4 * sum(trunk + sum(heads[: k + 1]) for k in range(3))


def test_operations_are_counted_with_all_that_a_method_does() -> None:
    flops = {name: quick_run(wrapped(name, PLAIN), STREAM).costs[1].training_flops for name in METHODS}
    plain = flops["Naive"]
    assert plain == quick_run(FineTune(PLAIN), STREAM).costs[1].training_flops
    assert flops["SI"] == plain  # its penalty is no product of matrices
    assert flops["EWC"] == flops["MAS"] == plain * 3 / 2  # two epochs, and one more pass for the importances
    assert flops["Replay"] > 1.8 * plain
    assert flops["AGEM"] > 2 * plain
    assert flops["LwF"] > 1.8 * plain


@pytest.mark.parametrize("method", METHODS)
def test_a_stored_run_is_rebuilt_and_verified(method: str, tmp_path: Path) -> None:
    result = quick_run(wrapped(method, NORMED), STREAM, out=tmp_path)
    assert [verdict.problem for verdict in verify(tmp_path)] == [None]
    again = rebuild(strategy_from(result.config["strategy"], NORMED), STREAM, result.schedule, make_session())
    RunStore.of(tmp_path, method.lower(), 0, 0).load_weights(again, result)
    again.eval()
    for task in STREAM:
        assert torch.equal(again.predict(task.test.x, task.label), learner_of(result).predict(task.test.x, task.label))


class Killed(BaseException):
    """Stands in for the end of the process."""


@pytest.mark.parametrize("method", ["EWC", "Replay", "AGEM"])
def test_a_run_that_was_killed_begins_again_and_ends_undisturbed(method: str, tmp_path: Path) -> None:
    told: list[int] = []

    def kill(updates: int) -> None:
        told.append(updates)
        if len(told) == 5:  # in the third task
            raise Killed

    with pytest.raises(Killed):
        quick_run(wrapped(method, NORMED), STREAM, out=tmp_path, advance=kill)
    progress = RunStore.of(tmp_path, method.lower(), 0, 0).progress()
    assert progress is not None
    assert len(progress.schedule) == 2
    told.clear()
    resumed = quick_run(wrapped(method, NORMED), STREAM, out=tmp_path, advance=told.append)
    assert told == [3] * 6  # every epoch of every task
    undisturbed = quick_run(wrapped(method, NORMED), STREAM)
    assert_same_numbers(resumed, undisturbed)
    assert_same_tensors(tensors(learner_of(resumed)), tensors(learner_of(undisturbed)))
    assert [verdict.problem for verdict in verify(tmp_path)] == [None]


@pytest.mark.parametrize("again", [copy.deepcopy, lambda one: pickle.loads(pickle.dumps(one))], ids=["copy", "pickle"])
@pytest.mark.parametrize("method", ["AGEM", "LwF"])
def test_a_copy_predicts_and_says_that_it_cannot_learn(method: str, again: Any) -> None:
    strategy = learn_all(wrapped(method, PLAIN), make_stream((2, 5)))
    other = with_session(again(strategy))
    assert torch.equal(other.predict(STREAM[1].test.x, 1), strategy.predict(STREAM[1].test.x, 1))
    message = f"strategy: required {method.lower()!r} as it learned the tasks before, found a copy, which has forgotten"
    with pytest.raises(ConfigError, match=message):
        other.learn([STREAM[2]])
    with_session(strategy).learn([STREAM[2]])
    assert strategy.predict(STREAM[2].test.x, 2).shape == (30, 3)


def test_divergence_is_found() -> None:
    with pytest.raises(DivergedError, match=r"training of tasks \[1\]: required a finite loss"):
        training = replace(TRAINING, optimiser="sgd", lr=0.1)
        quick_run(wrapped("EWC", PLAIN, {"ewc_lambda": 1e38}), STREAM, training=training)


@pytest.mark.parametrize("make", [ewc, lwf, si, mas, replay, agem])
def test_a_name_makes_the_method(make: Any) -> None:
    (method,) = make.args
    strategy = make(PLAIN)
    assert (strategy.name, strategy.method) == (method.lower(), method)
    assert strategy.options == METHODS[method].defaults


def test_a_description_is_the_way_back() -> None:
    strategy = wrapped("LwF", PLAIN, {"alpha": 3}, name="lwf-strong")
    description = json.loads(json.dumps(describe_strategy(strategy)))
    assert description == {
        "kind": "Wrapped",
        "name": "lwf-strong",
        "arguments": {"method": "LwF", "options": {"alpha": 3.0, "temperature": 2.0}},
    }
    assert describe_strategy(strategy_from(description, PLAIN)) == description


@pytest.mark.parametrize(
    ("method", "options", "error", "message"),
    [
        ("EWK", {}, UnknownNameError, "method: 'EWK' is not known; did you mean 'EWC'?"),
        ("EWC", {"lamda": 1}, UnknownNameError, "option of EWC: 'lamda' is not known; did you mean 'ewc_lambda'?"),
        ("EWC", {"ewc_lambda": -1}, ConfigError, "ewc_lambda: required a finite number, at least 0, found -1."),
        ("EWC", {"ewc_lambda": "1"}, ConfigError, "ewc_lambda: required a finite number, at least 0, found '1'."),
        ("SI", {"eps": float("nan")}, ConfigError, "eps: required a finite number, at least 0, found nan."),
        ("Replay", {"mem_size": 0}, ConfigError, "mem_size: required a whole number, at least 1, found 0."),
        ("Replay", {"mem_size": 2.5}, ConfigError, "mem_size: required a whole number, at least 1, found 2.5."),
        ("Replay", {"mem_size": True}, ConfigError, "mem_size: required a whole number, at least 1, found True."),
    ],
)
def test_what_a_method_does_not_have_is_refused(
    method: str, options: Any, error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as found:
        wrapped(method, PLAIN, options)
    assert message in str(found.value)


def test_another_objective_is_refused() -> None:
    class Regression:
        loss = metrics = correct = None

    task = replace(STREAM[0], objective=Regression())  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="required classification for 'ewc', found Regression in task 0"):
        with_session(wrapped("EWC", PLAIN)).learn([task])


def test_a_task_of_another_kind_is_refused_before_any_work() -> None:
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    y = x[:, :3].argmax(1)
    stream = from_arrays([(x, y, x, y), (x, x[:, 0], x, x[:, 0])], kinds=["classification", "regression"])
    strategy = ewc(PLAIN)
    with pytest.raises(ConfigError, match="required classification for 'ewc', found Regression in task 1"):
        quick_run(strategy, stream)
    assert strategy.records == []
