"""What does `import prognet.engine` cost beside `import torch`?

    python benchmarks/import_cost.py

Fresh interpreters in pairs, in processor seconds on one thread; the ratio of each pair, so that a busy machine disturbs
both alike. It writes `benchmarks/results/import-cost.json`.
"""

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from statistics import median

import torch

from prognet.files import write_atomically

RESULT = Path(__file__).parent / "results" / "import-cost.json"
PAIRS = 10


def main() -> None:
    """Measures, prints and writes the result."""
    pairs = [(seconds("import torch"), seconds("import prognet.engine")) for _ in range(PAIRS)]
    content = {
        "question": "processor seconds of `import prognet.engine` over those of `import torch`",
        "ratio_median": round(median(engine / alone for alone, engine in pairs), 3),
        "ratio_of_minima": round(min(engine for _, engine in pairs) / min(alone for alone, _ in pairs), 3),
        "seconds": [[round(alone, 3), round(engine, 3)] for alone, engine in pairs],
        "versions": {"python": platform.python_version(), "torch": torch.__version__},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }
    text = json.dumps(content, indent=1)
    write_atomically(RESULT, f"{text}\n".encode())
    sys.stdout.write(f"{text}\n")


def seconds(code: str) -> float:
    """Processor time of a fresh interpreter that runs `code`, with one thread."""
    program = f"{code}\nimport sys, time\nsys.stdout.write(str(time.process_time()))"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return float(done.stdout)


if __name__ == "__main__":
    main()
