"""``make run`` and ``make test`` with a Python that only notes what it is asked to install."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
RUN_PACKAGES = ["--requirement requirements.lock", "--no-deps --editable ."]
TEST_PACKAGES = ["--requirement requirements-test.lock"]
TOOLS = ["snakemake", "ruff", "snakefmt", "pytest"]
OLD = [
    path
    for path in sorted(Path.home().glob(".pyenv/versions/*/bin/python"))
    if path.parents[1].name.startswith(("2.", "3.6.", "3.7.", "3.8.", "3.9.", "3.10."))
]

# Answers questions as the real one with another version number, makes environments of itself, and
# instead of pip runs `pip-does`.
PYTHON = """#!/bin/sh
case "$1 $2" in
"-c "*_base_executable*) echo "$0" ;;
"-c "*) exec {real} -c "import sys; sys.version_info = {version}; $2" ;;
"-m venv") mkdir -p $3/bin && touch $3/pyvenv.cfg && cp "$0" $3/bin/python
    for tool in {tools}; do
        printf '#!/bin/sh\\necho %s "$@" >> did\\n' $tool > $3/bin/$tool
        chmod +x $3/bin/$tool
    done ;;
"-m pip") shift 5; echo "$@" >> installed; . ./pip-does ;;
esac
"""


class Clone:
    """A folder with what `make` needs, and stand-ins for Python and pip."""

    def __init__(self, folder):
        self.folder = folder
        for name in ("Makefile", "pyproject.toml", "requirements.lock", "requirements-test.lock"):
            shutil.copy(ROOT / name, folder / name)
        (folder / "pip-does").touch()
        self.venv = folder / ".venv"
        self.mark = self.venv / "mark"

    def python(self, version, name="python"):
        """An executable that takes itself for this version of Python."""
        path = self.folder / name
        path.write_text(PYTHON.format(real=sys.executable, version=version, tools=" ".join(TOOLS)))
        path.chmod(0o755)
        return path

    def make(self, *words, python="./python"):
        """Run `make`; ``installed`` and ``did`` of the answer are what pip and the tools were."""
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("MAKE", "MFLAGS"))}
        for name in ("installed", "did"):
            (self.folder / name).unlink(missing_ok=True)
        answer = subprocess.run(
            ["make", *words, *([f"PYTHON={python}"] if python else [])],
            cwd=self.folder,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
            start_new_session=True,  # what `kill 0` of a stand-in ends
        )
        for name in ("installed", "did"):
            path = self.folder / name
            setattr(answer, name, path.read_text().splitlines() if path.exists() else [])
        return answer

    def pip_does(self, command):
        (self.folder / "pip-does").write_text(command)

    def content(self):
        return sorted(str(p.relative_to(self.folder)) for p in self.folder.rglob("*"))


@pytest.fixture
def clone(tmp_path):
    clone = Clone(tmp_path)
    clone.python((3, 12, 1))
    return clone


def refused_in_one_line(answer, *words):
    assert answer.returncode != 0 and answer.stdout == ""
    assert len(answer.stderr.splitlines()) == 1, answer.stderr
    for word in words:
        assert word in answer.stderr
    return True


@pytest.mark.parametrize("command", ["run", "test"])
def test_a_python_too_old_is_refused_before_anything_is_made(clone, command):
    clone.python((3, 10, 13))
    before = clone.content()
    answer = clone.make(command)
    assert refused_in_one_line(
        answer, "./python is Python 3.10.13", "3.11 or newer", f"make {command} PYTHON=python3.12"
    )
    assert clone.content() == before


@pytest.mark.parametrize("python", OLD, ids=lambda path: path.parents[1].name)
def test_real_old_pythons_understand_the_question(clone, python):
    before = clone.content()
    answer = clone.make("run", python=python)
    assert refused_in_one_line(answer, f"is Python {python.parents[1].name}", "3.11 or newer")
    assert clone.content() == before


def test_a_python_that_is_not_there_is_one_line(clone):
    answer = clone.make("run", python="./python9")
    assert refused_in_one_line(answer, "./python9 is not there", "make run PYTHON=")
    assert not clone.venv.exists()


def test_a_run_installs_what_runs_once_and_shows_the_study(clone):
    answer = clone.make("run", "CORES=3", "CONFIG=mine.yaml")
    assert answer.returncode == 0, answer.stderr
    assert answer.installed == RUN_PACKAGES
    assert answer.did == ["snakemake --cores 3 --configfile mine.yaml --quiet reason"]
    again = clone.make("run")
    assert again.installed == [] and len(again.did) == 1


def test_tests_after_a_run_add_what_tests_and_the_run_after_them_nothing(clone):
    clone.make("run")
    answer = clone.make("test")
    assert answer.returncode == 0, answer.stderr
    assert answer.installed == TEST_PACKAGES and answer.did[-1] == "pytest"
    assert clone.make("test").installed == clone.make("run").installed == []


def test_tests_first_install_both(clone):
    assert clone.make("test").installed == RUN_PACKAGES + TEST_PACKAGES
    assert clone.make("run").installed == clone.make("test").installed == []


def test_a_finished_environment_is_used_whatever_python3_is(clone):
    clone.make("run")
    clone.mark.touch()
    for python in ("./python9", clone.python((3, 8, 18), "old"), clone.python((3, 13, 0), "new")):
        answer = clone.make("run", python=python)
        assert answer.returncode == 0 and answer.installed == [] and len(answer.did) == 1
    assert clone.mark.exists()


@pytest.mark.parametrize("end", ["exit 1", "kill -9 0"], ids=["failed", "killed"])
def test_an_environment_that_was_never_finished_is_begun_anew(clone, end):
    clone.pip_does(end)
    answer = clone.make("run")
    assert answer.returncode != 0 and answer.did == []
    clone.mark.touch()
    clone.pip_does("")
    answer = clone.make("run")
    assert answer.returncode == 0 and answer.installed == RUN_PACKAGES
    assert not clone.mark.exists()
    assert clone.make("run").installed == []


def test_an_environment_of_an_old_python_is_begun_anew(clone):
    clone.make("run", python=clone.python((3, 12, 1), "another"))
    clone.mark.touch()
    clone.python((3, 8, 18), ".venv/bin/python")
    assert refused_in_one_line(clone.make("run", python="./python9"), "./python9 is not there")
    assert clone.mark.exists()
    assert clone.make("run").installed == RUN_PACKAGES
    assert not clone.mark.exists()


def test_an_environment_whose_python_has_gone_is_begun_anew_with_what_tests(clone):
    clone.make("test")
    (clone.venv / "bin" / "python").unlink()
    answer = clone.make("test")
    assert answer.returncode == 0 and answer.installed == RUN_PACKAGES + TEST_PACKAGES


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_a_changed_lock_file_is_followed_in_place(clone, lock):
    clone.make("test")
    clone.mark.touch()
    (clone.folder / lock).touch()
    clone.pip_does("exit 1")
    assert clone.make("test", python="./python9").returncode != 0
    clone.pip_does("")
    answer = clone.make("test", python="./python9")
    expected = TEST_PACKAGES if "test" in lock else RUN_PACKAGES + TEST_PACKAGES
    assert answer.returncode == 0 and answer.installed == expected
    assert clone.mark.exists()


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-test.lock"])
def test_an_environment_whose_renewal_was_killed_is_begun_anew(clone, lock):
    clone.make("test")
    clone.mark.touch()
    (clone.folder / lock).touch()
    clone.pip_does("kill -9 0")
    assert clone.make("test").returncode != 0
    clone.pip_does("")
    assert clone.make("run").installed == RUN_PACKAGES
    assert not clone.mark.exists()


def test_an_environment_of_one_s_own_is_installed_into(clone):
    subprocess.run(["./python", "-m", "venv", ".venv"], cwd=clone.folder, check=True)
    clone.mark.touch()
    for end, status in (("exit 1", 2), ("", 0)):
        clone.pip_does(end)
        assert clone.make("run").returncode == status
        assert clone.mark.exists()


def test_a_folder_that_is_no_environment_is_left_alone(clone):
    clone.venv.mkdir()
    clone.mark.write_text("mine")
    assert refused_in_one_line(clone.make("run"), ".venv is no environment of Python")
    assert clone.mark.read_text() == "mine"


def test_a_python_that_makes_no_environments_leaves_nothing_behind(clone):
    path = clone.folder / "python"
    path.write_text(path.read_text().replace('"-m venv") ', '"-m venv") mkdir $3/bin; exit 1; '))
    assert clone.make("run").returncode != 0
    assert not clone.venv.exists()
