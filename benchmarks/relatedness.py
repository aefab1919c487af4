"""Which cheap measure of relatedness tells beforehand which earlier column will help a new task?

MNIST and five views of it (low-data-mnist): every task is learned once with 400 samples a class, as an earlier column,
and as a later task with 40 a class, alone and with each earlier column as its one source. MLP 2x100, equation 2 learned
from U = 0, so that a column with a source begins as the one alone; same batches. Five seeds, each with its own draw of
the samples. 15 pairs of an earlier and a later task; sources are never the later task's own samples.

    python benchmarks/relatedness.py [--root DATA] [--runs runs/relatedness]

DATA holds MNIST as torchvision lays it out; without it the digits of scikit-learn take its place. The seeds are kept,
so that the script goes on where it was stopped. It writes `benchmarks/results/relatedness.json` and `.md`, the figures
of docs/relatedness.md, and the tables between its markers.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from prognet.analysed import Pairs
from prognet.backbones import mlp
from prognet.config import Measurement, Training
from prognet.engine import ProgressiveNetwork
from prognet.evaluation import run
from prognet.evaluation.gains import measure_gains
from prognet.evaluation.relating import relate
from prognet.files import write_atomically
from prognet.related import RunRelatedness, read_relatedness, write_relatedness
from prognet.report.plots import look
from prognet.report.plots.tasks import ranked, related_pairs
from prognet.report.relatedness import Relatedness, make_relatedness, pair_table, ranking_table
from prognet.report.table import Table, to_markdown
from prognet.results import to_json
from prognet.strategies import Independent
from prognet.streams import Stream, low_data_digits, low_data_mnist
from prognet.training import Session

HERE = Path(__file__).parent
PAGE, BEGIN, END = HERE.parent / "docs" / "relatedness.md", "<!-- results:begin -->", "<!-- results:end -->"
FIGURES = HERE.parent / "docs" / "figures"
EARLIER, LATER = 400, 40
TRAINING = Training(epochs=15, batch_size=32, lr=0.001)
MEASUREMENT = Measurement(lca_updates=0, curve_points=0, gates=())
PAIRS = Pairs(pair_samples=400, gains=True)
NAME = "columns"


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Measures what is missing, then writes every result anew."""

    root: Path | None = None
    """Folder with MNIST as torchvision lays it out; without it, scikit-learn's digits."""
    runs: Path = Path("runs/relatedness")
    """Folder of the seeds."""
    seeds: int = 5
    results: Path = HERE / "results"
    """Folder of the results."""
    figures: Path = FIGURES
    """Folder of the figures."""
    page: Path | None = PAGE
    """The page whose tables are written; none for none."""


def main(arguments: Arguments) -> None:
    """Runs what is missing, then writes tables, numbers and figures."""
    from rich.progress import track

    torch.set_num_threads(1)
    records = {(0, seed): measured(arguments, seed) for seed in track(range(arguments.seeds), description="seeds")}
    found = make_relatedness(NAME, records)
    names = [task.name for task in make_stream(arguments.root, LATER, 0)]
    text = markdown(found, names)
    pairs = "\n".join(body(pair_table([found]), 1))
    write_atomically(arguments.results / "relatedness.md", f"{text}\n{pairs}\n".encode())
    write_atomically(arguments.results / "relatedness.json", as_json(records, names, arguments.root))
    arguments.figures.mkdir(parents=True, exist_ok=True)
    with look():
        for name, figure in (("pairs", related_pairs(found)), ("ranking", ranked(found))):
            figure.savefig(arguments.figures / f"relatedness-{name}.png", dpi=110)
    if arguments.page is not None:
        fill_page(arguments.page, text)


def make_stream(root: Path | None, per_class: int, draw: int) -> Stream:
    """Six views with so many training samples a class; a draw of their own for the earlier and the later tasks."""
    if root is None:
        few = min(per_class, 100)
        return low_data_digits(per_class=few, first_per_class=few, draw=draw)
    return low_data_mnist(per_class=per_class, first_per_class=per_class, root=root, draw=draw)


def measured(arguments: Arguments, seed: int) -> RunRelatedness:
    """The table of one seed, read where it has been made."""
    place = arguments.runs / f"seed-{seed}"
    if (place / "relatedness.json").exists():
        return read_relatedness(place)
    earlier, later = make_stream(arguments.root, EARLIER, 2 * seed), make_stream(arguments.root, LATER, 2 * seed + 1)
    backbone = mlp(hidden=(100, 100))
    result = run(Independent(backbone), earlier, training=TRAINING, measurement=MEASUREMENT, seed=seed, device="cpu")
    columns = result.learner.columns
    session = Session(training=TRAINING, measurement=MEASUREMENT, seed=seed, device=torch.device("cpu"))
    gains = measure_gains(columns.network, columns.column_of, list(later), backbone, session)
    both = ProgressiveNetwork()
    both.columns.extend(columns.network.columns)
    own = {}
    for label, column in gains.columns.items():
        own[label] = len(both.columns)
        both.columns.append(column)
    found = relate(both, columns.column_of, list(later), backbone, PAIRS, own=own, earlier=list(earlier), seed=seed)
    record = RunRelatedness(
        strategy=NAME,
        order=0,
        seed=seed,
        settings=asdict(PAIRS),
        digests=result.digests[-1],
        samples=found.samples,
        values=found.values,
        shuffled=found.shuffled,
        gain=gains.gain,
        alone=gains.alone,
    )
    write_relatedness(place, record)
    return record


def markdown(found: Relatedness, names: Sequence[str]) -> str:
    """The setting and the ranking."""
    named = ", ".join(f"{place} {name}" for place, name in enumerate(names, start=1))
    return "\n".join(
        [
            f"**{found.seeds} seeds; tasks: {named}.** Mean ± half of the Student t 95 % interval over seeds.",
            "",
            *body(ranking_table([found]), 1),
            "",
        ]
    )


def body(table: Table, skip: int) -> list[str]:
    """The rows of a table in Markdown, without title and note, and without its first columns."""
    rows = [line for line in to_markdown(table).splitlines() if line.startswith("|")]
    return ["|" + "|".join(row.split("|")[1 + skip :]) for row in rows]


def as_json(records: Mapping[tuple[int, int], RunRelatedness], names: Sequence[str], root: Path | None) -> bytes:
    """What a reader needs to compute the tables anew."""
    content = {
        "stream": "low-data-digits" if root is None else "low-data-mnist",
        "tasks": list(names),
        "per_class": {"earlier": EARLIER, "later": LATER},
        "training": asdict(TRAINING),
        "runs": [asdict(record) for record in records.values()],
    }
    return (json.dumps(rounded(to_json(content))) + "\n").encode()


def rounded(value: object) -> object:
    """Numbers with six digits after the point: more say nothing."""
    if isinstance(value, float):
        return round(value, 6)
    if isinstance(value, Mapping):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, list) else value


def fill_page(page: Path, text: str) -> None:
    """Puts the tables between the markers of the page."""
    before, rest = page.read_text(encoding="utf-8").split(BEGIN)
    _, after = rest.split(END)
    write_atomically(page, f"{before}{BEGIN}\n{text}{END}{after}".encode())


if __name__ == "__main__":
    main(tyro.cli(Arguments))
