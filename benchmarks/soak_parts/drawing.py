"""The figure of a soak: six quantities against the number of tasks, measured and predicted."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MIB = 2**20
STYLES = {"all": ("C0", "all sources"), "bounded": ("C1", "at most 3")}


def figure(content: Mapping[str, Any]) -> "Figure":
    """Dots are measured, lines predicted; what is not predicted has dots only."""
    from matplotlib import pyplot

    drawn, axes = pyplot.subplots(2, 3, figsize=(11.5, 6.4), layout="constrained")
    panels = (
        ("parameters (millions)", "parameters", "parameters", 1e6),
        ("file of tensors (MiB)", "state_bytes", "stored_bytes", MIB),
        ("learning a task (GFLOP)", "training_flops", "training_flops", 1e9),
        ("a step (CPU seconds)", "cpu_seconds", "cpu_seconds", 1),
        ("resident memory since task 6 (MiB)", "resident", None, MIB),
        ("open file handles and threads", "handles", None, 1),
    )
    for place, (title, key, said, unit) in zip(axes.flat, panels, strict=True):
        for name, (colour, label) in STYLES.items():
            run = content["runs"][name]
            x, y = np.arange(1, len(run[key]) + 1), np.array(run[key]) / unit
            if key == "resident":
                grown = np.array(run["predicted"]["stored_bytes"]) / unit
                x, y = x[5:], y[5:] - y[5]
                place.plot(x, (grown - grown[5])[5:], "--", color=colour, label=f"{label}: tensors, predicted")
            place.plot(x, y, ".", color=colour, label=label, markersize=4)
            if said is not None:
                place.plot(x, np.array(run["predicted"][said]) / unit, "-", color=colour, linewidth=1, alpha=0.8)
            if key == "handles":
                place.plot(x, run["threads"], "x", color=colour, label=f"{label}: threads", markersize=3)
        place.set_title(title, fontsize=10)
        place.set_xlabel("tasks")
        place.set_ylim(bottom=0)
    first, last = content["calibrated"]
    axes[1, 0].axvspan(first + 1, last + 1, color="0.9", zorder=0)
    axes[1, 0].text(first + 1.5, axes[1, 0].get_ylim()[1] * 0.93, "gave the rates", fontsize=8, va="top")
    for place in (axes[0, 0], axes[1, 1], axes[1, 2]):
        place.legend(frameon=False, fontsize=8)
    return drawn
