"""Studies that are killed again and again, until the same command ends: equal tables, no epoch
twice, nothing damaged."""

import functools
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from attacked import EFFORT, ROOT, STUDY, command, require_equal_tables

from collapseflow.verification import verify

#: A recipe of every kind.
RECIPES = {
    "adam": {},
    "momentum": {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "cosine", "warmup": 1},
    "step": {"schedule": "step", "augmentation": "shift+flip", "label_smoothing": 0.1},
    "mse": {"loss": "mse", "measure": [1]},
    "head": {"trained": "head", "head_gain": None},
    "held out": {"validation": 0.2, "patience": 2},
    "training mode": {"validation": "training_mode"},
}
#: Kills before a study may end.
KILLS = 2 if EFFORT == 1 else 8
#: What `make test` has no time for is left out: one training is read at one layer.
SHORT = {
    **{key: value for key, value in STUDY.items() if key != "embedding"},
    "features": ["net-finetuned"],
    "analyses": [],
    "backbones": {"net": {**STUDY["backbones"]["net"], "layers": ["penultimate"]}},
}
MEASURES = f"results/{STUDY['study']}/measures.csv"
ATTACKED, TARGETS = (SHORT, [MEASURES]) if EFFORT == 1 else (STUDY, [])


def _finished_epochs(results: Path) -> list[int]:
    """The epochs of the training, as often as a process has said that it finished them."""
    logs = (path.read_text() for path in (results / "progress").rglob("history.log"))
    return [int(n) for log in logs for n in re.findall(r"epoch (\d+) of \d+ is finished", log)]


def _call(folder: Path, study: dict) -> subprocess.Popen:
    with (folder / "output.txt").open("w") as output:
        return subprocess.Popen(
            command(folder, study, *TARGETS),
            cwd=ROOT,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def _end(folder: Path, study: dict) -> float:
    start = time.monotonic()
    process = _call(folder, study)
    assert process.wait() == 0, (folder / "output.txt").read_text()[-5000:]
    return time.monotonic() - start


def _study(name: str) -> dict:
    return {**ATTACKED, "recipes": {"own": {"epochs": 3, "batch_size": 20, **RECIPES[name]}}}


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, float]]:
    """A function that gives, for a recipe, the folder of its study that nobody killed and the
    seconds that it took."""

    @functools.cache
    def run(name: str) -> tuple[Path, float]:
        folder = tmp_path_factory.mktemp("whole")
        return folder, _end(folder, _study(name))

    return run


@pytest.mark.parametrize("number", range(EFFORT))
def test_a_study_killed_at_random_ends_with_equal_tables(number, undisturbed, rng, tmp_path):
    name = list(RECIPES)[number % len(RECIPES)]
    whole, seconds = undisturbed(name)
    study, killed = _study(name), tmp_path

    moments = [rng.uniform(0, seconds) for _ in range(rng.randrange(1, KILLS + 1))]
    for moment in moments:
        process = _call(killed, study)
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    _end(killed, study)

    results, expected = (folder / "results" / STUDY["study"] for folder in (killed, whole))
    require_equal_tables(results, expected)
    epochs, needed = map(_finished_epochs, (results, expected))
    assert needed and needed == sorted(set(needed))
    assert epochs == sorted(set(epochs)), f"{name}: epochs trained twice: {epochs}"
    # A kill may come between an epoch's last file and the line that tells of it.
    assert set(epochs) <= set(needed)
    assert len(epochs) >= len(needed) - len(moments)
    verify(results)
    assert not list(results.rglob("*.part*")), "what killed jobs were writing is left"
