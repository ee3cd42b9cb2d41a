"""A digest of the code that decides what a script makes, for Snakemake's decision to run it again.

Snakemake itself looks at the script file only, by its time of change: it misses changes in the
package and reruns everything after a fresh checkout. The digest covers the script and each
function, class and constant of this package that it uses, directly or through others; a module
that is started by its name (``python -m``); and files of the package that are read by theirs. It
leaves out what no value depends on: comments, docstrings, layout, annotations of functions, what
is logged, the words of errors. It is the same under every version of Python.

Versions of libraries are not part of it: an upgrade computes nothing anew, and each result says
which versions made it (:func:`collapseflow.running.files.versions`).

Code that was changed and still gives the same values keeps the digest that it had, so that nothing
is trained, read or reduced anew: ``same_values.csv`` says so for one state of the code, and
``benchmarks/same_values.py`` writes it, after both have run and all values were equal.
"""

import ast
import csv
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent.parent
#: Modules that report and write, and on which no value depends.
WITHOUT_EFFECT = tuple(
    f"running/{name}.py" for name in ("jobs", "errors", "files", "lease", "resume", "cards", "stop")
)
#: By script: a digest, and the one that stands for it because the values are the same.
SAME_VALUES = Path(__file__).with_name("same_values.csv")
#: Stands for all definitions of a module.
EVERYTHING = "*"
#: Parts of a syntax tree that say nothing about values, or that only some versions of Python have.
SILENT = {"ctx", "kind", "returns", "type_comment", "type_params"}

Use = tuple[Path, str]


@cache
def digest(script: Path, *functions: str) -> str:
    """Sixteen hexadecimal digits that change when what ``script`` makes may have other values.

    Parameters
    ----------
    functions
        Those of this package that the script is told to call, by their whole names.
    """
    found = digest_of_text(script, *functions)
    return same_values().get((script.stem, found), found)


@cache
def same_values() -> dict[tuple[str, str], str]:
    """By script and digest, the digest of earlier code that has given the same values."""
    with SAME_VALUES.open(encoding="utf-8", newline="") as file:
        return {(row["script"], row["digest"]): row["stands_for"] for row in csv.DictReader(file)}


