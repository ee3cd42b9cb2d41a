"""docs/my-features.md: its example is all that is needed."""

import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from collapseflow.features.stores import read_rows

ROOT = Path(__file__).parent.parent


def follow(page, folder, *targets):
    """Do what a page says, in an empty folder: its code, its study file, its command for some
    targets."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    for language, block in re.findall(r"^```(\w+)\n(.*?)^```", text, flags=re.M | re.S):
        if language == "yaml":
            study = re.search(r"^study: (\w+)", block, flags=re.M)[1]
            (folder / f"{study}.yaml").write_text(f"threads: 1\n{block}")
            continue
        command = [sys.executable, "-c", block]
        if language == "sh":
            words = block.split()
            command = [sys.executable, "-m", words[0], "--snakefile", ROOT / "Snakefile"]
            command += [*targets, *words[1:]]
        answer = subprocess.run(
            list(map(str, command)), cwd=folder, env=environment, capture_output=True, text=True
        )
        assert answer.returncode == 0, (answer.stdout + answer.stderr)[-4000:]


def dense_measures(vectors, labels, weight):
    """NC1 by d x d matrices, and NC3, of class means around their mean."""
    classes = np.unique(labels)
    means = np.stack([vectors[labels == c].mean(axis=0) for c in classes])
    rows = np.searchsorted(classes, labels)
    around = vectors - means[rows]
    within = around.T @ around / len(vectors)
    centred = means - vectors.mean(axis=0)
    shares = np.bincount(rows) / len(rows)
    between = (centred * shares[:, None]).T @ centred
    nc1 = np.trace(within @ np.linalg.pinv(between, rcond=1e-10)) / len(classes)
    directions = means - means.mean(axis=0)
    difference = weight / np.linalg.norm(weight) - directions / np.linalg.norm(directions)
    return {"nc1": nc1, "nc3": (difference**2).sum()}


def unbiased_cka(*sets):
    """Linear CKA by U-centred n x n kernels (Székely and Rizzo 2014), whose products are unbiased
    HSIC."""
    centred = []
    for vectors in sets:
        kernel = vectors @ vectors.T
        np.fill_diagonal(kernel, 0)
        n, sums = len(kernel), kernel.sum(axis=0)
        kernel += sums.sum() / ((n - 1) * (n - 2)) - (sums[:, None] + sums) / (n - 2)
        np.fill_diagonal(kernel, 0)
        centred.append(kernel)
    one, other = centred
    return (one * other).sum() / np.sqrt((one * one).sum() * (other * other).sum())


def test_vectors_of_a_text_classifier_are_measured_as_the_page_says(tmp_path):
    targets = ["fig_vectors", "fig_similarity_of_vectors", "results/sentences/measures.csv"]
    follow("my-features.md", tmp_path, *targets)
    table = pd.read_csv(tmp_path / "results/sentences/measures.csv")
    assert set(table["backbone"]) == {"hidden"}
    kept = {}
    for epoch in (3, 10, 30):
        name = f"hidden_{epoch}"
        file = np.load(tmp_path / f"{name}.npz")
        weight, bias = (file[part].astype(np.float32) for part in ("weight", "bias"))
        rows = table[(table["epoch"] == epoch) & (table["split"] == "train")]
        found = rows.set_index("quantity")["value"]
        known = file["split"] == "train"
        vectors = file["vectors"][known].astype(np.float32).astype(np.float64)
        labels = file["labels"][known]
        expected = dense_measures(vectors, labels, weight.astype(np.float64))
        for quantity, value in expected.items():
            assert found[quantity] == pytest.approx(value, rel=1e-12), (name, quantity)
        right = np.unique(labels)[(vectors @ weight.T + bias).argmax(axis=1)] == labels
        assert found["accuracy"] == pytest.approx(right.mean())
        store = tmp_path / "results/sentences/features/sentences" / name / "train.h5"
        assert np.array_equal(read_rows(store)[0], vectors.astype(np.float32))
        kept[name] = vectors
    assert (tmp_path / "results/sentences/figures/vectors_sentences.pdf").exists()
    similar = pd.read_csv(tmp_path / "results/sentences/tables/similarity_of_vectors_sentences.csv")
    assert len(similar) == 3
    for pair in similar.itertuples():
        expected = unbiased_cka(kept[pair.vectors], kept[pair.others])
        assert pair.cka == pytest.approx(expected, rel=1e-9)
