"""Tables from made-up results: marks, published values, LaTeX, and the tidy CSV beside them."""

import json
import statistics
from dataclasses import replace

import pandas as pd
import pytest
from made_up import BACKBONES, DATASETS, RAW, cell, describe_features, describe_runs, measured

from collapseflow.measures.intervals import wilson_interval
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import read_csv
from collapseflow.presentation.tables import variance
from collapseflow.presentation.tables.accuracy import accuracy_table
from collapseflow.presentation.tables.runs import collapse_table, sweep_table, training_table
from collapseflow.presentation.tables.runtime import runtime_table
from collapseflow.presentation.tables.writing import Bold, signed, spread, to_latex, to_markdown
from collapseflow.running.jobs import cost_file


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
    lines = to_markdown(["a", "b|c"], [["x", "1.50"], ["y", Bold("2")]]).splitlines()
    header, rule, *rows = [line.replace(" ", "") for line in lines]
    # The first column to the left, the other to the right; numbers as they were.
    assert header == r"|a|b\|c|"
    assert rule.startswith("|:--") and rule.endswith("--:|") and rule.count(":") == 2
    assert rows == ["|x|1.50|", "|y|**2**|"]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("50 %", r"50 \%"),
        ("a_b & #1 $", r"a\_b \& \#1 \$"),
        ("8×8", r"8$\times$8"),
        ("97.1 ± 0.2", r"97.1 $\pm$ 0.2"),
        ("{a}~b^2", r"\{a\}\textasciitilde{}b\textasciicircum{}2"),
        ("C:\\x", r"C:\textbackslash{}x"),
        ("91.00†", r"91.00$^\dagger$"),
        ("10.00§¶", r"10.00\S{}\P{}"),
        ("≈ −0.10", r"$\approx$ $-$0.10"),
        (Bold("97.05"), r"\textbf{97.05}"),
        (Bold("97.05", "† (98.10)"), r"\textbf{97.05}$^\dagger$ (98.10)"),
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


# --- means over seeds -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("quantity", "mean", "sd", "expected"),
    [
        ("accuracy", 0.97123, 0.0012, "97.12 ± 0.12"),
        ("accuracy_lr", 1.0, float("nan"), "100.00"),
        ("nc2_equinorm", 3.0, 0.266, "3.00 ± 0.27"),
        ("nc2_equinorm", 0.0123456, 0.00111, "0.0123 ± 0.0011"),
        ("nc2_equinorm", 1234.5, 12.3, "1.23e+03 ± 12"),
        # A factor, of what is drawn on a logarithmic axis.
        ("nc1", 10.7, 1.314, "10.7 ×÷ 1.31"),
        ("nc1", 10.7, float("nan"), "10.7"),
        ("nc2_equinorm", 123.0, float("nan"), "123"),
    ],
)
def test_means_have_the_digits_that_tell_something(quantity, mean, sd, expected):
    assert spread(quantity, mean, sd) == expected


@pytest.mark.parametrize(
    ("half_width", "mean", "sd", "expected"),
    [
        # Of 400 images, of 10,000, and of as many as there are digits for.
        (0.0295, 0.9001, float("nan"), "90"),
        (0.0027, 0.98126, float("nan"), "98.1"),
        (0.00096, 0.98126, float("nan"), "98.1"),
        (0.00094, 0.98126, float("nan"), "98.13"),
        # Seeds that differ are not rounded to none, and their mean has the same decimals.
        (0.0295, 0.9001, 0.0032, "90.0 ± 0.3"),
        (0.0027, 0.98126, 0.0206, "98.1 ± 2.1"),
        (0.0295, 0.9001, 0.0, "90 ± 0"),
        # Less than all images is not written as 100.
        (0.0295, 0.9975, float("nan"), "99.8"),
        (0.0295, 0.9999, float("nan"), "99.99"),
        (0.0295, 0.9999999, float("nan"), "99.99999"),
        (0.0295, 1.0, float("nan"), "100"),
    ],
)
def test_accuracies_have_the_decimals_that_their_interval_allows(half_width, mean, sd, expected):
    for quantity in ("accuracy", "accuracy_lr", "balanced_accuracy_lr"):
        assert spread(quantity, mean, sd, half_width) == expected


def test_differences_are_points_with_a_sign():
    values = (0.0123, -0.5, 0.00001, -0.00001)
    assert [signed(value) for value in values] == ["+1.23", "−50.00", "+0.00", "+0.00"]
    assert [signed(value, 0) for value in values] == ["+1", "−50", "+0", "+0"]


