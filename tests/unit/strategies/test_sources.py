"""Source sets: which columns are read, and how many have to be run for them."""

from dataclasses import replace

import pytest
import torch

from prognet.config import Training
from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError
from prognet.strategies import AllSources, LastSources, Progressive, TopSources
from prognet.strategies.sources import EVIDENCE, Sources, selected
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from tests.helpers.asserts import assert_generator_untouched
from tests.helpers.runs import NORMED, PLAIN, from_scratch, learn_all, quick_run
from tests.helpers.streams import make_samples, make_task

CHAINS: dict[str, list[tuple[int, ...]]] = {
    "closed": [(), (0,), (1,), (2,)],
    "flat": [(), (), (), ()],
    "mixed": [(), (0,), (), (2,)],
}


def network(sources: list[tuple[int, ...]]) -> ProgressiveNetwork:
    """Columns with these sources."""
    net = ProgressiveNetwork()
    for read in sources:
        net.add_column(PLAIN((16,), 2), torch.zeros(2, 16), sources=read)
    return net


def related_stream() -> Stream:
    """Tasks 0 and 3 have the same patterns, tasks 1 and 2 others."""
    tasks = [make_task(label, 4, 48) for label in range(4)]
    again = {"train": ("more", 24), "val": ("even more", 8), "test": ("other", 40)}
    splits = {name: make_samples(0, split, n, 4) for name, (split, n) in again.items()}
    return Stream([*tasks[:3], replace(tasks[3], **splits)], name="related")  # type: ignore[arg-type]


def sources_of(strategy: Progressive) -> list[tuple[int, ...]]:
    net = strategy.columns.network
    return [net.column(k).sources for k in range(len(net))]


@pytest.mark.parametrize(
    ("sources", "required"),
    [
        (AllSources(), [3, 2, 1, 0]),
        (LastSources(), [3]),
        (LastSources(2), [3, 2]),
        (LastSources(9), [3, 2, 1, 0]),
        (LastSources(9, closure=2), {"closed": [1, 0], "flat": [3, 2], "mixed": [3, 2]}),
        (LastSources(1, closure=1), {"closed": [0], "flat": [3], "mixed": [2]}),
        (LastSources(2, closure=3), {"closed": [2, 1], "flat": [3, 2], "mixed": [3, 2]}),
    ],
)
@pytest.mark.parametrize("chain", CHAINS)
def test_the_latest_columns_within_the_bounds(
    sources: Sources, required: list[int] | dict[str, list[int]], chain: str
) -> None:
    net = network(CHAINS[chain])
    found = selected(sources, [0.0, 1.0, 2.0, 3.0], net, range(4))
    assert found == (required[chain] if isinstance(required, dict) else required)
    assert len(net.closure(found)) <= (sources.closure or 4)


def test_the_best_columns_first_and_the_later_one_of_a_tie() -> None:
    net = network(CHAINS["mixed"])
    every = range(4)
    assert selected(TopSources(3), [0.5, 0.9, 0.5, 0.1], net, every) == [1, 2, 0]
    assert selected(TopSources(2), [0.5, 0.5, 0.5, 0.5], net, every) == [3, 2]
    assert selected(TopSources(2, closure=1), [0.5, 0.9, 0.4, 0.1], net, every) == [0]  # 1 reads 0, and 2 makes two
    assert selected(TopSources(2), [0.9, 0.1], net, [1, 3]) == [1, 3]
    assert selected(AllSources(), [], network([]), ()) == []


@pytest.mark.parametrize("by", EVIDENCE)
def test_evidence_names_the_column_that_knows_the_task(by: str) -> None:
    training = Training(epochs=30, batch_size=16, lr=0.01)
    strategy = from_scratch(PLAIN, sources=TopSources(1, by=by))  # type: ignore[arg-type]
    result = quick_run(strategy, related_stream(), training=training)
    assert sources_of(result.learner)[3] == (0,)
    choice = result.choices[3]
    assert choice["sources"] == [0]
    assert len(choice["evidence"]) == 3
    assert max(choice["evidence"]) == choice["evidence"][0]
    assert result.choices[0] == {}


def test_without_data_the_last_column_is_named_last() -> None:
    strategy = learn_all(from_scratch(PLAIN, sources=LastSources(2)), related_stream(), Training(epochs=0))
    assert isinstance(strategy, Progressive)
    assert sources_of(strategy) == [(), (0,), (0, 1), (1, 2)]
    assert strategy.choices == []  # nothing is decided from data


