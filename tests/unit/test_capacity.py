"""The capacity model: its sums against plain loops, its closed forms, and rates that are found again."""

from dataclasses import fields, replace
from typing import Any

import numpy as np
import pytest

from prognet.capacity import (
    BySources,
    ColumnCosts,
    Rates,
    Workload,
    fit_rates,
    grid_capacity,
    run_capacity,
)
from prognet.capacity.counting import PROBES
from prognet.config import Execution, Measurement, Training
from prognet.errors import ConfigError

COSTS = ColumnCosts(
    parameters=BySources(alone=100, joint=7, each=30),
    stored_bytes=BySources(alone=410, joint=28, each=120),
    tensors=BySources(alone=4, joint=3),
    feature_values=BySources(alone=0, each=16),
    forward_flops=BySources(alone=200, joint=20, each=50),
    update_flops=BySources(alone=600, joint=50, each=90),
)
WORK = Workload(
    tasks=6,
    train=100,
    test=30,
    validation=10,
    training=Training(epochs=3, batch_size=40),
    measurement=Measurement(lca_updates=2, curve_points=4, curve_samples=20, evaluation_batch_size=25),
)
SETTINGS = [(None, None), (2, None), (2, 3), (0, None)]


def by_hand(sources: int | None, closure: int | None) -> dict[str, list[float]]:
    """The same numbers, column by column, with lists of the columns that are run."""
    found: dict[str, list[float]] = {
        name: [] for name in ("parameters", "training", "prediction", "calls", "evaluation")
    }
    forward: list[float] = []
    total = 0.0
    for k in range(WORK.tasks):
        read = min(k, k if sources is None else sources)
        total += 100 + (7 + 30 * read if read else 0)
        own = 200 + (20 + 50 * read if read else 0)
        run = [] if not read else list(range(k))[-(k if closure is None else closure) :]
        before = sum(forward[j] for j in run)
        found["parameters"].append(total)
        found["training"].append(
            300 * (600 + (50 + 90 * read if read else 0)) + 100 * before + 100 * ((200 * (k + 1) if k else 0) + before)
        )
        found["prediction"].append(before + own)
        found["evaluation"].append(30 * sum(found["prediction"]))
        columns = [
            1 + len([] if not min(j, 9 if sources is None else sources) else range(j)[-(closure or 9) :])
            for j in range(k + 1)
        ]
        found["calls"].append((4 + 1 + 1) * len(run) + 2 * sum(columns) + k + 1)
        forward.append(own)
    return found


@pytest.mark.parametrize(("sources", "closure"), SETTINGS)
def test_every_number_is_a_sum_over_columns(sources: int | None, closure: int | None) -> None:
    found, required = run_capacity(COSTS, replace(WORK, sources=sources, closure=closure)), by_hand(sources, closure)
    assert found.parameters.tolist() == required["parameters"]
    assert found.training_flops.tolist() == required["training"]
    assert found.prediction_flops.tolist() == required["prediction"]
    assert found.evaluation_flops.tolist() == required["evaluation"]
    assert found.calls.tolist() == required["calls"]
    assert found.updates.tolist() == [9.0] * 6
    assert found.written_bytes.tolist() == np.cumsum(found.stored_bytes).tolist()


def test_three_columns_by_hand() -> None:
    """100, then 100 + 7 + 30, then 100 + 7 + 60: 100, 237, 404; a prediction runs 200, 200 + 270, 200 + 270 + 320."""
    found = run_capacity(COSTS, replace(WORK, tasks=3))
    assert found.parameters.tolist() == [100, 237, 404]
    assert found.stored_bytes.tolist() == [410, 410 + 558, 410 + 558 + 678]
    assert found.written_bytes.tolist() == [410, 1378, 3024]
    assert found.prediction_flops.tolist() == [200, 470, 790]
    assert found.evaluation_flops.tolist() == [30 * 200, 30 * 670, 30 * 1460]
    # rows of 4 * 16 s bytes: 100 for training, 20 for the curve, 10 for validation
    assert found.feature_bytes.tolist() == [0, 130 * 64, 130 * 128]
    # curve: before the first update and after six; validation: after three epochs; proof: 64 inputs on every column
    assert found.measuring_flops.tolist()[1] == (7 * 20 + 3 * 10) * 270 + 30 * 200 + PROBES * 470