# --- accuracies -----------------------------------------------------------------------------

NET = describe_features("net/imagenet", label="Net_1, ImageNet")
TUNED = describe_features(
    "net/imagenet/plain",
    (0, 1, 2),
    epoch=10,
    recipe="plain",
    setting={"weight_decay": 0.5},
    label="Net_1, tuned",
)
CLASSIFIERS = {"lr": "LR", "svm": "SVM", "rf": "RF"}
#: Made-up accuracies, LR, SVM, RF; with RF raw pixels are three of 3,000 images better.
ACCURACIES = {"raw": [0.8, 2704 / 3000, 2703 / 3000], "net": [0.95, 0.5, 0.9]}
NOTHING_KNOWN = {"flags": [], "chosen": None}


def right(n_right, n=3000):
    """The first of n images as hexadecimal text of bits."""
    bits = "1" * n_right + "0" * (n - n_right + -n % 8)
    return f"{int(bits, 2):0{len(bits) // 4}x}"


def cells_with(accuracies, **changes):
    """A cell for each classifier, of which some are changed; the first images are right."""
    cells = {
        classifier: cell(
            accuracy,
            correct=right(round(3000 * accuracy)),
            # Narrow, so that two decimals are shown.
            accuracy_interval=[accuracy - 0.0001, accuracy + 0.0002],
            **NOTHING_KNOWN,
        )
        for classifier, accuracy in zip(CLASSIFIERS, accuracies, strict=True)
    }
    cells["rf"] |= {"iterations": None, "converged": None}
    for classifier, change in changes.items():
        cells[classifier] |= change
    return cells


@pytest.fixture
def tabulate(write, out):
    """A function that makes an accuracy table of contents of cells and gives its Markdown."""

    def make(contents, features=(RAW, NET), classifiers=CLASSIFIERS, names=None, neighbours=None):
        names = {name: name for name in classifiers} if names is None else names
        columns = [replace(one, dataset="mnist") for one in features]
        told = {"columns": columns, "title": "MNIST", "classifiers": classifiers}
        told |= {"neighbours": neighbours or {}, "published_classifiers": names}
        accuracy_table(
            Material(classification=write("classification", contents), **told), vars(out)
        )
        return out.md.read_text()

    return make


def two(published=None, **changes):
    """Cells on raw pixels, of which some are changed, and on a network; and their columns."""
    raw = cells_with(ACCURACIES["raw"])
    for classifier in raw:
        raw[classifier] |= {"n_features": 784} | changes.get(classifier, {})
    columns = (replace(RAW, published=published), NET)
    return [raw, cells_with(ACCURACIES["net"])], columns


def test_accuracies_are_percent_with_the_best_in_bold_where_it_is_not_by_chance(tabulate):
    text = tabulate(*two())
    assert cells_of(text) == [
        ["MNIST", "raw pixels", "Net_1, ImageNet"],
        ["LR", "80.00", "**95.00**"],
        ["SVM", "**90.13**", "50.00"],
        ["RF", "90.10", "90.00"],
        ["size", "784", "512"],
    ]
    assert "the best features of a classifier, where they are better than all others" in text


def test_more_than_six_feature_sets_are_rows(tabulate, out):
    columns = [describe_features(f"net{n}", label=f"Net {n}") for n in range(7)]
    contents = [cells_with([0.1 * n, 0.5, 0.9 - 0.1 * n]) for n in range(7)]
    rows = cells_of(tabulate(contents[:6], columns[:6]))
    assert rows[0] == ["MNIST", *(f"Net {n}" for n in range(6))]
    rows = cells_of(tabulate(contents, columns))
    assert rows[0] == ["MNIST", "LR", "SVM", "RF", "size"]
    assert rows[1] == ["Net 0", "0.00", "50.00", "**90.00**", "512"]
    assert rows[7] == ["Net 6", "**60.00**", "50.00", "30.00", "512"]
    assert len(rows) == 8 and set(read_csv(out.csv)["backbone"]) == {f"net{n}" for n in range(7)}


#: Of 2,900 and 100 images: recalls 1 and 0.
UNEQUAL = [[2900, 0], [100, 0]]


