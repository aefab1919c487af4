"""How columns begin: the evidence, the copy, the closed-form output layers, and that nothing else changes."""

from collections.abc import Callable, Mapping
from copy import deepcopy
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.analysis.relatedness import trunk_features
from prognet.analysis.ridge import RidgeFit, ridge_fit
from prognet.backbones import mlp
from prognet.config import Training
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.engine.laterals import MLPLateral
from prognet.engine.solved import reader_of, solved_laterals
from prognet.errors import ConfigError
from prognet.evaluation import verify
from prognet.evaluation.store import RunStore
from prognet.results import RunResult, load_results
from prognet.strategies import (
    ConstantWidth,
    CopyTune,
    Independent,
    Progressive,
    PruneLaterals,
    ShuffledAdapter,
    Start,
    Strategy,
    TopSources,
    describe_strategy,
    strategy_from,
)
from prognet.strategies import progressive as progressive_module
from prognet.strategies import start as start_module
from prognet.strategies.base import Backbone, example_of
from prognet.strategies.sources import training_part
from prognet.strategies.start import apply_start, decide_start, evidence_weight, solve_laterals
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from prognet.training import evaluating
from tests.helpers.asserts import assert_generator_untouched, assert_network_unchanged, snapshot
from tests.helpers.parities import COPIED, parity_stream
from tests.helpers.runs import (
    NORMED,
    PLAIN,
    assert_same_numbers,
    assert_same_tensors,
    learn_all,
    make_session,
    quick_run,
    tensors,
)
from tests.helpers.sealing import rehash
from tests.helpers.streams import make_byte_stream, make_stream, make_task

TRUNK = mlp(hidden=(24, 16))
TRUNK_NORMED = mlp(hidden=(24, 16), batch_norm=True, dropout=0.1)
LONG = Training(epochs=40, batch_size=32, lr=0.02)
SHORT = Training(epochs=2, batch_size=16, lr=0.02)
STREAM = make_stream((2, 5, 3), (40, 32, 32))
SESSION = make_session(LONG)
RELATED = parity_stream()

SETTINGS: Mapping[str, Callable[[], Strategy]] = {
    "auto": lambda: Progressive(NORMED, adapter=MLPAdapter(), start=Start(margin=1.0)),
    "copy": lambda: Progressive(NORMED, adapter=MLPAdapter.transfer(), start=Start(kind="copy")),
    "head": lambda: Progressive(NORMED, adapter=MLPAdapter.transfer(), start=Start(kind="head")),
    "solved": lambda: Progressive(NORMED, adapter=MLPAdapter.transfer(), start=Start(kind="scratch")),
    "solved-sources": lambda: Progressive(
        NORMED, adapter=MLPAdapter.transfer(), start=Start(kind="copy"), sources=TopSources(1, by="ridge")
    ),
    "solved-pruned": lambda: Progressive(
        NORMED, adapter=MLPAdapter.transfer(), start=Start(), prune=PruneLaterals(drop=0.2)
    ),
    "shuffled": lambda: Progressive(
        NORMED, adapter=ShuffledAdapter(MLPAdapter.transfer()), start=Start(kind="copy"), name="shuffled"
    ),
    "copytune": lambda: CopyTune(NORMED, start=Start(kind="copy")),
    "copytune-head": lambda: CopyTune(NORMED, start=Start(kind="head")),
}


class Killed(BaseException):
    """Stands in for the end of the process: nothing catches it."""


@cache
def _learned(normed: bool) -> ProgressiveNetwork:
    learner = learn_all(Independent(TRUNK_NORMED if normed else TRUNK), RELATED[:2], LONG)  # type: ignore[arg-type]
    assert isinstance(learner, Independent)
    return learner.columns.network


def with_column(task: Task, normed: bool = False, adapter: MLPAdapter | None = None) -> tuple[ProgressiveNetwork, int]:
    """Columns that have learned the two parity tasks, and a new one for the task, as it was added."""
    network = deepcopy(_learned(normed))
    torch.manual_seed(task.label)
    backbone = (TRUNK_NORMED if normed else TRUNK)(task.input_shape, task.n_classes)
    return network, network.add_column(backbone, example_of(task), adapter=adapter or MLPAdapter())


