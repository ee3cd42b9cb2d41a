"""What each flaw of the reports is worth, from made-up measures with and without it."""

from dataclasses import replace
from itertools import product

import pandas as pd
import pytest
from made_up import BACKBONES, DATASETS, describe_runs
from scipy.stats import spearmanr

from collapseflow.presentation.material import Material
from collapseflow.presentation.tables.flaws import flaws_table

PAIRS = [("flawed", "corrected")]
STARTS = {"imagenet": "ImageNet", "random": "random"}
HEADER = [
    *("flaw", "data set", "network", "quantity", "as in the report", "corrected"),
    *("difference, points", "ratio"),
]
#: By recipe: train and test accuracy, NC1, and NC1 with the absolute cutoff.
MEASURED = {"flawed": (0.97, 0.5, 2.0, 1.0), "corrected": (0.99, 0.9, 0.5, 0.4)}


def describe(seeds=(0,), recipes=("flawed", "corrected")):
    """Runs of some recipes from ImageNet weights."""
    return [
        replace(run, series=f"{run.backbone}/{run.start}/{recipe}")
        for recipe in recipes
        for run in describe_runs(seeds=seeds, recipe=recipe, start="imagenet")
    ]


def who(run):
    return {key: getattr(run, key) for key in ("dataset", "backbone", "start", "recipe", "seed")}


def rows_of_runs(runs):
    """Rows of measures.csv; from seed to seed test accuracy falls and NC1 doubles."""
    rows = []
    for run, epoch in product(runs, (0, 4)):
        train, test, nc1, cutoff = MEASURED[run.recipe]
        test, factor = test - run.seed / 100, 2.0**run.seed
        values = [
            ("", "train", "accuracy", train),
            ("", "test", "accuracy", test),
            (run.layer, "train", "nc1", nc1 * factor),
            (run.layer, "train", "nc1_report_a", cutoff * factor),
            (run.layer, "test", "nc1", 77.0),
        ]
        for layer, split, quantity, value in values:
            where = {"epoch": epoch, "layer": layer, "split": split, "quantity": quantity}
            rows.append({**who(run), **where, "value": value if epoch == 4 else 0.123})
    return rows


def rows_of_training(runs):
    """Rows of training.csv; test images went through the flawed networks."""
    rows = []
    for run, epoch in product(runs, (3, 4)):
        values = {"loss": 0.1, "last_batch_accuracy": 0.995 if epoch == 4 else 0.1}
        if run.recipe == "flawed":
            values["validation_accuracy"] = 0.93 if epoch == 4 else 0.1
        rows += [{**who(run), "epoch": epoch, "quantity": q, "value": values[q]} for q in values]
    return rows


@pytest.fixture
def tabulate(tmp_path, out):
    """A function that makes the table and gives the rows of its Markdown, and all of it."""

    def make(runs=(), rows=(), variance=None, failures=(), pairs=PAIRS, without=(), features=None):
        names = ["dataset", "backbone", "start", "recipe", "seed", "epoch"]
        columns = {
            "measures": [*names, "layer", "split", "quantity", "value", "low", "high", "n"],
            "failures": [*names, "layer", "what", "reason"],
            "training": [*names, "quantity", "value"],
        }
        contents = {
            "measures": [*rows_of_runs(runs), *rows],
            "failures": list(failures),
            "training": rows_of_training(runs),
        }
        paths = [tmp_path / f"{name}.csv" for name in columns]
        for path, (name, of_table) in zip(paths, columns.items(), strict=True):
            table = pd.DataFrame(contents[name], columns=of_table)
            table.astype({"seed": "Int64", "epoch": "Int64"}).to_csv(path, index=False)
        read = dict(zip(columns, paths, strict=True)) | {"variance": []}
        if variance is not None:
            read["variance"] = [tmp_path / "variance.csv"]
            pd.DataFrame(variance).to_csv(tmp_path / "variance.csv", index=False)
        labels = {"datasets": DATASETS, "backbones": BACKBONES, "starts": STARTS}
        told = {"faithful": pairs, "without_imagenet": without, "variance_features": features or {}}
        flaws_table(Material(**read, runs=runs, **told, **labels), vars(out))
        text = out.md.read_text()
        lines = [line for line in text.splitlines() if line.startswith("|")]
        cells = [[part.strip() for part in line.strip("|").split("|")] for line in lines]
        return [cells[0], *cells[2:]], text

    return make


