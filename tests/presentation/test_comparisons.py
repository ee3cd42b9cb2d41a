"""Pairs of feature sets on the same test images: differences, intervals, what is chance."""

import numpy as np
import pandas as pd
import pytest
from made_up import RAW, cell, describe_features
from scipy.stats import binomtest

from collapseflow.presentation.material import Material
from collapseflow.presentation.tables.comparisons import comparison_table

N = 1000
NET = describe_features("net/imagenet", label="Net, ImageNet")
TUNED = describe_features(
    "net/tuned", (0, 1), recipe="plain", epoch=3, setting={"rate": 0.5}, label="Net, tuned"
)
CLASSIFIERS = {"lr": "LR", "rf": "RF"}


def answered(right):
    """A cell of which images are right."""
    right = np.asarray(right, bool)
    return cell(right.mean(), n_test=len(right), correct=np.packbits(right).tobytes().hex())


def first(n_right, n=N):
    """The first images are right."""
    return np.arange(n) < n_right


def cells(lr, rf):
    return {"lr": answered(lr), "rf": answered(rf)}


@pytest.fixture
def compare(write, out):
    """A function that compares contents of cells and gives rows of the Markdown, and all of it."""

    def make(contents, features):
        told = {"columns": features, "title": "MNIST", "classifiers": CLASSIFIERS}
        comparison_table(
            Material(classification=write("classification", contents), **told), vars(out)
        )
        text = out.md.read_text()
        lines = [line for line in text.splitlines() if line.startswith("|")]
        rows = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
        return [rows[0], *rows[2:]], text

    return make


def test_the_second_feature_set_against_the_first(compare, out):
    # LR: of 60 images that differ 50 are right on the second alone; RF: 3 of 5.
    a, b = first(600), np.r_[np.ones(590), np.zeros(10), np.ones(50), np.zeros(350)]
    a_rf, b_rf = first(500), np.r_[np.ones(498), np.zeros(2), np.ones(3), np.zeros(497)]
    rows, text = compare([cells(a, a_rf), cells(b, b_rf)], [RAW, NET])
    assert rows[0] == ["MNIST", "LR", "RF"]
    name, linear, forest = rows[1]
    assert name == "Net, ImageNet − raw pixels" and len(rows) == 2
    assert linear.startswith("+4.0 [") and forest.startswith("≈ +0.10 [")
    assert "adjusted" in text and "seeds" not in text
    table = pd.read_csv(out.csv).set_index("classifier")
    assert table["difference"].tolist() == pytest.approx([0.04, 0.001])
    assert table["p"].tolist() == pytest.approx([binomtest(10, 60).pvalue, binomtest(2, 5).pvalue])
    assert table["larger_than_chance"].tolist() == [True, False]
    assert table["n"].tolist() == [N, N]
    # The normal interval is near that of a bootstrap of 1,000 images.
    difference = b.astype(float) - a
    half = 1.96 * difference.std() / N**0.5
    assert table.loc["lr", "low"] == pytest.approx(0.04 - half, abs=2e-3)
    assert table.loc["lr", "high"] == pytest.approx(0.04 + half, abs=2e-3)
    found = [float(end) for end in linear.partition("[")[2].strip("]").split(", ")]
    assert found == pytest.approx((100 * table.loc["lr", ["low", "high"]]).tolist(), abs=0.0501)
    assert table.loc["lr", ["backbone_a", "backbone_b", "n_seeds_a"]].tolist() == ["raw", "net", 1]
    assert r"$\approx$ +0.10" in out.tex.read_text()


def test_images_of_one_group_are_no_independent_draws(compare, out):
    a, b = first(600), np.r_[np.ones(590), np.zeros(10), np.ones(50), np.zeros(350)]
    contents = [{name: answered(right) for name in CLASSIFIERS} for right in (a, b)]
    # Of 20 groups one has all that is right on the second alone, another what is on the first.
    for content in contents:
        content["lr"]["groups"] = content["rf"]["groups"] = (np.arange(N) // 50).tolist()
    rows, text = compare(contents, [RAW, NET])
    assert rows[1][1].startswith("≈ +4.0 [")
    assert "Test images come in 20 groups" in text and "are over groups" in text
    table = pd.read_csv(out.csv)
    assert table["p"].tolist() == [1, 1] and (table["low"] <= -0.02).all()
    # Results of earlier versions do not have the groups of all: all intervals are over images.
    del contents[0]["rf"]["groups"]
    rows, text = compare(contents, [RAW, NET])
    assert rows[1][1].startswith("+4.0 [") and "groups" not in text


def test_several_seeds_are_their_mean_on_the_same_images(compare, out):
    contents = [cells(first(500), first(500)), *(cells(first(n), first(500)) for n in (520, 560))]
    rows, text = compare(contents, [NET, TUNED])
    assert rows[1][0] == "Net, tuned − Net, ImageNet"
    assert rows[1][1].startswith("+4.0 [") and rows[1][2] == "≈ +0.0 [+0.0, +0.0]"
    assert "mean accuracies" in text
    table = pd.read_csv(out.csv)
    assert table["n_seeds_b"].tolist() == [2, 2] and table["epoch_b"].tolist() == [3, 3]
    assert table["recipe_b"].tolist() == ["plain"] * 2 and table["rate_b"].tolist() == [0.5] * 2


def test_all_pairs_of_few_and_only_those_with_the_best_of_many(compare, out):
    columns = [describe_features(f"net{n}", label=f"Net {n}") for n in range(9)]
    # The fourth is the best.
    right = [100, 200, 300, 900, 400, 500, 600, 700, 800]
    contents = [cells(first(n), first(n)) for n in right]
    rows, text = compare(contents[:4], columns[:4])
    assert len(rows) == 1 + 6 and "all pairs" not in text
    assert rows[1][0] == "Net 1 − Net 0" and rows[1][1].startswith("+10.0 [")
    rows, text = compare(contents, columns)
    assert [row[0] for row in rows[1:]] == [f"Net 3 − Net {n}" for n in range(9) if n != 3]
    assert [row[1].split()[0] for row in rows[1:]] == [
        f"+{(900 - n) / 10:.1f}" for n in right if n != 900
    ]
    low, high = (float(end) for end in rows[-1][1].partition("[")[2].strip("]").split(", "))
    assert 0 < low < 10 < high
    assert "Of 9 feature sets only pairs with the one that has the highest" in text
    table = pd.read_csv(out.csv)
    assert len(table) == 36 * 2
    # In the CSV it is always the second against the first.
    last = table[(table["backbone_a"] == "net3") & (table["backbone_b"] == "net8")]
    assert last["difference"].tolist() == pytest.approx([-0.1, -0.1])


def test_what_failed_is_left_out_and_named(compare, out):
    lost = {name: {"failed": "no variance"} for name in CLASSIFIERS}
    contents = [cells(first(500), first(500)), lost, cells(first(600), first(500)), lost]
    rows, text = compare(contents, [RAW, NET, TUNED])
    assert [row[0] for row in rows[1:]] == ["Net, tuned − raw pixels"]
    assert "Failed, and left out: Net, ImageNet: no variance." in text
    assert "Failed, and left out: Net, tuned, seed 1: no variance." in text
    rows, text = compare([lost], [NET])
    assert len(rows) == 1 and "nothing to compare" in text
    assert pd.read_csv(out.csv).empty
