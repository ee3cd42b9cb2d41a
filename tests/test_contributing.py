"""CONTRIBUTING.md: its examples, put into a copy of the package, are all that is needed."""

import ast
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent, indent

import pandas as pd
import pytest

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```", PAGE, flags=re.M | re.S)
#: What the examples are put into.
COPIED = ("src", "workflow", "tests", "Snakefile", "pyproject.toml")


def parts_of(text):
    """The examples in a part of the page: file, place in it, code."""
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.M | re.S):
        if language == "python":
            head, _, code = block.partition("\n")
            path, _, place = head.removeprefix("# ").partition(", ")
            yield path, place, code


def put(root, path, place, code):
    """Put an example where its first line says: a new file, the end of one, or a place in it."""
    file = root / path
    text = file.read_text() if file.exists() else ""
    if not place:
        file.write_text(f"{text}\n\n{code}" if text else code)
        return
    lines = text.splitlines(keepends=True)
    row, column = _find(ast.parse(text), place)
    if place.startswith("above "):
        while lines[row - 1].startswith("#"):
            row -= 1
    before, after = lines[row][:column], lines[row][column:]
    code = indent(dedent(code), " " * column).lstrip()
    lines[row] = f"{before}{code}{' ' * column}{after}"
    file.write_text("".join(lines))


def _find(tree, place):
    """The row, from 0, and the column of a place: ``at the top``, ``above NAME``, ``in NAME``."""
    if place == "at the top":
        return tree.body[1].lineno - 1, 0
    where, name = place.split()
    for node in tree.body:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        names = [getattr(target, "id", None) for target in targets] + [getattr(node, "name", None)]
        if name not in names:
            continue
        if where == "above":
            return node.lineno - 1, 0
        if isinstance(node, ast.FunctionDef):
            inner = node.body
        else:
            value = node.value
            value = value.generators[0].iter if isinstance(value, ast.DictComp) else value
            inner = value.keys if isinstance(value, ast.Dict) else value.elts
        return inner[0].lineno - 1, inner[0].col_offset
    pytest.fail(f"there is no {name}")


def run(folder, *words):
    """Run a command in a folder of the copy, with the copy's package."""
    root = folder if (folder / "src").exists() else folder.parent
    environment = {**os.environ, "PYTHONPATH": str(root / "src"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", *words]
    answer = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]
    return answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """A copy of the package with all examples in it."""
    root = tmp_path_factory.mktemp("contributed")
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, root / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, root)
    for part in parts_of(PAGE):
        put(root, *part)
    return root


def test_the_tests_of_the_examples_pass(copy):
    tests = [
        f"{path}::{name}"
        for path, _, code in parts_of(PAGE)
        if path.startswith("tests/")
        for name in re.findall(r"^def (test_\w+)", code, flags=re.M)
    ]
    assert len(tests) == PAGE.count("\n## A") - 1
    assert f"{len(tests)} passed" in run(copy, "pytest", "-q", *tests)


def test_the_study_with_all_examples_has_what_they_add(copy):
    study = copy / "study"
    study.mkdir()
    (content,) = (block for language, block in BLOCKS if language == "yaml")
    (command,) = (block for language, block in BLOCKS if language == "sh")
    (study / "mine.yaml").write_text(content)
    run(study, *shlex.split(command), "--snakefile", str(copy / "Snakefile"))
    results = study / "results" / "mine"
    assert (results / "figures" / "class_sizes_stripes.png").exists()
    sizes = pd.read_csv(results / "tables" / "class_sizes_stripes.csv")
    assert sizes.to_numpy().tolist() == [["lying", 80, 20], ["standing", 80, 20]]
    measures = pd.read_csv(results / "measures.csv")
    assert {"accuracy_median", "zeros"} <= set(measures["quantity"])


def test_files_and_lines_are_counted():
    rows = re.findall(r"^\| \[(an? [\w ]+)\]\(#[\w-]+\) \| (\d+) \| (\d+) \|", PAGE, flags=re.M)
    counted = {}
    for heading, text in re.findall(r"^## (An? [\w ]+)\n(.*?)(?=^## |\Z)", PAGE, flags=re.M | re.S):
        code = [part for part in parts_of(text) if not part[0].startswith("tests/")]
        if code:
            lines = [line for _, _, block in code for line in block.splitlines() if line.strip()]
            counted[heading.lower()] = (str(len({path for path, _, _ in code})), str(len(lines)))
    assert {name: (files, lines) for name, files, lines in rows} == counted


def test_what_says_that_a_part_is_missing_is_there():
    named = re.findall(r"\| `(tests/[\w/]+\.py)` \|$", PAGE, flags=re.M)
    assert len(named) == 7
    assert all((ROOT / path).exists() for path in named)