def test_unequal_classes_have_a_balanced_accuracy(tabulate, out):
    """Half, within 0.5 (1 - 0.0370) = 0.018 where 0 of 100 is at most 3.7 %."""
    contents = [cells_with([0.9, 0.8, 0.7], lr={"confusion": UNEQUAL}) for _ in range(7)]
    text = tabulate(contents[:1], [NET])
    assert [row[:2] for row in cells_of(text)[1:4]] == [
        ["LR", "90.00"],
        ["LR, balanced", "50"],
        ["SVM", "80.00"],
    ]
    assert "Balanced: the mean over the classes" in text
    table = read_csv(out.csv).set_index("classifier")[["balanced", "balanced_high"]].astype(str)
    assert table.loc["lr", "balanced"] == "0.5" and table.loc["svm", "balanced"] == ""
    high = wilson_interval(0, 100)[1] / 2
    assert float(table.loc["lr", "balanced_high"]) == pytest.approx(0.5 + high)
    columns = [describe_features(f"net{n}", label=f"Net {n}") for n in range(7)]
    rows = cells_of(tabulate(contents, columns))
    assert rows[2] == ["Net 0, balanced", "50", "", "", ""] and len(rows) == 1 + 14
    assert "balanced" not in tabulate(*two())
    # As unequal as MNIST's: in the CSV alone.
    contents = [cells_with([0.9, 0.8, 0.7], lr={"confusion": [[1135, 0], [0, 892]]})]
    assert "balanced" not in tabulate(contents, [NET])
    assert read_csv(out.csv)["balanced"].tolist() == ["1.0", "", ""]


def test_few_images_that_differ_are_no_difference(tabulate):
    """Exact binomial: five images of five that differ are p = 2 / 32, six of six p = 2 / 64."""
    for n_right, best in ((2705, "90.17"), (2706, "**90.20**")):
        raw = cells_with([0.5, 0.9, 0.9], svm={"correct": right(2700)})
        cells = cells_with([0.5, n_right / 3000, 0.9], svm={"correct": right(n_right)})
        assert cells_of(tabulate([raw, cells], [RAW, NET]))[2][1:] == ["90.00", best]


def test_one_feature_set_alone_is_not_the_best(tabulate):
    cells = {"lr": cells_with([0.9, 0.5, 0.5])["lr"]}
    assert cells_of(tabulate([cells], [NET], {"lr": "LR"}))[1] == ["LR", "90.00"]


def test_probes_to_be_careful_with_are_marked(tabulate, out):
    changes = {"lr": {"flags": ["guessing", "penalty"], "converged": False}}
    text = tabulate([cells_with([0.1, 0.9, 0.8], **changes)], [NET])
    assert [row[1] for row in cells_of(text)[1:4]] == ["10.00†§¶", "90.00", "80.00"]
    assert "\n§: at the level of guessing" in text and "\n¶: held down by its penalty" in text
    assert latex_rows(out.tex.read_text())[1][1] == r"10.00$^\dagger$\S{}\P{}"
    assert read_csv(out.csv)["flags"].tolist() == ["guessing penalty", "", ""]
    text = tabulate([cells_with([0.1, 0.9, 0.8])], [NET])
    assert "§" not in text and "¶" not in text


def chosen(winner):
    """What a tuned probe chose; weak penalties with one scale."""
    grids = {"standardised": [1.0, 0.01], "one scale": [1.0, 0.01, 0.001]}
    return {
        "chosen": {
            "scaling": "one scale" if winner == 0.001 else "standardised",
            "winner": winner,
            "n_validation": 2400,
            "tried": {scaling: {"grid": grid} for scaling, grid in grids.items()},
        }
    }


def test_a_tuned_probe_says_what_it_chose(tabulate, out):
    contents = [
        cells_with([0.9, 0.8, 0.7], lr=chosen(winner)) for winner in (0.01, 1.0, 0.001, 0.001)
    ]
    text = tabulate(contents, [NET, TUNED])
    assert "LR: chosen on 2,400 of the training images among up to 3 strengths" in text
    won = "0.001 (Net_1, tuned), 0.01 (Net_1, ImageNet), 1 (Net_1, tuned)"
    assert f"from 0.001 to 1: {won}; and between features" in text
    assert "one scale (Net_1, tuned), standardised (Net_1, ImageNet; Net_1, tuned).\n" in text
    table = read_csv(out.csv).query("classifier == 'lr'")
    assert table["chosen"].tolist() == ["0.01", "1.0", "0.001", "0.001"]
    assert table["scaling"].tolist() == [*["standardised"] * 2, *["one scale"] * 2]
    assert read_csv(out.csv).query("classifier == 'svm'")["chosen"].tolist() == [""] * 4