def trunk_of(backbone: nn.Module) -> nn.Sequential:
    """A perceptron without its output layer."""
    assert isinstance(backbone, nn.Sequential)
    return backbone[:-1]


def fit_by_hand(backbone: nn.Module, task: Task) -> RidgeFit:
    """Ridge regression on what the trunk of a perceptron makes of all training samples, in evaluation mode."""
    x, y = training_part(task, SESSION, 4000)
    with evaluating(backbone):
        return ridge_fit(trunk_of(backbone)(x), y, task.n_classes)


# ---- the evidence


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("label", [2, 3, 4])
def test_the_column_that_knows_the_task_is_copied_and_none_where_none_does(label: int, normed: bool) -> None:
    task = RELATED[label]
    network, k = with_column(task, normed)
    choice = decide_start(network, k, task, SESSION, Start())
    assert choice["copied"] == COPIED[label]
    assert choice["start"] == ("scratch" if COPIED[label] is None else "copy")
    assert set(choice["cross_entropy"]) == {"0", "1", "own"}
    for name, index in (("0", 0), ("1", 1), ("own", 2)):
        required = fit_by_hand(network.column(index).backbone, task).cross_entropy
        assert choice["cross_entropy"][name] == pytest.approx(required)


def test_the_margin_decides() -> None:
    task = RELATED[2]
    network, k = with_column(task)
    evidence = decide_start(network, k, task, SESSION, Start())["cross_entropy"]
    ratio = evidence["0"] / evidence["own"]
    assert 0.01 < ratio < 0.5
    for margin, copied in ((ratio * 1.001, 0), (ratio * 0.999, None), (1.0, 0)):
        choice = decide_start(network, k, task, SESSION, Start(margin=margin))
        assert (choice["copied"], choice["start"]) == (copied, "scratch" if copied is None else "copy")
        assert choice["cross_entropy"] == evidence


@pytest.mark.parametrize("kind", ["copy", "head"])
def test_a_copy_that_is_asked_for_is_that_of_the_best_whatever_the_margin(kind: Any) -> None:
    for label in (2, 3, 4):
        task = RELATED[label]
        network, k = with_column(task)
        choice = decide_start(network, k, task, SESSION, Start(kind=kind, margin=1e-9))
        best = min("01", key=lambda name: choice["cross_entropy"][name])
        assert (choice["start"], choice["copied"]) == (kind, int(best))


def test_from_scratch_nothing_is_looked_at() -> None:
    network, k = with_column(RELATED[2])
    choice = decide_start(network, k, RELATED[2], SESSION, Start(kind="scratch"))
    assert choice == {"start": "scratch", "copied": None, "cross_entropy": {}}


def test_only_training_samples_are_looked_at_and_not_more_than_so_many(monkeypatch: pytest.MonkeyPatch) -> None:
    task = RELATED[2]
    network, k = with_column(task)
    other = replace(task, val=RELATED[4].val, test=RELATED[4].test)
    first = decide_start(network, k, task, SESSION, Start())
    assert decide_start(network, k, other, SESSION, Start()) == first
    monkeypatch.setattr(start_module, "SAMPLES", 9)
    few = decide_start(network, k, task, SESSION, Start())
    x, y = training_part(task, SESSION, 9)
    assert len(x) == 9
    part = replace(task, train=Samples(x, y))
    assert few["cross_entropy"]["0"] == pytest.approx(
        fit_by_hand(network.column(0).backbone, part).cross_entropy, rel=1e-4
    )
    assert few["cross_entropy"] != first["cross_entropy"]


@pytest.mark.parametrize("normed", [False, True])
def test_deciding_draws_nothing_and_changes_nothing(normed: bool) -> None:
    task = RELATED[2]
    network, k = with_column(task, normed)
    network.freeze()
    network.train()

    def decide() -> None:
        decide_start(network, k, task, SESSION, Start())

    assert_generator_untouched(decide)
    assert_network_unchanged(network, decide)


