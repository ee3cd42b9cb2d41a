"""Studies that are killed again and again, until the same command ends: equal tables, no epoch
twice, nothing damaged."""

import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from attacked import EFFORT, ROOT, STUDY, command

from collapseflow.verification import verify

#: A recipe of every kind.
RECIPES = {
    "adam": {},
    "momentum": {"optimizer": "sgd", "learning_rate": 0.01, "momentum": 0.9, "nesterov": True},
    "adamw": {"optimizer": "adamw", "weight_decay": 0.05, "schedule": "cosine", "warmup": 1},
    "step": {"schedule": "step", "augmentation": "shift+flip", "label_smoothing": 0.1},
    "mse": {"loss": "mse", "measure": [1]},
    "head": {"trained": "head"},
    "held out": {"validation": 0.2, "patience": 2},
    "training mode": {"validation": "training_mode"},
}
#: Kills before a study may end.
KILLS = 8


def _tables(results: Path) -> dict[str, pd.DataFrame]:
    """What the study found; times and memory are others each time."""
    paths = sorted([*results.glob("*.csv"), *results.glob("tables/*.csv")])
    return {
        path.name: pd.read_csv(path).drop(columns=["seconds", "images_per_second"], errors="ignore")
        for path in paths
        if path.stem != "runtime"
    }


def _call(folder: Path, study: dict) -> subprocess.Popen:
    with (folder / "output.txt").open("w") as output:
        return subprocess.Popen(
            command(folder, study),
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


@pytest.mark.parametrize("number", range(EFFORT))
def test_a_study_killed_at_random_ends_with_equal_tables(number, rng, tmp_path):
    name = list(RECIPES)[number % len(RECIPES)]
    recipe = {"epochs": 3, "batch_size": 20, **RECIPES[name]}
    study = {**STUDY, "recipes": {"own": recipe}}
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    whole.mkdir(), killed.mkdir()
    seconds = _end(whole, study)

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
    tables = _tables(expected)
    assert tables.keys() == _tables(results).keys()
    for table, rows in _tables(results).items():
        pd.testing.assert_frame_equal(rows, tables[table], rtol=0, atol=0, obj=table)
    epochs = [
        int(epoch)
        for log in (results / "progress").rglob("history.log")
        for epoch in re.findall(r"epoch (\d+) of \d+ is finished", log.read_text())
    ]
    assert len(epochs) == len(set(epochs)), f"{name}: epochs trained twice: {sorted(epochs)}"
    verify(results)
    assert not list(results.rglob("*.part*")), "what killed jobs were writing is left"
