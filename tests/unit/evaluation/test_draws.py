"""Comparisons on streams of which every seed has a draw of its own."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from prognet.config import Training
from prognet.errors import ConfigError, RunFolderError
from prognet.evaluation import Outcome, grid, verify
from prognet.manifest import read_manifest
from prognet.report import write_report
from prognet.report.comparison import compare as side_by_side
from prognet.report.notes import notes
from prognet.strategies import FineTune, Independent, MultiTask, Progressive
from prognet.streams import PerSeed, Stream, low_data_digits
from tests.helpers.commands import Recorder, content
from tests.helpers.runs import MEASUREMENT, PLAIN, assert_same_numbers, quick_run

TRAINING = Training(updates=4, first_updates=6, batch_size=10, first_batch_size=20, lr=0.01)
DIGITS = partial(low_data_digits, 2, 4, views=("inverted", "noisy"), task_order="seeded")
DRAWN = PerSeed(lambda order, seed: DIGITS(seed=order, draw=seed))


def compare(out: Path, *strategies: Any, **changes: Any) -> Outcome:
    arguments = {"seeds": (0, 1), "training": TRAINING, "measurement": MEASUREMENT, "device": "cpu", **changes}
    return grid(strategies or [Independent(PLAIN)], arguments.pop("make_stream", DRAWN), out=out, **arguments)


def test_every_seed_has_its_own_draw_in_every_order(tmp_path: Path) -> None:
    made: list[tuple[int, int]] = []

    def make(order: int, seed: int) -> Stream:
        made.append((order, seed))
        return DIGITS(seed=order, draw=seed)

    strategies = [FineTune(PLAIN), Independent(PLAIN)]
    outcome = compare(tmp_path, *strategies, orders=(0, 2), seeds=(3, 5), make_stream=PerSeed(make))
    assert made == [(0, 3), (0, 5), (2, 3), (2, 5)]  # once for all strategies
    for run in outcome.results:
        assert run.config["draw"] == run.seed
        if run.strategy == "independent":
            stream = DIGITS(seed=run.order, draw=run.seed)
            assert_same_numbers(run, quick_run(Independent(PLAIN), stream, training=TRAINING, seed=run.seed))
    assert len({run.config["stream"]["digest"] for run in outcome.results}) == 4
    manifest = read_manifest(tmp_path)
    assert manifest.data == {"order-0-seed-3": DIGITS(seed=0, draw=3).digest}
    assert "draw" not in manifest.stream["arguments"]


def test_updates_and_samples_are_those_of_the_budget(tmp_path: Path) -> None:
    recorder = Recorder()
    outcome = compare(tmp_path, Independent(PLAIN), MultiTask(PLAIN), seeds=(0,), observer=recorder)
    alone, joint = (run.costs for run in outcome.results)
    assert [(cost.updates, cost.samples) for cost in alone] == [(6, 6 * 20), (4, 4 * 10), (4, 4 * 10)]
    assert [(cost.updates, cost.samples) for cost in joint] == [(20, 200)]
    assert recorder.named("start") == [("independent, order 0, seed 0", 14), ("multitask, order 0, seed 0", 20)]
    assert recorder.updates == 34


def test_a_folder_grows_by_seeds_and_finished_runs_are_not_run_again(tmp_path: Path) -> None:
    compare(tmp_path, seeds=(1,))
    before, recorder = content(tmp_path / "runs"), Recorder()
    outcome = compare(tmp_path, seeds=(0, 1), observer=recorder)
    assert len(outcome.results) == 2
    assert recorder.updates == 14
    assert before.items() <= content(tmp_path / "runs").items()
    assert sorted(read_manifest(tmp_path).data) == ["order-0-seed-0", "order-0-seed-1"]
    assert [verdict.problem for verdict in verify(tmp_path)] == [None, None]


def test_other_data_are_refused(tmp_path: Path) -> None:
    compare(tmp_path)
    other = PerSeed(lambda order, seed: Stream(DIGITS(draw=seed + 9), name="low-data-digits", draw=seed))
    before = content(tmp_path)
    with pytest.raises(RunFolderError, match="required a comparison with stream.arguments"):
        compare(tmp_path, make_stream=other)

    def same_but_for_the_samples(order: int, seed: int) -> Stream:
        return DIGITS(draw=seed).having(DIGITS(draw=seed + 9)[:])

    with pytest.raises(RunFolderError, match="required a comparison with data.order-0-seed-0"):
        compare(tmp_path, make_stream=PerSeed(same_but_for_the_samples))
    assert content(tmp_path) == before
    changed = PerSeed(lambda order, seed: same_but_for_the_samples(order, seed) if seed else DIGITS(draw=0))
    outcome = compare(tmp_path, make_stream=changed)  # seed 0 is the same, seed 1 is not
    assert list(outcome.failed) == ["independent, order 0, seed 1"]
    assert "required a run with stream = " in outcome.failed["independent, order 0, seed 1"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda order, seed: DIGITS(seed=order), "make_stream: required a stream with draw 1 for seed 1, found draw 0"),
        (lambda order, seed: DIGITS(draw=seed), "make_stream: required a stream with seed 2 for order 2, found seed 0"),
    ],
)
def test_a_maker_that_does_not_hand_on_what_it_is_given(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=message):
        compare(tmp_path, seeds=(1,), orders=(2,), make_stream=PerSeed(make))


def test_a_plain_maker_has_one_draw_for_all_seeds(tmp_path: Path) -> None:
    outcome = compare(tmp_path, make_stream=lambda order: DIGITS(seed=order, draw=7))
    assert {run.config["draw"] for run in outcome.results} == {7}
    assert len({run.config["stream"]["digest"] for run in outcome.results}) == 1
    assert list(read_manifest(tmp_path).data) == ["0"]


DRAWS = "Intervals are over 2 seeds (training samples, initialisation and data order)."
NO_DRAWS = "Intervals are over 2 seeds (initialisation and data order)."


def test_the_notes_say_what_varies(tmp_path: Path) -> None:
    fixed = compare(tmp_path / "fixed", make_stream=lambda order: DIGITS(seed=order))
    for outcome, required in ((compare(tmp_path / "drawn"), DRAWS), (fixed, NO_DRAWS)):
        found = "\n".join(notes(side_by_side(outcome.results)))
        assert required in found
        assert "Not all rows were run with the same settings" not in found


@pytest.mark.slow
def test_a_comparison_of_draws_has_a_report(tmp_path: Path) -> None:
    compare(tmp_path, Progressive(PLAIN), Independent(PLAIN))
    page = write_report(tmp_path).read_text(encoding="utf-8")
    assert DRAWS in page
    assert "first_updates" in page
