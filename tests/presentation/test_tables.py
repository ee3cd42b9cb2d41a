"""Tables from made-up results: marks, published values, LaTeX, and the tidy CSV beside them."""

import json
from types import SimpleNamespace

import pandas as pd
import pytest
from scipy.stats import binomtest

from collapseflow.presentation.tables import (
    accuracy_table,
    collapse_table,
    runtime_table,
    to_latex,
    to_markdown,
    variance_table,
)


@pytest.fixture
def out(tmp_path):
    """The three files of a table."""
    return SimpleNamespace(
        csv=tmp_path / "table.csv", md=tmp_path / "table.md", tex=tmp_path / "table.tex"
    )


def cells_of(markdown):
    """Rows of cells of the pipe table, without the line under the header."""
    lines = [line for line in markdown.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in rows}) == 1
    return [rows[0], *rows[2:]]


def latex_rows(latex):
    """Rows of cells of the tabular."""
    body = latex[latex.index(r"\toprule") :]
    lines = [line.removesuffix(r" \\") for line in body.splitlines() if line.endswith(r" \\")]
    return [line.split(" & ") for line in lines]


def test_markdown_of_a_small_table():
    assert to_markdown(["a", "b"], [["x", "1"], ["y", "2"]]) == (
        "| a | b |\n| --- | ---: |\n| x | 1 |\n| y | 2 |\n"
    )


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("50 %", r"50 \%"),
        ("a_b & #1 $", r"a\_b \& \#1 \$"),
        ("8×8", r"8$\times$8"),
        ("91.00†", r"91.00$^\dagger$"),
        ("**97.05**", r"\textbf{97.05}"),
        ("**97.05**† (98.10)", r"\textbf{97.05}$^\dagger$ (98.10)"),
    ],
)
def test_latex_escapes_what_has_a_meaning_there(cell, expected):
    rows = latex_rows(to_latex(["name", "value"], [["x", cell]]))
    assert rows[1] == ["x", expected]


def test_latex_has_one_column_for_each_cell():
    latex = to_latex(["a", "b", "c"], [["x", "1", "2"]])
    assert r"\begin{tabular}{lrr}" in latex
    assert latex.rstrip().endswith(r"\end{tabular}")
    assert latex_rows(latex) == [["a", "b", "c"], ["x", "1", "2"]]


# --- accuracies -----------------------------------------------------------------------------

FEATURES = {"raw": "raw pixels", "net-imagenet": "Net_1, ImageNet"}
CLASSIFIERS = {"lr": "LR", "svm": "SVM", "rf": "RF"}
#: Made-up accuracies, LR, SVM, RF; SVM on raw pixels and RF on the network tie with the best.
ACCURACIES = {"raw": [0.8, 0.9012, 0.9012], "net-imagenet": [0.95, 0.5, 0.94999]}


def write_cells(folder, **changes):
    """For each feature set a file with a cell for each classifier."""
    paths = []
    for feature, accuracies in ACCURACIES.items():
        cells = {}
        for classifier, accuracy in zip(CLASSIFIERS, accuracies, strict=True):
            cells[classifier] = {
                "accuracy": accuracy,
                "accuracy_interval": [accuracy - 0.01, accuracy + 0.02],
                "n_train": 12000,
                "n_test": 3000,
                "n_features": {"raw": 784, "net-imagenet": 512}[feature],
                "fit_seconds": 1.5,
                "predict_seconds": 0.5,
                "iterations": 7 if classifier != "rf" else None,
                "converged": True if classifier != "rf" else None,
                "made_with": ["torch 1"],
            }
            cells[classifier] |= changes.get(f"{feature.split('-')[0]}_{classifier}", {})
        paths.append(folder / f"{feature}.json")
        paths[-1].write_text(json.dumps(cells))
    return paths


def make_accuracy_table(tmp_path, out, published_names=None, **changes):
    cells = write_cells(tmp_path, **changes)
    classifiers = {name: name for name in CLASSIFIERS}
    names = published_names or {}
    accuracy_table(
        cells, "MNIST", FEATURES, CLASSIFIERS, names, classifiers, out.csv, out.md, out.tex
    )
    return out.md.read_text()


def test_accuracies_are_percent_with_the_best_of_each_column_in_bold(tmp_path, out):
    rows = cells_of(make_accuracy_table(tmp_path, out))
    assert rows == [
        ["MNIST", "raw pixels", "Net_1, ImageNet"],
        ["LR", "80.00", "**95.00**"],
        ["SVM", "**90.12**", "50.00"],
        ["RF", "**90.12**", "95.00"],
        ["size", "784", "512"],
    ]


