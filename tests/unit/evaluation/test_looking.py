"""A stream on which it is known which column is useful: every measure has to name it."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor

from prognet.analysed import ColumnAnalysis, Look
from prognet.backbones import mlp
from prognet.config import Measurement, Training
from prognet.errors import ConfigError
from prognet.evaluation import run
from prognet.evaluation.looking import analyse_column
from prognet.strategies import Progressive
from prognet.streams.objectives import Classification, Objective
from prognet.streams.stream import Stream
from prognet.streams.task import Samples, Task
from tests.helpers.runs import from_scratch

USEFUL, LAST = 1, 3
PAIRS = ((0, 1), (2, 3), (4, 5), (2, 3))
"""The label says whether two inputs have one sign: other inputs in every task, but for the last and the second."""
N_TRAIN = (600, 600, 600, 40)
"""Forty samples of ten inputs are too few to learn the sign of a product from."""


class Regression(Objective):
    """A number for every sample."""

    primary = "error"

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return (output - target).square().mean()

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        return {}

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return -(output - target).square()


def product_stream(seed: int) -> Stream:
    generator = torch.Generator().manual_seed(seed)

    def split(label: int, n: int) -> Samples:
        x = torch.randn(n, 10, generator=generator)
        first, second = PAIRS[label]
        same: Tensor = x[:, first] * x[:, second] > 0
        return Samples(x, (same if label != LAST else ~same).long())  # the last task calls them the other way round

    tasks = [
        Task(
            label=label,
            name=f"product {label}",
            classes=("no", "yes"),
            train=split(label, n),
            val=split(label, 0),
            test=split(label, 400),
            objective=Classification(2),
            head=label,
        )
        for label, n in enumerate(N_TRAIN)
    ]
    return Stream(tasks, name="products", seed=seed)


@pytest.fixture(scope="module", params=[0, 1, 2])
def found(request: pytest.FixtureRequest) -> ColumnAnalysis:
    stream = product_stream(request.param)
    result = run(
        from_scratch(mlp(hidden=(24, 24))),
        stream,
        training=Training(epochs=15, batch_size=50, lr=0.01),
        measurement=Measurement(lca_updates=0, curve_points=0, gates=()),
        seed=request.param,
        device="cpu",
        threads=1,
    )
    network = result.learner.columns.network
    return analyse_column(network, LAST, stream[LAST], Look(repeats=2, samples=400, batch_size=400), request.param)


def test_the_last_column_has_learned_its_task_from_the_useful_one(found: ColumnAnalysis) -> None:
    assert found.accuracy > 0.65
    assert found.total_loss > 0.1


@pytest.mark.parametrize("measure", ["fisher", "perturbation", "source_loss"])
def test_every_measure_names_the_one_useful_column(found: ColumnAnalysis, measure: str) -> None:
    values = getattr(found, measure)
    sources = (values if values.ndim == 1 else values.mean(axis=0))[:LAST]
    others = [value for index, value in enumerate(sources) if index != USEFUL]
    assert int(sources.argmax()) == USEFUL
    assert sources[USEFUL] > 1.5 * max(others)


def test_the_other_columns_are_worth_nothing(found: ColumnAnalysis) -> None:
    assert found.source_loss[USEFUL] > 0.1
    assert max(found.source_loss[0], found.source_loss[2]) < 0.05


def test_a_task_without_classes_and_one_that_is_too_small_are_refused() -> None:
    stream = product_stream(0)
    network = run(Progressive(mlp(hidden=(4,))), stream.first(1), training=Training(epochs=0)).learner.columns.network
    small = replace(stream[0], test=Samples(stream[0].test.x[:1], stream[0].test.y[:1]))
    with pytest.raises(ConfigError, match="x: required at least two inputs, found 1"):
        analyse_column(network, 0, small, Look(), 0)
    odd = replace(stream[0], objective=Regression())
    with pytest.raises(ConfigError, match="task 0: required a classification, found Regression; the measures are"):
        analyse_column(network, 0, odd, Look(), 0)


def test_a_column_no_better_than_chance_has_no_aps() -> None:
    stream = product_stream(0)
    network = run(Progressive(mlp(hidden=(4,))), stream.first(1), training=Training(epochs=0)).learner.columns.network
    with torch.no_grad():
        wrong = network(stream[0].test.x, column=0).argmin(1)
    found = analyse_column(network, 0, replace(stream[0], test=Samples(stream[0].test.x, wrong)), Look(), 0)
    assert found.accuracy == 0.0
    assert np.isnan(found.perturbation).all()
    assert found.fisher.tolist() == [[1.0]] * len(found.sites)
    assert np.isnan(found.loss).all()
