"""The same runs in fresh processes, in other surroundings: the same files of weights, byte for byte."""

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = """
import json
import sys
from hashlib import sha256
from pathlib import Path

import prognet
from prognet.files import to_json
from tests.helpers.runs import KINDS, NORMED, quick_run
from tests.helpers.streams import make_stream

found = {}
for kind in json.loads(sys.argv[1]):
    result = quick_run(KINDS[kind](NORMED), make_stream(), seed=3, threads=1, out="out")
    for path in sorted(Path("out").rglob(f"{result.strategy}/*/*.safetensors")):
        found[f"{kind}: {path.name}"] = sha256(path.read_bytes()).hexdigest()
    numbers = [to_json(result.metrics), [list(curve.accuracy) for curve in result.curves], to_json(result.digests)]
    found[f"{kind}: numbers"] = sha256(json.dumps(numbers).encode()).hexdigest()
    found[f"{kind}: options"] = sha256(json.dumps(to_json(result.config)).encode()).hexdigest()
print(json.dumps(found))
"""
SURROUNDINGS: list[Mapping[str, str]] = [
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "4711", "TZ": "Asia/Tokyo", "LC_ALL": "C.UTF-8", "PYTHONUTF8": "1"},
]


def fingerprints(place: Path, surroundings: Mapping[str, str], kinds: list[str]) -> dict[str, str]:
    """SHA-256 of every file of tensors, and of the numbers, of runs in a process of their own."""
    place.mkdir()
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(kinds)],
        cwd=place,
        env={**os.environ, "PYTHONPATH": str(ROOT), **surroundings},
        check=True,
        capture_output=True,
        text=True,
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.mark.slow
def test_hash_seed_time_zone_locale_and_place_do_not_matter(tmp_path: Path) -> None:
    """With BatchNorm, dropout and early random numbers: every strategy that draws in another way."""
    kinds = ["progressive", "progressive-random", "finetune", "multitask"]
    first, second = (
        fingerprints(tmp_path / str(number), surroundings, kinds) for number, surroundings in enumerate(SURROUNDINGS)
    )
    assert first == second
    assert len([name for name in first if "state-" in name]) == len(kinds)
    assert len(set(first.values())) > 3 * len(kinds) - 1