def test_the_flaws_of_report_a_each_alone(tabulate, out):
    rows, text = tabulate(describe())
    assert rows[0] == HEADER
    assert all(row[1:3] == ["Digits 8×8", "ResNet18"] for row in rows[1:])
    assert [row[3:] for row in rows[1:]] == [
        ["train accuracy, %", "99.50", "97.00", "+2.50", ""],
        ["test accuracy, %", "93.00", "50.00", "+43.00", ""],
        ["test accuracy, %", "50.00", "90.00", "−40.00", ""],
        ["NC1", "2.00", "0.500", "", "4"],
        ["NC1", "1.00", "2.00", "", "0.5"],
    ]
    assert [row[0].partition(":")[0] for row in rows[1:]] == ["A"] * 5
    assert "last batch" in rows[1][0] and "training mode" in rows[2][0]
    assert "batch normalisation" in rows[3][0] and rows[3][0] == rows[4][0]
    assert "cutoff" in rows[5][0]
    assert "±" not in text and "Spearman" not in text
    table = pd.read_csv(out.csv)
    assert table["difference"].dropna().tolist() == pytest.approx([0.025, 0.43, -0.4])
    assert table["ratio"].dropna().tolist() == [4.0, 0.5]


def test_several_seeds_are_compared_seed_by_seed(tabulate, out):
    rows, text = tabulate(describe(seeds=(0, 1)))
    # Of 50 and 49 the deviation is the root of 1/2; it is the same in both.
    assert rows[3][3:] == ["test accuracy, %", "49.50 ± 0.71", "89.50 ± 0.71", "−40.00 ± 0.00", ""]
    # Of 2 and 4 the geometric mean is the root of 8, and the factor 2 to the root of 1/2.
    assert rows[4][3:] == ["NC1", "2.83 ×÷ 1.63", "0.707 ×÷ 1.63", "", "4"]
    assert rows[2][6] == "+43.50 ± 0.71"
    assert "geometric" in text
    table = pd.read_csv(out.csv)
    assert table["seed"].tolist() == [0] * 5 + [1] * 5


def test_what_has_no_corrected_twin_still_has_its_own_flaws(tabulate):
    runs = describe(seeds=(0, 1))
    failed = {**who(runs[3]), "what": "Digits 8×8, ResNet18, corrected", "reason": "diverged"}
    rows, text = tabulate(runs[:3], failures=[failed])
    assert rows[2][4] == "93.00 ± 0.00" and rows[3][4:] == ["50.00", "90.00", "−40.00", ""]
    rows, _ = tabulate(runs[:2])
    assert len(rows) == 1 + 3 and not any("batch normalisation" in row[0] for row in rows)
    rows, text = tabulate(runs, failures=[failed])
    assert "Failed, and left out: Digits 8×8, ResNet18, corrected, seed 1: diverged." in text


def test_a_cutoff_that_leaves_nothing_is_a_ratio_of_zero(tabulate, monkeypatch):
    monkeypatch.setitem(MEASURED, "flawed", (0.97, 0.5, 2.0, 0.0))
    assert tabulate(describe())[0][5][4:] == ["0.00", "2.00", "", "0"]
    monkeypatch.setitem(MEASURED, "flawed", (0.97, 0.5, 0.0, 0.0))
    assert tabulate(describe())[0][5][4:] == ["0.00", "0.00", "", ""]


