"""Fixtures that write made-up results and collect them."""

import json
from pkgutil import resolve_name
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pytest
from made_up import DATASETS, glyphs_of

from collapseflow.images.datasets import Splits, make_split, write_dataset
from collapseflow.presentation.figures import appearance
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import collect_measures
from collapseflow.presentation.tables.runs import training_table
from collapseflow.study.analyses import ANALYSES


@pytest.fixture
def write(tmp_path):
    """A function that writes some contents, each in a JSON file of its own."""

    def write_files(name, contents):
        paths = [tmp_path / f"{name}-{number}.json" for number in range(len(contents))]
        for path, content in zip(paths, contents, strict=True):
            path.write_text(json.dumps(content))
        return paths

    return write_files


@pytest.fixture
def write_images(tmp_path):
    """A function that writes a data set of classes with some names, and gives its file."""

    def write_file(names, split=None):
        path = tmp_path / "images.h5"
        split = split or make_split(np.zeros((1, 1, 1), np.uint8), np.zeros(1, np.int64))
        write_dataset(path, Splits(split, split, list(names), "made up"))
        return path

    return write_file


@pytest.fixture
def figures(monkeypatch):
    """The figures that functions save, which stay open until the test ends."""
    kept = []
    monkeypatch.setattr(appearance, "save", lambda figure, outputs: kept.append(figure))
    yield kept
    # Of whatever figure a test draws: no two entries of a legend look the same.
    for figure in kept:
        seen = {}
        for words, glyph in glyphs_of(figure):
            assert seen.setdefault(glyph, words) == words, f"{words!r} looks as {seen[glyph]!r}"
    plt.close("all")


@pytest.fixture
def out(tmp_path):
    """The four files of a table."""
    return SimpleNamespace(
        **{suffix: tmp_path / f"table.{suffix}" for suffix in ("csv", "md", "tex", "json")}
    )


@pytest.fixture
def collect(tmp_path, write):
    """A function that collects the contents of runs, feature sets and classifiers: measures.csv,
    failures.csv."""

    def collect_all(
        runs, contents, features=(), cells=(), datasets=DATASETS, untrained=(), measured=(), **more
    ):
        paths = tmp_path / "measures.csv", tmp_path / "failures.csv"
        rows = {analysis.name: resolve_name(analysis.rows) for analysis in ANALYSES}
        results = [
            (rows[name], write(name, list(of)))
            for name, of in {"classification": cells, **more}.items()
        ]
        collect_measures(runs, contents, untrained, measured, features, results, datasets, *paths)
        return paths

    return collect_all


@pytest.fixture
def log(tmp_path, write):
    """A function that writes training.csv of some runs: of each epoch a loss, and what
    ``more(run, epoch)`` says."""

    def write_log(runs, more=lambda run, epoch: {}):
        records = [
            [{"epoch": n, "loss": 1.0, **more(run, n)} for n in range(1, run.last + 1)]
            for run in runs
        ]
        material = Material(runs=runs, logs=write("log", records))
        training_table(material, {"csv": tmp_path / "training.csv"})
        return tmp_path / "training.csv"

    return write_log
