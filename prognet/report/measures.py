"""What the report says about a run: one number each, with its name, its unit and its definition in words."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from math import nan

import numpy as np

from prognet import metrics
from prognet.report.grid import CUMULATIVE, INDEPENDENT, JOINT
from prognet.report.units import COUNT, LOSS, NATS, PERCENT, POINTS, RATIO, SECONDS, Unit
from prognet.results import Floats, LearningCurve, RunResult

Peers = Mapping[str, RunResult]
"""The runs of all strategies with the same order and seed, by strategy."""


@dataclass(frozen=True)
class Measure:
    """One number about a run."""

    key: str
    title: str
    """Heading of its column; the arrow says which direction is better."""
    unit: Unit
    words: str
    formula: str
    source: str
    value: Callable[[RunResult, Peers], float]
    """From a run and its peers; NaN where it is undefined."""


def own_curve(run: RunResult, task: int) -> LearningCurve | None:
    """The learning curve of the step in which the task was first learned; None when it shared the updates."""
    step = next((step for step, group in enumerate(run.schedule) if task in group), None)
    return next((c for c in run.curves if c.task == task and c.step == step and not c.joint), None)


def areas(run: RunResult) -> Floats:
    """(T,): the area under every task's learning curve, in [0, 1]; NaN where there is none."""
    curves = [own_curve(run, task) for task in range(run.n_tasks)]
    return np.array([metrics.area_under_curve(c.updates, c.accuracy) if c else nan for c in curves], dtype=np.float64)


def transfer_ratios(run: RunResult, peers: Peers) -> Floats:
    """(T,): the area under each task's learning curve over that of the independent column; NaN without one."""
    if INDEPENDENT not in peers:
        return np.full(run.n_tasks, np.nan)
    pairs = zip(areas(run), areas(peers[INDEPENDENT]), strict=True)
    return np.array([metrics.transfer_ratio(float(own), float(reference)) for own, reference in pairs])


def chance(run: RunResult) -> Floats:
    """(T,): the accuracy of guessing among the classes of each task, or what its primary metric is without looking."""
    return np.array([task.guessed for task in run.tasks])


def _lca(run: RunResult, peers: Peers) -> float:
    beta = run.config.get("measurement", {}).get("lca_updates")
    curves = [own_curve(run, task) for task in range(run.n_tasks)]
    if beta is None:
        return nan
    return float(np.mean([metrics.learning_curve_area(c.updates, c.accuracy, beta) if c else nan for c in curves]))


def _final(run: RunResult, name: str) -> float:
    """The mean over all tasks of a metric after the last step; NaN where the run has no such metric."""
    return float(np.mean(run.metrics[name][-1])) if name in run.metrics else nan


def _forward_transfer(run: RunResult, peers: Peers) -> float:
    if INDEPENDENT not in peers or run.n_tasks < 2:
        return nan
    pairs = list(zip(areas(run), areas(peers[INDEPENDENT]), strict=True))[1:]
    return float(np.mean([metrics.relative_forward_transfer(float(own), float(other)) for own, other in pairs]))


def _transfer_ratio(run: RunResult, peers: Peers) -> float:
    ratios = transfer_ratios(run, peers)[1:]
    return float(np.mean(ratios)) if len(ratios) else nan


def _intransigence(run: RunResult, peers: Peers) -> float:
    return metrics.intransigence(run.accuracy, peers[CUMULATIVE].accuracy) if CUMULATIVE in peers else nan


def _forgetting_ratio(run: RunResult, peers: Peers) -> float:
    return metrics.forgetting_ratio(run.accuracy, chance(run), peers[JOINT].accuracy) if JOINT in peers else nan


