"""A progressive network as a multi-task module of Avalanche."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from prognet.engine import Adapter, ProgressiveNetwork
from prognet.errors import ConfigError, StreamError, UnlearnedTaskError
from prognet.seeds import derive_seed
from prognet.strategies.base import Backbone, check_backbone
from prognet.strategies.routing import MASK, route
from prognet.streams.bridge import import_avalanche
from prognet.training import seeded

_MODELS: Any = import_avalanche("avalanche.models")


@dataclass(frozen=True, slots=True)
class TaskPlace:
    """Where a task lives in a progressive module."""

    column: int
    """Index of its column."""
    classes: tuple[int, ...]
    """The benchmark's numbers of its classes, in the order of the column's outputs."""


class ProgressiveModule(_MODELS.MultiTaskModule):  # type: ignore[misc]
    """A progressive network that grows with an Avalanche stream: one column for every task label.

    A column is added when, and only when, a *training* experience with a new task label begins; evaluation never adds
    or freezes anything. A task without a column gets no answer: its logits are zero, but for an additional last unit,
    which is infinite. So every prediction for it is wrong, its accuracy 0 and its loss NaN, whatever its classes are,
    and forward transfer in the sense of GEM, which a network without a column for a task does not have, is 0.

    The columns know the classes of their own task only; outputs are spread over the benchmark's class numbers, the
    others masked.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        adapter: Adapter | None = None,
        sites: Sequence[str] | None = None,
        seed: int | None = None,
    ) -> None:
        """An empty network.

        Args:
            backbone: makes the network of each column: (input_shape, n_classes) -> nn.Module.
            adapter: the lateral connections; by default `MLPAdapter()`.
            sites: names or globs of the sites; None for the defaults.
            seed: seed of initialisation, which is then that of `prognet.run` with this seed; None for torch's own
                generator, as it stands.

        Raises:
            ConfigError: when the backbone is no function.
        """
        super().__init__()
        check_backbone(backbone)
        self.backbone, self.seed = backbone, seed
        self.sites = None if sites is None else tuple(sites)
        self.network = ProgressiveNetwork(adapter)
        self.tasks: dict[int, TaskPlace] = {}
        self._widths: dict[int, int] = {}
        self._newest_has_trained = True
        # an optimiser refuses a module without parameters, and Avalanche asks the first one for the device
        self.placeholder = nn.Parameter(torch.empty(0), requires_grad=False)

    def adaptation(self, experience: Any) -> None:
        """Adds a column if this is a training experience of a new task; called by Avalanche before each experience.

        Args:
            experience: an experience of a benchmark with task labels.

        Raises:
            StreamError: when an experience says nothing of its task labels or classes; when a training experience has
                not exactly one task label, or one that stands for other classes already, as in a benchmark without
                task labels.
            ConfigError: when the task's column is frozen, or the column before has not been trained, as under
                JointTraining.
        """
        labels = _task_labels(experience)
        classes = _classes(experience)
        for label in labels:
            self._widths[label] = max(self._widths.get(label, 0), classes[-1] + 1)
        if not self.training:
            return
        if len(labels) != 1:
            raise StreamError(
                f"experience {experience.current_experience}: required one task label in a training experience, found "
                f"{sorted(labels)}; make a benchmark in which every training experience holds one task."
            )
        (label,) = labels
        if label in self.tasks:
            self._check_again(label, classes, experience)
        else:
            self._add_column(label, classes, _input_shape(experience))

    def forward(self, x: Tensor, task_labels: Tensor | int | None) -> Any:
        """Logits over the class numbers of the benchmark.

        Args:
            x: inputs, (B, *input_shape).
            task_labels: the label of each sample (B,), one for all, or None for the outputs of every learned task whose
                inputs have the shape of x.

        Returns:
            Logits (B, the largest class number of the batch's tasks + 1), or by task label if there are no labels.

        Raises:
            UnlearnedTaskError: when a label is unknown: no experience has had it, not even one of evaluation.
        """
        if task_labels is None:
            alike = self.network.alike(x.shape[1:])
            return {label: self.forward_single_task(x, label) for label, t in self.tasks.items() if t.column in alike}
        return route(self.forward_single_task, x, task_labels)

    def forward_single_task(self, x: Tensor, task_label: int) -> Tensor:
        """The logits of one task for inputs (B, *input_shape); no answer where it has no column."""
        place = self.tasks.get(task_label)
        if place is None:
            return self._no_answer(x, task_label)
        if self.training and torch.is_grad_enabled() and place.column == len(self.network) - 1:
            self._newest_has_trained = True
        return _spread(self.network(x, column=place.column), place.classes, self._widths[task_label])

    def _add_column(self, label: int, classes: tuple[int, ...], input_shape: tuple[int, ...]) -> None:
        if not self._newest_has_trained:
            raise ConfigError(
                f"task label {label}: required that the column of the task before is trained first, found it untrained "
                "(JointTraining adapts to all experiences before it trains); train one experience after the other, "
                "or use MTSimpleMLP or prognet.MultiTask for joint training."
            )
        device = self.placeholder.device
        with self._seeded(label, "backbone"):
            backbone = self.backbone(input_shape, len(classes)).to(device)
        with self._seeded(label, "adapters"):
            sources = self.network.alike(input_shape)
            column = self.network.add_column(backbone, torch.zeros(2, *input_shape), self.sites, sources=sources)
        self.tasks[label] = TaskPlace(column, classes)
        self.known_train_tasks_labels = set(self.tasks)
        self._newest_has_trained = False

    def _check_again(self, label: int, classes: tuple[int, ...], experience: Any) -> None:
        """A further training experience of a task that has a column."""
        place = self.tasks[label]
        if not set(classes) <= set(place.classes):
            raise StreamError(
                f"experience {experience.current_experience}: required a task label of its own for classes "
                f"{list(classes)}, found label {label} again, which stands for classes {list(place.classes)}: without "
                "task labels every experience would go into one and the same column. Make the benchmark with "
                "return_task_id=True, task_labels=True or a list of task labels."
            )
        if place.column != len(self.network) - 1:
            raise ConfigError(
                f"task label {label}: required a task that is new, or the newest, found one whose column "
                f"{place.column} is frozen; a progressive network learns every task once."
            )
        if not hasattr(experience, "is_first_subexp"):  # the parts of an online stream are meant to go on
            warnings.warn(
                f"experience {experience.current_experience} goes on training column {place.column}, since it has task "
                f"label {label} again; give it a label of its own if it is another task.",
                stacklevel=2,
            )

    def _no_answer(self, x: Tensor, task_label: int) -> Tensor:
        if task_label not in self._widths:
            raise UnlearnedTaskError(
                f"task_labels: required one of the tasks {sorted(self._widths)} of the experiences so far, found "
                f"{task_label!r}; train on it first."
            )
        out = x.new_zeros(len(x), self._widths[task_label] + 1)  # (B, classes and one more)
        out[:, -1] = torch.inf
        return out

    @contextmanager
    def _seeded(self, label: int, purpose: str) -> Iterator[None]:
        if self.seed is None:
            yield
        else:
            with seeded(derive_seed(self.seed, label, purpose), self.placeholder.device):
                yield


