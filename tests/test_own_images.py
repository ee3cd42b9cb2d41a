"""Images of a user's own, of each source that needs no further package, through the workflow."""

import csv
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from PIL import Image

from collapseflow.features.stores import read_groups, read_rows
from collapseflow.images.datasets import read_info, read_split

ROOT = Path(__file__).parent.parent


def run(folder, study, *arguments):
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    command = [sys.executable, "-m", "snakemake", "--snakefile", ROOT / "Snakefile"]
    command += ["--directory", folder, "--configfile", folder / "study.yaml", "--cores", "2"]
    answer = subprocess.run(
        list(map(str, [*command, *arguments])), capture_output=True, text=True, cwd=ROOT
    )
    return answer.returncode, answer.stdout + answer.stderr


@pytest.fixture(scope="module")
def images():
    """60 pictures of 20 x 30 pixels: dark on the left, or on the right."""
    levels = np.random.default_rng(0).integers(0, 60, (60, 20, 30), dtype=np.uint8)
    for number, picture in enumerate(levels):
        picture[:, 15 * (number % 2) :][:, :15] += 150
    return levels


@pytest.fixture(scope="module")
def study(images, tmp_path_factory):
    """The folder of a study of a table and of arrays."""
    folder = tmp_path_factory.mktemp("own")
    rows = []
    for number, picture in enumerate(images):
        side = ("left", "right")[number % 2]
        rows.append([f"scans/{number}.pgm", side, number // 6])
        (folder / "scans").mkdir(exist_ok=True)
        Image.fromarray(picture).save(folder / rows[-1][0])
    with (folder / "scans.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["path", "label", "patient"], *rows])
    np.savez(folder / "a.npz", images=images, labels=np.arange(60) % 2)
    content = {
        "study": "own",
        "threads": 1,
        "datasets": {
            "scans": {
                "source": "table",
                "location": str(folder / "scans.csv"),
                "size": [8, 12],
                "fit": "squash",
            },
            "arrays": {"source": "arrays", "location": str(folder / "a.npz")},
        },
        "scattering": {"J": 1, "L": 2, "order": 1},
        "features": ["raw", "scattering"],
        "classifiers": {"linear": {"estimator": "collapseflow.LinearProbe"}},
    }
    tables = [f"results/own/tables/accuracy_{name}.csv" for name in content["datasets"]]
    code, text = run(folder, content, *tables)
    assert code == 0, text[-4000:]
    return folder, content


def test_every_source_is_classified(study):
    folder, content = study
    for name in content["datasets"]:
        table = pd.read_csv(folder / f"results/own/tables/accuracy_{name}.csv")
        assert len(table) == 2 and (table["accuracy"] == 1).all()


def test_features_have_height_and_width(study, images):
    results = study[0] / "results" / "own"
    assert read_info(results / "data" / "scans.h5").image_shape == (8, 12)
    raw, _ = read_rows(results / "features/arrays/raw/test.h5")
    rows = read_split(results / "data/arrays.h5", "test").ids
    np.testing.assert_allclose(raw, images[rows].reshape(-1, 600) / np.float32(255))
    # 1 + J L coefficients at each of 4 x 6 places.
    assert read_rows(results / "features/scans/scattering/test.h5")[0].shape[1] == 3 * 4 * 6


def test_groups_reach_the_stores(study):
    results = study[0] / "results" / "own"
    groups = [read_groups(results / f"features/scans/raw/{s}.h5") for s in ("train", "test")]
    assert len(set(groups[0])) == 8 and len(set(groups[1])) == 2
    assert not set(groups[0]) & set(groups[1])
    assert read_groups(results / "features/arrays/raw/test.h5") is None


def test_changes_are_noticed_and_missing_files_end_before_the_first_job(study):
    folder, content = study
    target = "results/own/data/scans.h5"
    code, text = run(folder, content, target, "-n")
    assert code == 0 and "Nothing to be done" in text
    picture = folder / "scans" / "3.pgm"
    kept = picture.read_bytes()
    picture.unlink()
    code, text = run(folder, content, target, "-n")
    assert code and "scans.csv: 1 of 60 files are missing: scans/3.pgm" in text
    assert "Traceback" not in text
    picture.write_bytes(kept)
    code, text = run(folder, content, target, "-n")
    assert code == 0 and "prepare_dataset" in text