def test_latex_and_markdown_say_the_same(tmp_path, out):
    make_accuracy_table(tmp_path, out)
    assert latex_rows(out.tex.read_text()) == [
        ["MNIST", "raw pixels", r"Net\_1, ImageNet"],
        ["LR", "80.00", r"\textbf{95.00}"],
        ["SVM", r"\textbf{90.12}", "50.00"],
        ["RF", r"\textbf{90.12}", "95.00"],
        ["size", "784", "512"],
    ]


def test_published_accuracies_stand_in_brackets_only_where_a_report_has_them(tmp_path, out):
    text = make_accuracy_table(tmp_path, out, {"raw": ["mnist", "raw"]})
    rows = cells_of(text)
    # Report A, table 1, raw pixels: LR 89.65, random forest 69.54.
    assert rows[1] == ["LR", "80.00 (89.65)", "**95.00**"]
    assert rows[3] == ["RF", "**90.12** (69.54)", "95.00"]
    assert "published in report A" in text
    assert "published" not in make_accuracy_table(tmp_path, out)


def test_published_accuracies_go_by_the_reports_names_of_the_classifiers(tmp_path, out):
    path = write_cells(tmp_path)[0]
    path.write_text(path.read_text().replace('"svm"', '"knn"').replace('"rf"', '"forest"'))
    accuracy_table(
        [path],
        "MNIST",
        {"raw": "raw"},
        {"lr": "LR", "knn": "kNN", "forest": "RF"},
        {"raw": ["mnist", "raw"]},
        {"forest": "rf"},
        out.csv,
        out.md,
        out.tex,
    )
    rows = cells_of(out.md.read_text())
    assert [row[1] for row in rows[1:4]] == ["80.00", "**90.12**", "**90.12** (69.54)"]


def test_other_numbers_of_features_have_no_published_accuracy(tmp_path, out):
    names = {"raw": ["mnist", "raw"]}
    text = make_accuracy_table(tmp_path, out, names, raw_lr={"n_features": 196})
    rows = cells_of(text)
    assert rows[1][1] == "80.00" and rows[3][1] == "**90.12** (69.54)"


def test_a_solver_that_did_not_converge_is_marked(tmp_path, out):
    text = make_accuracy_table(
        tmp_path, out, {"raw": ["mnist", "raw"]}, raw_lr={"converged": False}
    )
    rows = cells_of(text)
    assert rows[1][1] == "80.00† (89.65)"
    assert sum("†" in cell for row in rows for cell in row) == 1
    assert "iteration limit" in text
    assert "†" not in make_accuracy_table(tmp_path, out)


def test_the_note_gives_the_numbers_of_images(tmp_path, out):
    text = make_accuracy_table(tmp_path, out)
    assert "12,000 training" in text and "3,000 test" in text
    text = make_accuracy_table(tmp_path, out, raw_svm={"n_train": 500})
    assert "500 to 12,000 training" in text


def test_the_tidy_accuracies_hold_every_cell_as_a_fraction(tmp_path, out):
    make_accuracy_table(
        tmp_path, out, {"raw": ["mnist", "raw"]}, net_svm={"converged": False, "iterations": 100}
    )
    table = pd.read_csv(out.csv).set_index(["features", "classifier"])
    assert len(table) == 6
    for feature, accuracies in ACCURACIES.items():
        for classifier, accuracy in zip(CLASSIFIERS, accuracies, strict=True):
            row = table.loc[(feature, classifier)]
            assert row["accuracy"] == accuracy
            assert row["accuracy_low"] == pytest.approx(accuracy - 0.01)
            assert row["accuracy_high"] == pytest.approx(accuracy + 0.02)
            assert row["features_label"] == FEATURES[feature]
    assert table.loc[("raw", "lr"), "published_accuracy"] == pytest.approx(0.8965)
    assert pd.isna(table.loc[("net-imagenet", "lr"), "published_accuracy"])
    assert table["best"].tolist() == [False, True, True, True, False, False]
    assert table.loc[("net-imagenet", "svm"), "iterations"] == 100
    assert str(table.loc[("net-imagenet", "svm"), "converged"]) == "False"


def test_columns_and_rows_follow_the_names_not_the_order_in_the_files(tmp_path, out):
    expected = make_accuracy_table(tmp_path, out)
    paths = write_cells(tmp_path)
    for path in paths:
        cells = json.loads(path.read_text())
        path.write_text(json.dumps(dict(reversed(cells.items()))))
    accuracy_table(paths, "MNIST", FEATURES, CLASSIFIERS, {}, {}, out.csv, out.md, out.tex)
    assert out.md.read_text() == expected


