"""The digest of a script changes with the code it runs, not with comments or layout."""

import shutil
from pathlib import Path

import pytest

from collapseflow import code

SCRIPTS = Path(__file__).parents[1] / "workflow" / "scripts"
SCRIPT = '''"""A script."""

from collapseflow.alpha import double
from collapseflow.figures import plot

print(double(2), plot)
'''
ALPHA = '''"""Alpha."""

from collapseflow import beta


def double(x):
    """Twice x."""
    return beta.times(x, 2)
'''
BETA = '''"""Beta."""


class Times:
    """A class."""


def times(a, b):
    return a * b
'''


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A small package in the place of collapseflow, and a script beside it."""
    root = tmp_path / "collapseflow"
    (root / "figures").mkdir(parents=True)
    (root / "__init__.py").write_text('"""Package."""\n')
    (root / "alpha.py").write_text(ALPHA)
    (root / "beta.py").write_text(BETA)
    (root / "figures" / "__init__.py").write_text('"""Figures."""\n')
    (root / "figures" / "plot.py").write_text("STYLE = 1\n")
    (root / "unused.py").write_text("x = 1\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setattr(code, "PACKAGE", root)
    return root


def fresh_digest(script):
    """As another process would see it: without what was seen before."""
    code.digest.cache_clear()
    code.read_module.cache_clear()
    return code.digest(script)


@pytest.fixture(autouse=True)
def forget():
    yield
    code.digest.cache_clear()
    code.read_module.cache_clear()


def test_a_digest_is_sixteen_hexadecimal_digits_and_stays(package):
    script = package.parent / "script.py"
    first = fresh_digest(script)
    assert len(first) == 16
    int(first, 16)
    assert fresh_digest(script) == first


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("script.py", "double(2)", "double(3)"),
        ("collapseflow/alpha.py", "x, 2", "x, 3"),
        ("collapseflow/beta.py", "a * b", "a + b"),
        ("collapseflow/figures/plot.py", "STYLE = 1", "STYLE = 2"),
        ("collapseflow/__init__.py", "", "x = 1\n"),
    ],
    ids=["script", "imported", "imported by the imported", "module from a subpackage", "init"],
)
def test_the_digest_changes_with_the_code(package, file, old, new):
    script = package.parent / "script.py"
    if file == "collapseflow/__init__.py":
        # Only who imports from the package itself runs its first file.
        script.write_text("from collapseflow import __version__\n" + SCRIPT)
    before = fresh_digest(script)
    path = package.parent / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new) if old else content + new)
    assert fresh_digest(script) != before
    path.write_text(content)
    assert fresh_digest(script) == before


@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("script.py", '"""A script."""', '"""Another text."""'),
        ("script.py", "print(double(2), plot)", "# A comment.\nprint(\n    double(2), plot\n)"),
        ("collapseflow/alpha.py", '"""Twice x."""', '"""x, times two."""'),
        ("collapseflow/alpha.py", '    """Twice x."""\n', ""),
        ("collapseflow/beta.py", '"""A class."""', '"""A class of its own."""'),
        ("collapseflow/beta.py", '"""Beta."""\n', ""),
        ("collapseflow/beta.py", "a * b", "(a * b)  # a product"),
        ("collapseflow/unused.py", "x = 1", "x = 2"),
    ],
    ids=[
        "docstring of the script",
        "comment and layout",
        "docstring of a function",
        "no docstring of a function",
        "docstring of a class",
        "no docstring of a module",
        "comment in a module",
        "module that is not imported",
    ],
)
def test_the_digest_stays_where_only_words_or_other_code_change(package, file, old, new):
    script = package.parent / "script.py"
    before = fresh_digest(script)
    path = package.parent / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
    assert fresh_digest(script) == before


def test_the_digest_does_not_depend_on_where_the_checkout_is(package, tmp_path, monkeypatch):
    before = fresh_digest(package.parent / "script.py")
    elsewhere = tmp_path / "another" / "place"
    shutil.copytree(package, elsewhere / "collapseflow")
    shutil.copy(package.parent / "script.py", elsewhere)
    monkeypatch.setattr(code, "PACKAGE", elsewhere / "collapseflow")
    assert fresh_digest(elsewhere / "script.py") == before


def test_imports_in_a_circle_come_to_an_end(package):
    path = package / "beta.py"
    path.write_text("from collapseflow import alpha\n" + path.read_text())
    assert fresh_digest(package.parent / "script.py")


@pytest.mark.parametrize(
    ("script", "module"),
    [
        ("extract_network.py", "networks.py"),
        ("finetune.py", "preprocessing.py"),
        ("measure_collapse.py", "extraction.py"),
        ("measure_collapse.py", "stores.py"),
    ],
)
def test_a_real_script_depends_on_what_its_imports_import(tmp_path, monkeypatch, script, module):
    shutil.copytree(code.PACKAGE, tmp_path / "collapseflow")
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "collapseflow")
    before = fresh_digest(SCRIPTS / script)
    changed = tmp_path / "collapseflow" / module
    changed.write_text(changed.read_text(encoding="utf-8") + "\nADDED = 1\n", encoding="utf-8")
    assert fresh_digest(SCRIPTS / script) != before


@pytest.mark.parametrize("module", ["jobs", "errors", "files", "lease", "resume"])
def test_modules_on_which_no_value_depends_do_not_count(package, tmp_path, module):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + f"from collapseflow.{module} import one\n")
    (package / f"{module}.py").write_text("def one(): ...\n")
    before = fresh_digest(script)
    (package / f"{module}.py").write_text("def one(): return 1\n")
    assert fresh_digest(script) == before
