"""The names at the door of the package."""

import ast
import inspect
from importlib import metadata
from pathlib import Path

import pytest

import prognet


@pytest.mark.parametrize("name", prognet.__all__)
def test_every_public_name_resolves(name: str) -> None:
    assert getattr(prognet, name) is not None


def test_type_checkers_see_the_names_that_there_are() -> None:
    source = ast.parse(Path(inspect.getfile(prognet)).read_text(encoding="utf-8"))
    block = next(node for node in source.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING")
    seen = [
        alias.asname or alias.name for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    ]
    assert {*seen, "__version__"} == set(prognet.__all__)


def test_a_public_name_is_the_one_of_its_home() -> None:
    from prognet.config import Training
    from prognet.errors import PrognetError

    assert prognet.Training is Training
    assert prognet.PrognetError is PrognetError


def test_names_are_listed_and_unknown_ones_refused() -> None:
    assert set(prognet.__all__) <= set(dir(prognet))
    with pytest.raises(AttributeError, match="module 'prognet' has no attribute 'Progresive'"):
        _ = prognet.Progresive


def test_the_version_is_that_of_the_installed_package() -> None:
    assert prognet.__version__ == metadata.version("prognet")


def test_the_package_says_that_it_is_typed() -> None:
    assert Path(inspect.getfile(prognet)).with_name("py.typed").exists()
