"""The small study that is attacked, and random numbers."""

import random
import subprocess
from pathlib import Path

import pytest
from attacked import ROOT, SEED, STUDY, command


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The results of the study, made once and not to be changed."""
    folder = tmp_path_factory.mktemp("attacked")
    answer = subprocess.run(
        command(folder, STUDY), capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert answer.returncode == 0, (answer.stdout + answer.stderr)[-5000:]
    return folder / "results" / STUDY["study"]


@pytest.fixture
def rng(request: pytest.FixtureRequest) -> random.Random:
    """Random numbers of a test's own, the same for the same seed."""
    return random.Random(f"{SEED} {request.node.name}")