def test_neighbours_say_how_they_vote(tabulate):
    cells = {"knn": cells_with([0.9, 0.8, 0.7])["lr"]}

    def text(parameters):
        return tabulate([cells], [NET], {"knn": "kNN"}, {}, {"knn": parameters})

    words = "kNN: the {} nearest training images by cosine similarity s, of which each votes with "
    assert words.format(20) + "exp(s / 0.07)." in text({})
    assert words.format(5) + "exp(s / 1)." in text({"n_neighbors": 5, "temperature": 1.0})


def test_latex_and_markdown_say_the_same(tabulate, out):
    tabulate(*two())
    assert latex_rows(out.tex.read_text()) == [
        ["MNIST", "raw pixels", r"Net\_1, ImageNet"],
        ["LR", "80.00", r"\textbf{95.00}"],
        ["SVM", r"\textbf{90.13}", "50.00"],
        ["RF", "90.10", "90.00"],
        ["size", "784", "512"],
    ]


def test_published_accuracies_stand_in_brackets_only_where_a_report_has_them(tabulate):
    text = tabulate(*two(["mnist", "raw"]))
    rows = cells_of(text)
    # Report A, table 1, raw pixels: LR 89.65, random forest 69.54.
    assert rows[1] == ["LR", "80.00 (89.65)", "**95.00**"]
    assert rows[3] == ["RF", "90.10 (69.54)", "90.00"]
    assert "published in report A" in text
    assert "published" not in tabulate(*two())


def test_published_accuracies_go_by_the_reports_names_of_the_classifiers(tabulate):
    (raw, _), (column, _) = two(["mnist", "raw"])
    raw = {"lr": raw["lr"], "knn": raw["svm"], "forest": raw["rf"]}
    classifiers = {"lr": "LR", "knn": "kNN", "forest": "RF"}
    rows = cells_of(tabulate([raw], [column], classifiers, {"forest": "rf"}))
    assert [row[1] for row in rows[1:4]] == ["80.00", "90.13", "90.10 (69.54)"]


def test_other_numbers_of_features_have_no_published_accuracy(tabulate):
    rows = cells_of(tabulate(*two(["mnist", "raw"], lr={"n_features": 196})))
    assert rows[1][1] == "80.00" and rows[3][1] == "90.10 (69.54)"


def test_a_solver_that_did_not_converge_is_marked(tabulate):
    text = tabulate(*two(["mnist", "raw"], lr={"converged": False}))
    rows = cells_of(text)
    assert rows[1][1] == "80.00† (89.65)"
    assert sum("†" in cell for row in rows for cell in row) == 1
    assert "iteration limit" in text
    assert "†" not in tabulate(*two())


def test_the_notes_give_the_numbers_of_images_and_the_widest_interval(tabulate):
    text = tabulate(*two(svm={"accuracy_interval": [0.88, 0.93]}))
    assert "12,000 training" in text and "3,000 test" in text
    assert "95 % intervals of the accuracies are at most ± 2.5 points." in text
    assert "500 to 12,000 training" in tabulate(*two(svm={"n_train": 500}))


def test_several_seeds_are_mean_and_standard_deviation(tabulate):
    raw = cells_with(ACCURACIES["raw"])
    svm = [0.9, 0.91, 0.95]
    seeds = [cells_with([0.9, value, 0.5], rf={"n_train": 99}) for value in svm]
    seeds[2]["svm"]["converged"] = False
    text = tabulate([raw, *seeds], [RAW, TUNED])
    assert cells_of(text)[1:] == [
        ["LR", "80.00", "**90.00 ± 0.00**"],
        # Mean 92; deviations -2, -1, 3: squares 14, over 2.
        ["SVM", "90.13", "**92.00 ± 2.65**†"],
        ["RF", "**90.10**", "50.00 ± 0.00"],
        ["size", "512", "512"],
    ]
    assert statistics.stdev(svm) == pytest.approx(0.0265, abs=5e-5)
    assert "±: standard deviation over seeds 0, 1, 2 (ddof = 1)." in text
    assert "95 % intervals" not in text