@pytest.mark.parametrize("size", [0, 1])
def test_too_few_samples_decide_nothing(size: int) -> None:
    task = RELATED[2]
    few = replace(task, train=Samples(task.train.x[:size], task.train.y[:size]))
    network, k = with_column(task, adapter=MLPAdapter.transfer())
    before = snapshot(network)
    choice = decide_start(network, k, few, SESSION, Start(kind="copy"))
    assert choice == {"start": "scratch", "copied": None, "cross_entropy": {}}
    apply_start(network, k, few, SESSION, {**choice, "start": "copy", "copied": 0})
    assert solve_laterals(network, k, few, SESSION) == {}
    assert_same_tensors(snapshot(network), before)


def test_two_samples_are_enough_to_go_on() -> None:
    two = replace(STREAM[2], train=Samples(STREAM[2].train.x[:2], STREAM[2].train.y[:2]))
    result = quick_run(SETTINGS["copy"](), Stream([STREAM[0], STREAM[1], two], name="two"), training=SHORT)
    assert result.choices[2]["start"] == "copy"
    assert set(result.choices[2]["lateral"]) == {"cross_entropy", "weight"}
    assert all(tensor.isfinite().all() for tensor in tensors(result.learner).values())


def test_one_class_says_nothing_of_the_columns() -> None:
    task = make_task(2, 1, 8)
    network = ProgressiveNetwork(MLPAdapter.transfer())
    for _ in range(2):
        network.add_column(PLAIN(task.input_shape, 1), example_of(task))
    choice = decide_start(network, 1, task, SESSION, Start(margin=1.0))
    assert choice == {"start": "scratch", "copied": None, "cross_entropy": {"0": 0.0, "own": 0.0}}
    assert decide_start(network, 1, task, SESSION, Start(kind="copy"))["copied"] == 0
    assert solve_laterals(network, 1, task, SESSION)["lateral"]["cross_entropy"] == 0.0


def test_the_weight_of_the_evidence() -> None:
    chance = float(torch.tensor(4.0).log())
    relative = {0.0: 0.7, 0.3: 0.7, 0.4: 0.7, 0.65: 0.35, 0.9: 0.0, 1.0: 0.0, 3.0: 0.0}
    for share, weight in relative.items():
        assert evidence_weight(share * chance, 4) == pytest.approx(weight, abs=1e-6)
    assert evidence_weight(0.0, 1) == pytest.approx(0.7)


# ---- which columns can be copied


def test_columns_of_another_shape_are_no_candidates() -> None:
    task = RELATED[2]
    network = ProgressiveNetwork()
    torch.manual_seed(0)
    for hidden, n_classes in (((8, 6), 4), ((8, 5), 4), ((7, 6), 4), ((8, 6), 2), ((8,), 4), ((8, 6), 3)):
        network.add_column(mlp(hidden=hidden)(task.input_shape, n_classes), example_of(task), sources=[])
    choice = decide_start(network, 5, task, SESSION, Start(kind="copy"))
    assert set(choice["cross_entropy"]) == {"0", "3", "own"}


def test_columns_with_other_buffers_are_no_candidates() -> None:
    task = RELATED[2]
    network = ProgressiveNetwork()
    for backbone in (PLAIN, NORMED, PLAIN, NORMED):
        network.add_column(backbone(task.input_shape, 4), example_of(task), sources=[])
    assert set(decide_start(network, 3, task, SESSION, Start(kind="copy"))["cross_entropy"]) == {"1", "own"}


def test_narrower_columns_copy_from_each_other_only() -> None:
    strategy = Progressive(PLAIN, adapter=MLPAdapter(), width=ConstantWidth(0.5), start=Start(kind="copy"))
    choices = quick_run(strategy, STREAM, training=SHORT).choices
    assert [sorted(choice["cross_entropy"]) for choice in choices] == [[], [], ["1", "own"]]
    assert [choice["start"] for choice in choices] == ["scratch", "scratch", "copy"]


class Scaled(nn.Module):
    """A network whose last operation is no layer: it has no output layer."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, n_classes))

    def forward(self, x: Tensor) -> Tensor:
        return 2 * self.body(x)  # type: ignore[no-any-return]


class Grown(nn.Module):
    """A network whose features overflow."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.body, self.head = nn.Linear(16, 6), nn.Linear(6, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(1e38 * 1e5 * self.body(x.flatten(1)))  # type: ignore[no-any-return]


