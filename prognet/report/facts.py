"""What was run, from the manifest of the folder and from the configuration that every run carries."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prognet.report.grid import Grid
from prognet.report.units import UNDEFINED
from prognet.results import RunResult

Manifest = Mapping[str, Any]
"""The content of `manifest.json`; empty when the results were made by library use."""
_OF_ONE_RUN = ("strategy", "seed", "order", "draw")


@dataclass(frozen=True)
class Facts:
    """One block of names and values."""

    title: str
    rows: tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Setting:
    """A setting that is not the same in all rows, and its values by strategy."""

    key: str
    values: tuple[tuple[str, str], ...]


def facts(grid: Grid, manifest: Manifest) -> tuple[Facts, ...]:
    """The comparison, the training and the environment, as blocks to print."""
    config = {**grid.first(grid.strategies[0]).config, **manifest}
    comparison = (
        ("stream", described(config.get("stream", grid.stream))),
        ("tasks", str(grid.n_tasks)),
        ("backbone", described(config.get("backbone", UNDEFINED))),
        ("strategies", ", ".join(grid.strategies)),
        ("seeds", _numbers(grid.seeds)),
        ("orders", _numbers(grid.orders)),
        ("runs", str(sum(len(cells) for cells in grid.runs.values()))),
        ("date", str(manifest.get("created", UNDEFINED))),
    )
    blocks = [Facts("Comparison", comparison)]
    blocks += [
        Facts(key.capitalize(), tuple((name, described(value)) for name, value in config[key].items()))
        for key in ("training", "measurement", "execution")
        if isinstance(config.get(key), Mapping)
    ]
    return (*blocks, Facts("Environment", _environment(grid)))


def differing_settings(grid: Grid) -> tuple[Setting, ...]:
    """Settings that differ between strategies, such as a tuned learning rate; seed, order and strategy left out."""
    found = {name: _flat(grid.first(name).config) for name in grid.strategies}
    keys = dict.fromkeys(key for settings in found.values() for key in settings)
    rows = {key: {name: settings.get(key, UNDEFINED) for name, settings in found.items()} for key in keys}
    return tuple(Setting(key, tuple(row.items())) for key, row in rows.items() if len(set(row.values())) > 1)


def arguments(run: RunResult) -> str:
    """The arguments of a run's strategy, as text; empty without any."""
    strategy = run.config.get("strategy")
    return described(strategy) if isinstance(strategy, Mapping) and strategy.get("arguments") else ""


def described(value: object) -> str:
    """A JSON value for people: `{"name": "mlp", "arguments": {"hidden": [64]}}` is "mlp (hidden = [64])"."""
    name = (value.get("name") or value.get("kind")) if isinstance(value, Mapping) else None
    if isinstance(value, Mapping) and name:
        given = value.get("arguments") or {}
        inner = ", ".join(f"{key} = {described(item)}" for key, item in given.items())
        return f"{name} ({inner})" if inner else str(name)
    return value if isinstance(value, str) else "none" if value is None else json.dumps(value, ensure_ascii=False)


def _environment(grid: Grid) -> tuple[tuple[str, str], ...]:
    """What the runs themselves recorded; several values where they were made on different machines."""
    runs = [run.environment for cells in grid.runs.values() for run in cells.values()]
    keys = dict.fromkeys(key for environment in runs for key in environment)
    values = {key: dict.fromkeys(described(found[key]) for found in runs if key in found) for key in keys}
    return tuple((key, " | ".join(found)) for key, found in values.items())


def _flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in settings.items():
        if not prefix and key in _OF_ONE_RUN:
            continue
        name = f"{prefix}{key}"
        flat |= _flat(value, f"{name}.") if isinstance(value, Mapping) else {name: described(value)}
    return flat


def _numbers(values: tuple[int, ...]) -> str:
    return f"{', '.join(map(str, values))} ({len(values)})"
