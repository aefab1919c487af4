"""Avalanche, imported without the warnings of its dependencies, and benchmarks to put into it."""

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import TensorDataset

from prognet.streams.bridge import import_avalanche

BENCHMARKS = import_avalanche("avalanche.benchmarks")
BENCHMARK_TOOLS = import_avalanche("avalanche.benchmarks.utils")
EVALUATION = import_avalanche("avalanche.training.plugins.evaluation")
LOGGING = import_avalanche("avalanche.logging")
METRICS = import_avalanche("avalanche.evaluation.metrics")
MODELS = import_avalanche("avalanche.models")
TRAINING = import_avalanche("avalanche.training")
CHECKPOINTING = import_avalanche("avalanche.checkpointing")


def experience(
    label: int | Sequence[int], classes: Sequence[int], shape: Sequence[int] = (1, 4, 4), **more: Any
) -> Any:
    """All that a module asks an experience for."""
    labels = [label] if isinstance(label, int) else list(label)
    dataset = SimpleNamespace(eval=lambda: [(torch.zeros(*shape), classes[0], labels[0])])
    return SimpleNamespace(
        task_labels=labels,
        classes_in_this_experience=list(classes),
        current_experience=7,
        dataset=dataset,
        **more,
    )


class TensorsWithTargets(TensorDataset):
    """Tensors as Avalanche's generators of benchmarks want them."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        super().__init__(x, y)
        self.targets = y.tolist()


def by_class(task_labels: bool, n_experiences: int = 3) -> Any:
    """An `nc_benchmark` over six classes, which keep their numbers, in the order 5 3, 1 0, 2 4."""
    random = torch.Generator().manual_seed(0)
    patterns = torch.randn(6, 16, generator=random)
    datasets = []
    for n in (120, 60):
        y = torch.arange(n) % 6
        x = patterns[y] + 0.5 * torch.randn(n, 16, generator=random)
        datasets.append(BENCHMARK_TOOLS.as_classification_dataset(TensorsWithTargets(x, y)))
    return BENCHMARKS.nc_benchmark(
        *datasets, n_experiences=n_experiences, task_labels=task_labels, fixed_class_order=[5, 3, 1, 0, 2, 4]
    )


def of_datasets(*wrappers: str) -> Any:
    """A `benchmark_from_datasets` of two tasks over classes 2, 3 and 0, 1, wrapped by functions of Avalanche."""
    random = torch.Generator().manual_seed(0)
    streams: dict[str, list[Any]] = {}
    for part, n in (("train", 20), ("test", 10)):
        streams[part] = []
        for label, first in enumerate((2, 0)):
            y = first + torch.arange(n) % 2
            data = TensorsWithTargets(torch.randn(n, 1, 4, 4, generator=random), y)
            dataset = BENCHMARK_TOOLS.as_classification_dataset(data)
            streams[part].append(dataset.update_data_attribute("targets_task_labels", [label] * n))
    benchmark = BENCHMARKS.benchmark_from_datasets(**streams)
    for name in wrappers:
        benchmark = getattr(BENCHMARKS, name)(benchmark)
    return benchmark


def accuracies(results: dict[str, Any]) -> list[float]:
    """The accuracy on each experience of the test stream, in their order, from what `strategy.eval` returned."""
    found = {key: value for key, value in results.items() if key.startswith("Top1_Acc_Exp/eval_phase/test_stream/")}
    return [found[key] for key in sorted(found, key=lambda key: key.rpartition("/")[2])]


def evaluator(*metrics: Any) -> Any:
    """Accuracy on each experience, and other metrics, with nothing printed."""
    silent = LOGGING.TextLogger(_Nowhere())
    return EVALUATION.EvaluationPlugin(METRICS.accuracy_metrics(experience=True), *metrics, loggers=[silent])


class _Nowhere:
    """A file that forgets."""

    def write(self, text: str) -> None:
        pass

    def flush(self) -> None:
        pass
