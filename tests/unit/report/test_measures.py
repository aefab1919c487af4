from dataclasses import replace
from math import isnan, nan

import numpy as np
import pytest

from prognet.report.measures import FURTHER, MEASURES, areas, chance, own_curve, transfer_ratios
from prognet.results import LearningCurve, RunResult
from tests.helpers.results import make_run, run_with

BY_KEY = {measure.key: measure.value for measure in (*MEASURES, *FURTHER)}


def with_curves(run: RunResult, *heights: float) -> RunResult:
    """The run with one flat learning curve per task."""
    curves = [LearningCurve(step=t, task=t, updates=(0, 1, 2), accuracy=(h, h, h)) for t, h in enumerate(heights)]
    return replace(run, curves=tuple(curves), config={"measurement": {"lca_updates": 2}})


R = run_with([[0.9, nan, nan], [0.8, 0.7, nan], [0.6, 0.9, 0.5]])


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("average_accuracy", 2.0 / 3),  # (0.6 + 0.9 + 0.5) / 3
        ("learning_accuracy", 0.7),  # (0.9 + 0.7 + 0.5) / 3
        ("forgetting", 0.05),  # ((0.9 - 0.6) + (0.7 - 0.9)) / 2
        ("forgetting_since_learning", 0.05),  # the same: no task was best between learning and the end
        ("backward_transfer", -0.05),
        ("parameters", 5_000 + 5_000 * 2 + 300 * 4),  # as the helper counts them, after step 2
        ("training_flops", 3e4 * 7_680 * (1 + 2 + 3)),
    ],
)
def test_golden_values(key: str, value: float) -> None:
    assert BY_KEY[key](R, {}) == pytest.approx(value)


def test_measures_against_peers() -> None:
    joint = run_with([[1.0, 0.9, 0.9]], "multitask")
    cumulative = run_with([[1.0, nan, nan], [1.0, 0.9, nan], [1.0, 0.9, 0.8]], "multitask-cumulative")
    peers = {"progressive": R, "multitask": joint, "multitask-cumulative": cumulative}
    # a*(k) - R(k, k): (1.0 - 0.9) + (0.9 - 0.7) + (0.8 - 0.5), over 3
    assert BY_KEY["intransigence"](R, peers) == pytest.approx(0.2)
    # chance is 0.5: (0.1/0.5 - 1) + (0.4/0.4 - 1) + (0.0/0.4 - 1) = -0.8 + 0 - 1, over 3
    assert BY_KEY["forgetting_ratio"](R, peers) == pytest.approx(-0.6)
    assert BY_KEY["forgetting_ratio"](joint, peers) == 0.0
    assert isnan(BY_KEY["intransigence"](joint, peers))


@pytest.mark.parametrize("key", ["intransigence", "transfer_ratio", "forgetting_ratio"])
def test_a_measure_without_its_reference_is_undefined(key: str) -> None:
    assert isnan(BY_KEY[key](R, {"progressive": R}))


def test_the_transfer_ratio_leaves_the_first_task_out() -> None:
    own, reference = with_curves(make_run(n_tasks=3), 0.9, 0.6, 0.8), with_curves(make_run(n_tasks=3), 0.5, 0.5, 0.5)
    assert transfer_ratios(own, {"independent": reference}).tolist() == pytest.approx([1.8, 1.2, 1.6])
    assert BY_KEY["transfer_ratio"](own, {"independent": reference}) == pytest.approx(1.4)  # (1.2 + 1.6) / 2


def test_one_task_has_nothing_to_transfer_from() -> None:
    run = make_run(n_tasks=1)
    assert isnan(BY_KEY["transfer_ratio"](run, {"independent": run}))


def test_lca_is_the_mean_over_tasks_up_to_the_beta_of_the_settings() -> None:
    assert BY_KEY["lca"](with_curves(make_run(n_tasks=3), 0.9, 0.6, 0.3), {}) == pytest.approx(0.6)
    assert isnan(BY_KEY["lca"](replace(make_run(), config={}), {}))


@pytest.mark.parametrize(
    "key", ["forgetting", "forgetting_since_learning", "backward_transfer", "lca", "transfer_ratio"]
)
def test_a_joint_schedule_leaves_undefined_what_needs_steps_or_own_curves(key: str) -> None:
    joint = make_run("multitask")
    assert isnan(BY_KEY[key](joint, {"multitask": joint, "independent": make_run("independent")}))


def test_curves_of_shared_updates_do_not_count() -> None:
    cumulative = make_run("multitask-cumulative", n_tasks=3)
    assert own_curve(cumulative, 0) == cumulative.curves[0]
    assert own_curve(cumulative, 1) is None
    assert [isnan(area) for area in areas(cumulative)] == [False, True, True]


def test_chance_follows_the_number_of_classes() -> None:
    tasks = tuple(replace(task, n_classes=2 + 2 * task.label) for task in make_run(n_tasks=2).tasks)
    assert chance(make_run(n_tasks=2, tasks=tasks)).tolist() == [0.5, 0.25]


def test_keys_and_titles_are_unique() -> None:
    every = (*MEASURES, *FURTHER)
    assert len({measure.key for measure in every}) == len({measure.title for measure in every}) == len(every)


@pytest.mark.parametrize("key", ["macro_f1", "auroc", "cross_entropy"])
def test_other_metrics_are_those_after_the_last_step(key: str) -> None:
    matrix = np.array([[0.5, nan], [0.2, 0.4]])
    run = replace(make_run(n_tasks=2), metrics={"accuracy": R.accuracy[:2, :2], key: matrix})
    assert BY_KEY[key](run, {}) == pytest.approx(0.3)  # (0.2 + 0.4) / 2
    assert isnan(BY_KEY[key](replace(run, metrics={"accuracy": R.accuracy[:2, :2]}), {}))


def test_forward_transfer_is_a_share_of_what_there_was_to_gain() -> None:
    own, reference = with_curves(make_run(n_tasks=3), 0.9, 0.6, 0.8), with_curves(make_run(n_tasks=3), 0.5, 0.5, 0.5)
    # (0.6 - 0.5) / 0.5 = 0.2 and (0.8 - 0.5) / 0.5 = 0.6, over 2; the first task has nothing to transfer from
    assert BY_KEY["relative_forward_transfer"](own, {"independent": reference}) == pytest.approx(0.4)
    assert isnan(BY_KEY["relative_forward_transfer"](own, {"progressive": own}))
