"""What a task asks for: a loss to train with and the metrics to report."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from math import nan
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from prognet.backbones.detection import BoxGrid
from prognet.results import PRIMARY_METRIC


class Fault(NamedTuple):
    """Why targets cannot be learned from: what was required, what was found, and the remedy."""

    required: str
    found: object
    remedy: str


class Objective(ABC):
    """A loss and metrics of an output (B, n_outputs) against a target."""

    primary: str
    """The metric that the matrix R holds; in [0, 1], higher is better."""

    def record(self) -> Mapping[str, Any] | None:
        """The objective as JSON values, of which `objective_from` makes it again; None for one of somebody's own."""
        return None

    def grid(self) -> BoxGrid | None:
        """Where the outputs are boxes, the grid on which a network has to predict them."""
        return None

    def output_shape(self, n_outputs: int) -> tuple[int, ...]:
        """What a network has to return for one sample."""
        return (n_outputs,)

    def chance(self, n_outputs: int) -> float:
        """The primary metric of a prediction that does not look at its input."""
        return 1 / n_outputs

    def fault(self, y: Tensor, n_outputs: int) -> Fault | None:
        """What keeps the targets of a split from being learned, if anything; by default nothing is asked of them."""
        return None

    @abstractmethod
    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        """The mean loss of a batch: a scalar that can be differentiated."""

    @abstractmethod
    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        """Every metric over a whole split, by name; NaN where it is not defined."""

    @abstractmethod
    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        """The primary metric of each sample, shape (B,), on the device of `output`; its mean is the primary metric."""


@dataclass(frozen=True, slots=True)
class Classification(Objective):
    """One of `n_classes` classes, local to the task: outputs are logits (B, n_classes), targets (B,) in [0, n_classes).

    Metrics: accuracy in [0, 1]; cross-entropy in nats; macro F1 over the task's own classes; AUROC (one against the
    rest, macro), NaN where a class is absent from the split or an output is not finite.
    """

    n_classes: int
    primary = PRIMARY_METRIC

    def record(self) -> Mapping[str, Any]:
        return {"name": "classification", "n_classes": self.n_classes}

    def fault(self, y: Tensor, n_outputs: int) -> Fault | None:
        if y.dtype != torch.int64 or y.ndim != 1:
            found = f"shape {tuple(y.shape)} {y.dtype}"
            return Fault("shape (N,) torch.int64", found, "give one whole number for each sample")
        outside = y[(y < 0) | (y >= n_outputs)]
        if len(outside):
            remedy = "make the labels local to the task, or name all its classes"
            return Fault(f"labels in [0, {n_outputs})", int(outside[0]), remedy)
        return None

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return functional.cross_entropy(output, target, label_smoothing=label_smoothing)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(dim=1) == target).to(torch.float32)  # (B,)

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        from sklearn.metrics import f1_score

        logits, truth = output.detach().double().cpu(), target.cpu()  # (N, C), (N,)
        predicted = logits.argmax(dim=1)
        return {
            PRIMARY_METRIC: (predicted == truth).double().mean().item(),
            "cross_entropy": functional.cross_entropy(logits, truth).item(),
            "macro_f1": float(
                f1_score(
                    truth.numpy(), predicted.numpy(), labels=range(self.n_classes), average="macro", zero_division=0
                )
            ),
            "auroc": _auroc(logits.softmax(dim=1), truth, self.n_classes),
        }


def _auroc(probabilities: Tensor, truth: Tensor, n_classes: int) -> float:
    from sklearn.metrics import roc_auc_score

    if n_classes < 2 or len(torch.unique(truth)) < n_classes or not torch.isfinite(probabilities).all():
        return nan
    if n_classes == 2:
        return float(roc_auc_score(truth.numpy(), probabilities[:, 1].numpy()))
    return float(roc_auc_score(truth.numpy(), probabilities.numpy(), multi_class="ovr", average="macro"))
