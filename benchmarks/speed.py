"""What does a task cost? Updates of the tenth column beside those of the first, the floor, Avalanche's PNN.

    python benchmarks/speed.py [--device cpu] [--root DATA] [--parts step growth stream evaluation seeds images memory]

Everything is timed in pairs within one process: processor seconds of one thread on the CPU, wall time around a
synchronisation on CUDA; ratios are medians of the ratios of pairs. DATA holds MNIST as torchvision lays it out; only
`stream` reads it. It writes `benchmarks/results/speed-<device>.json` and `.md`, and the figures of
docs/performance.md. The parts lie in `speed_parts`.

- `step`: an update of the training loop over an update of the floor (`floor.py`), columns 1, 5, 10.
- `growth`: an update of column k = 1 to 20 over one of column 1, features kept or not, two sources or all.
- `stream`: Split-MNIST from the first task to the last beside Avalanche's PNN.
- `evaluation`: predicting every task after every step, beside plain networks.
- `seeds`: ten seeds trained together, beside the same ten one by one.
- `images`: ResNet-18 with block sites on 32x32 RGB, beside a plain training loop and the peak of the hardware; narrower
  and with few images on the CPU, in half precision, channels-last and compiled on CUDA.
- `memory`: parameters, files, tables of features, and the most that a training holds, beside what is predicted.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import torch
import tyro
from speed_parts.images import draw_images, images, images_table
from speed_parts.memory import draw_memory, memory, memory_table
from speed_parts.seeds import seeds, seeds_table
from speed_parts.streams import evaluations, evaluations_table, stream, stream_table
from speed_parts.timing import machine
from speed_parts.updates import draw_growth, growth, growth_table, steps, steps_table

from prognet.files import write_atomically

Part = Literal["step", "growth", "stream", "evaluation", "seeds", "images", "memory"]
RESULTS, FIGURES = Path(__file__).parent / "results", Path(__file__).parent.parent / "docs" / "figures"
TABLES: dict[Part, Callable[[Any], list[str]]] = {
    "step": steps_table,
    "growth": growth_table,
    "stream": stream_table,
    "evaluation": evaluations_table,
    "seeds": seeds_table,
    "images": images_table,
    "memory": memory_table,
}
DRAWN: dict[Part, tuple[str, Callable[[Any, Path], None]]] = {
    "growth": ("speed", draw_growth),
    "images": ("speed-images", draw_images),
    "memory": ("speed-memory", draw_memory),
}


@dataclass(frozen=True, kw_only=True)
class Arguments:
    """Times prognet and writes the results."""

    device: str = "cpu"
    """cpu or cuda."""
    root: Path = Path("data")
    """Folder with MNIST as torchvision lays it out."""
    parts: tuple[Part, ...] = get_args(Part)
    """What is timed; what is not keeps its place in the results."""
    repeats: int = 7
    """Pairs."""


def main(arguments: Arguments) -> None:
    """Times the parts and writes what was found."""
    torch.set_num_threads(1)
    device, repeats = torch.device(arguments.device), arguments.repeats
    path = RESULTS / f"speed-{device.type}.json"
    content: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    measures: dict[Part, Callable[[], object]] = {
        "step": lambda: steps(device, repeats),
        "growth": lambda: growth(device, repeats),
        "stream": lambda: stream(device, arguments.root, max(1, repeats // 2)),
        "evaluation": lambda: evaluations(device, repeats),
        "seeds": lambda: seeds(device, max(1, repeats // 2)),
        "images": lambda: images(device, max(1, repeats // 2)),
        "memory": lambda: memory(device),
    }
    for part in arguments.parts:
        content[part] = measures[part]()
        content["machine"] = machine(device)
        write_atomically(path, f"{json.dumps(content, indent=1)}\n".encode())
    tables = ["\n".join(table(content[part])) for part, table in TABLES.items() if part in content]
    write_atomically(path.with_suffix(".md"), ("\n\n".join(tables) + "\n").encode())
    ending = "" if device.type == "cpu" else f"-{device.type}"
    for part, (name, draw) in DRAWN.items():
        if part in content:
            draw(content[part], FIGURES / f"{name}{ending}.png")


if __name__ == "__main__":
    main(tyro.cli(Arguments))
