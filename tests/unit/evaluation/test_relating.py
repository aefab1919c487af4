"""The table of pairs: every measure beside its control, related tasks before others, and what cannot be measured."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prognet.analysed import Pairs
from prognet.analysis import class_mean_distance, h_score, leep, linear_cka, log_me, mean_distance, mmd
from prognet.analysis.relatedness import knn_accuracy, penultimate_features
from prognet.config import Training
from prognet.errors import ConfigError
from prognet.evaluation.looking import drawn
from prognet.evaluation.relating import Relations, relate, related
from prognet.related import PAIR_KEYS, PAIR_MEASURES
from prognet.strategies import Independent
from prognet.strategies.base import Backbone
from prognet.streams.objectives import Objective
from prognet.streams.stream import Stream
from tests.helpers.asserts import assert_generator_untouched, assert_network_unchanged
from tests.helpers.runs import NORMED, PLAIN, quick_run
from tests.helpers.streams import make_samples, make_task

PAIRS, FULL = Pairs(pair_samples=60, tag_steps=1), Pairs(pair_samples=60, tag_steps=100)
TRAINING = Training(epochs=15, batch_size=16, lr=0.01)


def stream() -> Stream:
    """Task 3 has the patterns of task 0 and its classes; 1 and 2 are others."""
    tasks = [make_task(label, 4, 80) for label in range(4)]
    return Stream([*tasks[:3], replace(tasks[3], train=make_samples(0, "more", 48, 4))], name="related")


@pytest.fixture(scope="module")
def learner() -> Independent:
    found: Independent = quick_run(Independent(PLAIN), stream(), training=TRAINING).learner
    return found


@pytest.fixture(scope="module")
def full(learner: Independent) -> Relations:
    return relations(learner, pairs=FULL)


def relations(learner: Independent, backbone: Backbone = PLAIN, **changes: object) -> Relations:
    arguments = {"pairs": PAIRS, "seed": 3, **changes}
    columns = learner.columns
    return relate(columns.network, columns.column_of, list(stream()), backbone, **arguments)  # type: ignore[arg-type]


def test_every_measure_is_there_for_every_pair_and_nowhere_else(learner: Independent) -> None:
    found = relations(learner)
    assert tuple(found.values) == tuple(found.shuffled) == PAIR_KEYS
    assert found.samples == (60, 60, 60, 48)
    above = np.tri(4, k=-1, dtype=bool).T
    for table in (found.values, found.shuffled):
        for key, matrix in table.items():
            assert np.isfinite(matrix[above]).all(), key
            assert np.isnan(matrix[~above]).all(), key


@pytest.mark.parametrize("measure", PAIR_MEASURES, ids=lambda measure: measure.key)
def test_every_measure_names_the_task_with_the_same_patterns(full: Relations, measure: object) -> None:
    found, key, sign = full, measure.key, measure.sign  # type: ignore[attr-defined]
    column = sign * found.values[key][:3, 3]
    assert column.argmax() == 0
    if sign > 0:
        assert column[0] > found.shuffled[key][0, 3]
    else:  # mixed inputs are as near as any can be
        assert found.shuffled[key][1, 3] < found.values[key][1, 3]


def test_the_numbers_are_those_of_the_functions(learner: Independent) -> None:
    found, tasks, network = relations(learner), list(stream()), learner.columns.network
    (x1, y1), (x2, y2) = (drawn(tasks[t], tasks[t].train, 60, 3, "relatedness", torch.device("cpu")) for t in (1, 2))
    features = penultimate_features(network, [1, 2], x2)
    with torch.no_grad():
        logits = network(x2, column=1)
    expected = {
        "mean_distance": mean_distance(x1, x2),
        "class_distance": class_mean_distance(x1, y1, x2, y2),
        "mmd": mmd(x1, x2),
        "knn": knn_accuracy(features[1], y2),
        "leep": leep(logits.softmax(1), y2),
        "logme": log_me(features[1], y2),
        "hscore": h_score(features[1], y2),
        "cka": linear_cka(features[1], features[2], debiased=True),
    }
    for key, value in expected.items():
        assert found.values[key][1, 2] == pytest.approx(value, rel=1e-5), key


def test_controls_find_nothing(learner: Independent) -> None:
    found = relations(learner)
    above = np.triu_indices(4, 1)
    for key, bound in (("mmd", 0.05), ("cka_labels", 0.15), ("cka", 0.15), ("mean_distance", 0.4)):
        assert abs(found.shuffled[key][above]).mean() < bound, key
    assert found.shuffled["knn"][above].mean() < 0.4  # chance is a quarter


def test_looking_changes_nothing_and_the_same_seed_sees_the_same(learner: Independent) -> None:
    network = learner.columns.network
    assert_network_unchanged(network, lambda: relations(learner))
    assert_generator_untouched(lambda: relations(learner))
    one, again, other = relations(learner), relations(learner), relations(learner, seed=4)
    for key in PAIR_KEYS:
        np.testing.assert_array_equal(one.values[key], again.values[key])
        np.testing.assert_array_equal(one.shuffled[key], again.shuffled[key])
    assert one.values["knn"][0, 1] != other.values["knn"][0, 1]


def test_only_training_samples_are_seen(learner: Independent) -> None:
    tasks = list(stream())
    swapped = [replace(task, test=tasks[0].test, val=tasks[1].val) for task in tasks]
    columns = learner.columns
    one = relations(learner)
    two = relate(columns.network, columns.column_of, swapped, PLAIN, PAIRS, seed=3)
    for key in PAIR_KEYS:
        np.testing.assert_array_equal(one.values[key], two.values[key])


def test_earlier_tasks_may_have_had_other_samples_and_columns_of_their_own_stand_beside(learner: Independent) -> None:
    earlier = [replace(task, train=make_samples(task.label, "earlier", 40, 4)) for task in stream()]
    one, two = relations(learner), relations(learner, earlier=earlier)
    for key in PAIR_KEYS:
        moved = not np.array_equal(one.values[key], two.values[key], equal_nan=True)
        assert moved == (key in ("mean_distance", "class_distance", "mmd")), key
    mine = relations(learner, own={1: 0})
    assert mine.values["cka"][0, 1] == pytest.approx(1.0)
    assert np.isnan(mine.values["cka"][:, 2]).all()


class Squared(Objective):
    """No classification."""

    primary = "error"

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return (output - target).square().mean()

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        return {"error": float(self.loss(output, target))}

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return (output - target).square()


class Wider(nn.Module):
    """A trunk as wide as the task has classes: no trunk fits all tasks."""

    def __init__(self, n_classes: int) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(16, 2 * n_classes), nn.Linear(2 * n_classes, n_classes)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.last(torch.relu(self.first(x.flatten(1))))
        return out


def test_without_a_common_trunk_gradients_are_not_compared() -> None:
    tasks = [make_task(0, 2, 40), make_task(1, 3, 40)]
    backbone = lambda shape, n_classes: Wider(n_classes)  # noqa: E731
    found = quick_run(Independent(backbone), Stream(tasks, name="uneven")).learner
    columns = found.columns
    made = relate(columns.network, columns.column_of, tasks, backbone, PAIRS)
    assert np.isnan(made.values["cosine"]).all()
    assert np.isfinite(made.values["leep"][0, 1])


def test_columns_without_an_output_layer_are_asked_for_their_outputs_alone() -> None:
    tasks = [make_task(label, 3, 40) for label in range(2)]
    backbone = lambda shape, n_classes: nn.Sequential(PLAIN(shape, n_classes), nn.LogSoftmax(dim=1))  # noqa: E731
    columns = quick_run(Independent(backbone), Stream(tasks, name="sure")).learner.columns
    made = relate(columns.network, columns.column_of, tasks, backbone, PAIRS)
    known = {key for key, matrix in made.values.items() if np.isfinite(matrix[0, 1])}
    assert known == {"mean_distance", "class_distance", "mmd", "leep", "nce"}


def test_norms_and_dropout_are_no_obstacle() -> None:
    found: Independent = quick_run(Independent(NORMED), stream()).learner
    made = relations(found, backbone=NORMED)
    assert np.isfinite(made.values["lookahead"][0, 1])


def test_what_the_measures_are_defined_for() -> None:
    tasks = list(stream())
    assert related(tasks)
    assert not related(tasks[:1])
    assert not related([tasks[0], tasks[1].outline()])
    assert not related([tasks[0], replace(tasks[1], objective=Squared())])


@pytest.mark.parametrize(("name", "value", "least"), [("pair_samples", 3, "4"), ("tag_steps", 0, "1")])
def test_bad_settings_are_refused(name: str, value: int, least: str) -> None:
    with pytest.raises(ConfigError, match=f"{name}: required a whole number, at least {least}, found {value}"):
        Pairs(**{name: value})  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="tag_lr: required a finite number above 0, found 0"):
        Pairs(tag_lr=0)
