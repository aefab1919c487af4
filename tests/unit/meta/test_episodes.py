"""Episodes: their shapes, their classes, and that nothing is in both parts."""

from dataclasses import replace
from math import pi

import pytest
import torch
from torch import Tensor

from prognet.errors import ConfigError, StreamError
from prognet.meta import FewShot, sine_episodes
from prognet.streams.numeric import MultiLabel, Regression
from prognet.streams.objectives import Objective
from prognet.streams.task import Samples
from tests.helpers.streams import make_byte_stream, make_samples, make_task

NUMBERS = torch.linspace(-1, 1, 50).unsqueeze(1)
TASKS = [make_task(0, 5, 50), make_task(1, 4, 60)]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_an_episode_has_so_many_samples_of_every_class_and_none_twice() -> None:
    found = FewShot(tasks=TASKS, ways=3, shots=2, queries=4).draw(6, generator())
    assert len(found) == 6
    assert found.x.shape == (6, 6, 1, 4, 4)
    assert found.query_x.shape == (6, 12, 1, 4, 4)
    places = {
        row.numpy().tobytes(): (task.label, int(y))
        for task in TASKS
        for row, y in zip(task.train.x, task.train.y, strict=True)
    }
    owners = set()
    for x, y in zip(*found.together(), strict=True):
        assert torch.bincount(y).tolist() == [6, 6, 6]
        keys = [row.numpy().tobytes() for row in x]
        assert len(set(keys)) == 18
        drawn = [places[key] for key in keys]
        assert len({label for label, _ in drawn}) == 1
        assert len(set(zip(drawn, y.tolist(), strict=True))) == 3  # one class of the task for each of the episode
        owners.add(drawn[0][0])
    assert owners == {0, 1}
    assert torch.bincount(found.y[0]).tolist() == [2, 2, 2]


def test_episodes_depend_on_the_generator_alone() -> None:
    few = FewShot(tasks=TASKS, ways=2, shots=1, queries=1)
    assert torch.equal(few.draw(3, generator()).x, few.draw(3, generator()).x)
    assert not torch.equal(few.draw(3, generator()).x, few.draw(3, generator(1)).x)


def test_inputs_are_those_that_a_network_sees_and_only_training_ones() -> None:
    task = make_byte_stream()[0]
    found = FewShot(tasks=[task], ways=2, shots=2, queries=1).draw(4, generator()).together()[0].flatten(0, 1)
    known = {row.numpy().tobytes() for row in task.normalisation(task.train.x)}
    assert {row.numpy().tobytes() for row in found} <= known


@pytest.mark.parametrize(
    ("changes", "found"), [({"ways": 5}, "task 1"), ({"shots": 9}, "task 0"), ({"queries": 9}, "task 0")]
)
def test_too_few_classes_or_samples_are_refused(changes: dict[str, int], found: str) -> None:
    with pytest.raises(StreamError, match=f"tasks: required .* in {found}; ask for fewer ways, shots or queries"):
        FewShot(**{"tasks": TASKS, "ways": 3, "shots": 2, "queries": 2, **changes})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "value", "least"), [("ways", 0, 2), ("ways", 1, 2), ("shots", -1, 1), ("shots", 0, 1), ("queries", -1, 0)]
)
def test_numbers_out_of_their_range_are_refused(name: str, value: int, least: int) -> None:
    with pytest.raises(ConfigError) as caught:
        FewShot(**{"tasks": TASKS, name: value})  # type: ignore[arg-type]
    assert str(caught.value) == f"{name}: required a whole number, at least {least}, found {value}."


@pytest.mark.parametrize(
    ("objective", "y"),
    [(Regression.of(NUMBERS), NUMBERS), (MultiLabel(5), torch.zeros(50, 5))],
    ids=["regression", "multi-label"],
)
def test_a_task_that_is_no_classification_is_refused(objective: Objective, y: Tensor) -> None:
    task = TASKS[0]
    other = replace(
        task,
        objective=objective,
        train=Samples(task.train.x, y),
        val=Samples(task.val.x, y[:10]),
        test=Samples(task.test.x, y[:30]),
    )
    with pytest.raises(StreamError, match=f"tasks: required classifications, found {type(objective).__name__} in task"):
        FewShot(tasks=[TASKS[1], other], ways=2, shots=1, queries=1)


def test_no_task_is_too_few() -> None:
    with pytest.raises(StreamError, match="tasks: required at least one task to draw episodes from, found none"):
        FewShot(tasks=[])


def test_inputs_of_different_shapes_are_refused() -> None:
    other = replace(TASKS[0], train=make_samples(0, "train", 50, 5, (1, 5, 5)))
    with pytest.raises(StreamError, match="tasks: required inputs of one shape"):
        FewShot(tasks=[TASKS[0], other], ways=2, shots=1, queries=1)


def test_sines_are_sines() -> None:
    found = sine_episodes(50, generator(), shots=7, queries=30)
    assert (found.x.shape, found.query_y.shape) == ((50, 7, 1), (50, 30, 1))
    x, y = found.together()
    assert -5 <= x.min() < -4
    assert 4 < x.max() <= 5
    design = torch.cat([torch.sin(x), torch.cos(x)], 2)  # A sin(x + b) = A cos b sin x + A sin b cos x
    fit = torch.linalg.lstsq(design, y).solution
    torch.testing.assert_close(design @ fit, y, atol=1e-4, rtol=0)
    amplitude, phase = fit.square().sum(1).sqrt(), torch.atan2(fit[:, 1], fit[:, 0])
    assert 0.1 <= amplitude.min() < 1 < 4 < amplitude.max() <= 5
    assert -1e-3 <= phase.min() < 0.5 < 2.6 < phase.max() <= pi + 1e-3


@pytest.mark.parametrize(("name", "value", "least"), [("shots", 0, 1), ("queries", -1, 0)])
def test_sines_need_samples(name: str, value: int, least: int) -> None:
    with pytest.raises(ConfigError, match=f"{name}: required a whole number, at least {least}, found {value}"):
        sine_episodes(2, generator(), **{name: value})
