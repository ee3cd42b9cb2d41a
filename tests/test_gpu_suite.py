"""The suite for machines with cards: what it repeats, skips and tells; stubs stand for its jobs."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SUITE = Path(__file__).parent / "gpu"
JOBS = """
import json, pathlib, sys
answers = {
    "describe": {"name": "a card", "count": 1},
    "compare": {"difference": 3},
    "scatter": {"missing": "kymatio"},
}
with open("asked", "a") as file:
    print(sys.argv[1], file=file)
print(json.dumps({**answers[sys.argv[1]], "log": []}))
"""
CHECKS = """
import pytest

def test_numbers_agree(job, says):
    says(f"differ by {job('compare')['difference']}")

def test_memory_is_enough(says):
    says("half of it")
    assert 1 == 2, "it is not"

def test_coefficients_agree(job):
    job("scatter")

@pytest.mark.two_cards
def test_two_cards_agree():
    raise AssertionError
"""


@pytest.fixture
def suite(tmp_path):
    """A function that runs the suite's machinery on the checks above."""
    folder = tmp_path / "tests" / "gpu"
    folder.mkdir(parents=True)
    shutil.copy(SUITE / "conftest.py", folder)
    (folder / "jobs.py").write_text(JOBS)
    (folder / "test_checks.py").write_text(CHECKS)
    words = [sys.executable, "-m", "pytest", "tests/gpu", "--confcutdir=tests/gpu"]
    words += ["-p", "no:cacheprovider", "-q", "-rN"]

    def run(device="cuda"):
        (tmp_path / "asked").write_text("")
        known = {key: value for key, value in os.environ.items() if key[:7] != "PYTEST_"}
        asked = {"COLLAPSEFLOW_TEST_DEVICE": device} if device else {}
        answer = subprocess.run(
            words, cwd=tmp_path, env={**known, **asked}, capture_output=True, text=True, check=False
        )
        table = answer.stdout.rpartition("what holds here")[2].splitlines()
        lines = [" ".join(line.split()) for line in table]
        answer.rows = [
            line for line in lines if line.startswith(("numbers", "memory", "co", "two"))
        ]
        answer.asked = (tmp_path / "asked").read_text().split()
        return answer

    run.jobs = folder / "jobs.py"
    return run


def test_it_tells_what_holds_and_repeats_only_what_has_not_held(suite):
    answer = suite()
    assert answer.returncode == 1
    assert answer.rows[0] == "numbers agree yes differ by 3"
    assert answer.rows[1].startswith("memory is enough NO half of it; it is not")
    assert answer.rows[2:] == [
        "coefficients agree - needs the package kymatio",
        "two cards agree - one card here",
    ]
    again = suite()
    assert again.asked == ["describe", "scatter"]
    assert again.rows == ["numbers agree yes differ by 3; held before", *answer.rows[1:]]


@pytest.mark.parametrize("more", ["", "# other code"])
def test_another_card_or_other_code_is_checked_anew(suite, more):
    suite()
    card = "a card" if more else "another card"
    suite.jobs.write_text(JOBS.replace("a card", card) + more)
    answer = suite()
    assert "compare" in answer.asked
    assert answer.rows[0] == "numbers agree yes differ by 3"


def test_without_a_card_it_ends_in_one_line_and_ordinary_tests_skip_it(suite):
    without = JOBS.replace('"count": 1', '"none": "Found no NVIDIA driver"')
    suite.jobs.write_text(without)
    answer = suite()
    assert answer.returncode != 0
    assert answer.stderr.strip() == "ERROR: no card can be used here: Found no NVIDIA driver"
    ordinary = suite(device=None)
    assert ordinary.returncode == 0 and "4 skipped" in ordinary.stdout
    assert "what holds here" not in ordinary.stdout