def test_a_failed_seed_is_left_out_and_named_with_its_reason(tabulate, out):
    lost = {name: {"failed": "the loss is not finite"} for name in CLASSIFIERS}
    seeds = [cells_with([0.5, value, 0.25]) for value in (0.9, 0.94)]
    text = tabulate([lost, seeds[0], lost, seeds[1]], [NET, TUNED])
    assert cells_of(text)[1:] == [
        ["LR", "", "50.00 ± 0.00"],
        ["SVM", "", "92.00 ± 2.83"],
        ["RF", "", "25.00 ± 0.00"],
        ["size", "", "512"],
    ]
    assert "Failed, and left out: Net_1, ImageNet: the loss is not finite.\n" in text
    assert "Failed, and left out: Net_1, tuned, seed 1: the loss is not finite.\n" in text
    assert read_csv(out.csv)["seed"].tolist() == [0, 0, 0, 2, 2, 2]
    text = tabulate([lost], [NET])
    assert cells_of(text)[1:] == [["LR", ""], ["SVM", ""], ["RF", ""], ["size", ""]]


def test_the_tidy_accuracies_hold_every_cell_as_a_fraction(tabulate, out):
    contents, columns = two(["mnist", "raw"])
    seeds = [cells_with([0.1 * n, 0.2, 0.3]) for n in range(3)]
    seeds[1]["svm"] |= {"converged": False, "iterations": 100}
    tabulate([contents[0], *seeds], [columns[0], TUNED])
    table = pd.read_csv(out.csv)
    names = ["dataset", "backbone", "start", "recipe", "weight_decay", "seed", "epoch", "layer"]
    assert table.columns.tolist()[:13] == [
        *names,
        *("classifier", "accuracy", "low", "high", "published"),
    ]
    assert len(table) == 12
    raw = table[table["backbone"] == "raw"].set_index("classifier")
    assert raw["accuracy"].tolist() == ACCURACIES["raw"]
    assert raw["low"].tolist() == pytest.approx([v - 0.0001 for v in ACCURACIES["raw"]])
    assert raw["high"].tolist() == pytest.approx([v + 0.0002 for v in ACCURACIES["raw"]])
    assert raw.loc["lr", "published"] == pytest.approx(0.8965)
    assert raw[["start", "recipe", "weight_decay", "seed", "epoch"]].isna().all(axis=None)
    tuned = table[table["backbone"] == "net"].set_index(["seed", "classifier"])
    assert tuned["published"].isna().all()
    assert tuned.loc[(2, "lr"), "accuracy"] == pytest.approx(0.2)
    assert tuned.loc[(1, "svm"), "iterations"] == 100
    assert str(tuned.loc[(1, "svm"), "converged"]) == "False"
    assert set(tuned["dataset"]) == {"mnist"} and set(tuned["weight_decay"]) == {0.5}
    # Whole numbers also beside what has no seed and no epoch.
    written = pd.read_csv(out.csv, dtype=str)
    assert set(written["seed"].dropna()) == {"0", "1", "2"} and set(written["epoch"].dropna()) == {
        "10"
    }


def test_rows_follow_the_names_not_the_order_in_the_files(tabulate):
    contents, columns = two()
    expected = tabulate(contents, columns)
    assert tabulate([dict(reversed(c.items())) for c in contents], columns) == expected


def test_cells_that_do_not_fill_the_table_are_an_error(tabulate, out):
    contents, columns = two()
    with pytest.raises(ValueError):
        tabulate(contents[:1], columns)
    del contents[1]["svm"]
    with pytest.raises(KeyError, match="svm"):
        tabulate(contents, columns)
    assert not out.csv.exists()


# --- collapse -------------------------------------------------------------------------------

WORDS = ["train accuracy, %", "test accuracy, %", "NC1"]
WORDS += ["NC2, equal norms", "NC2, equal angles", "NC2, maximal angle"]


def values(run, epoch, layer, split, quantity):
    """NC1 1, 2, 4 of seeds 0, 1, 2 and less by the layer; 0.5 before training."""
    if epoch == 0:
        return 0.5
    return (2.0**run.seed if quantity == "nc1" else 0.25) / (1 + run.layers.index(layer))


def shares(run, epoch, split):
    return None if epoch == 0 else {"train": 1.0, "test": 0.9 + run.seed / 100}[split]


@pytest.fixture
def collapse(out):
    """A function that tabulates some runs with their measures and failures."""

    def make(tables, runs):
        told = {"runs": runs, "datasets": DATASETS}
        collapse_table(Material(measures=tables[0], failures=tables[1], **told), vars(out))

    return make


