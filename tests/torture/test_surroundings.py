"""One cheap job under strange conditions: the same data set, or a line that says what is wrong."""

import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest
from attacked import FULL, ROOT, STUDY, command
from sklearn.datasets import load_digits

from collapseflow.images.datasets import read_info, read_split

DATASET = f"results/{STUDY['study']}/data/digits.h5"
RAW = f"results/{STUDY['study']}/features/digits/raw"
NAMES = ["zéro", "\u4e00", "\U0001d7da", *"3456789"]
DIGITS = {**STUDY, "datasets": {"digits": {**STUDY["datasets"]["digits"], "class_names": NAMES}}}


def _run(folder: Path, *targets: str, before: str = "", **environment: str):
    """Run Snakemake, behind other commands of a shell."""
    words = command(folder, DIGITS, *targets)
    return subprocess.run(
        ["bash", "-c", f'{before} "$@"', "bash", *words],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=os.environ | environment,
    )


def _require_whole(folder: Path) -> None:
    """The data set's classes, against scikit-learn's own."""
    target = load_digits().target
    assert read_info(folder / DATASET).class_names == NAMES
    for split in ("train", "test"):
        read = read_split(folder / DATASET, split)
        assert len(read.ids) == STUDY["datasets"]["digits"]["subset"][split]
        assert read.labels.tolist() == target[read.ids].tolist()


def _refused(answer, *words: str) -> None:
    text = answer.stdout + answer.stderr
    assert answer.returncode != 0 and "Traceback" not in text and '  File "' not in text, text
    lines = [line for line in text.splitlines() if all(word in line for word in words)]
    assert lines, text


def test_a_locale_of_ascii_alone_and_a_closed_umask(tmp_path):
    ascii_only = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    answer = _run(tmp_path, DATASET, before="umask 077;", **ascii_only)
    assert answer.returncode == 0, answer.stderr
    _require_whole(tmp_path)
    made = list((tmp_path / "results").rglob("*"))
    assert made and not [path for path in made if path.stat().st_mode & 0o077]


@FULL
def test_a_locale_that_does_not_exist(tmp_path):
    answer = _run(tmp_path, DATASET, LC_ALL="xx_XX.UTF-8")
    assert answer.returncode == 0, answer.stderr
    _require_whole(tmp_path)


@FULL
def test_a_file_from_the_future_is_named_until_its_time_is_put_right(tmp_path):
    assert _run(tmp_path, DATASET).returncode == 0
    tomorrow = time.time() + 24 * 3600
    os.utime(tmp_path / DATASET, (tomorrow, tomorrow))
    _refused(_run(tmp_path, RAW), DATASET, "clock skew")
    _require_whole(tmp_path)
    os.utime(tmp_path / DATASET)
    answer = _run(tmp_path, RAW)
    assert answer.returncode == 0, answer.stderr
    assert (tmp_path / RAW).exists()


@pytest.mark.parametrize("where", ["results", "."])
def test_a_folder_that_may_not_be_written(tmp_path, where):
    before = ""
    if os.geteuid() == 0:
        if not shutil.which("setpriv"):
            pytest.skip("root writes everywhere, and there is no setpriv")
        before = "setpriv --bounding-set=-dac_override"
    (tmp_path / "results").mkdir()
    command(tmp_path, DIGITS)
    (tmp_path / where).chmod(0o555)
    try:
        answer = _run(tmp_path, DATASET, before=before)
    finally:
        (tmp_path / where).chmod(0o755)
    _refused(answer, "results" if where == "results" else ".snakemake", "cannot be written")
    assert not list((tmp_path / "results").iterdir())


def test_too_little_memory_for_pytorch(tmp_path):
    answer = _run(tmp_path, DATASET, before="ulimit -v 700000;")
    _refused(answer, "allow this process more memory")
    assert not (tmp_path / "results").exists()
