"""Every stream is an Avalanche benchmark, and every Avalanche benchmark with task labels is a stream."""

import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

from prognet.errors import StreamError
from prognet.streams.bridge import import_avalanche
from prognet.streams.digits import split_digits
from prognet.streams.foreign import from_avalanche
from prognet.streams.stream import Stream
from prognet.streams.task import Normalisation, Samples
from tests.helpers.avalanche import of_datasets
from tests.helpers.data import blobs, data_root, multiset, same_samples


def images(heads: Any = "per-task") -> Stream:
    """Three tasks of bytes with a normalisation: what the network sees differs from what is stored."""
    random = torch.Generator().manual_seed(0)
    task = blobs((2,))[0]

    def samples(n: int) -> Samples:
        x = torch.randint(0, 256, (n, 3, 4, 4), generator=random).to(torch.uint8)
        return Samples(x, torch.arange(n) % 2)

    tasks = [
        replace(
            task,
            label=label,
            head=label if heads == "per-task" else 0,
            train=samples(20),
            val=samples(4),
            test=samples(6),
            normalisation=Normalisation((0.4, 0.5, 0.6), (0.2, 0.3, 0.4)),
        )
        for label in range(3)
    ]
    return Stream(tasks, name="images", heads=heads)


@pytest.fixture(scope="module")
def split() -> Stream:
    return split_digits(n_tasks=3, seed=1)


def trained_on(stream: Stream, model: torch.nn.Module) -> dict[int, Counter[tuple[bytes, int]]]:
    """What Avalanche's Naive sees of each training experience, recorded from its mini-batches."""
    training = import_avalanche("avalanche.training")  # first, so that the next line finds it imported
    from avalanche.core import SupervisedPlugin

    seen: dict[int, Counter[tuple[bytes, int]]] = {}

    class Record(SupervisedPlugin):  # type: ignore[misc]
        def before_forward(self, strategy: Any, **_: Any) -> None:
            counts = seen.setdefault(strategy.experience.current_experience, Counter())
            counts.update(multiset(strategy.mb_x, strategy.mb_y))
            assert set(strategy.mb_task_id.tolist()) == set(strategy.experience.task_labels)

    strategy = training.Naive(
        model=model,
        optimizer=torch.optim.SGD(model.parameters(), lr=0.01),
        train_mb_size=16,
        train_epochs=1,
        plugins=[Record()],
    )
    for task in stream:
        strategy.train(task.experience)
    return seen


def multi_head(n_features: int) -> torch.nn.Module:
    models = import_avalanche("avalanche.models")
    model: torch.nn.Module = models.MTSimpleMLP(input_size=n_features, hidden_size=8)
    return model


@pytest.mark.parametrize("build", [blobs, partial(split_digits, n_tasks=3), images], ids=["blobs", "digits", "bytes"])
def test_naive_sees_the_samples_of_the_tasks(build: Callable[[], Stream]) -> None:
    stream = build()
    n_features = stream[0].train.x[0].numel()
    seen = trained_on(stream, multi_head(n_features))
    assert sorted(seen) == [0, 1, 2]
    for task in stream:
        assert seen[task.label] == multiset(task.normalisation(task.train.x), task.train.y)


def test_naive_sees_a_shared_head_as_one_task() -> None:
    model = import_avalanche("avalanche.models").SimpleMLP(num_classes=2, input_size=48, hidden_size=8)
    stream = images(heads="shared")
    assert [list(experience.task_labels) for experience in stream.benchmark.train_stream] == [[0], [0], [0]]
    assert trained_on(stream, model)[2] == multiset(stream[2].normalisation(stream[2].train.x), stream[2].train.y)


@pytest.mark.parametrize("part", ["train", "valid", "test"])
def test_the_benchmark_has_every_split(part: str) -> None:
    stream = images()
    experiences = getattr(stream.benchmark, f"{part}_stream")
    assert [experience.task_labels for experience in experiences] == [[0], [1], [2]]
    for task, experience in zip(stream, experiences, strict=True):
        samples = task.val if part == "valid" else getattr(task, part)
        x = torch.stack([experience.dataset[k][0] for k in range(len(samples))])
        assert torch.equal(x, task.normalisation(samples.x))
        assert [experience.dataset[k][1] for k in range(len(samples))] == samples.y.tolist()


def test_without_validation_there_is_no_valid_stream() -> None:
    stream = split_digits(n_tasks=2, validation=0.0)
    assert not hasattr(stream.benchmark, "valid_stream")
    assert len(from_avalanche(stream.benchmark, validation=0.0)[0].val) == 0