def convolutional(n_classes: int) -> nn.Module:
    """Its output layer is a convolution."""
    layers = [nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, n_classes, 4), nn.Flatten()]
    return nn.Sequential(*layers)


def ends_in_convolution(n_classes: int) -> nn.Module:
    """Outputs (B, C, 1, 1), whose layer is a convolution."""
    return nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, n_classes, 4))


@pytest.mark.parametrize("make", [Scaled, Grown, convolutional, ends_in_convolution])
def test_networks_whose_output_layer_cannot_be_solved_begin_from_scratch(make: Callable[[int], nn.Module]) -> None:
    task = make_task(2, 3)
    network = ProgressiveNetwork()
    torch.manual_seed(0)
    for _ in range(3):
        network.add_column(make(3), example_of(task), sources=[])
    before = snapshot(network)
    choice = decide_start(network, 2, task, SESSION, Start(kind="copy"))
    assert choice == {"start": "scratch", "copied": None, "cross_entropy": {}}
    apply_start(network, 2, task, SESSION, choice)
    assert_same_tensors(snapshot(network), before)


def test_the_features_of_a_trunk_are_what_its_output_layer_reads() -> None:
    task, x = RELATED[2], RELATED[2].train.x
    network, _ = with_column(task, normed=True)
    backbone = network.column(0).backbone
    found = trunk_features(backbone, x, batch_size=7)
    assert found is not None
    with evaluating(backbone):
        torch.testing.assert_close(found, trunk_of(backbone)(x))
    assert not found.requires_grad
    tokens = nn.Sequential(nn.Linear(4, 6), nn.ReLU(), nn.Linear(6, 2))
    assert trunk_features(tokens, torch.randn(3, 5, 4)) is None  # reads (B, 5, 6)
    assert trunk_features(Scaled(2), torch.randn(3, 1, 4, 4)) is None
    assert trunk_features(ends_in_convolution(2), torch.randn(3, 1, 4, 4)) is None


# ---- the copy


@pytest.mark.parametrize("normed", [False, True])
@pytest.mark.parametrize("kind", ["copy", "head"])
def test_the_trunk_is_copied_bit_by_bit_and_the_head_is_the_ridge_regression(kind: str, normed: bool) -> None:
    task = RELATED[2]
    network, k = with_column(task, normed)
    others = [snapshot(network.column(index)) for index in (0, 1)]
    digests, adapters = [network.digest(0), network.digest(1)], snapshot(network.column(k).adapters)
    own, source = network.column(k).backbone, network.column(0).backbone
    assert_generator_untouched(
        lambda: apply_start(network, k, task, SESSION, {"start": kind, "copied": 0, "cross_entropy": {}})
    )
    assert_same_tensors(snapshot(trunk_of(own)), snapshot(trunk_of(source)))
    fit = fit_by_hand(source, task)
    head = own.get_submodule(str(len(trunk_of(own))))
    torch.testing.assert_close(head.get_parameter("weight"), nn.Parameter(fit.weight))
    torch.testing.assert_close(head.get_parameter("bias"), nn.Parameter(fit.bias))
    with evaluating(network):
        assert (network(task.train.x, k).argmax(1) == task.train.y).double().mean() == 1.0
    for index in (0, 1):
        assert_same_tensors(snapshot(network.column(index)), others[index])
        assert network.digest(index) == digests[index]
    assert_same_tensors(snapshot(network.column(k).adapters), adapters)
    learning = {name for name, parameter in own.named_parameters() if parameter.requires_grad}
    every = {name for name, _ in own.named_parameters()}
    assert learning == ({f"{len(trunk_of(own))}.weight", f"{len(trunk_of(own))}.bias"} if kind == "head" else every)
    assert all(parameter.requires_grad for parameter in network.column(k).adapters.parameters())
    with torch.no_grad():
        next(own.parameters()).add_(1.0)  # a copy, and no other name for the same numbers
    assert_same_tensors(snapshot(network.column(0)), others[0])


