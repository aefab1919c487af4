from dataclasses import replace

from prognet.report.comparison import compare
from prognet.report.inputs import input_notes
from prognet.report.notes import notes
from prognet.results import RunResult
from tests.helpers.results import make_run


def run_of(strategy: str, choices: tuple[dict[str, object], ...] = ()) -> RunResult:
    """Two tasks with inputs of 64 numbers, and one with images between them."""
    run = make_run(strategy, 0, n_tasks=3)
    first, second, third = run.tasks
    return replace(run, tasks=(first, replace(second, input_shape=(3, 8, 8)), third), choices=choices)


def test_inputs_of_one_shape_are_no_matter() -> None:
    assert input_notes(compare([make_run("progressive", 0, n_tasks=3)])) == []


def test_shapes_and_what_was_left_out_are_told_for_each_strategy() -> None:
    left_out: tuple[dict[str, object], ...] = ({}, {"other_inputs": [0]}, {"other_inputs": [1], "sources": [0]})
    comparison = compare([run_of("progressive", left_out), run_of("independent"), run_of("progressive-last", left_out)])
    names = [task.name for task in comparison.grid.first("progressive").tasks]
    (note,) = input_notes(comparison)
    assert note.startswith(f"Inputs have several shapes (64: {names[0]}, {names[2]}; 3 × 8 × 8: {names[1]}). A column ")
    told = "1 by column 2, 2 by column 3"
    assert f"Not read for that reason, in the first run of progressive: {told}; progressive-last: {told}. With" in note
    assert note in notes(comparison)


def test_without_columns_nothing_was_left_out() -> None:
    (note,) = input_notes(compare([run_of("independent")]))
    assert "Not read" not in note
