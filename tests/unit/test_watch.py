import io
from pathlib import Path

import pytest
from rich.progress import Task

from prognet.errors import DivergedError
from prognet.watch import Display


@pytest.fixture
def display() -> Display:
    return Display(Path("runs/demo"))


def bar(display: Display) -> Task:
    return display._progress.tasks[0]


def test_the_bar_counts_updates_to_the_total(display: Display) -> None:
    display.begin(30)
    assert (bar(display).completed, bar(display).total) == (0, 30)
    for what, updates in (("first", 10), ("second", 20)):
        display.start(what, updates)
        assert bar(display).description == what
        for _ in range(updates // 5):
            display.advance(5)
        display.end(what, None)
    assert (bar(display).completed, bar(display).total) == (30, 30)


def test_updates_are_counted_as_they_are_done(display: Display) -> None:
    display.begin(30)
    display.start("first", 10)
    display.advance(3)
    display.advance(4)
    assert bar(display).completed == 7


def test_a_run_that_stops_early_or_is_finished_already_counts_in_full(display: Display) -> None:
    display.begin(60)
    display.start("stopped early", 20)
    display.advance(5)
    display.end("stopped early", None)
    assert bar(display).completed == 20
    display.start("finished already", 10)
    display.end("finished already", None)
    assert bar(display).completed == 30
    display.start("diverged", 30)
    display.advance(1)
    display.end("diverged", DivergedError("lr: too large"))
    assert bar(display).completed == 60


def test_runs_side_by_side_are_named_together_and_none_moves_the_bar_for_another(display: Display) -> None:
    display.begin(30)
    display.start("first", 10)
    display.start("second", 20)
    assert bar(display).description == "first and 1 more"
    display.advance(3)
    display.advance(10)
    display.end("first", None)
    assert bar(display).description == "second"
    assert bar(display).completed == 13
    display.end("second", None)
    assert bar(display).completed == 30


def test_the_terminal_shows_the_folder_and_every_failure_as_they_are(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "200")
    with Display(Path("runs/[bold]demo")) as display:
        display.begin(1)
        display.start("finetune, order 0, seed 0", 1)
        display.end("finetune, order 0, seed 0", DivergedError("lr: required less, found [1.0] lots."))
    shown = capsys.readouterr()
    assert shown.out == ""
    assert "files: runs/[bold]demo\n" in shown.err
    assert "failed: finetune, order 0, seed 0: lr: required less, found [1.0] lots.\n" in shown.err
    assert "1/1 updates" in shown.err


def test_the_display_ends_with_an_error_inside(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stderr", io.StringIO())
    with pytest.raises(DivergedError), Display(Path("runs/demo")) as display:
        assert display._progress.live.is_started
        raise DivergedError("lr: too large")
    assert not display._progress.live.is_started
