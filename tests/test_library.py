"""The package as a library: built, and installed with its core dependencies and nothing else."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from importlib.metadata import Distribution, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parent.parent
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
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, folder / name)
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
    """What a program says in a folder of its own, which no variable leads back from."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    return run(str(python), "-c", code, cwd=folder, env=environment)


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


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["plan"], "snakemake: not installed; it comes with pip install 'collapseflow[workflow]'"),
        (["layers"], "torch: not installed; it comes with pip install 'collapseflow[workflow]'"),
    ],
)
def test_a_command_that_needs_more_says_what(installed, tmp_path, words, line):
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
    answer = subprocess.run(
        [installed, "-m", "collapseflow", *words],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert (answer.returncode, answer.stdout, answer.stderr) == (1, f"{line}\n", "")


@pytest.mark.parametrize("name", ["", ".measures", ".measures.collapse", ".features.stores"])
def test_what_is_imported_brings_none_of_the_large_libraries(name):
    code = f"""if True:
        import sys
        import collapseflow{name}
        large = ("torch", "torchvision", "sklearn", "pandas", "matplotlib", "snakemake")
        print([library for library in large if library in sys.modules])
    """
    assert run(sys.executable, "-c", code) == "[]\n"
