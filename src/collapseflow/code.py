"""A digest of the code behind a script, for Snakemake's decision to run a job again.

Snakemake itself looks at the script file only, by its time of change: it misses changes in the
package and reruns everything after a fresh checkout. The digest covers the script and each module
of this package that it imports, and leaves out comments, docstrings, layout and the modules that
no value depends on.
"""

import ast
import hashlib
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).parent
#: Modules that report and write, and on which no value depends.
WITHOUT_EFFECT = ("jobs.py", "errors.py", "files.py", "lease.py", "resume.py", "cards.py")


@cache
def digest(script: Path) -> str:
    """Sixteen hexadecimal digits that change when the code that ``script`` runs changes."""
    seen: dict[str, str] = {}
    waiting = [script]
    while waiting:
        path = waiting.pop()
        key = "script" if path == script else path.relative_to(PACKAGE).as_posix()
        if key in seen or key in WITHOUT_EFFECT:
            continue
        seen[key], imported = read_module(path)
        waiting.extend(imported)
    content = "\n".join(f"{key}: {seen[key]}" for key in sorted(seen))
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@cache
def read_module(path: Path) -> tuple[str, list[Path]]:
    """A file's code, and the modules of this package that it imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return ast.dump(_without_docstrings(tree)), _imported(tree)


def _without_docstrings(tree: ast.Module) -> ast.Module:
    for node in ast.walk(tree):
        documented = ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
        if isinstance(node, documented) and ast.get_docstring(node, clean=False) is not None:
            node.body = node.body[1:]
    return tree


def _imported(tree: ast.Module) -> list[Path]:
    names = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module:
            names.append(node.module)
            names.extend(f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Import):
            names.extend(alias.name for alias in node.names)
    files = []
    for name in names:
        if name.split(".")[0] == PACKAGE.name:
            path = PACKAGE.joinpath(*name.split(".")[1:])
            files += [f for f in (path.with_suffix(".py"), path / "__init__.py") if f.is_file()]
    return files
