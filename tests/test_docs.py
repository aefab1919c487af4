"""The documentation: examples run, commands parse, links lead somewhere, and no public name is left out."""

import re
import shlex
import shutil
import sys
import warnings
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

import prognet
from prognet import cli, metrics, statistics, streams
from prognet.catalogue import BACKBONES, STRATEGIES, STREAMS
from prognet.evaluation.comparing import Outcome
from prognet.recipes import OWN_DATA, RECIPES
from prognet.results import Results
from prognet.streams.bridge import import_avalanche

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
NAMED = [page.relative_to(ROOT).as_posix() for page in PAGES]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)|<img[^>]* src=\"([^\"]+)\"")
_FILE = re.compile(r"# (\w+)\.py\n")
SHELLS = ("console", "sh")


class Block(NamedTuple):
    """One fenced block of a page."""

    language: str
    line: int
    """The line of the page on which its text begins."""
    text: str


def blocks(text: str) -> list[Block]:
    """Every fenced block, in order."""
    return [Block(found[1], text.count("\n", 0, found.start(2)) + 1, found[2]) for found in _FENCE.finditer(text)]


def commands(text: str) -> list[list[str]]:
    """The commands of the shell blocks, as words, without prompts and comments."""
    lines = [
        line.removeprefix("$ ")
        for block in blocks(text)
        if block.language in SHELLS
        for line in block.text.replace("\\\n", " ").splitlines()
    ]
    return [words for line in lines if (words := shlex.split(line, comments=True))]