def _task_labels(experience: Any) -> set[int]:
    labels = {int(label) for label in getattr(experience, "task_labels", ())}
    if not labels:
        raise StreamError(
            f"experience {experience.current_experience}: required task labels, found none; make the benchmark with "
            "task labels, which tell the columns apart, such as avalanche.benchmarks.with_task_labels."
        )
    return labels


def _classes(experience: Any) -> tuple[int, ...]:
    """The class numbers of an experience in ascending order; Avalanche gives them as a list or as a set."""
    classes = tuple(sorted(int(number) for number in getattr(experience, "classes_in_this_experience", ())))
    if not classes:
        raise StreamError(
            f"experience {experience.current_experience}: required classes_in_this_experience, found none; make the "
            "benchmark with avalanche.benchmarks.with_classes_timeline."
        )
    return classes


def _input_shape(experience: Any) -> tuple[int, ...]:
    x = experience.dataset.eval()[0][0]  # without the augmentation of training, which may draw random numbers
    if not isinstance(x, Tensor):
        raise StreamError(
            f"experience {experience.current_experience}: required samples (x, y, ...) with a tensor x, found a "
            f"{type(x).__name__}; give the benchmark a transform such as ToTensor."
        )
    return tuple(x.shape)


def _spread(logits: Tensor, classes: tuple[int, ...], width: int) -> Tensor:
    """Logits (B, len(classes)) at the places of their class numbers, the others masked: (B, width)."""
    if classes == tuple(range(width)):
        return logits
    places = torch.tensor(classes, device=logits.device)
    return logits.new_full((len(logits), width), MASK).index_copy(1, places, logits)