def test_cells_that_do_not_fill_the_table_are_an_error(tmp_path, out):
    paths = write_cells(tmp_path)
    with pytest.raises(ValueError):
        accuracy_table(paths[:-1], "MNIST", FEATURES, CLASSIFIERS, {}, {}, out.csv, out.md, out.tex)
    cells = json.loads(paths[1].read_text())
    del cells["svm"]
    paths[1].write_text(json.dumps(cells))
    with pytest.raises(KeyError, match="svm"):
        accuracy_table(paths, "MNIST", FEATURES, CLASSIFIERS, {}, {}, out.csv, out.md, out.tex)
    assert not out.csv.exists()


# --- collapse -------------------------------------------------------------------------------


def test_the_tidy_measures_of_collapse_name_everything(tmp_path):
    starts = {"resnet18": "pretrain", "vgg": "imagenet"}
    paths, expected = [], []
    for dataset, backbone in [("mnist", "resnet18"), ("mnist", "vgg"), ("digits", "vgg")]:
        epochs = []
        for epoch in (0, 1, 2):
            measures = {}
            for split in ("train", "test"):
                # Only a network with a head of its own predicts classes.
                measures[split] = {"nc1": len(expected) + 0.5, "n_samples": 300}
                if epoch:
                    measures[split]["accuracy"] = (200 + len(expected)) / 300
                for name, value in measures[split].items():
                    row = (dataset, backbone, starts[backbone], epoch, split, name, value)
                    expected.append(row)
            epochs.append({"epoch": epoch, **measures})
        paths.append(tmp_path / dataset / f"{backbone}.json")
        paths[-1].parent.mkdir(exist_ok=True)
        paths[-1].write_text(json.dumps(epochs))
    collapse_table(paths, starts, tmp_path / "collapse.csv")
    table = pd.read_csv(tmp_path / "collapse.csv")
    names = ["dataset", "backbone", "start", "epoch", "split", "measure", "value"]
    assert table.columns.tolist() == [*names, "low", "high"]
    assert [tuple(row) for row in table[names].itertuples(index=False)] == expected
    assert len(expected) == 48


def test_accuracies_on_test_images_have_an_interval_and_nothing_else_has(tmp_path):
    measures = {"nc1": 0.5, "n_samples": 359, "accuracy": 354 / 359}
    path = tmp_path / "digits" / "net.json"
    path.parent.mkdir()
    path.write_text(json.dumps([{"epoch": 1, "train": measures, "test": measures}]))
    collapse_table([path], {"net": "random"}, tmp_path / "collapse.csv")
    table = pd.read_csv(tmp_path / "collapse.csv").set_index(["split", "measure"])
    expected = binomtest(354, 359).proportion_ci(method="wilson")
    found = table.loc[("test", "accuracy"), ["low", "high"]].tolist()
    assert found == pytest.approx([expected.low, expected.high], abs=1e-12)
    assert table.drop(("test", "accuracy"))[["low", "high"]].isna().all(axis=None)


# --- variances ------------------------------------------------------------------------------

COORDINATES = "t-SNE coordinates"
NAMES = ["T-shirt/top", "Trouser", "Pullover"]


def variance_records(feature="resnet18-imagenet"):
    def record(space, quantity, a, b, value, split="train"):
        return {
            "features": feature,
            "split": split,
            "space": space,
            "quantity": quantity,
            "class_a": a,
            "class_b": b,
            "value": value,
        }

    return [
        record(COORDINATES, "intra_class", 0, None, 500.04),
        record(COORDINATES, "pooled_pair", 0, 1, 900.0),
        record("features", "intra_class", 0, None, 123.456),
        record("features", "pooled_pair", 0, 1, 234.567),
        record("features", "mean_distance", 0, 1, 0.0123456),
        record(COORDINATES, "intra_class", 0, None, 77.0, split="test"),
    ]


def make_variance_table(out, published_names):
    variance_table(
        variance_records(),
        {"resnet18-imagenet": "ResNet18"},
        NAMES,
        published_names,
        out.csv,
        out.md,
        out.tex,
    )
    return out.md.read_text()


def test_variances_stand_beside_the_published_ones(out):
    text = make_variance_table(out, {"resnet18-imagenet": ["fashion_mnist", "resnet18_pretrained"]})
    rows = {row[0]: row[1:] for row in cells_of(text)[1:]}
    # Report B, ResNet18, training set: T-shirt/top 453.983.
    assert rows["ResNet18, train: T-shirt/top"] == ["500.0 (454.0)", "", "123.5", "", ""]
    pair = rows["ResNet18, train: T-shirt/top / Trouser"]
    assert pair[1].startswith("900.0 (")
    assert pair[0] == pair[2] == ""
    assert pair[3:] == ["234.6", "0.01235"]
    table = pd.read_csv(out.csv)
    published = table.query("space == @COORDINATES and split == 'train'").set_index("quantity")
    assert published.loc["intra_class", "published"] == 453.983
    # What describes the features themselves was never published.
    assert table.query("space == 'features'")["published"].isna().all()
    assert "published in report B" in text