def test_the_benchmark_is_made_once_and_holds_the_experiences_of_the_tasks(split: Stream) -> None:
    assert split.benchmark is split.benchmark
    for task in split:
        assert task.experience.current_experience == task.label
        assert task.experience.task_label == task.label
        assert list(task.experience.classes_in_this_experience) == list(range(task.n_classes))
        assert len(task.experience.dataset) == len(task.train)


@pytest.mark.parametrize("build", [blobs, partial(split_digits, n_tasks=3)], ids=["blobs", "digits"])
def test_the_way_back_gives_the_same_samples(build: Callable[[], Stream]) -> None:
    stream = build()
    back = from_avalanche(stream.benchmark)
    assert back.benchmark is stream.benchmark
    for task, again in zip(stream, back, strict=True):
        assert (again.label, again.n_classes, again.head) == (task.label, task.n_classes, task.head)
        assert same_samples(again.train, task.train)
        assert same_samples(again.val, task.val)
        assert same_samples(again.test, task.test)
        assert again.experience.dataset is not None
        assert again.experience.current_experience == task.label


def test_the_way_back_gives_what_the_network_sees() -> None:
    stream = images(heads="shared")
    back = from_avalanche(stream.benchmark, heads="shared")
    assert [task.head for task in back] == [0, 0, 0]
    for task, again in zip(stream, back, strict=True):
        assert torch.equal(again.normalisation(again.test.x), task.normalisation(task.test.x))


def test_a_loaded_stream_has_a_benchmark_too(split: Stream, tmp_path: Any) -> None:
    split.save(tmp_path)
    experience = Stream.load(tmp_path)[1].experience
    assert multiset(*columns(experience)) == multiset(split[1].train.x, split[1].train.y)


def columns(experience: Any) -> tuple[Tensor, Tensor]:
    rows = [experience.dataset[k] for k in range(len(experience.dataset))]
    return torch.stack([row[0] for row in rows]), torch.tensor([row[1] for row in rows])


def nc(n_experiences: int, task_labels: bool, **more: Any) -> Any:
    """An `nc_benchmark` of six classes whose samples tell their class; classes keep their numbers."""
    benchmarks = import_avalanche()
    utils = import_avalanche("avalanche.benchmarks.utils")
    y = torch.arange(60) % 6
    datasets = [
        utils.as_classification_dataset(TensorsWithTargets(torch.stack([y[:n], torch.arange(n)], dim=1).float(), y[:n]))
        for n in (60, 30)
    ]
    order = {"fixed_class_order": [5, 3, 1, 0, 2, 4]}
    return benchmarks.nc_benchmark(*datasets, n_experiences=n_experiences, task_labels=task_labels, **order, **more)


class TensorsWithTargets(torch.utils.data.TensorDataset):
    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__(x, y)
        self.targets = y.tolist()


def test_a_foreign_benchmark_becomes_a_stream() -> None:
    benchmark = nc(3, task_labels=True)
    stream = from_avalanche(benchmark, validation=0.2, name="mine")
    assert stream.benchmark is benchmark
    assert (stream.name, len(stream)) == ("mine", 3)
    assert [task.classes for task in stream] == [("3", "5"), ("0", "1"), ("2", "4")]
    for task in stream:
        assert (len(task.train), len(task.val), len(task.test)) == (16, 4, 10)
        for samples in (task.train, task.val, task.test):
            assert [int(task.classes[label]) for label in samples.y] == samples.x[:, 0].tolist()
            assert set(samples.y.tolist()) == {0, 1}
    held = [from_avalanche(benchmark, validation=0.2, seed=seed)[0].val for seed in (0, 0, 1)]
    assert same_samples(held[0], held[1])
    assert not same_samples(held[0], held[2])
    again = from_avalanche(benchmark, **from_avalanche(benchmark, validation=0.2).arguments)
    assert same_samples(again[2].train, stream[2].train)


def test_a_foreign_benchmark_is_read_with_its_evaluation_transforms() -> None:
    benchmark = nc(3, task_labels=True, train_transform=lambda x: x + 100, eval_transform=lambda x: x * 1)
    for task in from_avalanche(benchmark):
        assert {task.classes[label] for label in task.train.y} == set(task.classes)
        assert [int(task.classes[label]) for label in task.train.y] == task.train.x[:, 0].tolist()


def test_a_benchmark_without_task_labels_is_refused() -> None:
    benchmark = nc(3, task_labels=False)
    message = (
        "benchmark: required a task label of its own for each of 3 experiences, found label 0 for all: without task "
        "labels every experience would go into one and the same column. Make the benchmark with return_task_id=True"
    )
    with pytest.raises(StreamError, match=message):
        from_avalanche(benchmark)
    with pytest.raises(
        StreamError, match="heads: a shared head required the same classes in every task .3, 5 in task 0."
    ):
        from_avalanche(benchmark, heads="shared")


