"""The rules of the house: each reads the source of a package and says, in one line each, what breaks it."""

import ast
import re
from collections.abc import Callable, Iterator, Mapping

from tests.helpers.source import Function, Package

FLOORS: Mapping[str, int] = {
    **dict.fromkeys(
        ("capacity", "config", "errors", "files", "metrics", "options", "recipes", "results", "seeds", "statistics"), 0
    ),
    **dict.fromkeys(("analysed", "arguments", "documents", "inference", "manifest", "recorded"), 0),
    **dict.fromkeys(("ranges", "related", "tuned", "version"), 0),
    **dict.fromkeys(("backbones", "engine"), 1),
    **dict.fromkeys(("analysis", "meta", "streams", "training"), 2),
    **dict.fromkeys(("gates", "strategies"), 3),
    **dict.fromkeys(("evaluation", "report"), 4),
    **dict.fromkeys(("__main__", "avalanche", "catalogue", "cli", "watch"), 5),
}
"""A new file or folder of prognet/ is entered here."""

WITHOUT_TORCH = {name for name, floor in FLOORS.items() if floor == 0} | {
    "__init__",
    "__main__",
    "catalogue",
    "cli",
    "report",
}
LATE = {
    "avalanche",
    "jinja2",
    "matplotlib",
    "pandas",
    "ray",
    "scipy",
    "sklearn",
    "timm",
    "torchjd",
    "torchmetrics",
    "torchvision",
}
AVALANCHE_HOLDERS = ("streams/", "strategies/driven.py", "avalanche/", "__init__.py")
"""The last one only names the bridge."""
HOOK_OWNER = "engine/sites.py"
EXITS = {"__main__.py", "cli.py"}
LONGEST_FILE, LONGEST_FUNCTION = 300, 60
CALLED_BY_PROTOCOL = re.compile(r"__(?!init__|post_init__|call__)\w+__")


Rule = Callable[[Package], Iterator[str]]


def every_file_has_a_floor(package: Package) -> Iterator[str]:
    """Files and folders that FLOORS does not know."""
    yield from (f"{file}: has no floor" for file in package.texts if unit(file) not in {*FLOORS, "__init__"})


def imports_go_down_only(package: Package) -> Iterator[str]:
    """A file imports from its own floor or a lower one; the package itself imports nothing, but for type checkers."""
    for file, items in package.imports.items():
        for item in items:
            if item.library != "prognet" or item.unit == "version":
                continue
            if file == "__init__.py":
                if not item.for_types:
                    yield f"{file}:{item.line}: imports {item.name} before its first use"
            elif item.unit is None or item.unit not in FLOORS:
                yield f"{file}:{item.line}: {item.name} is imported from elsewhere than its home"
            elif FLOORS[item.unit] > FLOORS.get(unit(file), 0):
                yield f"{file}:{item.line}: imports {item.name} from a higher floor"


def torch_stays_away(package: Package) -> Iterator[str]:
    """Floor 0, the report and the thin edge import no torch, and nothing that imports it."""
    for file in package.texts:
        if unit(file) not in WITHOUT_TORCH:
            continue
        yield from (f"{file}:{item.line}: imports torch" for item in package.imports[file] if item.library == "torch")
        for target, importer in package.reached(file).items():
            if any(item.library == "torch" and item.runs_early for item in package.imports[target]):
                yield f"{file}: reaches torch by way of {importer} and {target}"


def heavy_libraries_come_late(package: Package) -> Iterator[str]:
    """Libraries that are slow to import are imported inside the functions that need them."""
    for file, items in package.imports.items():
        early = (item for item in items if item.library in LATE and item.runs_early)
        yield from (f"{file}:{item.line}: imports {item.name} outside a function" for item in early)


def few_import_avalanche(package: Package) -> Iterator[str]:
    """Only the streams and the bridges know Avalanche."""
    holders = {file for file, items in package.imports.items() if any(item.library == "avalanche" for item in items)}
    yield from (f"{file}: imports Avalanche" for file in holders if not file.startswith(AVALANCHE_HOLDERS))


def one_file_registers_hooks(package: Package) -> Iterator[str]:
    """Only one file registers hooks of torch, by whatever name."""
    for file, node in _nodes(package, ast.Attribute, ast.Constant):
        name = node.attr if isinstance(node, ast.Attribute) else getattr(node, "value", "")
        if isinstance(name, str) and re.fullmatch(r"_?register_\w*hook\w*", name) and file != HOOK_OWNER:
            yield f"{file}:{node.lineno}: {name} belongs into {HOOK_OWNER}"


def nothing_prints(package: Package) -> Iterator[str]:
    """Only the command line writes to the terminal."""
    for file, node in _nodes(package, ast.Name):
        if isinstance(node, ast.Name) and node.id == "print" and file != "cli.py":
            yield f"{file}:{node.lineno}: print"


def modules_hold_no_state(package: Package) -> Iterator[str]:
    """No `global`, and no empty container in a module, which somebody would fill."""
    yield from (f"{file}:{node.lineno}: global" for file, node in _nodes(package, ast.Global))
    for file, tree in package.trees.items():
        for node in tree.body:
            if isinstance(node, ast.Assign | ast.AnnAssign) and node.value and _is_empty_container(node.value):
                yield f"{file}:{node.lineno}: an empty container in a module"


