from typing import Any

import pytest

from prognet.report.facts import Setting, arguments, described, differing_settings, facts
from prognet.report.grid import Grid, align
from tests.helpers.results import make_results, make_run

MANIFEST = {"backbone": {"name": "cnn", "arguments": {"width": 2.0}}, "training": {"lr": 0.1}, "created": "2026-08-01"}


def blocks(grid: Grid, manifest: dict[str, Any]) -> dict[str, dict[str, str]]:
    return {block.title: dict(block.rows) for block in facts(grid, manifest)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ({"name": "mlp", "arguments": {"hidden": [64, 32]}}, "mlp (hidden = [64, 32])"),
        ({"name": "mlp", "arguments": {}}, "mlp"),
        ({"name": "a", "arguments": {"adapter": {"name": "b"}, "x": None}}, "a (adapter = b, x = none)"),
        ({"kind": "MLPAdapter", "arguments": {"alpha": 1.0}}, "MLPAdapter (alpha = 1.0)"),
        ("text", "text"),
        (None, "none"),
        (True, "true"),
        (0.001, "0.001"),
    ],
)
def test_described(value: object, text: str) -> None:
    assert described(value) == text


def test_the_manifest_comes_before_the_runs() -> None:
    found = blocks(align(make_results(["progressive", "finetune"], seeds=2)), MANIFEST)
    assert found["Comparison"] == {
        "stream": "synthetic (n_tasks = 5)",
        "tasks": "5",
        "backbone": "cnn (width = 2.0)",
        "strategies": "progressive, finetune",
        "seeds": "0, 1 (2)",
        "orders": "0 (1)",
        "runs": "4",
        "date": "2026-08-01",
    }
    assert found["Training"] == {"lr": "0.1"}
    assert found["Environment"]["torch"] == "2.15"


def test_without_a_manifest_the_runs_speak() -> None:
    found = blocks(align(make_results(["progressive"], seeds=1)), {})
    assert found["Comparison"]["backbone"] == "mlp (hidden = [64])"
    assert found["Comparison"]["date"] == "–"
    assert found["Training"]["epochs"] == "5"


def test_an_empty_configuration_leaves_dashes() -> None:
    found = blocks(align([make_run(config={}, environment={})]), {})
    assert found["Comparison"]["stream"] == "synthetic"
    assert found["Comparison"]["backbone"] == "–"
    assert found["Environment"] == {}


def test_environments_that_differ_are_all_named() -> None:
    grid = align([make_run(seed=0, environment={"torch": "2.14"}), make_run(seed=1, environment={"torch": "2.15"})])
    assert blocks(grid, {})["Environment"] == {"torch": "2.14 | 2.15"}


def test_settings_that_differ_between_strategies_are_listed() -> None:
    first, second = make_run(), make_run("finetune")
    tuned = {**second.config, "training": {"epochs": 5, "batch_size": 64, "lr": 0.01, "momentum": 0.9}}
    grid = align([first, make_run("finetune", config=tuned)])
    assert differing_settings(grid) == (
        Setting("training.lr", (("progressive", "0.001"), ("finetune", "0.01"))),
        Setting("training.momentum", (("progressive", "–"), ("finetune", "0.9"))),
    )
    assert differing_settings(align([first, second])) == ()


def test_the_arguments_of_a_strategy_are_said_when_there_are_any() -> None:
    assert arguments(make_run()) == ""
    assert arguments(make_run(config={"strategy": {"name": "p", "arguments": {"hidden": 8}}})) == "p (hidden = 8)"
    assert arguments(make_run(config={})) == ""
