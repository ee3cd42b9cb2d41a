"""The package as a library: built, and installed with its core dependencies and nothing else."""

import inspect
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib import import_module
from importlib.metadata import Distribution, distribution
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from packaging.requirements import Requirement
from sklearn.datasets import load_digits

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "library.md").read_text(encoding="utf-8")
#: No variable leads back to this checkout.
ALONE = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
PACKAGED = ("src", "pyproject.toml", "README.md", "LICENSE")


def run(*command, **options):
    answer = subprocess.run(command, capture_output=True, text=True, **options)
    assert answer.returncode == 0, answer.stdout + answer.stderr
    return answer.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy: building leaves files behind."""
    folder = tmp_path_factory.mktemp("built")
    for name in PACKAGED:
        if (ROOT / name).is_dir():
            # Another test may be writing compiled files.
            compiled = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=compiled)
        else:
            shutil.copy(ROOT / name, folder / name)
    for leftover in folder.glob("src/*.egg-info"):
        shutil.rmtree(leftover)
    pip = (sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation")
    run(*pip, "--wheel-dir", str(folder), str(folder))
    (built,) = folder.glob("*.whl")
    return built


def core(requirements):
    """The installed distributions that are required, and those that these require, by name."""
    found: dict[str, Distribution] = {}
    waiting = [Requirement(line) for line in requirements]
    while waiting:
        one = waiting.pop()
        extras = one.extras or {""}
        if one.marker and not any(one.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        installed = distribution(one.name)
        if one.name not in found:
            found[one.name] = installed
            waiting += [
                requirement
                for requirement in map(Requirement, installed.requires or [])
                if requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            ]
    return found


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The Python of an environment with the wheel and links to what it requires."""
    folder = tmp_path_factory.mktemp("installed")
    venv.create(folder, with_pip=False, symlinks=True)
    python = folder / "bin" / "python"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder)}))
    pip = (sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps")
    run(*pip, str(wheel))
    (metadata,) = packages.glob("collapseflow-*.dist-info")
    for one in core(Distribution.at(metadata).requires).values():
        for name in {file.parts[0] for file in one.files} - {"..", "__pycache__"}:
            (packages / name).symlink_to(one.locate_file(name))
    return python


def outside(python, code, folder):
    """What a program says in a folder of its own."""
    return run(str(python), "-c", code, cwd=folder, env=ALONE)


def test_the_wheel_has_all_that_is_read_and_says_that_it_is_typed(wheel):
    packed = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    source = {
        path.relative_to(ROOT / "src").as_posix()
        for path in (ROOT / "src" / "collapseflow").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert packed == source
    assert "collapseflow/py.typed" in packed


def test_what_is_installed_with_it_is_enough_and_has_no_workflow(installed, tmp_path):
    run(sys.executable, "-m", "pip", "--python", str(installed), "check")
    missing = outside(
        installed,
        "from importlib.util import find_spec\n"
        "print([n for n in ('snakemake', 'torch', 'jinja2', 'openTSNE') if find_spec(n)])",
        tmp_path,
    )
    assert missing == "[]\n"


def test_the_examples_run_with_it(installed, tmp_path):
    program = "\n".join(re.findall(r"^```python\n(.*?)^```", PAGE, flags=re.M | re.S))
    said = outside(installed, program, tmp_path).splitlines()
    numbers = [float(word) for word in said[0].split()]
    pixels, labels = load_digits(return_X_y=True)
    assert numbers == pytest.approx(dense(pixels[TRAINED], labels[TRAINED]), rel=1e-12)
    accuracies = dict(line.split() for line in said if line.startswith(("Linear", "Nearest")))
    assert float(accuracies["LinearProbe"]) > float(accuracies["NearestClassMean"]) > 0.85
    for name in ("curves.png", "geometry.pdf", "map.png"):
        assert (tmp_path / name).stat().st_size > 5_000


TRAINED = np.arange(1797) % 4 != 0


def dense(features, labels):
    """NC1, CDNV and the distance to the simplex by their formulas, from whole matrices."""
    classes = [features[labels == label] for label in range(10)]
    means = np.stack([part.mean(axis=0) for part in classes])
    centred = means - means.mean(axis=0)
    within = sum((part - mean).T @ (part - mean) for part, mean in zip(classes, means, strict=True))
    around = means - features.mean(axis=0)
    nc1 = np.trace(within / len(labels) @ np.linalg.pinv(around.T @ around / 10)) / 10
    spread = [part.var(axis=0).sum() for part in classes]
    cdnv = np.mean(
        [
            (spread[i] + spread[j]) / (2 * ((means[i] - means[j]) ** 2).sum())
            for i, j in combinations(range(10), 2)
        ]
    )
    gram = centred @ centred.T
    simplex = (np.eye(10) - 0.1) / 3
    return [nc1, cdnv, np.linalg.norm(gram / np.linalg.norm(gram) - simplex)]


def interface():
    """Modules of the page's table and names in them."""
    for place, words in re.findall(r"^\| `collapseflow\.([\w.]+)` \| (.*) \|$", PAGE, flags=re.M):
        module, _, last = place.rpartition(".")
        if last[0].isupper():
            yield module, last
        for name in re.findall(r"`(\w+)`", words):
            yield place, name


INTERFACE = list(interface())


@pytest.mark.parametrize(("module", "name"), INTERFACE)
def test_what_is_promised_is_there_with_its_types_and_words(module, name):
    one = getattr(import_module(f"collapseflow.{module}"), name)
    assert one.__doc__
    functions = [one]
    if isinstance(one, type):
        public = [name for name in vars(one) if name == "__init__" or name[0] != "_"]
        functions = [vars(one)[name] for name in public if inspect.isfunction(vars(one)[name])]
    for function in functions:
        signature = inspect.signature(function)
        untyped = [
            parameter.name
            for parameter in signature.parameters.values()
            if parameter.annotation is parameter.empty and parameter.name != "self"
        ]
        assert not untyped and signature.return_annotation is not signature.empty


@pytest.mark.parametrize(("command", "library"), [("plan", "snakemake"), ("layers", "torch")])
def test_a_command_that_needs_more_says_what(installed, tmp_path, command, library):
    words = [installed, "-m", "collapseflow", command]
    answer = subprocess.run(words, cwd=tmp_path, env=ALONE, capture_output=True, text=True)
    line = f"{library}: not installed; in a checkout, pip install '.[workflow]' does it\n"
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, line, "")


LARGE = {"torch", "torchvision", "snakemake", "sklearn", "pandas", "matplotlib"}
LOADED = {
    "measures.probes": {"sklearn", "pandas"},
    "rows": {"sklearn", "pandas"},
    "figures": {"sklearn", "pandas", "matplotlib"},
}


@pytest.mark.parametrize(
    "module", sorted({module for module, _ in INTERFACE} | {"measures.collapse"})
)
def test_an_import_brings_none_of_the_large_libraries_that_it_does_not_need(module):
    names = [name for of_module, name in INTERFACE if of_module == module] or ["nc1"]
    code = f"""if True:
        import sys
        from collapseflow.{module} import {", ".join(names)}
        print(*[library for library in {LARGE} if library in sys.modules])
    """
    assert set(run(sys.executable, "-c", code).split()) <= LOADED.get(module, set())
