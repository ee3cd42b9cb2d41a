"""A user's own networks: functions in their modules, ``package.module:function``.

Modules are found in the folders of the study files and in the one that the workflow is run in, else
among what is installed. Their own code counts as code of the workflow does: what it makes is made
anew when it changes.
"""

import ast
import hashlib
import importlib
import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from collapseflow.features.families.family import Family
from collapseflow.running.errors import UserError, did_you_mean

#: The environment variable with the folders of the study files, which all jobs inherit.
FOLDERS = "COLLAPSEFLOW_MODULES"


class Module(Family):
    """Functions ``function(n_classes)`` that give a network; a keyword ``image_size`` is told."""

    name = "a module"

    def takes(self, model):
        return ":" in model

    def require(self, model):
        _function(model)

    def code_of(self, model):
        return code_of(model)

    def build(self, model, n_classes, image_size):
        from torch import nn

        function, options = _function(model), {}
        if "image_size" in inspect.signature(function).parameters:
            options["image_size"] = image_size or self.usual_size(model)
        try:
            with _found():
                network = function(n_classes, **options)
        except Exception as error:
            # Whatever it is, it is the user's; that a value is missing is asked for without values.
            if isinstance(error, NotImplementedError) or "meta" in str(error):
                raise
            raise UserError(f"model: {model!r} raised {_in_one_line(error)}") from None
        if not isinstance(network, nn.Module):
            raise UserError(
                f"model: {model!r} gives {type(network).__name__}; allowed: a torch.nn.Module"
            )
        return network


def folders() -> list[Path]:
    """Where a user's modules are looked for: beside the study files, and here."""
    named = os.environ.get(FOLDERS, "").split(os.pathsep)
    return list(dict.fromkeys([*(Path(path).resolve() for path in named if path), Path.cwd()]))


def look_in(paths: list[Path]) -> None:
    """Let this process and all that it starts look for modules in some folders."""
    os.environ[FOLDERS] = os.pathsep.join(str(path.resolve()) for path in paths)


@contextmanager
def _found() -> Iterator[None]:
    """The users' folders before all others, but only while their module is imported."""
    before = list(sys.path)
    sys.path[:0] = map(str, folders())
    try:
        yield
    finally:
        sys.path[:] = before


def _function(model: str):
    """The function behind a model.

    Raises
    ------
    UserError
        If the module cannot be imported, or has no such function, or it takes no number of classes.
    """
    name, _, attribute = model.partition(":")
    try:
        with _found():
            module = importlib.import_module(name)
    except Exception as error:
        looked = ", ".join(map(str, folders()))
        missing = isinstance(error, ModuleNotFoundError) and name.startswith(error.name or " ")
        why = f"there is no module {name!r} in {looked}" if missing else _in_one_line(error)
        raise UserError(f"model: {model!r} cannot be imported: {why}") from None
    function = getattr(module, attribute, None)
    if not callable(function):
        known = [key for key, value in vars(module).items() if callable(value)]
        raise UserError(
            f"model: {name} has no function {attribute!r}; {did_you_mean(attribute, known)}"
            "allowed: package.module:function with function(n_classes)"
        )
    try:
        inspect.signature(function).bind(7)
    except TypeError:
        if not _takes_with_size(function):
            raise UserError(
                f"model: {model!r} is {attribute}{inspect.signature(function)}; allowed: "
                "function(n_classes) or function(n_classes, image_size)"
            ) from None
    return function


def _takes_with_size(function) -> bool:
    try:
        inspect.signature(function).bind(7, image_size=224)
    except TypeError:
        return False
    return True


def _in_one_line(error: Exception) -> str:
    """The kind of an error, its first line, and of a mistake in writing the place."""
    line = next(iter(str(error).splitlines()), "")
    return f"{type(error).__name__}: {line}" if line else type(error).__name__


@cache
def code_of(model: str) -> str:
    """A digest of the files of a user's module and of the modules beside it that it imports, all by
    their contents; empty where it is not in the users' folders, but installed.

    Nothing is imported: planning asks.
    """
    name = model.partition(":")[0]
    seen: dict[Path, str] = {}
    for folder in folders():
        waiting = list(_files(folder, name))
        while waiting:
            path, of = waiting.pop()
            if path in seen:
                continue
            content = path.read_bytes()
            seen[path] = f"{path.relative_to(folder)} {hashlib.sha256(content).hexdigest()}"
            for imported in _imports(content, of, path.name == "__init__.py"):
                waiting.extend(_files(folder, imported))
        if seen:
            break
    lines = "\n".join(sorted(seen.values()))
    return hashlib.sha256(lines.encode()).hexdigest()[:16] if seen else ""


def _files(folder: Path, name: str) -> Iterator[tuple[Path, str]]:
    """The files that importing a module reads, with the modules' names: also the packages around
    it."""
    parts = name.split(".")
    for n in range(1, len(parts) + 1):
        place = folder.joinpath(*parts[:n])
        for path in (place / "__init__.py", place.with_suffix(".py")):
            if path.is_file():
                yield path, ".".join(parts[:n])


def _imports(content: bytes, name: str, is_package: bool) -> Iterator[str]:
    """The modules that a file imports, anywhere in it; none of one that cannot be read."""
    try:
        tree = ast.parse(content)
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = name.split(".") if node.level else []
            above = above[: len(above) - node.level + is_package] if node.level else above
            module = ".".join([*above, *([node.module] if node.module else [])])
            yield module
            yield from (f"{module}.{alias.name}" for alias in node.names)