def test_a_benchmark_of_datasets_needs_its_task_labels_said() -> None:
    message = r"benchmark.train_stream\[0\]: required task labels, found none; make the .*with_task_labels where"
    with pytest.raises(StreamError, match=message):
        from_avalanche(of_datasets())
    stream = from_avalanche(of_datasets("with_task_labels"), validation=0.0)
    assert [task.classes for task in stream] == [("2", "3"), ("0", "1")]
    assert [len(task.train) for task in stream] == [20, 20]


def test_one_head_for_all_needs_no_task_labels() -> None:
    benchmark = of_datasets()
    alike = SimpleNamespace(train_stream=benchmark.train_stream[:1], test_stream=benchmark.test_stream[:1])
    stream = from_avalanche(alike, heads="shared", validation=0.0)
    assert [(task.head, task.classes) for task in stream] == [(0, ("2", "3"))]


def test_one_test_set_for_all_tasks_is_refused() -> None:
    benchmark = nc(3, task_labels=False, one_dataset_per_exp=False)
    shortened = SimpleNamespace(train_stream=benchmark.train_stream, test_stream=benchmark.test_stream[:1])
    message = (
        r"benchmark.test_stream: required one experience for each of the 3 training experiences, found 1 with task "
    )
    with pytest.raises(StreamError, match=message):
        from_avalanche(shortened, heads="shared")


def imitation(labels: list[list[int]], tests: list[list[int]]) -> Any:
    """Streams of experiences of which only the task labels matter."""

    def stream(all_labels: list[list[int]]) -> Iterator[Any]:
        return iter(
            [SimpleNamespace(task_labels=own, current_experience=place) for place, own in enumerate(all_labels)]
        )

    return SimpleNamespace(train_stream=stream(labels), test_stream=stream(tests))


@pytest.mark.parametrize(
    ("labels", "tests", "message"),
    [
        ([[0, 1], [2]], [], r"benchmark.train_stream\[0\]: required one task label, found \[0, 1\]; make a benchmark"),
        ([[]], [], r"benchmark.train_stream\[0\]: required one task label, found \[\]"),
        (
            [[0], [1], [0]],
            [],
            r"benchmark: required a task label of its own for each experience, found \[0, 1, 0\]; join",
        ),
        ([[0], [1]], [[0]], r"test_stream: required one experience for each of the 2 .*found 1 with task labels \[0\]"),
        ([[0], [1]], [[0], [2]], r"found 2 with task labels \[0, 2\]; make a test set for each task"),
        ([[0], [1]], [[0], [1], [1]], r"found 3 with task labels \[0, 1\]; make a test set for each task"),
        ([[0], [1]], [[0], [0, 1]], r"benchmark.test_stream\[1\]: required one task label, found \[0, 1\]"),
    ],
)
def test_task_labels_that_do_not_fit_are_refused(labels: Any, tests: Any, message: str) -> None:
    with pytest.raises(StreamError, match=message):
        from_avalanche(imitation(labels, tests))


def test_samples_that_are_no_tensors_are_refused() -> None:
    def experience() -> Any:
        rows = SimpleNamespace(eval=lambda: [("text", 0), ("more text", 1)])
        return SimpleNamespace(task_labels=[0], current_experience=0, dataset=rows)

    benchmark = SimpleNamespace(train_stream=[experience()], test_stream=[experience()])
    message = r"benchmark.train_stream\[0\]: required samples .* that are tensors of one shape, found something else"
    with pytest.raises(StreamError, match=message):
        from_avalanche(benchmark)


def test_importing_avalanche_by_way_of_the_bridge_warns_of_nothing() -> None:
    code = "from prognet.streams.bridge import import_avalanche; import_avalanche()"
    done = subprocess.run([sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_classic_split_mnist_of_avalanche() -> None:
    benchmark = import_avalanche("avalanche.benchmarks.classic").SplitMNIST(
        n_experiences=5, return_task_id=True, seed=1, dataset_root=data_root()
    )
    stream = from_avalanche(benchmark)
    assert stream[0].input_shape == (1, 28, 28)
    assert sorted(name for task in stream for name in task.classes) == list("0123456789")
    assert sum(len(task.train) + len(task.val) for task in stream) == 60000
    for task in stream:
        assert all(set(part.y.tolist()) == {0, 1} for part in (task.train, task.val, task.test))