def test_a_head_without_a_bias_takes_the_weights() -> None:
    task = make_task(1, 3)
    network = ProgressiveNetwork()
    torch.manual_seed(0)
    for _ in range(2):
        layers = [nn.Flatten(), nn.Linear(16, 6), nn.ReLU(), nn.Linear(6, 3, bias=False)]
        network.add_column(nn.Sequential(*layers), example_of(task), sources=[])
    apply_start(network, 1, task, SESSION, {"start": "copy", "copied": 0})
    fit = fit_by_hand(network.column(0).backbone, task)
    torch.testing.assert_close(network.column(1).backbone.get_parameter("3.weight"), nn.Parameter(fit.weight))


def test_only_head_and_laterals_learn_from_a_head_start() -> None:
    strategy = Progressive(PLAIN, adapter=MLPAdapter.transfer(), start=Start(kind="head"))
    result = quick_run(strategy, STREAM, training=SHORT)
    network = result.learner.columns.network
    for k in (1, 2):
        own, source = (network.column(index).backbone for index in (k, result.choices[k]["copied"]))
        assert_same_tensors(snapshot(trunk_of(own)), snapshot(trunk_of(source)))
        column = network.column(k)
        head = sum(parameter.numel() for parameter in own[-1].parameters())
        solved = sum(p.numel() for _, lateral in solved_laterals(column) for p in lateral.solved.parameters())
        laterals = sum(parameter.numel() for parameter in column.adapters.parameters())
        assert result.costs[k].trainable == head + laterals - solved
        assert any(lateral.U.get_parameter("weight").any() for lateral in _learned_laterals(network, k))


def test_from_a_copy_all_learns() -> None:
    strategy = Progressive(PLAIN, adapter=MLPAdapter(), start=Start(kind="copy"))
    result = quick_run(strategy, STREAM, training=SHORT)
    network = result.learner.columns.network
    for k in (1, 2):
        own, source = (snapshot(network.column(index).backbone) for index in (k, result.choices[k]["copied"]))
        assert not [
            name for name in own if own[name].shape == source[name].shape and torch.equal(own[name], source[name])
        ]
        assert result.costs[k].trainable == sum(parameter.numel() for parameter in network.column(k).parameters())


def _learned_laterals(network: ProgressiveNetwork, k: int) -> list[MLPLateral]:
    readers = [reader_of(network.column(k).lateral(site.name)) for site in network.column(k).sites]
    return [reader for reader in readers if isinstance(reader, MLPLateral)]


# ---- the solved lateral


@pytest.mark.parametrize("label", [2, 3, 4])
def test_the_output_lateral_is_the_ridge_regression_on_all_sources_times_its_weight(label: int) -> None:
    task = RELATED[label]
    network, k = with_column(task, normed=True, adapter=MLPAdapter.transfer())
    before = snapshot(network)
    found: list[Mapping[str, Any]] = []
    assert_generator_untouched(lambda: found.append(solve_laterals(network, k, task, SESSION)))
    x, y = training_part(task, SESSION, 4000)
    with evaluating(network):
        features = torch.cat([trunk_of(network.column(j).backbone)(x) for j in (0, 1)], 1)  # neither has laterals
        fit = ridge_fit(features, y, 4)
        plain = network.column(k).backbone(x)
        said = network(x, k)
    weight = evidence_weight(fit.cross_entropy, 4)
    assert (weight > 0) == (label != 4)
    assert found == [{"lateral": {"cross_entropy": pytest.approx(fit.cross_entropy), "weight": pytest.approx(weight)}}]
    required = plain + weight * (features @ fit.weight.T + fit.bias)
    torch.testing.assert_close(said, required, rtol=1e-4, atol=1e-4)
    after = snapshot(network)
    changed = [name for name in before if not torch.equal(before[name], after[name])]
    assert all(".solved." in name for name in changed)
    assert bool(changed) == (label != 4)


def test_a_column_without_a_solved_lateral_has_nothing_to_solve() -> None:
    network, k = with_column(RELATED[2])
    assert solve_laterals(network, k, RELATED[2], SESSION) == {}
    assert solve_laterals(network, 0, RELATED[2], SESSION) == {}