def test_collapse_at_the_start_and_the_end_of_each_series(collect, collapse, out):
    runs = describe_runs(datasets=("mnist5k", "digits"), seeds=(0, 1, 2), last=3)
    contents = [measured(run, range(4), values, shares) for run in runs]
    collapse(collect(runs, contents), runs)
    text = out.md.read_text()
    nc2 = ["0.250 ± 0.0"] * 3
    # Of 1, 2 and 4 the geometric mean is 2, and so is the factor. Of 91 % of 400 images the
    # interval is ± 2.8.
    end = ["100.00 ± 0.00", "91 ± 1", "2.00 ×÷ 2.00", *nc2]
    start = ["", "", "0.500 ×÷ 1.00", *["0.500 ± 0.0"] * 3]
    assert cells_of(text) == [
        ["data set", "network", "epoch", *WORDS],
        ["MNIST subset", "ResNet18", "0", *start],
        ["MNIST subset", "ResNet18", "3", *end],
        ["Digits 8×8", "ResNet18", "0", *start],
        ["Digits 8×8", "ResNet18", "3", *end],
    ]
    assert latex_rows(out.tex.read_text())[2][4] == r"91 $\pm$ 1"
    assert "±: standard deviation over seeds 0, 1, 2 (ddof = 1). ×÷: geometric mean" in text
    tidy = pd.read_csv(out.csv)
    assert tidy.columns.tolist() == [
        *("dataset", "backbone", "start", "recipe", "layer", "epoch", "split", "quantity"),
        *("mean", "sd", "n_seeds", "geometric"),
    ]
    # 2 data sets x 4 epochs x 2 splits x 4 measures, and accuracies after training.
    assert len(tidy) == 64 + 12
    nc1 = tidy.query("quantity == 'nc1' and epoch == 2 and split == 'test'")
    assert nc1["mean"].tolist() == pytest.approx([2.0] * 2)
    assert nc1["sd"].tolist() == pytest.approx([2.0] * 2)
    assert set(tidy.loc[tidy["geometric"], "quantity"]) == {"nc1"}
    assert set(tidy["n_seeds"]) == {3}


def test_the_table_says_where_a_class_has_few_training_images(collect, collapse, out):
    runs = describe_runs()
    contents = [measured(run, (0, 4), values, shares) for run in runs]
    for number, state in enumerate(contents[0]):
        for split, of_split in state["layers"]["flatten"].items():
            of_split["fewest_images"] = {"train": 9 - number, "test": 3}[split]
    tables = collect(runs, contents)
    collapse(tables, runs)
    assert "\nDigits 8×8: a class has only 8 training images; of fewer" in out.md.read_text()
    contents = [measured(run, (0, 4), values, shares) for run in runs]
    collapse(collect(runs, contents), runs)
    assert "a class has only" not in out.md.read_text()


def test_collapse_of_one_seed_has_no_deviation_and_a_row_for_each_layer(collect, collapse, out):
    runs = describe_runs(layers=["conv1", "flatten"])
    contents = [measured(run, (0, 4), values, shares) for run in runs]
    collapse(collect(runs, contents), runs)
    text = out.md.read_text()
    rows = cells_of(text)
    assert rows[0][:4] == ["data set", "network", "layer", "epoch"]
    assert [row[2:7] for row in rows[1:]] == [
        ["conv1", "0", "", "", "0.500"],
        ["conv1", "4", "100.00", "90", "1.00"],
        ["flatten", "0", "", "", "0.500"],
        ["flatten", "4", "100.00", "90", "0.500"],
    ]
    assert "±" not in text
    assert pd.read_csv(out.csv)["sd"].isna().all()


def test_runs_that_failed_leave_cells_empty_and_are_named(collect, collapse, out, log):
    runs = describe_runs(settings=[{"weight_decay": 0.0}, {"weight_decay": 0.1}], seeds=(0, 1))

    def diverging(run, epoch, layer, split, quantity):
        fails = run.setting["weight_decay"] and epoch == 4
        return "the loss is not finite." if fails else values(run, epoch, layer, split, quantity)

    contents = [measured(run, (0, 4), diverging, shares) for run in runs]
    tables = collect(runs, contents)
    note = (
        "Failed, and left out: Digits 8×8, ResNet18, weight decay 0.1, seeds 0, 1, epoch 4: the "
        "loss is not finite.\n"
    )
    collapse(tables, runs)
    text = out.md.read_text()
    assert [any(row[3:]) for row in cells_of(text)[1:]] == [True, True, True, False]
    assert note in text
    told = {"swept_runs": runs, "datasets": DATASETS, "backbones": BACKBONES}
    read = {"measures": tables[0], "failures": tables[1], "training": log(runs)}
    sweep_table(Material(**read, **told), vars(out))
    text = out.md.read_text()
    assert cells_of(text) == [
        ["data set", "network", "recipe", "weight decay", *WORDS],
        # Of 90 and 91 the deviation is the root of 1/2; of 1 and 2 that of the logarithms is
        # log 2 over the root of 2.
        ["Digits 8×8", "ResNet18", "decay", "0", "100.00 ± 0.00", "90.5 ± 0.7", "1.41 ×÷ 1.63",
         *["0.250 ± 0.0"] * 3],
        ["Digits 8×8", "ResNet18", "decay", "0.1", *[""] * 6],
    ]  # fmt: skip
    assert note in text
    tidy = pd.read_csv(out.csv)
    assert set(tidy["epoch"]) == {4} and set(tidy["weight_decay"]) == {0.0}
    assert set(tidy["split"]) == {"train", "test"}


