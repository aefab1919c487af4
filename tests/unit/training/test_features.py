"""Features of frozen columns, computed once: the same training as without, to rounding, within the memory."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn

from prognet.backbones import cnn, mlp, vit_tiny
from prognet.config import Execution, Measurement, Training
from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork, Site
from prognet.engine.column import Column
from prognet.errors import ConfigError
from prognet.strategies import Progressive, ProgressiveRandom, ShuffledAdapter, Strategy, TopSources
from prognet.strategies.columns import reading_of
from prognet.streams.task import Normalisation
from prognet.training.features import MIB, Shelf
from prognet.training.loop import Run
from tests.helpers.runs import MEASUREMENT, NORMED, PLAIN, from_scratch, make_session, quick_run, tensors
from tests.helpers.streams import make_stream, make_task


class Sum(nn.Module):
    """A lateral of another kind: a scaled sum of what the sources hand over, cut to the site's output."""

    def __init__(self, n_outputs: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.full((n_outputs,), 0.1))

    def forward(self, sources: Sequence[Tensor]) -> Tensor:
        return self.scale * torch.stack([h[:, : len(self.scale)] for h in sources]).sum(0)


@dataclass(frozen=True)
class Summing(Adapter):
    """Builds such sums."""

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        return Sum(site.out_shape[0])


NEVER = Execution(feature_memory=0)
TRAINING = Training(epochs=4, batch_size=16, lr=0.01)
STREAM = make_stream()


def network(n_columns: int, adapter: MLPAdapter | LinearAdapter | None = None) -> ProgressiveNetwork:
    net = ProgressiveNetwork(adapter or MLPAdapter(zero_init=False))
    for _ in range(n_columns):
        net.add_column(PLAIN((1, 4, 4), 3), torch.zeros(2, 1, 4, 4))
    return net


STRATEGIES: dict[str, Callable[[], Strategy]] = {
    "default": lambda: Progressive(NORMED),
    "scratch": lambda: from_scratch(NORMED),
    "linear": lambda: from_scratch(PLAIN, adapter=LinearAdapter()),
    "paper": lambda: from_scratch(PLAIN, adapter=MLPAdapter.paper()),
    "random": lambda: ProgressiveRandom(PLAIN),
    "shuffled": lambda: from_scratch(PLAIN, adapter=ShuffledAdapter(MLPAdapter())),
    "another kind": lambda: from_scratch(PLAIN, adapter=Summing(), sites=["3"]),
    "top": lambda: Progressive(PLAIN, sources=TopSources(1, by="afs", trial=9)),
}


def assert_near(found: dict[str, Tensor], required: dict[str, Tensor], tolerance: float) -> None:
    assert found.keys() == required.keys()
    for name, tensor in required.items():
        assert torch.allclose(found[name].double(), tensor.double(), rtol=tolerance, atol=tolerance), name


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_run_with_features_kept_is_the_run_without_to_rounding(name: str) -> None:
    # what a column with shuffled laterals says depends on the batch, so no other column may read it here
    stream = STREAM.first(2 if name == "shuffled" else 3)
    kept, fresh = (
        quick_run(STRATEGIES[name](), stream, training=TRAINING, execution=execution) for execution in (None, NEVER)
    )
    assert_near(tensors(kept.learner), tensors(fresh.learner), 2e-4)
    assert kept.costs[1].feature_flops > 0
    assert kept.costs[1].training_flops < fresh.costs[1].training_flops
    assert [cost.feature_flops for cost in fresh.costs] == [0] * len(stream)
    assert kept.costs[0].feature_flops == 0  # the first column reads none


@pytest.mark.parametrize("backbone", [cnn(channels=(3, 4, 5)), vit_tiny(dim=8, depth=2, heads=2, patch=4)])
def test_images_and_tokens_too(backbone: object) -> None:
    stream = make_stream((2, 3, 2), shape=(1, 8, 8))
    kept, fresh = (
        quick_run(from_scratch(backbone), stream, training=TRAINING, execution=execution)  # type: ignore[arg-type]
        for execution in (None, NEVER)
    )
    assert_near(tensors(kept.learner), tensors(fresh.learner), 2e-3)
    assert kept.costs[2].feature_flops > 0