def test_nothing_of_the_solved_part_is_trained_in_a_run(monkeypatch: pytest.MonkeyPatch) -> None:
    solved: list[dict[str, Tensor]] = []
    solve = start_module.solve_laterals

    def noting(network: ProgressiveNetwork, k: int, task: Task, session: Any) -> dict[str, Any]:
        choice = solve(network, k, task, session)
        solved.extend(snapshot(lateral.solved) for _, lateral in solved_laterals(network.column(k)))
        return choice

    monkeypatch.setattr(start_module, "solve_laterals", noting)
    training = Training(epochs=2, batch_size=16, lr=0.05, weight_decay=0.5)
    strategy = Progressive(NORMED, adapter=MLPAdapter.transfer(), start=Start(kind="scratch"))
    result = quick_run(strategy, STREAM, training=training)
    network = result.learner.columns.network
    assert len(solved) == 2
    for k, required in zip((1, 2), solved, strict=True):
        ((_, lateral),) = solved_laterals(network.column(k))
        assert_same_tensors(snapshot(lateral.solved), required)
    assert any(tensor.any() for part in solved for tensor in part.values())


def test_pruning_takes_sources_out_of_a_solved_lateral_within_its_budget() -> None:
    strategy = Progressive(
        NORMED, adapter=MLPAdapter.transfer(), start=Start(kind="copy"), prune=PruneLaterals(drop=0.9)
    )
    result = quick_run(strategy, STREAM, training=SHORT)
    choices, network = result.choices, result.learner.columns.network
    output = network.column(1).sites[-1].name
    assert any([output, source] in choice["pruned"] for choice in choices[1:] for source in range(2))
    for k in (1, 2):
        gone = {source for site, source in choices[k]["pruned"] if site == output}
        assert set(network.column(k).reads[output]) == set(range(k)) - gone


# ---- whole runs


@cache
def undisturbed(name: str) -> tuple[RunResult, Mapping[str, Tensor]]:
    result = quick_run(SETTINGS[name](), STREAM, training=SHORT)
    return result, tensors(result.learner)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_run_killed_after_its_second_step_ends_undisturbed_and_is_verified(name: str, tmp_path: Path) -> None:
    required, numbers = undisturbed(name)
    seen, due = 0, sum(cost.updates for cost in required.costs[:2])

    def advance(updates: int) -> None:
        nonlocal seen
        seen += updates
        if seen > due:
            raise Killed

    with pytest.raises(Killed):
        quick_run(SETTINGS[name](), STREAM, training=SHORT, out=tmp_path, advance=advance)
    progress = RunStore.of(tmp_path, SETTINGS[name]().name, 0, 0).progress()
    assert progress is not None
    assert len(progress.schedule) == 2
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.parts) == (None, 2)
    resumed = quick_run(SETTINGS[name](), STREAM, training=SHORT, out=tmp_path)
    assert_same_numbers(resumed, required)
    assert_same_tensors(tensors(resumed.learner), numbers)
    assert load_results(tmp_path)[0].choices == required.choices
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.parts, verdict.same_bits) == (None, 3, 3)


@pytest.mark.parametrize("name", SETTINGS)
def test_the_decisions_are_stored_with_the_run(name: str) -> None:
    result, _ = undisturbed(name)
    first, *later = result.choices
    for step, digests in enumerate(result.digests):
        assert {part: result.digests[-1][part] for part in digests} == digests
        assert len(digests) == step + 1
    if name == "solved":
        assert first == {}
    else:
        assert (first["start"], first["copied"], first["cross_entropy"]) == ("scratch", None, {})
        assert all(set(choice["cross_entropy"]) == {"own", *map(str, range(k + 1))} for k, choice in enumerate(later))
        for choice in later:
            evidence = choice["cross_entropy"]
            best = min(range(len(evidence) - 1), key=lambda index: evidence[str(index)])
            assert choice["copied"] == (None if choice["start"] == "scratch" else best)
    if "solved" in name or name in ("copy", "head"):
        assert all(set(choice["lateral"]) == {"cross_entropy", "weight"} for choice in later)
    if name in ("copy", "head", "copytune-head"):
        assert {choice["start"] for choice in later} == {"head" if "head" in name else "copy"}