ACCURACY = Measure(
    "average_accuracy",
    "ACC ↑",
    PERCENT,
    "Average accuracy: the mean over all tasks of the test accuracy after the last step.",
    "ACC = (1/T) Σⱼ R(T, j)",
    "Lopez-Paz & Ranzato 2017 (GEM)",
    lambda run, peers: metrics.average_accuracy(run.accuracy),
)
LEARNING = Measure(
    "learning_accuracy",
    "learning accuracy ↑",
    PERCENT,
    "Learning accuracy: the mean over all tasks of the test accuracy right after the task was first learned.",
    "LA = (1/T) Σⱼ R(j, j)",
    "Riemer et al. 2019",
    lambda run, peers: metrics.learning_accuracy(run.accuracy),
)
MEASURES: tuple[Measure, ...] = (
    ACCURACY,
    LEARNING,
    Measure(
        "forgetting",
        "forgetting, from best ↓",
        LOSS,
        "Forgetting from the best: how far a task fell below its best earlier accuracy, over the tasks learned before "
        "the last step. Negative when the last step improved on every earlier one.",
        "F = (1/(T-1)) Σ_{j<T} [ max_{l<T} R(l, j) - R(T, j) ]",
        "Chaudhry et al. 2018",
        lambda run, peers: metrics.forgetting(run.accuracy),
    ),
    Measure(
        "forgetting_since_learning",
        "forgetting, since learned ↓",
        LOSS,
        "Forgetting since learning: how far a task fell below its accuracy right after it was learned. It is exactly "
        "the negative of BWT.",
        "F' = (1/(T-1)) Σ_{j<T} [ R(j, j) - R(T, j) ]",
        "the convention of Avalanche",
        lambda run, peers: metrics.forgetting_since_learning(run.accuracy),
    ),
    Measure(
        "backward_transfer",
        "BWT ↑",
        POINTS,
        "Backward transfer: what later learning did to earlier tasks; negative when they were forgotten.",
        "BWT = (1/(T-1)) Σ_{j<T} [ R(T, j) - R(j, j) ]",
        "Lopez-Paz & Ranzato 2017 (GEM)",
        lambda run, peers: metrics.backward_transfer(run.accuracy),
    ),
    Measure(
        "intransigence",
        "intransigence ↓",
        LOSS,
        "Intransigence: how far the accuracy on a task, when it has just been learned, stays below that of a joint "
        f"model trained from scratch on all tasks up to it. Needs a run of {CUMULATIVE}.",
        "I = (1/T) Σₖ [ a*(k) - R(k, k) ]",
        "Chaudhry et al. 2018",
        _intransigence,
    ),
    Measure(
        "lca",
        "LCA ↑",
        PERCENT,
        "Learning curve area: the mean test accuracy on a task over its first β mini-batches, before the first one "
        "included; β is `lca_updates` of the measurement settings.",
        "LCA(β) = (1/(β+1)) Σ_{b=0..β} (1/T) Σₖ Z(b, k)",
        "Chaudhry et al. 2019 (A-GEM)",
        _lca,
    ),
    Measure(
        "transfer_ratio",
        "transfer ratio ↑",
        RATIO,
        f"Transfer ratio: the area under a task's learning curve over that of {INDEPENDENT}, averaged over the tasks "
        "after the first, which has nothing to transfer from. Above 1, a task was learned faster or better.",
        "(1/(T-1)) Σ_{j≥2} AUC(j) / AUC_independent(j)",
        "Rusu et al. 2016",
        _transfer_ratio,
    ),
    Measure(
        "forgetting_ratio",
        "HAT's ρ ↑",
        RATIO,
        f"Forgetting ratio: where final accuracy lies between chance (-1) and {JOINT} (0), of which it needs a run.",
        "ρ = (1/T) Σⱼ [ (R(T, j) - chanceⱼ) / (R_joint(j) - chanceⱼ) - 1 ]",
        "Serra et al. 2018 (HAT)",
        _forgetting_ratio,
    ),
    Measure(
        "parameters",
        "parameters ↓",
        COUNT,
        "Parameters: all that the learner holds after the last step, frozen ones and adapters included.",
        "",
        "counted",
        lambda run, peers: float(run.costs[-1].parameters),
    ),
    Measure(
        "training_flops",
        "training FLOPs ↓",
        COUNT,
        "Training FLOPs: operations of all forward and backward passes of training, evaluation left out. They "
        "are counted in the first batch of each step, and in the first after more of a network began to learn, and "
        "taken in proportion to the samples seen; what choosing sources and pruning cost is in them; with heads of "
        "different sizes in one joint batch that is an approximation.",
        "",
        "counted in the first batch",
        lambda run, peers: sum(cost.training_flops for cost in run.costs),
    ),
    Measure(
        "seconds",
        "seconds ↓",
        SECONDS,
        "Seconds: wall time of learning all tasks, evaluation left out; it depends on the machine and on its load.",
        "",
        "measured",
        lambda run, peers: sum(cost.seconds for cost in run.costs),
    ),
)

FURTHER: tuple[Measure, ...] = (
    Measure(
        "macro_f1",
        "macro F1 ↑",
        PERCENT,
        "Macro F1: the mean over the task's own classes of the F1 value, then over all tasks, after the last step.",
        "F1 = 2 precision · recall / (precision + recall)",
        "scikit-learn",
        lambda run, peers: _final(run, "macro_f1"),
    ),
    Measure(
        "auroc",
        "AUROC ↑",
        PERCENT,
        "AUROC: the area under the ROC curve, one class against the rest, the mean over the task's own classes and "
        "then over all tasks, after the last step; undefined where a test split lacks a class.",
        "",
        "scikit-learn",
        lambda run, peers: _final(run, "auroc"),
    ),
    Measure(
        "cross_entropy",
        "cross-entropy ↓",
        NATS,
        "Cross-entropy: the mean over all tasks of the test loss after the last step, without label smoothing.",
        "-(1/N) Σᵢ log p(yᵢ | xᵢ)",
        "",
        lambda run, peers: _final(run, "cross_entropy"),
    ),
    Measure(
        "relative_forward_transfer",
        "forward transfer ↑",
        RATIO,
        f"Forward transfer: what the area under a task's learning curve gains over {INDEPENDENT}, as a share of what "
        "there was to gain, averaged over the tasks after the first.",
        "(1/(T-1)) Σ_{j≥2} (AUC(j) - AUC_independent(j)) / (1 - AUC_independent(j))",
        "Wolczyk et al. 2021 (Continual World)",
        _forward_transfer,
    ),
)
"""Measures beside the accuracy, in a table of their own."""