def test_the_log_of_training_becomes_tidy_rows(write, out):
    runs = describe_runs(settings=[{"learning_rate": 0.1}, {"learning_rate": 0.2}], seeds=(5,))
    records = [
        [
            {
                "epoch": epoch,
                "loss": 1.5 / epoch,
                "learning_rate": rate,
                "gradient_norm": 2.0,
                "last_batch_accuracy": 0.5,
            }
            for epoch in (1, 2)
        ]
        for rate in (0.1, 0.2)
    ]
    # Where test images leak, and nowhere else.
    for record in records[1]:
        record["validation_accuracy"] = 0.25
    training_table(Material(runs=runs, logs=write("log", records)), vars(out))
    table = pd.read_csv(out.csv)
    assert table.columns.tolist() == [
        *("dataset", "backbone", "start", "recipe", "learning_rate", "seed", "epoch"),
        *("quantity", "value"),
    ]
    expected = {"loss": 0.75, "gradient_norm": 2.0, "last_batch_accuracy": 0.5}
    for rate, more in ((0.1, {}), (0.2, {"validation_accuracy": 0.25})):
        of_epoch = table.query(f"learning_rate == {rate} and epoch == 2")
        found = of_epoch.set_index("quantity")["value"]
        assert found.to_dict() == {**expected, "learning_rate": rate, **more}
    assert len(table) == 2 * (4 + 5)


# --- variances ------------------------------------------------------------------------------

COORDINATES = "t-SNE coordinates"
NAMES = ["T-shirt/top", "Trouser", "Pullover"]


FOLDER = "resnet18/imagenet/epoch000/flatten"
LABELS = {FOLDER: "ResNet18"}
IDENTITY = {"dataset": "fashion_mnist", "backbone": "resnet18", "start": "imagenet", "seed": None}


def variance_records(feature=FOLDER):
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


@pytest.fixture
def make_variance_table(out, write_images, monkeypatch):
    """A function that tabulates records of some feature sets and gives the Markdown."""

    def make(published_names, features, records, names=NAMES):
        monkeypatch.setattr(variance, "compare_variances", lambda *_: records)
        told = {"variance_features": features, "variance_identities": {FOLDER: IDENTITY}}
        told |= {"variance_published": published_names, "variance_states": []}
        read = {"variance_images": write_images(names), "variance_embeddings": []}
        variance.variance_table(Material(**read, **told), vars(out))
        return out.md.read_text()

    return make


def test_variances_stand_beside_the_published_ones(make_variance_table, out):
    text = make_variance_table(
        {FOLDER: ["fashion_mnist", "resnet18_pretrained"]}, LABELS, variance_records()
    )
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


def test_variances_of_features_that_no_report_has_stand_alone(make_variance_table, out):
    text = make_variance_table({}, LABELS, variance_records())
    rows = {row[0]: row[1:] for row in cells_of(text)[1:]}
    assert rows["ResNet18, train: T-shirt/top"] == ["500.0", "", "123.5", "", ""]
    assert rows["ResNet18, test: T-shirt/top"] == ["77.0", "", "", "", ""]
    assert "published" not in text
    assert pd.read_csv(out.csv)["published"].isna().all()


def test_the_tidy_variances_keep_every_digit_and_whole_class_numbers(make_variance_table, out):
    make_variance_table({}, LABELS, variance_records())
    lines = out.csv.read_text().splitlines()
    assert len(lines) == 1 + len(variance_records())
    table = pd.read_csv(out.csv, dtype=str, keep_default_na=False)
    assert table["value"].tolist()[:3] == ["500.04", "900.0", "123.456"]
    assert table["class_b"].tolist() == ["", "1", "", "1", "1", ""]
    assert set(table["dataset"]) == {"fashion_mnist"} and set(table["start"]) == {"imagenet"}