def anchors(text: str) -> set[str]:
    """The names under which the headings of a page can be linked."""
    headings = re.findall(r"^#+ (.+)$", _FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def broken(page: Path, text: str) -> list[str]:
    """The relative links and images of a page that lead nowhere."""
    targets = [found[1] or found[2] for found in _LINK.finditer(_FENCE.sub("", text))]
    return [target for target in targets if not re.match(r"[a-z]+:", target) and not _leads(page, target, text)]


def _leads(page: Path, target: str, text: str) -> bool:
    path, _, anchor = target.partition("#")
    goal = (page.parent / path).resolve() if path else page
    if not goal.exists() or not goal.is_relative_to(ROOT):
        return False
    return not anchor or anchor in anchors(text if goal == page else read(goal))


@cache
def read(page: Path) -> str:
    """The text of a page."""
    return page.read_text(encoding="utf-8")


@pytest.fixture
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty working directory; modules that are imported from it are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        if (tmp_path / f"{name}.py").exists():
            del sys.modules[name]


def run_block(page: Path, block: Block, namespace: dict[str, Any]) -> None:
    """Executes a block; one that begins with the name of a file is written to that file as well."""
    if named := _FILE.match(block.text):
        Path(f"{named[1]}.py").write_text(block.text, encoding="utf-8")
    padded = "\n" * (block.line - 1) + block.text  # so that a traceback shows the line of the page
    exec(compile(padded, str(page), "exec"), namespace)


@pytest.mark.parametrize("page", [page for page in PAGES if "```python" in read(page)], ids=lambda page: page.stem)
def test_the_examples_run(page: Path, workplace: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if "spoken_digits(" in read(page) and shutil.which("espeak-ng") is None:
        pytest.skip("the program espeak-ng is not installed")
    if "from avalanche" in read(page):
        for name in ("benchmarks", "models", "training"):  # its dependencies warn when they are imported
            import_avalanche(f"avalanche.{name}")
    module = ModuleType(f"page_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for block in blocks(read(page)):
            if block.language == "python":
                run_block(page, block, module.__dict__)


@pytest.fixture
def nothing_runs(workplace: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Commands are parsed and prepared, and stop where the work would begin; returns what would have been done."""
    done: list[str] = []
    from prognet import evaluation, report
    from prognet.config import Training
    from prognet.evaluation import recipe_search, tuning
    from prognet.strategies import FineTuning
    from prognet.tuned import Tuned

    def comparison(*arguments: Any, **options: Any) -> Outcome:
        done.append("run")
        return Outcome(Results([]), {})

    def search(*arguments: Any, **options: Any) -> Tuned:
        done.append("tune")
        return Tuned({}, [], [], {})

    def recipe(*arguments: Any, **options: Any) -> recipe_search.RecipeSearch:
        return recipe_search.RecipeSearch(FineTuning(), Training(), 0.0, [], [], [], {})

    def proof(folder: Path, backbone: Any = None) -> list[Any]:
        done.append("verify")
        return []

    def look(folder: Path, *arguments: Any, **options: Any) -> list[Any]:
        done.append("analyse")
        return []

    def page(folder: Path) -> Path:
        done.append("report")
        return folder

    monkeypatch.setattr(evaluation, "grid", comparison)
    monkeypatch.setattr(tuning, "tune", search)
    monkeypatch.setattr(recipe_search, "search_recipe", recipe)
    monkeypatch.setattr(recipe_search, "read_recipe", lambda path: (FineTuning(), Training()))
    monkeypatch.setattr(evaluation, "verify", proof)
    monkeypatch.setattr(evaluation, "analyse", look)
    monkeypatch.setattr(report, "write_report", page)
    monkeypatch.setattr(report, "damaged_files", lambda folder: {})
    monkeypatch.setattr(cli, "read_tuned", lambda path: {})
    monkeypatch.setattr(cli, "write_tuned", lambda path, tuned: None)
    for block in blocks(read(ROOT / "docs" / "backbones.md")):
        if named := _FILE.match(block.text):
            Path(f"{named[1]}.py").write_text(block.text, encoding="utf-8")
    return done


COMMANDS = sorted({shlex.join(words[1:]) for page in PAGES for words in commands(read(page)) if words[0] == "prognet"})


@pytest.mark.parametrize("line", COMMANDS)
def test_the_commands_are_understood(line: str, nothing_runs: list[str]) -> None:
    words = shlex.split(line)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert cli.main(words) == 0
    works = words[0] in ("run", "tune", "verify", "report", "analyse") and "--help" not in words
    assert nothing_runs == ([words[0]] if works else [])


def test_a_command_with_a_fault_is_seen(nothing_runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["run", "split-digits", "--strategies", "progresive"]) == 2
    assert "did you mean 'progressive'" in capsys.readouterr().err
    assert cli.main(["run", "split-digits", "--epoch", "3"]) == 2
    assert "--epochs INT" in capsys.readouterr().err
    assert cli.main(["run", "split-digits", "--backbone", "my_nets:large"]) == 2
    assert "'my_nets:large'" in capsys.readouterr().err
    assert nothing_runs == []


def test_the_targets_of_make_exist() -> None:
    known = set(re.findall(r"^(\w+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    asked = {words[1] for page in PAGES for words in commands(read(page)) if words[0] == "make"}
    assert asked == {"demo", "test"}
    assert asked <= known


@pytest.mark.parametrize("page", PAGES, ids=NAMED)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert broken(page, read(page)) == []


def test_a_broken_link_is_seen() -> None:
    text = (
        "# Here\n[a](docs/metrics.md#learning) [b](docs/metrics.md#no) [c](none.md) ![d](none.png) "
        '[e](#here) [f](#there) [g](https://example.org) <img src="none.svg">\n```sh\n[h](none)\n```\n'
    )
    assert broken(README, text) == ["docs/metrics.md#no", "none.md", "none.png", "#there", "none.svg"]


def test_every_page_is_in_the_contents() -> None:
    for index in (README, ROOT / "docs" / "index.md"):
        linked = {(index.parent / found[1].partition("#")[0]).resolve() for found in _LINK.finditer(read(index))}
        assert {page for page in PAGES[1:] if page != index} <= linked


def unnamed(names: Iterable[str], text: str) -> list[str]:
    """The names that a text does not have in code."""
    code = set(re.findall(r"[\w./\-]+", " ".join(re.findall(r"`([^`\n]+)`", text))))
    return sorted(name for name in names if name not in code)


def functions_of(module: ModuleType) -> list[str]:
    """The public functions and classes that a module defines."""
    own = [name for name, value in vars(module).items() if getattr(value, "__module__", "") == module.__name__]
    return [name for name in own if not name.startswith("_")]


def parts_of_the_package() -> list[str]:
    """Every file and folder of the package, as `"cli.py"` or `"engine/"`."""
    parts = [path for path in Path(str(prognet.__file__)).parent.iterdir() if not path.name.startswith("__init__")]
    folders = [f"{path.name}/" for path in parts if (path / "__init__.py").exists()]
    return [*folders, *(path.name for path in parts if path.suffix == ".py")]


@pytest.mark.parametrize(
    ("page", "names"),
    [
        ("index", [f"prognet.{name}" for name in prognet.__all__]),
        ("metrics", metrics.__all__),
        ("protocol", functions_of(statistics)),
        ("protocol", [*prognet.Training.__dataclass_fields__, *prognet.Measurement.__dataclass_fields__]),
        ("results", [*(prognet.RunResult.__dataclass_fields__.keys() - {"learner"})]),
        ("streams", [*STREAMS, *streams.__all__]),
        ("strategies", [*STRATEGIES]),
        ("backbones", [*BACKBONES]),
        ("command-line", [*RECIPES, *OWN_DATA]),
        ("architecture", parts_of_the_package()),
    ],
)
def test_no_public_name_is_left_out(page: str, names: list[str]) -> None:
    assert names
    assert unnamed(names, _FENCE.sub("", read(ROOT / "docs" / f"{page}.md"))) == []


def test_a_name_that_is_left_out_is_seen() -> None:
    assert unnamed(["forgetting", "transfer"], "`forgetting_ratio`, transfer and `transfer(R)`") == ["forgetting"]


def test_the_readme_has_a_place_for_results() -> None:
    text = read(README)
    assert text.count("<!-- results:begin -->") == text.count("<!-- results:end -->") == 1
    assert text.index("<!-- results:begin -->") < text.index("<!-- results:end -->")


def test_the_tests_that_the_docs_name_exist() -> None:
    named = set(re.findall(r"`(test_\w+)`", read(ROOT / "docs" / "correctness.md")))
    there = {
        name
        for path in (ROOT / "tests").rglob("test_*.py")
        for name in re.findall(r"^def (test_\w+)", read(path), re.M)
    }
    assert named
    assert named - there == set()
