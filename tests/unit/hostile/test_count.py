"""How much bad input the tests generate that always run."""

import re
from pathlib import Path

REQUIRED = 1000


def test_at_least_a_thousand_bad_inputs_are_generated() -> None:
    texts = [path.read_text() for path in sorted(Path(__file__).parent.glob("test_*.py"))]
    found = [int(n) for text in texts for n in re.findall(r"^@hostile\((\d+)\)$", text, flags=re.MULTILINE)]
    assert sum(found) >= REQUIRED
    said = (Path(__file__).parents[3] / "docs" / "correctness.md").read_text()
    assert f"{sum(found):,} inputs" in said