def files_and_functions_are_small(package: Package) -> Iterator[str]:
    """The largest sizes; a docstring does not count as part of its function."""
    for file, text in package.texts.items():
        if (lines := len(text.splitlines())) > LONGEST_FILE:
            yield f"{file}: {lines} lines, {LONGEST_FILE} at most"
    for file, node in _nodes(package, ast.FunctionDef, ast.AsyncFunctionDef):
        if isinstance(node, Function) and (lines := _length(node)) > LONGEST_FUNCTION:
            yield f"{file}:{node.lineno}: {node.name} has {lines} lines, {LONGEST_FUNCTION} at most"


def public_names_are_documented(package: Package) -> Iterator[str]:
    """Modules, public classes, functions and methods; a method may leave it to the abstract one that it implements."""
    for file, tree in package.trees.items():
        if not ast.get_docstring(tree):
            yield f"{file}: the module has no docstring"
        public = [node for node in tree.body if isinstance(node, Function | ast.ClassDef) and node.name[0] != "_"]
        for node in public:
            if not ast.get_docstring(node):
                yield f"{file}:{node.lineno}: {node.name} has no docstring"
            for item in node.body if isinstance(node, ast.ClassDef) else ():
                if (
                    isinstance(item, Function)
                    and isinstance(node, ast.ClassDef)
                    and not _explained(package, node, item)
                ):
                    yield f"{file}:{item.lineno}: {node.name}.{item.name} has no docstring"


def signatures_are_annotated(package: Package) -> Iterator[str]:
    """Every argument and every result of functions and methods, private ones included."""
    for file, tree in package.trees.items():
        classes = [node for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
        methods = [item for owner in classes for item in owner.body if isinstance(item, Function)]
        for function in [node for node in ast.walk(tree) if isinstance(node, Function)]:
            for name in _unannotated(function, function in methods):
                yield f"{file}:{function.lineno}: {function.name} has no annotation for {name}"


def errors_are_ours(package: Package) -> Iterator[str]:
    """What is raised comes from errors.py, but where Python's protocols or the end of a program ask for theirs."""
    for file, tree in package.trees.items():
        for name, line in _raised(tree):
            if name not in package.errors and not (name == "SystemExit" and file in EXITS):
                yield f"{file}:{line}: raises {name}, which errors.py does not have"


RULES: tuple[Rule, ...] = (
    every_file_has_a_floor,
    imports_go_down_only,
    torch_stays_away,
    heavy_libraries_come_late,
    few_import_avalanche,
    one_file_registers_hooks,
    nothing_prints,
    modules_hold_no_state,
    files_and_functions_are_small,
    public_names_are_documented,
    signatures_are_annotated,
    errors_are_ours,
)


def unit(file: str) -> str:
    """The entry of FLOORS that a file belongs to: its folder, or its own name."""
    return file.split("/")[0].removesuffix(".py")


def _nodes(package: Package, *kinds: type[ast.AST]) -> Iterator[tuple[str, ast.expr | ast.stmt]]:
    for file, tree in package.trees.items():
        for node in ast.walk(tree):
            if isinstance(node, kinds) and isinstance(node, ast.expr | ast.stmt):
                yield file, node


def _is_empty_container(value: ast.expr) -> bool:
    if isinstance(value, ast.List | ast.Set):
        return not value.elts
    if isinstance(value, ast.Dict):
        return not value.keys
    makers = {"list", "dict", "set", "defaultdict", "deque", "OrderedDict", "Counter"}
    return isinstance(value, ast.Call) and ast.unparse(value.func).split(".")[-1] in makers and not value.keywords


def _length(function: Function) -> int:
    lines = (function.end_lineno or function.lineno) - function.lineno + 1
    first = function.body[0]
    return lines - ((first.end_lineno or first.lineno) - first.lineno + 1 if ast.get_docstring(function) else 0)


def _explained(package: Package, owner: ast.ClassDef, method: Function) -> bool:
    bases = [ast.unparse(base).split("[")[0].split(".")[-1] for base in owner.bases]
    repeats = any(re.search(r"\boverload$|\.setter$", ast.unparse(mark)) for mark in method.decorator_list)
    implements = any((base, method.name) in package.explained for base in bases)
    return (
        method.name.startswith("_")
        or method.name == "extra_repr"
        or bool(ast.get_docstring(method))
        or repeats
        or implements
    )


def _unannotated(function: Function, is_method: bool) -> Iterator[str]:
    static = any(ast.unparse(mark) == "staticmethod" for mark in function.decorator_list)
    arguments = [*function.args.posonlyargs, *function.args.args][int(is_method and not static) :]
    arguments += [*function.args.kwonlyargs, *filter(None, (function.args.vararg, function.args.kwarg))]
    yield from (argument.arg for argument in arguments if argument.annotation is None)
    if function.returns is None:
        yield "its result"


def _raised(node: ast.AST) -> Iterator[tuple[str, int]]:
    """(name, line) of every error that is made and raised at once, outside methods that a protocol calls."""
    if isinstance(node, ast.Raise) and isinstance(node.exc, ast.Call | ast.Name):
        made = node.exc.func if isinstance(node.exc, ast.Call) else node.exc
        name = ast.unparse(made).split(".")[-1]
        if isinstance(node.exc, ast.Call) or name[0].isupper():
            yield name, node.lineno
    if not (isinstance(node, Function) and CALLED_BY_PROTOCOL.fullmatch(node.name)):
        for child in ast.iter_child_nodes(node):
            yield from _raised(child)
