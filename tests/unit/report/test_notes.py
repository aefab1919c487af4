from prognet.report.comparison import compare
from prognet.report.notes import alarms, findings, notes
from tests.helpers.results import EVERYONE, make_digests, make_results, make_run


def test_findings_state_accuracy_forgetting_and_differences() -> None:
    found = findings(compare(make_results(["progressive", "finetune", "multitask"], seeds=3)))
    assert found[0].startswith("progressive: average accuracy 98.")
    assert found[0].endswith("%; forgetting exactly 0 points.")
    assert "%; forgetting 16.04 ± 0.00 points." in found[1]
    assert found[2].endswith("; forgetting is undefined.")
    assert found[3].startswith("progressive minus finetune: +")
    assert "95 % interval +" in found[3]
    assert "Holm's p " in found[3]


def test_findings_of_one_seed_have_no_interval() -> None:
    found = findings(compare(make_results(["progressive", "independent"], seeds=1)))
    assert not any("±" in sentence or "interval" in sentence for sentence in found)
    assert found[0].endswith("forgetting exactly 0 points.")


def test_nothing_is_wrong_with_a_whole_grid() -> None:
    assert alarms(compare(make_results(EVERYONE, seeds=2))) == ()


def test_parts_that_moved_or_vanished_and_missing_runs_are_said_first() -> None:
    good = make_digests("progressive", 0, 0, 5)
    runs = [
        make_run(digests=(*good[:4], {**good[4], "column 0": "0" * 64})),
        make_run(seed=1, digests=(*make_digests("progressive", 1, 0, 5)[:4], {})),
        make_run("finetune"),
    ]
    assert alarms(compare(runs)) == (
        "progressive: 1 frozen parts have changed since they were frozen.",
        "progressive: 4 frozen parts have no digest after a later step.",
        "The grid is not complete: 1 runs are missing: finetune (order 0, seed 1). Rows are means over the runs that "
        "there are, and differences use the runs that both strategies have.",
    )


def test_notes_follow_the_comparison() -> None:
    whole = "\n".join(notes(compare(make_results(EVERYONE, seeds=5, orders=2))))
    assert "averaged over 2 orders" in whole
    assert "learning curves are not comparable" in whole
    assert "no run of" not in whole
    assert "There is one seed" not in whole
    bare = "\n".join(notes(compare(make_results(["progressive"], seeds=1))))
    assert "There is one seed." in bare
    assert "There is one order of the tasks" in bare
    assert "There is no run of independent: transfer and the transfer ratio are undefined." in bare
    assert "what is called transfer may be the effect of more parameters" in bare
    assert "Joint and cumulative" not in bare


def test_few_seeds_and_different_settings_are_noted() -> None:
    runs = [make_run(seed=seed) for seed in range(2)] + [
        make_run("finetune", seed, config={"x": 1}) for seed in range(2)
    ]
    found = "\n".join(notes(compare(runs)))
    assert "There are 2 seeds: intervals are wide" in found
    assert "Not all rows were run with the same settings" in found
