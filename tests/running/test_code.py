"""The digest of a script changes with the code it runs, not with comments or layout."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from collapseflow.running import code
from collapseflow.study.products import PRODUCTS

SCRIPTS = Path(__file__).parents[2] / "workflow" / "scripts"
SCRIPT = '''"""A script."""

from collapseflow.alpha import double
from collapseflow.figures import plot

print(double(2), plot)
'''
ALPHA = '''"""Alpha."""

from collapseflow import beta


def double(x):
    """Twice x."""
    logger.info("twice %s", x)
    if FACTOR != 1:
        raise ValueError("no")
    start("collapseflow.worker", read("numbers.csv"))
    return beta.times(x, 2)


def halve(x: float) -> float:
    return x / 2


FACTOR = 1
'''
BETA = '''"""Beta."""


class Times:
    """A class."""


prepare()


def times(a: float, b=2) -> float:
    return a * b


def others(a):
    return a
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
    (root / "worker.py").write_text("print(1)\n")
    (root / "numbers.csv").write_text("89.65\n")
    (root / "unread.csv").write_text("1\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    monkeypatch.setattr(code, "PACKAGE", root)
    return root


def forget_all():
    for function in (code.digest, code.read_module, code.same_values):
        function.cache_clear()


def fresh_digest(script):
    """As another process would see it: without what was seen before."""
    forget_all()
    return code.digest(script)


@pytest.fixture(autouse=True)
def forget():
    yield
    forget_all()


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
        ("collapseflow/alpha.py", "FACTOR = 1", "FACTOR = 2"),
        ("collapseflow/beta.py", "a * b", "a + b"),
        ("collapseflow/beta.py", "b=2", "b=3"),
        ("collapseflow/beta.py", "prepare()", "prepare(1)"),
        ("collapseflow/figures/plot.py", "STYLE = 1", "STYLE = 2"),
        ("collapseflow/worker.py", "print(1)", "print(2)"),
        ("collapseflow/numbers.csv", "89.65", "89.66"),
    ],
    ids=[
        "script",
        "imported",
        "constant that the imported uses",
        "imported by the imported",
        "default value",
        "effect of an import",
        "module from a subpackage",
        "module started by its name",
        "file read by its name",
    ],
)
def test_the_digest_changes_with_the_code(package, file, old, new):
    script = package.parent / "script.py"
    before = fresh_digest(script)
    path = package.parent / file
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new))
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
        ("collapseflow/beta.py", "a: float", "a: int"),
        ("collapseflow/beta.py", "return a\n", "return 2 * a\n"),
        ("collapseflow/beta.py", "def others(a):\n    return a\n", ""),
        ("collapseflow/alpha.py", "x / 2", "x / 3"),
        ("collapseflow/alpha.py", "twice %s", "two times %s"),
        ("collapseflow/alpha.py", 'ValueError("no")', 'ValueError("never")'),
        ("collapseflow/unused.py", "x = 1", "x = 2"),
        ("collapseflow/unread.csv", "1", "2"),
    ],
    ids=[
        "docstring of the script",
        "comment and layout",
        "docstring of a function",
        "no docstring of a function",
        "docstring of a class",
        "no docstring of a module",
        "comment in a module",
        "annotation",
        "function that is not used",
        "no such function",
        "function of an imported module that is not used",
        "line for the log",
        "words of an error",
        "module that is not imported",
        "file that is not read",
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


def test_the_digest_of_a_script_that_is_told_a_function_starts_there_too(package):
    script = package.parent / "script.py"
    script.write_text("call()\n")

    def digests():
        forget_all()
        return code.digest(script), code.digest(script, "collapseflow.beta.times")

    alone, before = digests()
    assert alone != before
    path = package / "beta.py"
    path.write_text(BETA.replace("a * b", "a + b"))
    assert digests()[0] == alone and digests()[1] != before
    # Not with what stands beside it.
    path.write_text(BETA.replace("return a\n", "return 2 * a\n"))
    assert digests() == (alone, before)
    script.write_text("call(1)\n")
    assert digests()[1] != before


def test_imports_in_a_circle_come_to_an_end(package):
    path = package / "beta.py"
    path.write_text("from collapseflow import alpha\n" + path.read_text())
    assert fresh_digest(package.parent / "script.py")


def edited(tmp_path, monkeypatch, module, old, new):
    """A copy of this package in which one place of one file is another."""
    compiled = shutil.ignore_patterns("__pycache__")
    shutil.copytree(code.PACKAGE, tmp_path / "collapseflow", ignore=compiled)
    monkeypatch.setattr(code, "PACKAGE", tmp_path / "collapseflow")
    path = tmp_path / "collapseflow" / module
    content = path.read_text(encoding="utf-8")
    assert content.count(old) == 1
    path.write_text(content.replace(old, new), encoding="utf-8")


CHANGES = {
    "rate": ("training/optimisation.py", '"lr": recipe.', '"lr": 2 * recipe.'),
    "worker": ("training/worker.py", 'request["micro_batch"],', "8,"),
    "resizing": (
        "features/preprocessing.py",
        '"bilinear", align_corners=F',
        '"area", align_corners=F',
    ),
    "folding": ("features/reading.py", "before.users) > 1", "before.users) > 2"),
    "published": ("published/report_a_fig5.csv", "0.279", "0.280"),
    "NC1": ("measures/collapse.py", "(within / eigenvalues[kept]).sum() / s", "within.sum() / s"),
    "figure": ("presentation/figures/layers.py", "LETTERS = 48", "LETTERS = 40"),
    "material": ("presentation/material.py", "return self.layers[-1]", "return self.layers[0]"),
    "list": ("study/products.py", 'label="samples"', 'label="images"'),
}


def real_digests():
    """Of each script and of each table and figure, by its rule."""
    forget_all()
    scripts = {path.stem: code.digest(path) for path in SCRIPTS.glob("*.py")}
    present = SCRIPTS / "present.py"
    return scripts | {product.rule: code.digest(present, product.draw) for product in PRODUCTS}


@pytest.mark.parametrize("change", CHANGES)
def test_what_is_made_depends_on_the_code_that_it_uses_and_on_no_other(
    tmp_path, monkeypatch, change
):
    before = real_digests()
    edited(tmp_path, monkeypatch, *CHANGES[change])
    after = real_digests()
    changed = {name for name in before if before[name] != after[name]}
    networks = {"extract_network", "reduce_epochs"}
    expected = {
        "rate": {"finetune", "pretrain"},
        "worker": {"finetune", "pretrain"},
        "resizing": {"finetune", "pretrain", *networks},
        "folding": networks,
        "published": {"plot_accuracy_per_epoch", "plot_collapse", "plot_vectors"},
        # Not what reads features: measures follow from the statistics that are kept. Other figures
        # take their words from the table of quantities, and numbers from measures.csv.
        "NC1": {"collect_measures", "plot_geometry", "write_page"},
    }
    # Who uses the class of runs, uses it whole.
    expected["figure"] = {"plot_layers", "plot_probes", "plot_vectors"}
    expected["material"] = {"present", "collect_measures", "find", "write_page"}
    expected["material"] |= {product.rule for product in PRODUCTS}
    expected["list"] = set()
    assert changed == expected[change]


@pytest.mark.parametrize("python", ["python3.11", "python3.12", "python3.13", "python3.14"])
def test_digests_are_the_same_under_every_version_of_python(find_python, python):
    lines = [
        "from pathlib import Path",
        "from collapseflow.running import code",
        f"for script in sorted(Path({str(SCRIPTS)!r}).glob('*.py')): print(code.digest(script))",
        f"for draw in {[p.draw for p in PRODUCTS]!r}:",
        f"    print(code.digest(Path({str(SCRIPTS / 'present.py')!r}), draw))",
    ]
    environment = {**os.environ, "PYTHONPATH": str(code.PACKAGE.parent)}
    answer = subprocess.run(
        [find_python(python), "-c", "\n".join(lines)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = [fresh_digest(script) for script in sorted(SCRIPTS.glob("*.py"))]
    expected += [code.digest(SCRIPTS / "present.py", product.draw) for product in PRODUCTS]
    assert answer.stdout.split() == expected


@pytest.mark.parametrize("module", ["jobs", "errors", "files", "lease", "resume"])
def test_modules_on_which_no_value_depends_do_not_count(package, tmp_path, module):
    script = tmp_path / "script.py"
    script.write_text(SCRIPT + f"from collapseflow.running.{module} import one\n")
    path = package / "running" / f"{module}.py"
    path.parent.mkdir()
    path.write_text("def one(): ...\n")
    before = fresh_digest(script)
    path.write_text("def one(): return 1\n")
    assert fresh_digest(script) == before


def test_changed_code_keeps_its_digest_where_the_table_says_that_its_values_are_the_same(
    package, tmp_path, monkeypatch
):
    table = tmp_path / "same_values.csv"
    monkeypatch.setattr(code, "SAME_VALUES", table)
    table.write_text("script,digest,stands_for\n")
    script = package.parent / "script.py"
    before = fresh_digest(script)
    (package / "beta.py").write_text(BETA.replace("a * b", "b * a"))
    changed = fresh_digest(script)
    assert changed != before
    table.write_text(f"script,digest,stands_for\nother,{changed},0\nscript,{changed},{before}\n")
    assert fresh_digest(script) == before
    (package / "beta.py").write_text(BETA.replace("a * b", "a + b"))
    assert fresh_digest(script) not in (before, changed)


def test_the_table_of_equal_code_is_of_the_code_of_today():
    """Else training or reading was changed since: run benchmarks/same_values.py once more."""
    of_today = {s.stem: code.digest_of_text(s) for s in SCRIPTS.glob("*.py")}
    listed = {(script, of_today[script]) for script, _ in code.same_values()}
    assert set(code.same_values()) == listed
