"""How long attacks last, from which seed, and the small study that is attacked."""

import os
import random
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
import yaml

from collapseflow.running.errors import UserError
from collapseflow.running.files import checksum_file
from collapseflow.running.words import printable

ROOT = Path(__file__).parents[2]
#: ``make torture`` tries this many times as much as ``make test``.
EFFORT = int(os.environ.get("COLLAPSEFLOW_TORTURE", "1"))
SEED = int(os.environ.get("COLLAPSEFLOW_TORTURE_SEED", "0"))
#: Damaged files of each kind, in ``make test``.
CASES = 40 * EFFORT
#: What takes minutes and is left to ``make torture``.
FULL = pytest.mark.skipif(EFFORT == 1, reason="of `make torture`, which takes more time")

#: Every kind of file that jobs read, in a minute of a processor.
STUDY = {
    "study": "attacked",
    "threads": 1,
    "datasets": {
        "digits": {
            "source": "digits",
            "subset": {"train": 120, "test": 60},
            "scattering": {"J": 1, "L": 4, "order": 1},
        }
    },
    "backbones": {
        "net": {
            "model": "shufflenet_v2_x0_5",
            "image_size": 32,
            "weights": ["random"],
            "layers": ["stage2.0", "penultimate"],
        }
    },
    "recipes": {"plain": {"epochs": 2, "batch_size": 20}},
    "classifiers": {
        "lda": {"estimator": "sklearn.discriminant_analysis.LinearDiscriminantAnalysis"}
    },
    "features": ["raw", "net-finetuned"],
    "analyses": ["spectrum", "few_shot", "similarity"],
    "embedding": {"n_samples": 90, "iterations": 50, "perplexity": 10},
}
#: What of its results is looked at and read by no job.
READ_BY_NO_JOB = ("figures", "logs", "benchmarks", "progress")
#: Columns and quantities of its tables that are others each time.
TIMES = ["seconds", "images_per_second", "fit_seconds", "predict_seconds"]


def command(folder: Path, study: dict, *arguments: str) -> list[str]:
    """The one command that is given again and again."""
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study))
    words = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    words += ["--directory", folder, "--configfile", path, "--cores", "2", *arguments]
    return list(map(str, words))


def _tables(results: Path) -> dict[str, pd.DataFrame]:
    """What a study found; times and memory are others each time."""
    paths = sorted([*results.glob("*.csv"), *results.glob("tables/*.csv")])
    tables = {path.name: pd.read_csv(path, dtype=str) for path in paths if path.stem != "runtime"}
    return {name: _without_times(rows) for name, rows in tables.items()}


def _without_times(rows: pd.DataFrame) -> pd.DataFrame:
    if "quantity" in rows:
        rows = rows[~rows["quantity"].isin(TIMES)].reset_index(drop=True)
    return rows.drop(columns=TIMES, errors="ignore")


def require_equal_tables(results: Path, expected: Path) -> None:
    """Refuse tables of two folders of results that differ in any digit."""
    tables = _tables(expected)
    assert tables and tables.keys() == _tables(results).keys()
    for name, rows in _tables(results).items():
        pd.testing.assert_frame_equal(rows, tables[name], obj=name)


# --- kinds of damage: each changes a copy of the file, with its checksums beside it --------------


def _flip(path: Path, others: list[Path], rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    path.write_bytes(content)


def _truncate(path: Path, others: list[Path], rng: random.Random) -> None:
    os.truncate(path, rng.randrange(path.stat().st_size))


def _lengthen(path: Path, others: list[Path], rng: random.Random) -> None:
    with path.open("ab") as file:
        file.write(rng.randbytes(rng.randrange(1, 5000)))


def _overwrite(path: Path, others: list[Path], rng: random.Random) -> None:
    content = bytearray(path.read_bytes())
    start = rng.randrange(len(content))
    length = rng.randrange(1, 5000)
    content[start : start + length] = rng.choice([bytes(length), rng.randbytes(length)])
    path.write_bytes(content)


def _replace_by_another(path: Path, others: list[Path], rng: random.Random) -> None:
    shutil.copyfile(rng.choice(others), path)


def _replace_with_checksums(path: Path, others: list[Path], rng: random.Random) -> None:
    other = rng.choice(others)
    shutil.copyfile(other, path)
    shutil.copyfile(checksum_file(other), checksum_file(path))


def _damage_checksums(path: Path, others: list[Path], rng: random.Random) -> None:
    damage = rng.choice([_flip, _truncate, _overwrite])
    damage(checksum_file(path), others, rng)


#: Of a file, with its checksums beside it or without.
DAMAGES = (_flip, _truncate, _lengthen, _overwrite, _replace_by_another)
OF_CHECKSUMS = (_replace_with_checksums, _damage_checksums)


def in_a_child(read: Callable[[Path], str | None], path: Path, seconds: int = 60) -> str:
    """What reading a file ends in, in a process of its own, which a library may take down: what it
    answers or "read", "refused" in one line with the file's name, or what went wrong."""
    answer, asked = os.pipe()
    child = os.fork()
    if child == 0:
        signal.alarm(seconds)
        try:
            words = read(path) or "read"
        except UserError as error:
            # As a job and the check of a study say it.
            lines = printable(str(error)).splitlines()
            is_told = len(lines) == 1 and path.name in lines[0]
            words = "refused" if is_told else f"refused without the file's name: {error}"
        except BaseException:
            words = traceback.format_exc()
        os.write(asked, words.encode(errors="replace")[-3000:])
        os._exit(0)
    os.close(asked)
    with os.fdopen(answer, "rb") as pipe:
        words = pipe.read().decode(errors="replace")
    _, status = os.waitpid(child, 0)
    return words or f"ended by signal {os.WTERMSIG(status)}"
