"""Objectives whose targets are no classes: numbers to be predicted, and several labels that hold at once."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from prognet.errors import ConfigError
from prognet.streams.objectives import Fault, Objective


@dataclass(frozen=True, slots=True)
class Regression(Objective):
    """Numbers: targets (B,) or (B, k), float32, in their own units; outputs (B, k) in units of the deviation.

    Targets are standardised by mean and deviation of the task's training targets, z = (y - mean) / deviation, and the
    loss is the mean squared error of z, so that tasks in different units weigh alike. Label smoothing does not apply.

    Metrics: skill, the primary one, is 1 - mean min(1, (z_predicted - z)^2): R2 against predicting the training mean,
    but for squared errors counted up to one variance. So it lies in [0, 1], it is a mean over samples, and one wild
    prediction cannot outweigh all others. Predicting the training mean has `by_mean`, which is above 0, since samples
    near the mean are predicted well. r2 is 1 - sum of squared errors / sum of squared distances from the training
    mean, unbounded below, NaN where no target differs from that mean; for k > 1 both are means over the k numbers. rmse
    and mae are in the unit of the targets; for k > 1 each number has its own, rmse_0, rmse_1, ..., since units differ.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    by_mean: float
    """The skill, on the training targets, of predicting their mean."""
    primary = "skill"

    @staticmethod
    def of(y: Tensor) -> "Regression":
        """The objective of a task with these training targets (N,) or (N, k).

        Raises:
            ConfigError: when one of the numbers is the same for every sample, or not finite.
        """
        values = _columns(y.double())  # (N, k)
        mean, std = values.mean(dim=0), values.std(dim=0, correction=0)
        if not (torch.isfinite(std) & (std > 0)).all():
            raise ConfigError(
                "y: required training targets that are finite and differ between samples, found deviations "
                f"{std.tolist()}; leave out what is constant."
            )
        by_mean = 1 - ((values - mean) / std).square().clamp(max=1).mean()
        return Regression(tuple(mean.tolist()), tuple(std.tolist()), by_mean.item())

    def record(self) -> Mapping[str, Any]:
        return {"name": "regression", "mean": list(self.mean), "std": list(self.std), "by_mean": self.by_mean}

    def chance(self, n_outputs: int) -> float:
        return self.by_mean

    def fault(self, y: Tensor, n_outputs: int) -> Fault | None:
        if y.dtype != torch.float32 or y.ndim not in (1, 2) or _columns(y).shape[1] != n_outputs:
            found = f"shape {tuple(y.shape)} {y.dtype}"
            return Fault(f"shape (N, {n_outputs}) torch.float32", found, "give as many numbers as the task has outputs")
        if not torch.isfinite(y).all():
            return Fault("finite numbers", "NaN or infinity", "drop or impute such samples")
        return None

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        return functional.mse_loss(output, self._standardised(target))

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        errors = (output - self._standardised(target)).square()  # (B, k)
        return 1 - errors.clamp(max=1).mean(dim=1)  # (B,)

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        z, said = self._standardised(target.double().cpu()), output.detach().double().cpu()  # (N, k)
        squared, spread = (said - z).square(), z.square().mean(dim=0)
        error = (said - z) * torch.tensor(self.std, dtype=torch.float64)  # in the unit of the targets
        r2 = torch.where(spread > 0, 1 - squared.mean(dim=0) / spread, nan)
        return {
            self.primary: (1 - squared.clamp(max=1)).mean().item(),
            "r2": r2.mean().item(),
            **_by_number("rmse", error.square().mean(dim=0).sqrt()),
            **_by_number("mae", error.abs().mean(dim=0)),
        }

    def in_units(self, output: Tensor) -> Tensor:
        """Outputs (B, k) of a network as predictions in the unit of the targets."""
        return output * output.new_tensor(self.std) + output.new_tensor(self.mean)

    def _standardised(self, target: Tensor) -> Tensor:
        values = _columns(target)  # (B, k)
        return (values - values.new_tensor(self.mean)) / values.new_tensor(self.std)


@dataclass(frozen=True, slots=True)
class MultiLabel(Objective):
    """`n_labels` labels of which any number hold: outputs are logits (B, n_labels), targets 0 or 1, float32.

    The loss is the mean binary cross-entropy over samples and labels; label smoothing draws targets towards 1/2. A
    label is predicted where its logit is above 0.

    Metrics: label_accuracy, the primary one, the share of right answers over samples and labels; exact_match, the share
    of samples with all labels right; binary_cross_entropy in nats; macro F1 over labels; AUROC, the mean over labels,
    NaN where a label is the same in the whole split or an output is not finite.
    """

    n_labels: int
    primary = "label_accuracy"

    def record(self) -> Mapping[str, Any]:
        return {"name": "multi-label", "n_labels": self.n_labels}

    def chance(self, n_outputs: int) -> float:
        return 0.5

    def fault(self, y: Tensor, n_outputs: int) -> Fault | None:
        if y.dtype != torch.float32 or y.ndim != 2 or y.shape[1] != self.n_labels or n_outputs != self.n_labels:
            found = f"shape {tuple(y.shape)} {y.dtype} and {n_outputs} names"
            return Fault(f"shape (N, {self.n_labels}) torch.float32 and as many names", found, "give every label")
        outside = y[(y != 0) & (y != 1)]
        if len(outside):
            return Fault("0 or 1", outside[0].item(), "say of each label whether it holds")
        return None

    def loss(self, output: Tensor, target: Tensor, label_smoothing: float = 0.0) -> Tensor:
        softened = target * (1 - label_smoothing) + label_smoothing / 2
        return functional.binary_cross_entropy_with_logits(output, softened)

    def correct(self, output: Tensor, target: Tensor) -> Tensor:
        return ((output > 0) == (target > 0)).to(torch.float32).mean(dim=1)  # (B,)

    def metrics(self, output: Tensor, target: Tensor) -> dict[str, float]:
        from sklearn.metrics import f1_score

        logits, truth = output.detach().double().cpu(), target.double().cpu()  # (N, L)
        right = (logits > 0) == (truth > 0)
        return {
            self.primary: right.double().mean().item(),
            "exact_match": right.all(dim=1).double().mean().item(),
            "binary_cross_entropy": functional.binary_cross_entropy_with_logits(logits, truth).item(),
            "macro_f1": sum(
                float(f1_score(own.numpy(), said.numpy(), zero_division=0))
                for own, said in zip(truth.int().T, (logits > 0).int().T, strict=True)
            )
            / self.n_labels,
            "auroc": _mean_auroc(logits, truth),
        }


def _mean_auroc(logits: Tensor, truth: Tensor) -> float:
    from sklearn.metrics import roc_auc_score

    if not torch.isfinite(logits).all() or not (truth.amin(dim=0) < truth.amax(dim=0)).all():
        return nan
    found: Sequence[float] = [
        float(roc_auc_score(own.numpy(), said.numpy())) for own, said in zip(truth.T, logits.T, strict=True)
    ]
    return sum(found) / len(found)


def _by_number(name: str, values: Tensor) -> dict[str, float]:
    """Values (k,) under the name, with the place of the number where there are several."""
    if len(values) == 1:
        return {name: values.item()}
    return {f"{name}_{place}": value for place, value in enumerate(values.tolist())}


def _columns(y: Tensor) -> Tensor:
    """Targets (N,) or (N, k) as (N, k)."""
    return y.unsqueeze(1) if y.ndim == 1 else y