def test_of_many_classes_the_widest_and_the_nearest_pairs_are_shown(make_variance_table, out):
    n = 30
    # The variance of class c is c; the means of c and c + 1 are c apart.
    kinds = [("features", "intra_class"), (COORDINATES, "intra_class")]
    records = [(*kind, c, None, c) for kind in kinds for c in range(n)]
    pairs = [(a, a + 1) for a in range(n - 1)]
    records += [("features", "mean_distance", a, b, a) for a, b in pairs]
    records += [("features", "pooled_pair", a, b, -a) for a, b in pairs]
    names = ("space", "quantity", "class_a", "class_b", "value")
    records = [
        {"features": FOLDER, "split": split, **dict(zip(names, record, strict=True))}
        for split in ("train", "test")
        for record in records
    ]
    text = make_variance_table({}, LABELS, records, [f"c{c}" for c in range(n)])
    shown = [row[0] for row in cells_of(text)[1:]]
    widest = [f"ResNet18, train: c{c}" for c in range(20, 30)]
    nearest = [f"ResNet18, train: c{a} / c{a + 1}" for a in range(10)]
    assert sorted(shown[:20]) == sorted(widest + nearest)
    assert len(shown) == 40
    # With what else is known of them.
    rows = {row[0]: row[1:] for row in cells_of(text)[1:]}
    assert rows["ResNet18, train: c29"] == ["29.0", "", "29", "", ""]
    assert rows["ResNet18, train: c3 / c4"] == ["", "", "", "-3", "3"]
    assert "Of 30 classes, on each feature set and split: the 10 with the largest" in text
    assert len(pd.read_csv(out.csv)) == len(records)


def test_features_that_failed_have_no_variances_and_are_named(make_variance_table):
    assert "Failed" not in make_variance_table({}, LABELS, variance_records())
    text = make_variance_table({}, {**LABELS, "vgg11": "VGG11"}, variance_records())
    assert "Failed, and left out: VGG11." in text
    assert len(cells_of(make_variance_table({}, {"vgg11": "VGG11"}, []))) == 1


# --- run times ------------------------------------------------------------------------------

BENCHMARK = "s\th:m:s\tmax_rss\tmax_vms\tmax_uss\tmax_pss\tio_in\tio_out\tmean_load\tcpu_time\n"


def make_runtime_table(tmp_path, out, measured, published_minutes=None):
    """A table of jobs with the seconds of their last run and what they wrote of their cost."""
    benchmarks, logs = [], []
    for number, (seconds, cost) in enumerate(measured.values()):
        benchmarks.append(tmp_path / f"{number}.tsv")
        # Snakemake's own samples of memory and processor time are of no use.
        benchmarks[-1].write_text(f"{BENCHMARK}{seconds}\t0:00:01\t5.1\t-\t1\t1\t0\t0\t90\t-\n")
        logs.append(tmp_path / f"{number}.log")
        if cost:
            keys = ("seconds_taken_over", "peak_memory_mib")
            cost_file(logs[-1]).write_text(json.dumps(dict(zip(keys, cost, strict=True))))
    told = {"jobs": list(measured), "job_logs": logs, "published_minutes": published_minutes or {}}
    runtime_table(Material(benchmarks=benchmarks, **told), vars(out))
    return out.md.read_text()


def test_run_times_are_those_of_the_whole_computation(tmp_path, out):
    measured = {
        ("prepare_dataset", "mnist", ""): (2.04, (0.0, 310.2)),
        ("pretrain", "", "resnet18"): (100.0, (0.0, 1234.5)),
        # Nine epochs in earlier runs, one in the last.
        ("finetune", "mnist", "resnet18"): (12.26, (90.0, 900.4)),
        ("embed", "digits", "raw-both-opentsne"): (0.9, None),
        ("tabulate_variance", "", ""): (3.0, (0.0, 99.0)),
    }
    text = make_runtime_table(tmp_path, out, measured)
    assert cells_of(text) == [
        ["job", "wall time, s", "peak memory, MiB"],
        ["prepare_dataset mnist", "2.0", "310"],
        ["pretrain, resnet18", "100.0", "1234"],
        ["finetune mnist, resnet18", "102.3", "900"],
        ["embed digits, raw-both-opentsne", "0.9", "not recorded"],
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
