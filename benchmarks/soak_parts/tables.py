"""The tables of a soak: measured beside predicted, slopes, and what follows for longer streams and for grids."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MIB, GIB, SHOWN = 2**20, 2**30, (1, 5, 10, 20, 30, 40, 50)
TITLES = {"all": "all sources", "bounded": "at most 3 sources"}


def tables(content: Mapping[str, Any]) -> str:
    """All of them."""
    parts = [
        *(beside(title, content["runs"][name]) for name, title in TITLES.items()),
        error(content),
        held(content),
        killed(content),
        longer(content["longer"]),
        grids(content["grids"]),
    ]
    return "\n\n".join("\n".join(part) for part in parts) + "\n"


def beside(title: str, run: Mapping[str, Any]) -> list[str]:
    """One stream, measured and in brackets predicted."""
    said = run["predicted"]
    rows = [
        "| tasks | parameters | tensors (MiB) | written so far (MiB) | learning a task (MFLOP) "
        "| predicting a sample (MFLOP) | step (CPU s) |",
        "|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for n in (n for n in SHOWN if n <= len(run["parameters"])):
        k = n - 1
        written = sum(run["state_bytes"][:n])
        cells = [
            pair(run["parameters"][k], said["parameters"][k], ",.0f"),
            pair(run["state_bytes"][k] / MIB, said["stored_bytes"][k] / MIB, ".2f"),
            pair(written / MIB, said["written_bytes"][k] / MIB, ".1f"),
            pair(run["training_flops"][k] / 1e6, said["training_flops"][k] / 1e6, ",.1f"),
            pair(run["prediction_flops"][k] / 1e6, said["prediction_flops"][k] / 1e6, ",.3f"),
            pair(run["cpu_seconds"][k], said["cpu_seconds"][k], ".2f"),
        ]
        rows.append(f"| {n} | {' | '.join(cells)} |")
    return [f"**{title.capitalize()}: measured (predicted).**", "", *rows]


def pair(found: float, said: float, form: str) -> str:
    """What was measured, with what was predicted in brackets."""
    return f"{found:{form}} ({said:{form}})"


def error(content: Mapping[str, Any]) -> list[str]:
    """How far seconds were off where they had not been looked at."""
    first, last = content["calibrated"]
    rows = ["| | tasks | measured (CPU s) | predicted | of it learning | evaluating | proving | storing |"]
    rows.append("|---|---|--:|--:|--:|--:|--:|--:|")
    for name, title in TITLES.items():
        run = content["runs"][name]
        for low, high in ((first, last + 1), (last + 1, content["tasks"])):
            part = slice(low, high)
            shares = [sum(run[f"cpu_{one}"][part]) for one in ("learning", "evaluating", "proving", "storing")]
            found, said = sum(run["cpu_seconds"][part]), sum(run["predicted"]["cpu_seconds"][part])
            cells = " | ".join(f"{share:.1f}" for share in shares)
            rows.append(f"| {title} | {low + 1} to {high} | {found:.1f} | {said:.1f} | {cells} |")
    caption = f"**Seconds: tasks {first + 1} to {last + 1} of both streams gave the rates, the later ones did not.**"
    return [caption, "", *rows]


def held(content: Mapping[str, Any]) -> list[str]:
    """What the process holds, with the slope over the second half of the stream."""
    rows = ["| | first | middle | last | a task, second half |", "|---|--:|--:|--:|--:|"]
    for name, title in TITLES.items():
        run = content["runs"][name]
        kinds = (
            ("resident memory (MiB)", [value / MIB for value in run["resident"]], ".1f", ".3f"),
            (
                "of it tensors, predicted (MiB)",
                [value / MIB for value in run["predicted"]["stored_bytes"]],
                ".2f",
                ".3f",
            ),
            ("objects of Python", run["objects"], ",.0f", ".0f"),
            ("open file handles", run["handles"], "d", ".2f"),
            ("threads", run["threads"], "d", ".2f"),
            ("files of the run", run["files"], "d", ".2f"),
            ("JSON (KiB)", [value / 1024 for value in run["documents_bytes"]], ".1f", ".1f"),
            ("proof (KiB)", [value / 1024 for value in run["proof_bytes"]], ".1f", ".2f"),
        )
        for kind, values, form, slope in kinds:
            first, middle, last = values[0], values[len(values) // 2], values[-1]
            rate = tilt(values[len(values) // 2 : -1])
            cells = f"{first:{form}} | {middle:{form}} | {last:{form}} | {rate:{slope}}"
            rows.append(f"| {title}: {kind} | {cells} |")
    return ["**What the process and the folder hold between two steps.**", "", *rows]


def tilt(values: Sequence[float]) -> float:
    """The slope of a straight line through values, per place."""
    found = np.polyfit(np.arange(len(values)), np.asarray(values, dtype=float), 1)[0]
    return round(float(found), 6) + 0.0  # and no -0.00


def killed(content: Mapping[str, Any]) -> list[str]:
    """What became of the run that was killed."""
    ends = "the same bits as" if content["same_bits"] else "OTHER BITS than"
    return [
        f"The run that was killed after task {content['killed_after']} ended with {ends} the one that was not: "
        "weights, digests, curves, choices and metrics. All three forget "
        f"{max(run['forgetting'] for run in content['runs'].values()):.1f} of accuracy."
    ]


def longer(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Longer streams, predicted."""
    rows = [
        "| sources | tasks | parameters | tensors at the end | written in all | largest tables "
        "| one prediction (MFLOP) | learning (TFLOP) | evaluating (TFLOP) | JSON (MiB) | CPU hours |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    rows += [
        f"| {one['title']} | {one['tasks']:,} | {one['parameters'] / 1e6:,.2f} M | {size(one['stored'])} "
        f"| {size(one['written'])} | {size(one['tables'])} | {one['prediction'] / 1e6:,.1f} "
        f"| {one['learning'] / 1e12:,.2f} | {one['evaluating'] / 1e12:,.2f} | {one['documents'] / MIB:,.1f} "
        f"| {one['hours']:,.2f} |"
        for one in found
    ]
    return ["**Longer streams of the same tasks, predicted.**", "", *rows]


def grids(found: Sequence[Mapping[str, Any]]) -> list[str]:
    """Grids, predicted."""
    rows = [
        "| runs | of | one worker | 16 workers | 128 workers | 1,024 workers | kept on disk | written | files |",
        "|--:|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for one in found:
        hours = " | ".join(f"{value:,.2f} h" for value in one["hours"])
        rows.append(
            f"| {one['runs']:,} | {one['title']} | {hours} | {size(one['kept'])} | {size(one['written'])} "
            f"| {one['files']:,} |"
        )
    return ["**Grids, predicted: hours at least, on workers like the core that was measured.**", "", *rows]


def size(count: float) -> str:
    """Bytes in a unit that fits."""
    for unit, factor in (("TiB", 2**40), ("GiB", GIB), ("MiB", MIB)):
        if count >= factor:
            return f"{count / factor:,.1f} {unit}"
    return f"{count / 1024:,.0f} KiB"