def test_variances_of_features_that_no_report_has_stand_alone(out):
    text = make_variance_table(out, {})
    rows = {row[0]: row[1:] for row in cells_of(text)[1:]}
    assert rows["ResNet18, train: T-shirt/top"] == ["500.0", "", "123.5", "", ""]
    assert rows["ResNet18, test: T-shirt/top"] == ["77.0", "", "", "", ""]
    assert "published" not in text
    assert pd.read_csv(out.csv)["published"].isna().all()


def test_the_tidy_variances_keep_every_digit_and_whole_class_numbers(out):
    make_variance_table(out, {})
    lines = out.csv.read_text().splitlines()
    assert len(lines) == 1 + len(variance_records())
    table = pd.read_csv(out.csv, dtype=str, keep_default_na=False)
    assert table["value"].tolist()[:3] == ["500.04", "900.0", "123.456"]
    assert table["class_b"].tolist() == ["", "1", "", "1", "1", ""]
    assert set(table["features_label"]) == {"ResNet18"}


# --- run times ------------------------------------------------------------------------------

BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def make_runtime_table(tmp_path, out, measured, published_minutes=None):
    """A table of jobs with the seconds of their last run and what they wrote of their cost."""
    benchmarks, costs = [], []
    for number, (seconds, cost) in enumerate(measured.values()):
        benchmarks.append(tmp_path / f"{number}.tsv")
        # Snakemake's own samples of memory and processor time are of no use.
        benchmarks[-1].write_text(f"{BENCHMARK}{seconds}\t0:00:01\t5.1\t-\t1\t1\t0\t0\t90\t-\n")
        costs.append(tmp_path / f"{number}.cost.json")
        if cost:
            keys = ("seconds_taken_over", "peak_memory_mib")
            costs[-1].write_text(json.dumps(dict(zip(keys, cost, strict=True))))
    jobs = list(measured)
    runtime_table(jobs, benchmarks, costs, published_minutes or {}, out.csv, out.md, out.tex)
    return out.md.read_text()


def test_run_times_are_those_of_the_whole_computation(tmp_path, out):
    measured = {
        ("prepare_dataset", "mnist", ""): (2.04, (0.0, 310.2)),
        ("pretrain", "", "resnet18"): (100.0, (0.0, 1234.5)),
        # Nine epochs in earlier runs, one in the last.
        ("finetune", "mnist", "resnet18"): (12.26, (90.0, 900.4)),
        ("embed", "digits", "raw-train-opentsne"): (0.9, None),
        ("tabulate_variance", "", ""): (3.0, (0.0, 99.0)),
    }
    text = make_runtime_table(tmp_path, out, measured)
    assert cells_of(text) == [
        ["job", "wall time, s", "peak memory, MiB"],
        ["prepare_dataset mnist", "2.0", "310"],
        ["pretrain, resnet18", "100.0", "1234"],
        ["finetune mnist, resnet18", "102.3", "900"],
        ["embed digits, raw-train-opentsne", "0.9", "not recorded"],
        ["tabulate_variance", "3.0", "99"],
    ]
    assert "report B" not in text
    table = pd.read_csv(out.csv, keep_default_na=False)
    assert table["stage"].tolist() == [stage for stage, _, _ in measured]
    assert table["dataset"].tolist() == [dataset for _, dataset, _ in measured]
    assert table["seconds"].astype(float).tolist() == [2.04, 100.0, 102.26, 0.9, 3.0]
    assert table["seconds_of_last_run"].astype(float).tolist() == [2.04, 100.0, 12.26, 0.9, 3.0]
    assert table["peak_memory_mib"].tolist() == ["310.2", "1234.5", "900.4", "", "99.0"]


def test_report_b_s_minutes_stand_beside_the_same_job_only(tmp_path, out):
    measured = {
        ("extract", "fashion", "resnet18_b-imagenet"): (80.0, (0.0, 500.0)),
        ("extract", "fashion", "resnet18-imagenet"): (81.0, (0.0, 500.0)),
    }
    minutes = {"extract/fashion/resnet18_b-imagenet": 35}
    text = make_runtime_table(tmp_path, out, measured, minutes)
    assert [row[1] for row in cells_of(text)[1:]] == ["80.0 (2100)", "81.0"]
    assert "In brackets: report B, on a laptop." in text
