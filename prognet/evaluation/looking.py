"""Every measure of the analysis for one column, on the task that it learned."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from prognet.analysed import ColumnAnalysis, Look
from prognet.analysis import (
    average_fisher_sensitivity,
    average_perturbation_sensitivity,
    column_similarity,
    lateral_ablation,
)
from prognet.analysis.ablation import Ablation
from prognet.engine import ProgressiveNetwork
from prognet.errors import ConfigError
from prognet.results import Floats
from prognet.seeds import derive_seed
from prognet.streams.objectives import Classification
from prognet.streams.task import Samples, Task


def analyse_column(network: ProgressiveNetwork, column: int, task: Task, look: Look, seed: int) -> ColumnAnalysis:
    """Every measure of one column on its own task.

    Args:
        network: the network; it is left as it is.
        column: the index of the column.
        task: the task that it learned.
        look: how it is looked at.
        seed: of the samples and of the noise.

    Raises:
        ConfigError: when the task is no classification, or has too few test samples.
    """
    if not isinstance(task.objective, Classification):
        raise ConfigError(
            f"task {task.label}: required a classification, found {type(task.objective).__name__}; the measures are "
            "defined for logits of classes."
        )
    device = next(network.parameters()).device
    x, y = drawn(task, task.test, look.samples, seed, "analysis test", device)
    reference, _ = drawn(task, task.train, look.samples, seed, "analysis training", device)
    fisher = average_fisher_sensitivity(network, column, x, batch_size=look.batch_size)
    ablation = lateral_ablation(
        network,
        column,
        x,
        y,
        reference=reference,
        replacement=look.replacement,
        recalibrate=look.recalibrate,
        batch_size=look.batch_size,
    )
    perturbation = np.full_like(fisher.shares, np.nan)
    if ablation.accuracy > 1 / task.n_classes:
        perturbation = average_perturbation_sensitivity(
            network, column, x, y, repeats=look.repeats, seed=derive_seed(seed, "noise"), batch_size=look.batch_size
        ).shares
    similarity = column_similarity(network, fisher.columns, x, debiased=True, batch_size=look.batch_size)
    loss, source_loss = _spread(ablation, fisher.columns)
    return ColumnAnalysis(
        task=task.label,
        sites=fisher.sites,
        columns=fisher.columns,
        accuracy=ablation.accuracy,
        fisher=fisher.shares,
        perturbation=perturbation,
        loss=loss,
        source_loss=source_loss,
        total_loss=ablation.total_loss,
        similarity=similarity.values[:, :, -1],
    )


def drawn(
    task: Task, samples: Samples, count: int, seed: int, purpose: str, device: torch.device
) -> tuple[Tensor, Tensor]:
    """At most `count` samples of a split, seeded, as the network sees them."""
    generator = torch.Generator().manual_seed(derive_seed(seed, task.label, purpose))
    chosen = torch.randperm(len(samples), generator=generator)[:count]
    return task.normalisation(samples.x[chosen].to(device)), samples.y[chosen].to(device)


def _spread(ablation: Ablation, columns: Sequence[int]) -> tuple[Floats, Floats]:
    """The losses beside all columns that take part: NaN for those that are not read directly."""
    places = [columns.index(source) for source in ablation.sources]
    loss = np.full((len(ablation.sites), len(columns)), np.nan)
    source_loss = np.full(len(columns), np.nan)
    loss[:, places], source_loss[places] = ablation.losses, ablation.source_losses
    return loss, source_loss