def test_all_sources_grow_with_the_square_and_bounded_ones_with_a_line() -> None:
    every = run_capacity(COSTS, replace(WORK, tasks=1000))
    k = np.arange(1000)
    assert every.parameters.tolist() == ((k + 1) * 100 + k * 7 + 30 * k * (k + 1) // 2).tolist()
    bounded = run_capacity(COSTS, replace(WORK, tasks=1000, sources=3))
    late = k[3:]
    assert bounded.parameters[3:].tolist() == ((late + 1) * 100 + late * 7 + 30 * (6 + 3 * (late - 3))).tolist()
    assert set(np.diff(bounded.parameters[3:])) == {197.0}
    assert set(np.diff(run_capacity(COSTS, replace(WORK, tasks=50, sources=3, closure=5)).evaluation_flops[9:])) == {
        30.0 * 6 * 370
    }


def test_a_table_that_has_no_room_is_computed_in_every_update() -> None:
    """A table of task 1 takes 100 * 16 * 4 bytes, far below a MiB: so it is made larger."""
    large = replace(COSTS, feature_values=BySources(alone=0, each=4000))  # 1.6 MB, 0.32 MB and 0.16 MB a source
    tight = replace(WORK, execution=Execution(feature_memory=1))
    kept, fresh = (run_capacity(large, work) for work in (replace(WORK, execution=Execution(feature_memory=64)), tight))
    assert kept.feature_bytes[1] == 130 * 16000
    assert fresh.feature_bytes[1] == 30 * 16000
    assert fresh.training_flops[1] - kept.training_flops[1] == (300 - 100) * 200
    assert fresh.calls[1] - kept.calls[1] == 9 - 4
    # of 2 MiB 1.8 MB for training leave too little for the 0.36 MB of the curve, enough for 0.18 MB of validation
    wider = replace(COSTS, feature_values=BySources(alone=0, each=4500))
    part = run_capacity(wider, replace(WORK, execution=Execution(feature_memory=2)))
    assert part.feature_bytes[1] == (100 + 10) * 18000
    augmented = replace(WORK, training=replace(WORK.training, augment=("flip",)))
    assert run_capacity(large, augmented).training_flops[1] == fresh.training_flops[1]
    half = replace(WORK, execution=Execution(feature_precision="bfloat16"))
    assert run_capacity(large, half).feature_bytes[1] == kept.feature_bytes[1] / 2


def test_updates_may_be_given() -> None:
    some = replace(WORK, training=replace(WORK.training, updates=4))  # an epoch has three of them
    assert some.updates == 4
    assert some.seen == pytest.approx(4 / 3 * 100)
    assert Workload(tasks=1, train=10, test=0, training=Training(epochs=2, batch_size=4)).updates == 6


@pytest.mark.parametrize(("sources", "trunks", "solves"), [(None, True, False), (1, False, True), (None, False, False)])
def test_what_a_start_looks_at_is_counted_where_it_is(sources: int | None, trunks: bool, solves: bool) -> None:
    plain = replace(WORK, sources=sources, compares_trunks=False, solves_output=False)
    more = run_capacity(COSTS, replace(plain, compares_trunks=trunks, solves_output=solves))
    before = [0, 200, 470]  # one source or all: the same columns are run for the first three tasks
    extra = [100 * ((k + 1) * 200 * (trunks and k > 0) + solves * before[k]) for k in range(3)]
    assert (more.training_flops - run_capacity(COSTS, plain).training_flops)[:3].tolist() == extra


def test_rates_are_found_again() -> None:
    rates = Rates(operation=1e-9, update=2e-3, call=5e-4, column=1e-3, byte=3e-8, step=0.5)
    runs = [run_capacity(COSTS, replace(WORK, tasks=40, sources=sources)) for sources in (None, 2)]
    measured = [(one, dict(enumerate(rates.seconds(one).tolist()))) for one in runs]
    found = fit_rates([(one, {k: seconds[k] for k in range(0, 40, 2)}) for one, seconds in measured])
    for one, seconds in measured:
        assert found.seconds(one) == pytest.approx(np.array(list(seconds.values())), rel=1e-6)
    assert all(getattr(found, rate.name) >= 0 for rate in fields(Rates))


def test_seconds_are_counts_times_rates() -> None:
    one = run_capacity(COSTS, replace(WORK, tasks=2))
    nothing = Rates(operation=0, update=0, call=0, column=0, byte=0, step=0)
    said = {
        name: replace(nothing, **{name: 1.0}).seconds(one).tolist()
        for name in ("operation", "update", "call", "column", "byte", "step")
    }
    total = one.training_flops + one.measuring_flops + one.evaluation_flops
    assert said == {
        "operation": total.tolist(),
        "update": [9, 9],
        "call": one.calls.tolist(),
        "column": [1, 2],
        "byte": one.stored_bytes.tolist(),
        "step": [1, 1],
    }


def test_a_grid_is_its_runs_over_its_workers() -> None:
    one, other = run_capacity(COSTS, replace(WORK, tasks=2)), run_capacity(COSTS, replace(WORK, tasks=1))
    rates = Rates(operation=0, update=0, call=0, column=0, byte=0, step=1800)  # an hour for two tasks, half for one
    found = grid_capacity([(10, one), (4, other)], rates, jobs=3)
    assert found.hours == pytest.approx((10 + 4 / 2) / 3)
    assert found.kept_bytes == 10 * 968 + 4 * 410
    assert found.written_bytes == 10 * 1378 + 4 * 410
    assert found.files == 3 * 14
    assert grid_capacity([(10, one)], rates, jobs=1000).hours == 1.0  # no shorter than one run


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tasks": 0}, "tasks: required a whole number, at least 1, found 0."),
        ({"train": 0}, "train: required a whole number, at least 1, found 0."),
        ({"validation": -1}, "validation: required a whole number, at least 0, found -1."),
        ({"sources": -1}, "sources: required None or a whole number, at least 0, found -1."),
        ({"closure": -2}, "closure: required None or a whole number, at least 0, found -2."),
    ],
)
def test_work_out_of_range_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        replace(WORK, **change)
    assert str(caught.value) == message


def test_nothing_to_measure_or_to_run_is_refused() -> None:
    one = run_capacity(COSTS, WORK)
    rates = Rates(operation=0, update=0, call=0, column=0, byte=0, step=1)
    with pytest.raises(ConfigError, match="measured: required the seconds of at least one step"):
        fit_rates([(one, {})])
    with pytest.raises(ConfigError, match="jobs: required at least 1 worker, found 0."):
        grid_capacity([(1, one)], rates, jobs=0)
    for runs in ([], [(0, one)]):
        with pytest.raises(ConfigError, match="runs: required at least one of each"):
            grid_capacity(runs, rates)