def test_a_changed_solved_tensor_is_found_by_verify(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    quick_run(SETTINGS["copy"](), STREAM, training=SHORT, out=tmp_path)
    (path,) = tmp_path.rglob("state-*.safetensors")
    stored = load_file(path)
    name = next(name for name in stored if name.endswith("solved.bias"))
    stored[name][0] += 0.5
    save_file(stored, path)
    (verdict,) = verify(tmp_path)
    assert "its SHA-256 is" in str(verdict.problem)
    rehash(path.with_name("result.json"))
    (verdict,) = verify(tmp_path)
    assert f"the first tensor that differs is {name!r}" in str(verdict.problem)


# ---- that nothing else changes


def without_begin(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(progressive_module, "begin", lambda *arguments: None)


def test_a_start_from_scratch_is_the_run_without_any_start(monkeypatch: pytest.MonkeyPatch) -> None:
    found = quick_run(Progressive(NORMED, adapter=MLPAdapter(), start=Start(kind="scratch")), STREAM, training=SHORT)
    assert found.choices == ({}, {}, {})
    without_begin(monkeypatch)
    plain = quick_run(Progressive(NORMED, adapter=MLPAdapter(), start=Start(kind="scratch")), STREAM, training=SHORT)
    assert_same_tensors(tensors(found.learner), tensors(plain.learner))
    assert_same_numbers(found, plain)


def test_looking_and_deciding_for_scratch_changes_no_bit() -> None:
    runs = [
        quick_run(Progressive(NORMED, adapter=MLPAdapter(), start=start), STREAM, training=SHORT)
        for start in (Start(margin=1e-9), Start(kind="scratch"))
    ]
    assert [choice["start"] for choice in runs[0].choices] == ["scratch"] * 3
    assert runs[0].choices[2]["cross_entropy"]
    assert_same_tensors(tensors(runs[0].learner), tensors(runs[1].learner))
    assert runs[0].digests == runs[1].digests
    assert (runs[0].accuracy[2] == runs[1].accuracy[2]).all()


def test_a_solved_lateral_changes_what_is_said_and_not_what_is_learned() -> None:
    def strategy(solved: bool) -> Progressive:
        adapter = MLPAdapter(alpha=0.1, solved_output=solved)
        return Progressive(NORMED, adapter=adapter, start=Start(kind="scratch"))

    runs = [quick_run(strategy(solved), STREAM, training=SHORT) for solved in (True, False)]
    found = {name.replace(".lateral.", "."): tensor for name, tensor in tensors(runs[0].learner).items()}
    solved = {name: found.pop(name) for name in [name for name in found if ".solved." in name]}
    assert any(tensor.any() for tensor in solved.values())
    assert_same_tensors(found, tensors(runs[1].learner))


def test_the_costs_are_those_of_learning() -> None:
    scratch = quick_run(Progressive(PLAIN, adapter=MLPAdapter(), start=Start(kind="scratch")), STREAM, training=SHORT)
    looked = quick_run(Progressive(PLAIN, adapter=MLPAdapter(), start=Start(margin=1e-9)), STREAM, training=SHORT)
    for k, (found, plain) in enumerate(zip(looked.costs, scratch.costs, strict=True)):
        for field in ("updates", "samples", "trainable", "parameters", "added", "forward_flops", "stored_bytes"):
            assert getattr(found, field) == getattr(plain, field), field
        looked_at = range(k + 1) if k else ()  # every earlier network, and the new one as initialised
        passes = sum(2 * (16 * 8 + 8 * 6 + 6 * STREAM[j].n_classes) for j in looked_at)
        assert found.training_flops - plain.training_flops == len(STREAM[k].train) * passes


@pytest.mark.parametrize("name", ["auto", "copytune"])
def test_seconds_are_booked_and_progress_is_not(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter(range(1000))
    monkeypatch.setattr(start_module, "perf_counter", lambda: 1000.0 * next(times))
    told: list[int] = []
    result = quick_run(SETTINGS[name](), STREAM, training=SHORT, advance=told.append)
    assert [cost.seconds > 1000 for cost in result.costs] == [True] * 3
    assert sum(told) == sum(cost.updates for cost in result.costs)


# ---- what it is for


def accuracy(network: ProgressiveNetwork, k: int, task: Task) -> float:
    with evaluating(network):
        return float((network(task.test.x, k).argmax(1) == task.test.y).double().mean())


@pytest.mark.parametrize("way", ["copied", "solved"])
@pytest.mark.parametrize("label", [2, 3])
def test_before_any_update_the_column_knows_what_was_learned(label: int, way: str) -> None:
    task = RELATED[label]
    network, k = with_column(task, adapter=MLPAdapter.transfer())
    assert accuracy(network, k, task) < 0.45
    if way == "copied":
        apply_start(network, k, task, SESSION, {"start": "copy", "copied": COPIED[label]})
    else:
        solve_laterals(network, k, task, SESSION)
    assert accuracy(network, k, task) > 0.8


@pytest.mark.slow
@pytest.mark.parametrize("start", ["auto", "scratch"])
@pytest.mark.parametrize("backbone", [TRUNK, TRUNK_NORMED])
def test_what_was_learned_helps_where_it_is_asked_for_again(start: Any, backbone: Backbone) -> None:
    strategy = Progressive(backbone, adapter=MLPAdapter.transfer(), start=Start(kind=start))
    result = quick_run(strategy, RELATED, training=LONG)
    plain = quick_run(Independent(backbone), RELATED, training=LONG).accuracy[-1]
    found = result.accuracy[-1]
    if start == "auto":
        assert tuple(choice["copied"] for choice in result.choices) == COPIED
    assert min(found[:2]) > 0.95
    for label in (2, 3):
        assert found[label] > max(0.85, plain[label] + 0.2)
    assert abs(found[4] - 0.25) < 0.12


@pytest.mark.parametrize("stream", [make_stream((3, 3), heads="shared"), make_byte_stream()], ids=["shared", "bytes"])
def test_shared_heads_and_bytes_can_begin_from_a_copy(stream: Stream) -> None:
    assert quick_run(SETTINGS["copy"](), stream, training=SHORT).choices[1]["start"] == "copy"


def test_a_head_start_keeps_parameters_and_lets_batch_norm_follow_the_task() -> None:
    result, _ = undisturbed("copytune-head")
    network, copied = result.learner.columns.network, result.choices[1]["copied"]
    own, source = trunk_of(network.column(1).backbone), trunk_of(network.column(copied).backbone)
    for (name, parameter), (_, theirs) in zip(own.named_parameters(), source.named_parameters(), strict=True):
        assert torch.equal(parameter, theirs), name
    moved = [name for name, buffer in own.named_buffers() if not torch.equal(buffer, source.get_buffer(name))]
    assert {name.rpartition(".")[2] for name in moved} == {"running_mean", "running_var", "num_batches_tracked"}


# ---- arguments


@pytest.mark.parametrize("start", [Start(), Start(kind="head", margin=0.5), Start(kind="scratch")])
def test_a_description_is_the_strategy(start: Start) -> None:
    for strategy in (Progressive(PLAIN, start=start), CopyTune(PLAIN, start=start)):
        again = strategy_from(describe_strategy(strategy), PLAIN)
        assert isinstance(again, Progressive | CopyTune)
        assert again.start == start
        assert describe_strategy(again) == describe_strategy(strategy)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Start(kind="warm"), "start: required one of ('scratch', 'copy', 'head', 'auto'), found 'warm'."),  # type: ignore[arg-type]
        (lambda: Start(margin=0.0), "margin: required a number above 0 and at most 1, found 0.0."),
        (lambda: Start(margin=1.5), "margin: required a number above 0 and at most 1, found 1.5."),
        (lambda: Start(margin=float("nan")), "margin: required a number above 0 and at most 1, found nan."),
        (
            lambda: Progressive(PLAIN, start="copy"),  # type: ignore[arg-type]
            "start: required one of ['Start'], found 'copy'; e.g. start=Start().",
        ),
        (
            lambda: CopyTune(PLAIN, start="copy"),  # type: ignore[arg-type]
            "start: required one of ['Start'], found 'copy'; e.g. start=Start().",
        ),
    ],
)
def test_bad_arguments_are_refused(make: Callable[[], object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
