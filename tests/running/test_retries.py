"""Which failed jobs Snakemake starts again, in real runs."""

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
STUDY = {
    "study": "small",
    "threads": 1,
    "device": "cpu",
    "datasets": {"digits": {"source": "digits", "subset": {"train": 50, "test": 20}}},
    "features": ["raw"],
}
DATA = "results/small/data/digits.h5"
STORE = "results/small/features/digits/raw"


def run(folder, target, study=STUDY):
    """Snakemake with three more attempts for a failed job."""
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    words = [sys.executable, "-m", "snakemake", target, "--snakefile", ROOT / "Snakefile"]
    words += ["--directory", folder, "--configfile", folder / "study.yaml"]
    words += ["--cores", "1", "--retries", "3"]
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, cwd=ROOT)


def attempts(answer):
    """How often a job was started."""
    return 1 + answer.stderr.count("Trying to restart job")


@pytest.fixture
def mistaken(tmp_path):
    """A folder with a data set that somebody has damaged, and the answer of a run on it."""
    assert run(tmp_path, DATA).returncode == 0
    whole = (tmp_path / DATA).read_bytes()
    (tmp_path / DATA).write_bytes(b"no HDF5")
    return tmp_path, whole, run(tmp_path, STORE)


def test_a_job_that_ended_with_a_mistake_of_the_user_is_not_tried_again(mistaken):
    folder, whole, answer = mistaken
    assert answer.returncode != 0
    assert attempts(answer) == 1
    assert answer.stderr.count(f"{DATA}: has 7 bytes of {len(whole)}; delete it") == 1
    # Nothing of it is left when the mistake is mended, not even after a killed run.
    logs = folder / "results" / "small" / "logs"
    assert list(logs.rglob("*.mistake")) == []
    (log,) = (logs / "extract").rglob("*.log")
    Path(f"{log}.mistake").touch()
    (folder / DATA).write_bytes(whole)
    assert run(folder, STORE).returncode == 0
    assert list(logs.rglob("*.mistake")) == []


def test_what_another_attempt_may_mend_is_tried_again(tmp_path):
    (tmp_path / "empty").mkdir()
    digits = {"source": "mnist", "location": [str(tmp_path / "empty")]}
    answer = run(tmp_path, DATA, STUDY | {"datasets": {"digits": digits}})
    assert answer.returncode != 0
    assert attempts(answer) == 4
    assert answer.stderr.count("found nowhere whole") == 4
    assert list(tmp_path.rglob("*.mistake")) == []
