"""The source of a package, read as data: its files, their syntax trees and their imports."""

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import NamedTuple

Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    """One imported name."""

    name: str
    """Absolute and dotted: `from torch import nn` imports `"torch.nn"`."""
    line: int
    at_import: bool
    """Whether it runs when its module is imported, and not when a function is called."""
    for_types: bool
    """Whether only type checkers see it."""

    @property
    def library(self) -> str:
        """The outermost package."""
        return self.name.split(".")[0]

    @property
    def unit(self) -> str | None:
        """The entry of the floors that it belongs to; None for a name from elsewhere."""
        return self.name.split(".")[1] if self.name.startswith("prognet.") else None

    @property
    def runs_early(self) -> bool:
        """Whether importing its module runs it."""
        return self.at_import and not self.for_types


@dataclass(frozen=True)
class Package:
    """A package: the text of its files by their path below the package, e.g. `"engine/sites.py"`."""

    texts: Mapping[str, str]

    @staticmethod
    def at(folder: Path) -> "Package":
        """The package in a folder."""
        paths = sorted(folder.rglob("*.py"))
        return Package({path.relative_to(folder).as_posix(): path.read_text(encoding="utf-8") for path in paths})

    @cached_property
    def trees(self) -> Mapping[str, ast.Module]:
        """The syntax tree of every file."""
        return {file: _parse(text) for file, text in self.texts.items()}

    @cached_property
    def imports(self) -> Mapping[str, tuple[Import, ...]]:
        """Every import of every file, wherever it stands."""
        return {file: tuple(_imports(tree, True, False)) for file, tree in self.trees.items()}

    @cached_property
    def explained(self) -> frozenset[tuple[str, str]]:
        """(class, method) of every method that has a docstring."""
        classes = [node for tree in self.trees.values() for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        return frozenset(
            (owner.name, item.name)
            for owner in classes
            for item in owner.body
            if isinstance(item, Function) and ast.get_docstring(item)
        )

    @cached_property
    def errors(self) -> frozenset[str]:
        """The classes of errors.py, and every function that returns one of them."""
        classes = {node.name for node in self.trees["errors.py"].body if isinstance(node, ast.ClassDef)}
        functions = [node for tree in self.trees.values() for node in ast.walk(tree) if isinstance(node, Function)]
        makers = {node.name for node in functions if node.returns and ast.unparse(node.returns).strip("'\"") in classes}
        return frozenset(classes | makers)

    def files_of(self, name: str) -> list[str]:
        """The files that importing a name of the package runs: its module, and the packages above it."""
        parts = name.split(".")[1:]
        stems = ["/".join(parts[:length]) for length in range(1, len(parts) + 1)]
        candidates = [f"{stem}{end}" for stem in stems for end in ("/__init__.py", ".py")]
        return [candidate for candidate in candidates if candidate in self.texts]

    def reached(self, file: str) -> dict[str, str]:
        """Every file of the package that importing `file` runs -> the file that imports it.

        What the functions of `file` itself import is followed as well, but for the command line: there it is the work.
        """
        found: dict[str, str] = {}
        waiting = [file]
        while waiting:
            importer = waiting.pop()
            late_too = importer == file != "cli.py"
            for item in self.imports[importer]:
                if item.unit is None or item.for_types or not (item.at_import or late_too):
                    continue
                new = [target for target in self.files_of(item.name) if target not in found]
                found |= dict.fromkeys(new, importer)
                waiting += new
        return found


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


def _imports(node: ast.AST, at_import: bool, for_types: bool) -> Iterator[Import]:
    if isinstance(node, ast.Import):
        yield from (Import(alias.name, node.lineno, at_import, for_types) for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        origin = "." * node.level + (node.module or "")
        yield from (Import(f"{origin}.{alias.name}", node.lineno, at_import, for_types) for alias in node.names)
    elif isinstance(node, ast.Constant) and re.fullmatch(r"avalanche(\.\w+)*", str(node.value)):
        yield Import(str(node.value), node.lineno, False, for_types)  # the name of a module, for whoever imports it
    elif isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        for statement in [*node.body, *node.orelse]:
            yield from _imports(statement, at_import, for_types or statement in node.body)
    else:
        for child in ast.iter_child_nodes(node):
            yield from _imports(child, at_import and not isinstance(node, Function), for_types)