def digest_of_text(script: Path, *functions: str) -> str:
    """Sixteen hexadecimal digits that change when the code behind what ``script`` makes does, with
    that of functions that it is told to call."""
    content: dict[tuple[str, int], str] = {}
    seen: set[Use] = set()
    waiting: list[Use] = [(script, EVERYTHING)]
    for function in functions:
        module, _, name = function.rpartition(".")
        waiting.append((_module_file(module), name))
    while waiting:
        use = waiting.pop()
        if use in seen:
            continue
        seen.add(use)
        path, name = use
        key = "script" if path == script else path.relative_to(PACKAGE).as_posix()
        if key in WITHOUT_EFFECT:
            continue
        if path.suffix != ".py":
            content[key, 0] = hashlib.sha256(path.read_bytes()).hexdigest()
            continue
        for part in read_module(path).parts(name):
            content[key, part.position] = part.text
            waiting.extend(part.uses)
    ordered = "\n".join(f"{key}: {content[key, n]}" for key, n in sorted(content))
    return hashlib.sha256(ordered.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Part:
    """One statement at the top of a module.

    Attributes
    ----------
    position : its number in the file
    text : what it does, in a form that is the same under every version of Python
    uses : what it refers to in this package: a module's file and a name in it, or a data file
    """

    position: int
    text: str
    uses: tuple[Use, ...]


@dataclass
class Module:
    """The statements of a file: those that define a name, and those that only do something."""

    definitions: dict[str, list[Part]] = field(default_factory=dict)
    effects: list[Part] = field(default_factory=list)

    def parts(self, name: str) -> Iterator[Part]:
        """What defines ``name``, and what importing the module does in any case."""
        yield from self.effects
        if name == EVERYTHING:
            for parts in self.definitions.values():
                yield from parts
        else:
            yield from self.definitions.get(name, ())


@cache
def read_module(path: Path) -> Module:
    """A file's statements with what they use."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = _imported(tree)
    defined = {name for statement in tree.body for name in _bound(statement)}
    module = Module()
    files = (file for file in path.parent.iterdir() if file.is_file() and file.suffix != ".py")
    beside = {file.name for file in files}
    for position, statement in enumerate(tree.body):
        if _says_nothing(statement):
            continue
        uses = _uses(statement, path, defined, imported, beside)
        part = Part(position, _text(statement), tuple(uses))
        names = _bound(statement)
        for name in names:
            module.definitions.setdefault(name, []).append(part)
        if not names:
            module.effects.append(part)
    return module


def _bound(statement: ast.stmt) -> set[str]:
    """The names that a statement at the top of a module gives a meaning."""
    if isinstance(statement, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
        return {statement.name}
    names = set()
    for node in ast.walk(statement):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
    return names


# --- the form of a statement ------------------------------------------------------------------


def _text(node: object) -> str:
    """A syntax tree as text: kinds and values, without what is empty or says nothing."""
    if isinstance(node, ast.Constant):
        return repr(node.value)
    if isinstance(node, ast.Raise):
        return "raise"
    if isinstance(node, ast.AST):
        parts = []
        for name in sorted(node._fields):
            value = getattr(node, name, None)
            if name in SILENT or (name == "annotation" and isinstance(node, ast.arg)):
                continue
            if isinstance(value, list):
                value = [child for child in value if not _says_nothing(child)]
            if value is not None and value != []:
                parts.append(f"{name}={_text(value)}")
        return f"{type(node).__name__}({', '.join(parts)})"
    if isinstance(node, list):
        return f"[{', '.join(map(_text, node))}]"
    return repr(node)


def _says_nothing(node: object) -> bool:
    """Whether a statement is a docstring or other text, an import, or a line for the log."""
    if isinstance(node, ast.Import | ast.ImportFrom):
        return True
    call = node.value if isinstance(node, ast.Expr) else None
    return _is_text(node) or (
        isinstance(call, ast.Call)
        and isinstance(call.func, ast.Attribute)
        and isinstance(call.func.value, ast.Name)
        and call.func.value.id == "logger"
    )


def _is_text(node: object) -> bool:
    return (
        isinstance(node, ast.Expr)
        and isinstance(node.value, ast.Constant)
        and isinstance(node.value.value, str)
    )


# --- what a statement uses --------------------------------------------------------------------


def _imported(tree: ast.Module) -> dict[str, list[Use]]:
    """Names that imports give to modules of this package and to what is in them, anywhere in a
    file."""
    names: dict[str, list[Use]] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = _module_file(f"{node.module}.{alias.name}")
                parent = _module_file(node.module)
                use = (submodule, EVERYTHING) if submodule else parent and (parent, alias.name)
                if use:
                    names.setdefault(alias.asname or alias.name, []).append(use)
        elif isinstance(node, ast.Import):
            for alias in node.names:
                if path := _module_file(alias.name):
                    name = alias.asname or alias.name.split(".")[0]
                    names.setdefault(name, []).append((path, EVERYTHING))
    return names


def _module_file(name: str) -> Path | None:
    """The file of a module of this package."""
    first, *rest = name.split(".")
    if first != PACKAGE.name or not all(part.isidentifier() for part in rest):
        return None
    path = PACKAGE.joinpath(*rest)
    files = (path / "__init__.py", path.with_suffix(".py")) if rest else (path / "__init__.py",)
    return next((file for file in files if file.is_file()), None)


def _uses(
    statement: ast.stmt,
    path: Path,
    defined: set[str],
    imported: dict[str, list[Use]],
    beside: set[str],
) -> Iterator[Use]:
    """What a statement refers to: in its own module, in others, and by name in a string."""
    waiting: list[ast.AST] = [statement]
    while waiting:
        node = waiting.pop()
        if _says_nothing(node) or isinstance(node, ast.Raise):
            continue
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            for file, name in imported.get(node.value.id, ()):
                yield (file, node.attr if name == EVERYTHING else name)
            if node.value.id in defined:
                yield path, node.value.id
            continue
        if isinstance(node, ast.Name):
            yield from imported.get(node.id, ())
            if node.id in defined:
                yield path, node.id
            elif node.id == "globals":
                yield path, EVERYTHING
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            # A module that is started by its name, a file that is read by its.
            if node.value in beside:
                yield path.parent / node.value, EVERYTHING
            elif module := _module_file(node.value):
                yield module, EVERYTHING
        for name, value in ast.iter_fields(node):
            if name in SILENT or (name == "annotation" and isinstance(node, ast.arg)):
                continue
            children = value if isinstance(value, list) else [value]
            waiting.extend(child for child in children if isinstance(child, ast.AST))
