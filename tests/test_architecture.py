"""The rules of the house, kept by the source of the package; the rules themselves stand in helpers/house.py."""

import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers import house
from tests.helpers.house import RULES, Rule
from tests.helpers.source import Package

ROOT = Path(__file__).parents[1]
PROGNET = Package.at(ROOT / "prognet")


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_package_keeps(rule: Rule) -> None:
    breaches = list(rule(PROGNET))
    assert not breaches, "\n".join([rule.__doc__ or "", *breaches])


def test_the_rules_have_an_object() -> None:
    """A package without hooks or Avalanche would keep the rules about them whatever they say."""
    assert len(PROGNET.texts) > 20
    assert "register_forward_hook" in PROGNET.texts[house.HOOK_OWNER]
    assert any(item.library == "avalanche" for items in PROGNET.imports.values() for item in items)


BREACHES: tuple[tuple[Rule, str, str], ...] = (
    (house.every_file_has_a_floor, "novelty.py", ""),
    (house.every_file_has_a_floor, "novelty/part.py", ""),
    (house.imports_go_down_only, "engine/a.py", "def f():\n    from prognet.training import loop"),
    (house.imports_go_down_only, "engine/a.py", "from prognet import streams"),
    (house.imports_go_down_only, "engine/a.py", "from prognet import ProgressiveNetwork"),
    (house.imports_go_down_only, "engine/a.py", "import prognet.streams.task"),
    (house.imports_go_down_only, "errors.py", "import prognet"),
    (house.imports_go_down_only, "__init__.py", "from prognet import engine"),
    (house.torch_stays_away, "metrics.py", "def f():\n    import torch"),
    (house.torch_stays_away, "report/a.py", "from torch import nn"),
    (house.torch_stays_away, "cli.py", "import torch.nn as nn"),
    (house.torch_stays_away, "report/a.py", "def f():\n    from prognet.engine.sites import Site"),
    (house.torch_stays_away, "catalogue.py", "from prognet import engine"),
    (house.heavy_libraries_come_late, "statistics.py", "from scipy import stats"),
    (house.heavy_libraries_come_late, "results.py", "try:\n    import pandas as pd\nexcept ImportError:\n    pass"),
    (house.heavy_libraries_come_late, "streams/a.py", "class A:\n    import avalanche"),
    (house.few_import_avalanche, "training/a.py", "def f():\n    from avalanche.training import Naive"),
    (house.few_import_avalanche, "evaluation/a.py", "import_module('avalanche.training')"),
    (house.one_file_registers_hooks, "engine/column.py", "m.register_forward_hook(f)"),
    (house.one_file_registers_hooks, "analysis/a.py", "getattr(m, 'register_full_backward_hook')(f)"),
    (house.one_file_registers_hooks, "engine/column.py", "m.register_forward_pre_hook(f)"),
    (house.nothing_prints, "report/a.py", "print(1)"),
    (house.modules_hold_no_state, "seeds.py", "def f():\n    global a"),
    (house.modules_hold_no_state, "seeds.py", "cache: dict[str, int] = {}"),
    (house.modules_hold_no_state, "seeds.py", "cache = collections.defaultdict(list)"),
    (house.files_and_functions_are_small, "seeds.py", "\n" * (house.LONGEST_FILE + 1)),
    (house.files_and_functions_are_small, "seeds.py", "def f():" + "\n    1" * house.LONGEST_FUNCTION),
    (house.public_names_are_documented, "seeds.py", "x = 1"),
    (house.public_names_are_documented, "seeds.py", "'.'\ndef f(): pass"),
    (house.public_names_are_documented, "seeds.py", "'.'\nclass A: pass"),
    (house.public_names_are_documented, "seeds.py", "'.'\nclass A:\n    '.'\n    def f(self): pass"),
    (house.signatures_are_annotated, "seeds.py", "class A:\n    def f(self, x) -> None: pass"),
    (house.signatures_are_annotated, "seeds.py", "def f(x: int): pass"),
    (house.signatures_are_annotated, "seeds.py", "def f(*x, **y) -> None: pass"),
    (house.errors_are_ours, "seeds.py", "def f():\n    raise ValueError('x')"),
    (house.errors_are_ours, "seeds.py", "raise NotImplementedError"),
    (house.errors_are_ours, "report/a.py", "raise SystemExit(1)"),
    (house.errors_are_ours, "seeds.py", "class A:\n    def __init__(self):\n        raise TypeError('x')"),
)


@pytest.mark.parametrize(("rule", "file", "breach"), BREACHES, ids=lambda value: getattr(value, "__name__", None))
def test_a_breach_is_seen(rule: Rule, file: str, breach: str) -> None:
    found = rule(Package({**PROGNET.texts, file: breach}))
    assert [line for line in found if line.startswith(f"{file}:")]


KEPT: tuple[tuple[Rule, str, str], ...] = (
    (
        house.imports_go_down_only,
        "engine/a.py",
        "from prognet.version import __version__\nfrom prognet.errors import SiteError",
    ),
    (house.torch_stays_away, "cli.py", "def f():\n    from prognet.engine.sites import Site"),
    (house.torch_stays_away, "report/a.py", "if TYPE_CHECKING:\n    from prognet.engine.sites import Site"),
    (house.heavy_libraries_come_late, "statistics.py", "def f():\n    from scipy import stats"),
    (house.modules_hold_no_state, "seeds.py", "TABLE = {'a': 1}"),
    (house.public_names_are_documented, "seeds.py", "'.'\ndef _f(): pass"),
    (house.errors_are_ours, "cli.py", "raise SystemExit(2)"),
    (house.errors_are_ours, "errors.py", "class E: pass\ndef f():\n    raise E('x')"),
    (
        house.errors_are_ours,
        "seeds.py",
        "class A:\n    def __getattr__(self, name):\n        raise AttributeError(name)",
    ),
)


@pytest.mark.parametrize(("rule", "file", "text"), KEPT, ids=lambda value: getattr(value, "__name__", None))
def test_what_is_allowed_is_not_called_a_breach(rule: Rule, file: str, text: str) -> None:
    found = rule(Package({**PROGNET.texts, file: text}))
    assert not [line for line in found if line.startswith(f"{file}:")]


def test_no_file_names_a_machine() -> None:
    """A path that exists on one machine only has no place in the repository."""
    place = re.compile(r"(?<![\w.~-])/(work|home|root|Users|mnt)/\w")
    assert place.search("read " + "/ho" + "me/someone/data")  # in pieces, since this file is read as well
    paths = list(_text_files())
    assert ROOT / "pyproject.toml" in paths
    assert ROOT / ".ci" / "run" in paths
    named = {path: place.search(path.read_text(encoding="utf-8", errors="replace")) for path in paths}
    assert not [f"{path.relative_to(ROOT)}: {found.group()}" for path, found in named.items() if found]


def _text_files() -> Iterator[Path]:
    """Every text file of the repository but those that are made by running something."""
    made = {"build", "data", "dist", "runs", "shared", "venv", "__pycache__"}
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [name for name in folders if name not in made and (name == ".ci" or not name.startswith("."))]
        for path in (Path(folder, name) for name in names):
            if b"\0" not in path.read_bytes()[:8192]:
                yield path
