"""Tasks with inputs of several shapes: which tasks have which, and what columns could not read for it."""

from prognet.report.comparison import Comparison

_LEFT_OUT = "other_inputs"


def input_notes(comparison: Comparison) -> list[str]:
    """What inputs of several shapes mean for the numbers; nothing where all have one.

    It is told of the first run of each strategy; in other orders of the tasks other columns are left out.
    """
    shapes: dict[str, list[str]] = {}
    for task in comparison.grid.first(comparison.names[0]).tasks:
        shapes.setdefault(" × ".join(map(str, task.input_shape)), []).append(task.name)
    if len(shapes) == 1:
        return []
    parts = "; ".join(f"{shape}: {', '.join(names)}" for shape, names in shapes.items())
    left_out = [f"{name}: {told}" for name in comparison.names if (told := _left_out(comparison, name))]
    told = f" Not read for that reason, in the first run of {'; '.join(left_out)}." if left_out else ""
    return [
        f"Inputs have several shapes ({parts}). A column reads earlier columns that see inputs of its own shape, since "
        f"they are run on its task's samples, and begins without laterals where there is none.{told} Without task "
        "labels a sample is one of the tasks with inputs of its shape, so only these are chosen from."
    ]


def _left_out(comparison: Comparison, name: str) -> str:
    """The columns that each column does not read, counted from 1."""
    steps = enumerate(comparison.grid.first(name).choices, start=1)
    found = ((step, choice[_LEFT_OUT]) for step, choice in steps if choice.get(_LEFT_OUT))
    return ", ".join(f"{' and '.join(str(index + 1) for index in apart)} by column {step}" for step, apart in found)