def test_early_stopping_reads_the_table_of_the_validation_split() -> None:
    stream = make_stream((2, 3, 2), n_val=20)
    training = replace(TRAINING, patience=2)
    kept, fresh = (
        quick_run(from_scratch(PLAIN), stream, training=training, execution=execution) for execution in (None, NEVER)
    )
    for ours, theirs in zip(kept.curves, fresh.curves, strict=True):
        assert ours.validation == pytest.approx(theirs.validation, rel=1e-4)
        assert ours.accuracy == pytest.approx(theirs.accuracy, abs=0.051)


def count_runs(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Notes for every batch that is trained whether it brought what frozen columns hand over."""
    seen: list[bool] = []
    original = Run._outputs

    def noting(run: Run, batch: object) -> object:
        seen.extend(part.past is not None for part in batch.values())  # type: ignore[attr-defined]
        return original(run, batch)  # type: ignore[arg-type]

    monkeypatch.setattr(Run, "_outputs", noting)
    return seen


def test_frozen_columns_run_once_a_task(monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    original = Column.forward

    def noting(column: Column, x: Tensor, past: object = ()) -> object:
        if column.frozen and torch.is_grad_enabled():
            batches.append(len(x))
        return original(column, x, past)  # type: ignore[arg-type]

    monkeypatch.setattr(Column, "forward", noting)
    quick_run(from_scratch(PLAIN), STREAM, training=TRAINING)
    assert not batches  # never with the rest of an update
    quick_run(from_scratch(PLAIN), STREAM, training=TRAINING, execution=NEVER)
    assert batches


@pytest.mark.parametrize(
    ("training", "kept"),
    [
        (Training(epochs=2, batch_size=16), True),
        (Training(epochs=1, batch_size=16), True),
        (Training(updates=2, batch_size=16), False),
        (Training(updates=3, batch_size=16), True),
    ],
)
def test_a_split_of_which_a_part_is_seen_has_no_table(
    training: Training, kept: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = count_runs(monkeypatch)
    stream = make_stream((2, 2), (40, 40))
    quick_run(from_scratch(PLAIN), stream, training=training)
    n_first = 3 * training.epochs if training.updates is None else training.updates
    assert seen[:n_first] == [False] * n_first
    assert set(seen[n_first:]) == {kept}


def test_what_does_not_fit_is_computed_in_every_update(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("prognet.training.features.MIB", 1)  # so that the memory is given in bytes
    row = 4 * (8 + 6)  # what one source hands over at both sites, in single precision
    stream, n = make_stream((2, 2), (40, 40)), 40
    for memory, kept in [(n * row - 1, False), (n * row, True)]:
        seen = count_runs(monkeypatch)
        quick_run(from_scratch(PLAIN), stream, training=TRAINING, execution=Execution(feature_memory=memory))
        assert seen[-1] is kept
    half = Execution(feature_memory=n * row // 2, feature_precision="bfloat16")
    seen = count_runs(monkeypatch)
    quick_run(from_scratch(PLAIN), stream, training=TRAINING, execution=half)
    assert seen[-1]


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "float16"])
def test_a_table_holds_what_every_sample_hands_over_in_its_order(precision: str) -> None:
    net, task = network(3), replace(make_task(0, 3, 50), normalisation=Normalisation((0.3,), (2.0,)))
    session = replace(
        make_session(TRAINING, Measurement(evaluation_batch_size=16)),
        execution=Execution(feature_precision=precision),  # type: ignore[arg-type]
    )
    reading = reading_of(net, 2)
    assert reading is not None
    table = Shelf(reading, session).table_of(task, task.train)
    assert table is not None
    required = net.prepare(task.normalisation(task.train.x), 2)
    chosen = torch.tensor([44, 3, 3, 17])
    tolerance = {"float32": 1e-6, "bfloat16": 1e-2, "float16": 1e-3}[precision]
    for found, rows in zip(table.take(chosen).tensors, required.tensors, strict=True):
        assert found.dtype == torch.float32
        assert torch.allclose(found, rows[chosen], rtol=tolerance, atol=tolerance)
    assert all(h.dtype == getattr(torch, precision) and not h.requires_grad for h in table.rows.tensors)


def test_the_operations_of_a_table_are_those_of_the_frozen_columns() -> None:
    net, task = network(3), make_task(0, 3, 50)
    session = make_session(TRAINING, Measurement(evaluation_batch_size=16))
    reading = reading_of(net, 2)
    assert reading is not None
    table = Shelf(reading, session).table_of(task, task.train)
    assert table is not None
    column = 2 * (16 * 8 + 8 * 6 + 6 * 3)
    laterals = 2 * (8 * 8 + 8 * 6 + 6 * 6 + 6 * 3)  # those of the second column, which reads the first
    assert table.flops == 50 * (2 * column + laterals)


def test_all_tables_together_keep_within_the_memory() -> None:
    net, task = network(2), make_task(0, 3, 50)
    reading = reading_of(net, 1)
    assert reading is not None
    shelf = Shelf(reading, replace(make_session(), execution=Execution(feature_memory=1)))
    size = 50 * 4 * (8 + 6)
    tables = [shelf.table_of(task, task.train) for _ in range(MIB // size + 1)]
    assert all(table is not None for table in tables[:-1])
    assert tables[-1] is None
    assert shelf.table_of(task, task.outline().train) is None


def test_a_column_that_reads_none_has_no_reading() -> None:
    net = network(1)
    assert reading_of(net, 0) is None


def test_prepared_or_not_a_column_says_the_same_bits() -> None:
    x = torch.randn(20, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    for adapter in (MLPAdapter(zero_init=False), LinearAdapter(zero_init=False)):
        net = network(3, adapter)
        assert torch.equal(net(x, column=2), net(x, column=2, past=net.prepare(x, 2)))
    backbone = vit_tiny(dim=8, depth=2, heads=2, patch=4)
    tokens = ProgressiveNetwork(MLPAdapter(zero_init=False))
    images = torch.randn(20, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for _ in range(2):
        tokens.add_column(backbone((1, 8, 8), 3), images)
    say = partial(tokens, images, column=1)
    assert torch.equal(say(), say(past=tokens.prepare(images, 1)))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"feature_memory": -1}, "feature_memory: required a whole number of MiB, at least 0, found -1."),
        ({"feature_memory": 1.5}, "feature_memory: required a whole number of MiB, at least 0, found 1.5."),
        ({"feature_precision": "float64"}, "feature_precision: required one of ('float32', 'bfloat16', 'float16')"),
    ],
)
def test_settings_out_of_range_are_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Execution(**arguments)  # type: ignore[arg-type]
    assert str(caught.value).startswith(message)


def test_a_run_that_was_begun_with_another_execution_is_refused(tmp_path: object) -> None:
    with pytest.raises(Exception, match="execution"):
        for execution in (None, NEVER):
            quick_run(from_scratch(mlp(hidden=(4,))), STREAM.first(1), out=tmp_path, execution=execution)


def test_learning_curves_are_measured_in_the_batches_of_an_evaluation() -> None:
    measurement = replace(MEASUREMENT, curve_samples=40, evaluation_batch_size=7)
    kept, fresh = (
        quick_run(from_scratch(PLAIN), STREAM, training=TRAINING, measurement=measurement, execution=execution)
        for execution in (None, NEVER)
    )
    for ours, theirs in zip(kept.curves, fresh.curves, strict=True):
        assert ours.updates == theirs.updates
        assert ours.accuracy == pytest.approx(theirs.accuracy, abs=0.051)
