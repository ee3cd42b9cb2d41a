"""What `make` does with Pythons and environments; stubs stand for what would install gigabytes."""

import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
LOCKS = ("requirements.lock", "requirements-test.lock", "requirements-interop.lock")
FILES = ("Makefile", "pyproject.toml", *LOCKS)
STUB = """#!{shell}
echo "$(basename $0) $*" >> {log}
case "$*" in
    -c*sys.version_info*)
        exec {python} -c "import sys; sys.version_info = {version}; exec(sys.argv[1])" "$2" ;;
    "-m venv "*)
        for venv; do :; done
        rm -rf $venv; mkdir -p $venv/bin; touch $venv/pyvenv.cfg
        for name in python pip snakemake ruff snakefmt pytest; do cp "$0" $venv/bin/$name; done ;;
    install*) test ! -e no-network ;;
esac
"""


@pytest.fixture
def make(tmp_path):
    """A function that runs `make` in a copy of the project's files with a stub for Python."""
    for name in FILES:
        shutil.copy(ROOT / name, tmp_path)
    log = tmp_path / "log"

    def run(target, version=(3, 11, 0), python=None):
        log.write_text("")
        stub = tmp_path / "stub-python"
        stub.write_text(
            STUB.format(shell="/bin/sh", log=log, python=sys.executable, version=version)
        )
        stub.chmod(0o755)
        return subprocess.run(
            ["make", target, f"PYTHON={python or stub}"],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
            env={k: v for k, v in os.environ.items() if not k.startswith("MAKE")},
        )

    run.did = lambda word: [line for line in log.read_text().splitlines() if word in line]
    return run


def renew(lock):
    """Makes a lock file newer than the installation, by more than a tick of a clock."""
    installed = lock.parent / ".venv" / "installed"
    a_second_before = lock.stat().st_mtime_ns - 10**9
    os.utime(installed, ns=(a_second_before, a_second_before))


def test_an_old_python_is_refused_in_one_line_and_leaves_nothing(make, tmp_path):
    answer = make("run", version=(3, 10, 4))
    assert answer.returncode != 0
    said = [line for line in answer.stderr.splitlines() if not line.startswith("make:")]
    assert said == [
        f"collapseflow needs Python 3.11 or newer; {sys.executable} is 3.10: "
        "give another, such as make run PYTHON=python3.12"
    ]
    assert answer.stdout == ""
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("version", ["2.7", "3.6", "3.8"])
def test_real_old_pythons_can_say_that_they_are_too_old(make, tmp_path, find_python, version):
    answer = make("run", python=find_python(f"python{version}"))
    assert answer.returncode != 0
    assert f"is {version}: give another" in answer.stderr.splitlines()[0]
    assert not (tmp_path / ".venv").exists()


def test_running_installs_what_runs_and_testing_what_tests(make):
    assert make("run").returncode == 0
    assert len(make.did("-m venv")) == 1
    assert make.did("--requirement requirements.lock")
    assert not make.did("requirements-test.lock")
    assert make("test").returncode == 0
    assert make.did("requirements-test.lock")
    assert not make.did("-m venv") and not make.did("--requirement requirements.lock")
    for target in ("run", "test"):
        assert make(target).returncode == 0
        assert not make.did("install") and not make.did("-m venv")


def test_other_libraries_are_installed_beside_what_is_there_and_only_for_their_tests(make):
    assert make("test").returncode == 0
    assert not make.did("interop")
    assert make("test-interop").returncode == 0
    *installed, tested = make.did("interop")
    assert installed == [
        "python -m venv --clear .venv-interop",
        "pip install --quiet --require-hashes --requirement requirements-interop.lock",
    ]
    assert tested.startswith("python -m pytest tests/interop ")
    assert make("test-interop").returncode == 0
    assert make.did("") == [tested]


def test_what_is_installed_is_taken_over_into_the_environment_of_other_libraries(tmp_path):
    name = "TAKE_WHAT_IS_INSTALLED"
    (code,) = re.findall(rf"define {name}\n(.*?)endef", (ROOT / "Makefile").read_text(), re.DOTALL)
    for folder in (tmp_path / "base", tmp_path / "top"):
        venv.create(folder, with_pip=False)
    packages = next((tmp_path / "base").glob("lib/python*/site-packages"))
    (packages / "there.py").touch()
    # As an editable installation is.
    (packages / "elsewhere.pth").write_text(f"{tmp_path}\n")
    (tmp_path / "editable.py").touch()
    python = tmp_path / "top" / "bin" / "python"
    subprocess.run([python, "-c", code, "base"], cwd=tmp_path, check=True)
    subprocess.run([python, "-Ic", "import there, editable"], cwd="/", check=True)


def test_checks_of_a_card_take_the_python_that_is_given_as_it_is(make):
    assert make("test-gpu").returncode == 0
    (call,) = make.did("")
    assert call.startswith("stub-python -m pytest tests/gpu ")


def test_an_installation_that_did_not_end_is_started_clean(make, tmp_path):
    (tmp_path / "no-network").touch()
    assert make("run").returncode != 0
    (tmp_path / "no-network").unlink()
    (tmp_path / ".venv" / "half").touch()
    assert make("run").returncode == 0
    assert len(make.did("-m venv --clear")) == 1
    assert not (tmp_path / ".venv" / "half").exists()


@pytest.mark.parametrize("damage", ["too old", "gone"])
def test_an_environment_whose_python_cannot_be_used_is_started_clean(make, tmp_path, damage):
    make("run")
    python = tmp_path / ".venv" / "bin" / "python"
    if damage == "gone":
        python.unlink()
    else:
        python.write_text(python.read_text().replace("(3, 11, 0)", "(3, 9, 0)"))
    renew(tmp_path / "requirements.lock")
    assert make("run").returncode == 0
    assert len(make.did("-m venv --clear")) == 1


def test_another_lock_file_is_installed_into_the_environment_that_is_there(make, tmp_path):
    make("run")
    renew(tmp_path / "requirements.lock")
    assert make("run").returncode == 0
    assert make.did("--requirement requirements.lock") and not make.did("-m venv")


def test_a_folder_that_is_no_environment_is_left_alone(make, tmp_path):
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / "mine").touch()
    answer = make("run")
    assert answer.returncode != 0
    assert answer.stderr.splitlines()[0] == ".venv is no virtual environment: move it away"
    assert (tmp_path / ".venv" / "mine").exists()