def test_by_default_nothing_is_decided_and_all_are_read() -> None:
    result = quick_run(from_scratch(PLAIN), related_stream())
    assert result.choices == ({}, {}, {}, {})
    assert sources_of(result.learner) == [(), (0,), (0, 1), (0, 1, 2)]


def test_the_closure_is_bounded_in_a_run() -> None:
    free = learn_all(from_scratch(PLAIN, sources=TopSources(1)), related_stream())
    bound = learn_all(from_scratch(PLAIN, sources=LastSources(1, closure=1)), related_stream())
    assert isinstance(free, Progressive)
    assert isinstance(bound, Progressive)
    assert sources_of(bound) == [(), (0,), (0,), (0,)]
    assert [len(bound.columns.network.closure([k])) for k in range(4)] == [1, 2, 2, 2]


def test_a_trial_is_paid_for_and_leaves_nothing_behind() -> None:
    stream = related_stream()
    afs = quick_run(from_scratch(PLAIN, sources=TopSources(3, by="afs", trial=7)), stream)
    plain = quick_run(from_scratch(PLAIN), stream)
    updates = [cost.updates for cost in plain.costs]
    assert [cost.updates for cost in afs.costs] == [updates[0], *(count + 7 for count in updates[1:])]
    assert [cost.trainable for cost in afs.costs] == [cost.trainable for cost in plain.costs]
    assert [cost.parameters for cost in afs.costs] == [cost.parameters for cost in plain.costs]
    assert len(afs.curves) == 4
    assert afs.digests == plain.digests  # three of three sources are all, so the trial is seen nowhere


def test_evidence_draws_nothing_and_sees_training_samples_only() -> None:
    stream = related_stream()
    strategy = from_scratch(NORMED, sources=TopSources(1, by="ridge"))
    learn_all(strategy, Stream(stream[:3], name="first"))
    seen = replace(stream[3], test=stream[0].test, val=stream[1].val)
    assert_generator_untouched(lambda: strategy._ranked(seen))
    assert strategy._ranked(seen) == strategy._ranked(stream[3])
    evidence = [choice["evidence"] for choice in strategy.choices[-2:]]
    assert evidence[0] == evidence[1]
    shuffled = replace(stream[3], train=Samples(stream[3].train.x, stream[3].train.y.flip(0)))
    strategy._ranked(shuffled)
    assert strategy.choices[-1]["evidence"] != evidence[0]


def test_at_most_so_many_samples_are_looked_at() -> None:
    stream = related_stream()
    few = learn_all(from_scratch(PLAIN, sources=TopSources(1, samples=5)), stream)
    for choice in few.choices:
        assert all(round(share * 5) == pytest.approx(share * 5) for share in choice["evidence"])


def test_a_task_without_samples_is_decided_without_them() -> None:
    strategy = from_scratch(PLAIN, sources=TopSources(2, by="afs"))
    outlines: list[Task] = [task.outline() for task in related_stream()]
    learn_all(strategy, outlines, Training(epochs=0))  # type: ignore[arg-type]
    assert sources_of(strategy) == [(), (0,), (0, 1), (1, 2)]
    assert strategy.choices[-1] == {"sources": [2, 1], "evidence": [0.0, 1.0, 2.0]}


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LastSources(0), "count: required a whole number, at least 1, found 0."),
        (lambda: LastSources(1, closure=0), "closure: required a whole number, at least 1, found 0."),
        (lambda: TopSources(True), "count: required a whole number, at least 1, found True."),
        (lambda: TopSources(1.5), "count: required a whole number, at least 1, found 1.5."),  # type: ignore[arg-type]
        (lambda: TopSources(samples=3), "samples: required a whole number, at least 4, found 3."),
        (lambda: TopSources(trial=0), "trial: required a whole number, at least 1, found 0."),
        (
            lambda: TopSources(by="probe"),  # type: ignore[arg-type]
            "by: required one of ('knn', 'ridge', 'leep', 'nce', 'logme', 'hscore', 'cka', 'afs'), found 'probe'.",
        ),
        (
            lambda: from_scratch(PLAIN, sources="all"),
            "sources: required one of ['AllSources', 'LastSources', 'TopSources'], found 'all'; e.g. "
            "sources=AllSources().",
        ),
    ],
)
def test_bad_arguments_are_refused(make: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()  # type: ignore[operator]
    assert str(caught.value) == message
