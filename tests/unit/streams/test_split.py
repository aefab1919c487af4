import pytest
import torch

from prognet.errors import ConfigError
from prognet.streams.parts import Dataset, Settings
from prognet.streams.split import split_by_class, task_name
from prognet.streams.task import Samples

# 10 classes, the sample itself tells its class and its place: (class, index)
Y = torch.arange(200) % 10
TRAIN = Samples(torch.stack([Y.float(), torch.arange(200.0)], dim=1), Y)
TEST = Samples(torch.stack([Y[:50].float(), torch.arange(200.0, 250.0)], dim=1), Y[:50])
DATA = Dataset(TRAIN, TEST, tuple("abcdefghij"))


@pytest.mark.parametrize("n_tasks", [1, 2, 3, 4, 5])
def test_splits_are_disjoint_and_complete(n_tasks: int) -> None:
    tasks = split_by_class(DATA, n_tasks, Settings(validation=0.2))
    places = [x[:, 1] for task in tasks for x in (task.train.x, task.val.x, task.test.x)]
    assert torch.cat(places).sort().values.tolist() == list(range(250))  # each sample once, in one split of one task
    assert sorted(name for task in tasks for name in task.classes) == list("abcdefghij")


@pytest.mark.parametrize("n_tasks", [1, 3, 5])
def test_every_split_has_every_class_under_its_local_label(n_tasks: int) -> None:
    for task in split_by_class(DATA, n_tasks, Settings(validation=0.2)):
        for samples in (task.train, task.val, task.test):
            assert set(samples.y.tolist()) == set(range(task.n_classes))
            names = ["abcdefghij"[int(original)] for original in samples.x[:, 0]]
            assert names == [task.classes[label] for label in samples.y]


def test_classes_are_shared_out_as_equally_as_possible_the_larger_tasks_first() -> None:
    assert [task.n_classes for task in split_by_class(DATA, 3, Settings())] == [4, 3, 3]
    assert [task.n_classes for task in split_by_class(DATA, 4, Settings())] == [3, 3, 2, 2]


def test_the_natural_order_is_that_of_the_labels() -> None:
    tasks = split_by_class(DATA, 5, Settings(seed=7), class_order="natural")
    assert ["".join(task.classes) for task in tasks] == ["ab", "cd", "ef", "gh", "ij"]
    assert [task.name for task in tasks] == ["a b", "c d", "e f", "g h", "i j"]


def test_the_seed_decides_the_class_order() -> None:
    orders = [tuple(task.classes for task in split_by_class(DATA, 5, Settings(seed=seed))) for seed in (0, 0, 1, 2)]
    assert orders[0] == orders[1]
    assert len(set(orders)) == 3


def test_more_tasks_than_pairs_of_classes_are_refused() -> None:
    with pytest.raises(ConfigError, match="n_tasks: required 1 to 5, so that each task has two classes, found 6"):
        split_by_class(DATA, 6, Settings())


def test_names_stay_short() -> None:
    assert task_name(["cat", "dog"]) == "cat dog"
    assert task_name(["apple", "bear", "can", "desk", "elm"]) == "apple +4"
