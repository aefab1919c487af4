"""Copies of the best earlier network: nothing is forgotten, and scratch is the independent network bit for bit."""

from collections.abc import Mapping
from functools import cache

import pytest
import torch
from torch import Tensor

from prognet.backbones import mlp
from prognet.catalogue import STRATEGIES, lookup
from prognet.config import Training
from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.results import RunResult
from prognet.strategies import CopyTune, Independent, Start
from prognet.streams.stream import Stream
from tests.helpers.parities import COPIED, parity_stream
from tests.helpers.runs import NORMED, PLAIN, assert_same_tensors, learn_all, quick_run, tensors
from tests.helpers.streams import make_stream

STREAM = make_stream((2, 5, 3, 5))
TRAINING = Training(epochs=2, batch_size=16, lr=0.02)
RELATED = parity_stream()
LONG = Training(epochs=40, batch_size=32, lr=0.02)
TRUNK = mlp(hidden=(24, 16))


@cache
def independent() -> tuple[RunResult, Mapping[str, Tensor]]:
    result = quick_run(Independent(NORMED), STREAM, training=TRAINING)
    return result, tensors(result.learner)


@pytest.mark.parametrize("start", [Start(kind="scratch"), Start(margin=1e-9)])
def test_where_scratch_wins_it_is_the_independent_network_bit_for_bit(start: Start) -> None:
    required, numbers = independent()
    found = quick_run(CopyTune(NORMED, start=start), STREAM, training=TRAINING)
    assert_same_tensors(tensors(found.learner), numbers)
    assert found.digests == required.digests
    assert found.metrics.keys() == required.metrics.keys()
    for name, rows in required.metrics.items():
        torch.testing.assert_close(
            torch.tensor(found.metrics[name]), torch.tensor(rows), rtol=0, atol=0, equal_nan=True
        )
    assert found.curves == required.curves
    looked = [bool(choice.get("cross_entropy")) for choice in found.choices]
    assert looked == [False, *[start.kind == "auto"] * 3]


def test_the_first_network_is_the_independent_one_whatever_the_start() -> None:
    found = quick_run(CopyTune(NORMED, start=Start(kind="copy")), Stream(STREAM[:1], name="one"), training=TRAINING)
    own = {name: tensor for name, tensor in independent()[1].items() if ".columns.0." in name}
    assert_same_tensors(tensors(found.learner), own)


@pytest.mark.parametrize("kind", ["copy", "head", "auto"])
def test_nothing_is_forgotten_and_a_task_costs_one_network(kind: str) -> None:
    found = quick_run(CopyTune(NORMED, start=Start(kind=kind, margin=1.0)), STREAM, training=TRAINING)  # type: ignore[arg-type]
    required = independent()[0]
    for label in range(4):
        assert (found.accuracy[label:, label] == found.accuracy[label, label]).all()
    for step, digests in enumerate(found.digests):
        assert list(digests) == [f"column {k}" for k in range(step + 1)]
        assert {part: found.digests[-1][part] for part in digests} == digests
    for cost, plain in zip(found.costs, required.costs, strict=True):
        assert (cost.parameters, cost.added, cost.forward_flops) == (plain.parameters, plain.added, plain.forward_flops)
        assert cost.updates == plain.updates
    network = found.learner.columns.network
    assert all(network.column(k).sources == () and not len(network.column(k).adapters) for k in range(4))
    if kind != "auto":
        assert found.digests[-1]["column 1"] != required.digests[-1]["column 1"]


def test_it_begins_as_a_progressive_network_without_laterals() -> None:
    strategy = CopyTune(PLAIN)
    assert strategy.start == Start()
    assert strategy.arguments() == {"start": {"kind": "Start", "arguments": {"kind": "auto", "margin": 0.8}}}
    assert isinstance(lookup("strategy", "copytune", STRATEGIES)(PLAIN), CopyTune)


@pytest.mark.slow
def test_it_beats_independent_networks_where_tasks_come_back() -> None:
    found = quick_run(CopyTune(TRUNK), RELATED, training=LONG)
    plain = quick_run(Independent(TRUNK), RELATED, training=LONG).accuracy[-1]
    assert tuple(choice["copied"] for choice in found.choices) == COPIED
    for label in (2, 3):
        assert found.accuracy[-1][label] > max(0.85, plain[label] + 0.2)
    for label in (0, 1, 4):  # from scratch
        assert found.accuracy[-1][label] == plain[label]


def test_it_beats_independent_networks_at_once() -> None:
    brief = Training(epochs=1, batch_size=32, lr=0.001)
    accuracy = {}
    for name, strategy in (("copy", CopyTune(TRUNK)), ("scratch", CopyTune(TRUNK, start=Start(kind="scratch")))):
        learner = learn_all(strategy, Stream(RELATED[:1], name="first"), LONG)
        assert isinstance(learner, CopyTune)
        assert learner.session is not None
        learner.session = type(learner.session)(
            training=brief, measurement=learner.session.measurement, seed=0, device=torch.device("cpu"), step=1
        )
        learner.learn([RELATED[2]])
        with torch.no_grad():
            said = learner.predict(RELATED[2].test.x, 2).argmax(1)
        accuracy[name] = float((said == RELATED[2].test.y).double().mean())
    assert accuracy["copy"] > 0.8
    assert accuracy["scratch"] < 0.45


def test_a_task_is_learned_once_and_no_other_is_predicted() -> None:
    learner = learn_all(CopyTune(PLAIN), Stream(STREAM[:1], name="one"), TRAINING)
    with pytest.raises(UnlearnedTaskError, match=r"task_label: required one of the learned tasks \[0\], found 1"):
        learner.predict(STREAM[1].test.x, 1)
    with pytest.raises(ConfigError, match="tasks: required a new task, found task 0, which has been learned already"):
        learner.learn([STREAM[0]])
    with pytest.raises(ConfigError, match="tasks: required one task a step for 'copytune', found 2"):
        learner.learn([STREAM[1], STREAM[2]])
