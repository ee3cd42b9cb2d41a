"""How long attacks last, from which seed, and the small study that is attacked."""

import os
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

ROOT = Path(__file__).parents[2]
#: ``make torture`` tries this many times as much as ``make test``.
EFFORT = int(os.environ.get("COLLAPSEFLOW_TORTURE", "1"))
SEED = int(os.environ.get("COLLAPSEFLOW_TORTURE_SEED", "0"))
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