def row(backbone, quantity, value, start="imagenet", layer="flatten", seed=None, **changes):
    """A row of features before any training."""
    split = "test" if quantity.startswith("accuracy") else "train"
    return {
        "dataset": "fashion",
        "backbone": backbone,
        "start": start,
        "recipe": "",
        "seed": seed,
        "epoch": 0,
        "layer": layer,
        "split": split,
        "quantity": quantity,
        "value": value,
        **changes,
    }


def test_features_without_imagenet_s_normalisation(tabulate, out):
    rows = [
        row("plain", "accuracy_linear", 0.80),
        row("resnet18", "accuracy_linear", 0.82),
        row("plain", "nc1", 3.0),
        row("resnet18", "nc1", 2.0),
        # Of other splits, states and classifiers.
        row("plain", "nc1", 9.0, split="test"),
        row("plain", "nc1", 9.0, recipe="corrected"),
        row("resnet18", "accuracy_knn", 0.5),
        *(row("plain", "nc1", 2.0, "random", seed=seed) for seed in (0, 1)),
        *(row("resnet18", "nc1", 1.0 + seed, "random", seed=seed) for seed in (0, 1)),
    ]
    found, text = tabulate(rows=rows, pairs=[], without=[("plain", "resnet18")])
    flaw = "B: no normalisation as on ImageNet"
    name = ["Fashion-MNIST", "ResNet18, ImageNet"]
    assert found == [
        HEADER,
        [flaw, *name, "linear probe, test accuracy, %", "80.00", "82.00", "−2.00", ""],
        [flaw, *name, "NC1", "3.00", "2.00", "", "1.5"],
        # Ratios 2 and 1.
        [
            flaw,
            "Fashion-MNIST",
            "ResNet18, random",
            "NC1",
            "2.00 ×÷ 1.00",
            "1.41 ×÷ 1.63",
            "",
            "1.41",
        ],
    ]
    assert r"$-$2.00" in out.tex.read_text()
    several = [row(b, "nc1", 1.0, layer=at) for b in ("plain", "resnet18") for at in ("a", "z")]
    found, _ = tabulate(rows=several, pairs=[], without=[("plain", "resnet18")])
    assert [line[2] for line in found[1:]] == ["ResNet18, ImageNet, a", "ResNet18, ImageNet, z"]


def test_variances_of_coordinates_are_ranked_against_those_of_features(tabulate, out):
    tsne, real = [5.0, 9.0, 1.0, 4.0, 8.0, 7.0], [0.1, 0.5, 0.2, 0.3, 0.6, 0.05]
    names = [("intra_class", c, None) for c in range(6)]
    names += [("pooled_pair", 0, c) for c in range(1, 7)]
    records = [
        {
            "dataset": "fashion",
            "backbone": "resnet18",
            "features": "net",
            "split": "train",
            "space": space,
            "quantity": quantity,
            "class_a": a,
            "class_b": b,
            "value": value,
            "published": None,
        }
        for space, values in (("t-SNE coordinates", tsne), ("features", real))
        for (quantity, a, b), value in zip(names, [*values, *values], strict=True)
    ]
    records += [{**record, "quantity": "mean_distance"} for record in records[-2:]]
    found, text = tabulate(pairs=[], variance=records, features={"net": "ResNet18, ImageNet"})
    rho = spearmanr(tsne, real).statistic
    assert found[0] == [*HEADER, "rank correlation"]
    assert [line[1:8] for line in found[1:]] == [
        ["Fashion-MNIST", "ResNet18, ImageNet, train", f"rank correlation over the {of}", *[""] * 4]
        for of in ("classes", "pairs of classes")
    ]
    assert found[1][8].startswith(f"{rho:.2f} [") and found[2][8] == f"{rho:.2f}"
    assert "Spearman" in text
    table = pd.read_csv(out.csv)
    assert table["n"].tolist() == [6, 6]
    assert table["rank_correlation"].tolist() == pytest.approx([rho, rho])
    assert table["low"].notna().tolist() == [True, False]
