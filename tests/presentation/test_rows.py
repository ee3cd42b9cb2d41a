"""The tidy rows of a study against numbers worked out by hand."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up import (
    DATASETS,
    MEASURED,
    RAW,
    cell,
    describe_features,
    describe_run,
    describe_runs,
    measured,
)
from scipy.stats import binomtest, gmean, gstd

from collapseflow.presentation.rows import (
    COLUMNS,
    failures_in_words,
    few_images_in_words,
    networks_in_words,
    over_seeds,
    read_csv,
    run_rows,
    seeds_in_words,
    several_seeds,
    write_csv,
)
from collapseflow.running.errors import UserError


def number(run, epoch, layer, split, quantity):
    """A value that says where it is from."""
    parts = [run.seed, epoch, run.layers.index(layer), ["train", "test"].index(split)]
    return float("".join(map(str, parts))) + MEASURED.index(quantity) / 10


def no_head_before_training(run, epoch, split):
    return None if epoch == 0 else 0.95


def test_a_row_for_every_measure_layer_and_split_and_one_accuracy_a_split(collect):
    runs = describe_runs(seeds=(0, 3), layers=["conv1", "flatten"], last=2)
    contents = [measured(run, (0, 2), number, no_head_before_training) for run in runs]
    table = read_csv(collect(runs, contents)[0])
    assert table.columns.tolist() == COLUMNS
    # 2 seeds x 2 epochs x 2 layers x 2 splits x 4 measures, accuracies of the last epoch.
    assert len(table) == 64 + 4
    found = table.query("quantity == 'nc2_equinorm' and layer == 'flatten' and split == 'test'")
    assert dict(
        zip(zip(found["seed"], found["epoch"], strict=True), found["value"], strict=True)
    ) == {
        (0, 0): 11.1,
        (0, 2): 211.1,
        (3, 0): 3011.1,
        (3, 2): 3211.1,
    }
    assert set(found["n"]) == {400}
    assert found["low"].isna().all()
    accuracies = table[table["quantity"] == "accuracy"].set_index(["seed", "split"])
    assert accuracies["layer"].tolist() == [""] * 4
    interval = binomtest(380, 400).proportion_ci(method="wilson")
    on_test = accuracies.loc[(3, "test")]
    assert (on_test["value"], on_test["n"]) == (0.95, 400)
    assert (on_test["low"], on_test["high"]) == pytest.approx((interval.low, interval.high))
    assert accuracies.xs("train", level="split")[["low", "high"]].isna().all(axis=None)


def test_the_fewest_images_of_a_class_have_a_row_on_each_split(collect):
    run = describe_run(last=0)
    counts = {"train": 60, "test": 9, "train_matched": 3}
    of_splits = {
        split: {"nc1": 0.5, "accuracy": 0.75, "n_samples": 5 * n, "fewest_images": n}
        for split, n in counts.items()
    }
    content = [{"epoch": 0, "layers": {"flatten": of_splits}}]
    table = read_csv(collect([run], [content])[0])
    assert table.columns.tolist() == COLUMNS
    fewest = table[table["quantity"] == "fewest_images"].set_index("split")
    assert fewest["value"].to_dict() == counts
    assert set(fewest["layer"]) == {"flatten"} and fewest.loc["test", "n"] == 45
    # Training images are no sample, also where only some of them are measured.
    matched = table[(table["quantity"] == "accuracy") & (table["split"] == "train_matched")]
    assert matched["value"].tolist() == [0.75]
    assert matched[["low", "high"]].isna().all(axis=None)
    few = (
        "Digits 8×8: a class has only 9 test images and 3 matched training images; of fewer than "
        "10, the variance within the class comes out too small"
    )
    assert few_images_in_words(table, DATASETS) == [few]
    shown = table[table["split"] == "train"]
    assert few_images_in_words(shown, DATASETS) == []


def test_few_images_are_told_once_for_a_data_set():
    rows = pd.DataFrame(
        [
            ("digits", "test", "fewest_images", 4.0),
            ("digits", "test", "fewest_images", 1.0),
            ("digits", "test", "nc1", 0.5),
            ("fashion", "test", "fewest_images", 10.0),
            ("mnist5k", "train", "fewest_images", 2.0),
        ],
        columns=["dataset", "split", "quantity", "value"],
    )
    first, second = few_images_in_words(rows, DATASETS)
    assert first.startswith("Digits 8×8: a class has only 1 test image; ")
    assert second.startswith("MNIST subset: a class has only 2 training images; ")


def test_classifiers_have_rows_under_the_names_of_their_feature_sets(collect):
    seeded = describe_features("vgg11/random", (0, 1), start="random")
    tuned = describe_features("vgg11/imagenet/plain", (1,), epoch=10, recipe="plain")
    features = [RAW, seeded, tuned]
    cells = [{"lr": cell(0.25 + n / 8), "rf": cell(0.5)} for n in range(4)]
    table = read_csv(collect([], [], features, cells)[0])
    found = table[table["quantity"] == "accuracy_lr"].set_index("value")
    assert found["backbone"].to_dict() == {
        0.25: "raw",
        0.375: "vgg11",
        0.5: "vgg11",
        0.625: "vgg11",
    }
    assert found["recipe"].to_dict() == {0.25: "", 0.375: "", 0.5: "", 0.625: "plain"}
    assert found["seed"].fillna(-1).tolist() == [-1, 0, 1, 1]
    assert found["epoch"].fillna(-1).tolist() == [-1, 0, 0, 10]
    assert found["layer"].tolist() == ["", "flatten", "flatten", "flatten"]
    assert set(table["split"]) == {"test"} and set(table["n"]) == {3000}
    assert found["high"].tolist() == pytest.approx([0.27, 0.395, 0.52, 0.645])
    assert set(table["quantity"]) == {"accuracy_lr", "accuracy_rf"}


def test_unequal_classes_have_a_balanced_accuracy_beside_the_other(collect):
    unequal = cell(0.75, confusion=[[270, 30], [70, 30]], n_test=400)
    table = read_csv(collect([], [], [RAW], [{"lr": unequal, "rf": cell(0.5)}])[0])
    assert table["quantity"].tolist() == ["accuracy_lr", "balanced_accuracy_lr", "accuracy_rf"]
    row = table.iloc[1]
    assert (row["split"], row["value"], row["n"]) == ("test", pytest.approx(0.6), 400)
    # By the square of the intervals of both recalls.
    ends = [binomtest(k, n).proportion_ci(method="wilson") for k, n in ((270, 300), (30, 100))]
    below = math.hypot(0.9 - ends[0].low, 0.3 - ends[1].low) / 2
    assert row["low"] == pytest.approx(0.6 - below) and row["high"] > 0.62


def test_what_no_training_touched_is_measured_under_its_own_name(collect):
    start = describe_features("vgg11/random", (0, 1), start="random")

    def of_raw(run, epoch, layer, split, quantity):
        return {"nc1": 0.5 if split == "train" else 0.25}.get(quantity, 1.0)

    # Raw pixels have no epoch, and their layer has no name.
    sets = [describe_run(layers=[""]), describe_run(layers=["flatten"], seed=1)]
    measured_sets = [measured(sets[0], [None], of_raw, no_head_before_training)]
    measured_sets[0][0]["layers"][""]["train"].pop("accuracy")
    measured_sets[0][0]["layers"][""]["test"].pop("accuracy")
    measured_sets += [measured(sets[1], [0], of_raw, no_head_before_training)] * 2
    table = read_csv(collect([], [], untrained=[RAW, start], measured=measured_sets)[0])
    found = table[(table["quantity"] == "nc1") & (table["split"] == "test")]
    assert found["backbone"].tolist() == ["raw", "vgg11", "vgg11"]
    assert found["epoch"].fillna(-1).tolist() == [-1, 0, 0]
    assert found["seed"].fillna(-1).tolist() == [-1, 0, 1]
    assert found["recipe"].tolist() == ["", "", ""]
    assert found["value"].tolist() == [0.25] * 3


def test_spectrum_and_few_shot_have_rows_beside_the_classifiers(collect):
    train = {"effective_rank": 3.5, "two_nn": 7.0}
    spectrum = {
        "train": {**train, "n_samples": 60, "n_sample": 50, "duplicates": 2},
        "test": {"two_nn": 6.0, "n_samples": 40, "n_sample": 40, "duplicates": 0},
        "made_with": [],
    }
    shots = {
        "1": {"accuracies": [0.25, 0.5, 0.75], "bound": None},
        "10": {"accuracies": [0.5, 0.5, 0.5], "bound": 0.75},
    }
    few_shot = {"shots": shots, "all": 0.625, "n_test": 38, "made_with": []}
    cells = [{"lr": cell(0.5)}]
    paths = collect([], [], [RAW], cells, spectrum=[spectrum], few_shot=[few_shot])
    table = read_csv(paths[0])
    rows = table[table["quantity"] != "accuracy_lr"]
    assert dict(
        zip(zip(rows["quantity"], rows["split"], strict=True), rows["value"], strict=True)
    ) == {
        ("effective_rank", "train"): 3.5,
        ("two_nn", "train"): 7.0,
        ("two_nn", "test"): 6.0,
        ("accuracy_few_shot_1", "test"): 0.5,
        ("accuracy_few_shot_10", "test"): 0.5,
        ("few_shot_bound_10", "test"): 0.75,
        ("accuracy_few_shot_all", "test"): 0.625,
    }
    by_name = rows.set_index(["quantity", "split"])
    assert by_name.loc[("effective_rank", "train"), "n"] == 60
    # Of a sample, without those that equal another.
    assert by_name.loc[("two_nn", "train"), "n"] == 48
    # Three draws with standard deviation 1/4; t of two degrees of freedom is 4.3027.
    first = by_name.loc[("accuracy_few_shot_1", "test")]
    assert first["n"] == 3
    assert first["high"] - 0.5 == pytest.approx(4.302653 * 0.25 / math.sqrt(3))
    same = by_name.loc[("accuracy_few_shot_10", "test")]
    assert (same["low"], same["high"]) == (0.5, 0.5)
    of_images = by_name.loc[[("few_shot_bound_10", "test"), ("accuracy_few_shot_all", "test")]]
    assert of_images["n"].tolist() == [38, 38] and of_images["low"].isna().all()


def test_an_analysis_of_features_that_failed_is_told_once(collect):
    lost = {"failed": "features are not finite"}
    dead = describe_features("vgg11/imagenet", label="VGG11, ImageNet")
    cells = [{"lr": lost}]
    paths = collect([], [], [dead], cells, spectrum=[lost], few_shot=[lost])
    assert len(read_csv(paths[0])) == 0
    assert failures_in_words(read_csv(paths[1])) == [
        "Digits 8×8, VGG11, ImageNet, flatten, epoch 0: features are not finite",
    ]


@pytest.mark.parametrize(
    ("analysis", "content"),
    [
        ("classification", {"lr": {"accuracy": 0.5}}),
        ("classification", {"lr": None}),
        ("classification", [1, 2]),
        ("spectrum", {"train": {"n_samples": 5, "rankme": 2.0}}),
        ("few_shot", {"n_test": 3, "shots": {"1": {}}}),
    ],
)
def test_results_of_another_shape_end_in_one_line_with_their_file(collect, analysis, content):
    features = [describe_features("raw")]
    of = {"cells": [{"lr": {"failed": "lost"}}], analysis: [content]}
    if analysis == "classification":
        of = {"cells": [content]}
    with pytest.raises(UserError, match=rf"{analysis}-0\.json: cannot be read [^\n]+made anew$"):
        collect([], [], features, **of)


def test_swept_keys_are_columns_that_are_empty_where_they_do_not_apply(collect):
    runs = [
        describe_run(setting={"weight_decay": 0.0, "loss": "mse"}),
        describe_run(setting={"weight_decay": 5e-4, "loss": "mse"}),
        describe_run(setting={"head_gain": None}, recipe="gain"),
        describe_run(),
    ]
    contents = [measured(run, (0,), number, no_head_before_training) for run in runs]
    path, _ = collect(runs, contents)
    table = read_csv(path)
    assert table.columns.tolist() == [*COLUMNS, "weight_decay", "loss", "head_gain"]
    settings = table[["recipe", "weight_decay", "loss", "head_gain"]].drop_duplicates()
    assert settings.to_numpy().tolist() == [
        ["decay", "0", "mse", ""],
        ["decay", "0.0005", "mse", ""],
        ["gain", "", "", "none"],
        ["plain", "", "", ""],
    ]
    # pandas alone reads the numbers as numbers.
    assert pd.read_csv(path)["weight_decay"].dropna().unique().tolist() == [0.0, 0.0005]
    for run in runs:
        chosen = run_rows(table, [run])
        assert len(chosen) == 8 and set(chosen["series"]) == {run.series}


def test_what_failed_has_no_rows_and_is_told_with_its_reason(collect):
    runs = describe_runs(seeds=(0, 1, 2), last=5)

    def diverging(run, epoch, layer, split, quantity):
        fails = run.seed > 0 and epoch >= 4
        return "features are not finite" if fails else number(run, epoch, layer, split, quantity)

    contents = [measured(run, range(6), diverging, no_head_before_training) for run in runs]
    # The same run's features have no classifiers, for the same reason; others fail on their own.
    tuned = describe_features(
        "resnet18/random/plain", (0, 1), start="random", recipe="plain", epoch=5, label="tuned"
    )
    dead = describe_features("vgg11/imagenet", label="VGG11, ImageNet")
    lost = {"lr": {"failed": "features are not finite"}}
    cells = [{"lr": cell(0.5)}, lost, lost]
    measures, failures = collect(runs, contents, [tuned, dead], cells)
    table = read_csv(measures)
    assert table.groupby("seed")["epoch"].max().to_dict() == {0: 5, 1: 3, 2: 3}
    assert (table["quantity"] == "accuracy_lr").sum() == 1
    told = read_csv(failures)
    assert told["seed"].fillna(-1).tolist() == [1, 2, -1]
    assert told["epoch"].tolist() == [4, 4, 0]
    assert failures_in_words(told) == [
        "Digits 8×8, ResNet18, seeds 1, 2, epoch 4: features are not finite",
        "Digits 8×8, VGG11, ImageNet, flatten, epoch 0: features are not finite",
    ]


def test_one_failed_layer_leaves_the_others_and_the_accuracy(collect):
    run = describe_run(layers=["conv1", "flatten"])

    def collapsing(run, epoch, layer, split, quantity):
        fails = layer == "conv1" and split == "train" and epoch == 1
        return "a class mean coincides" if fails else number(run, epoch, layer, split, quantity)

    content = measured(run, range(3), collapsing, lambda run, epoch, split: 0.75)
    measures, failures = collect([run], [content])
    table = read_csv(measures)
    # Of 3 epochs x 2 layers x 2 splits one is missing.
    assert (table["quantity"] == "nc1").sum() == 11
    assert (table["quantity"] == "accuracy").sum() == 6
    assert failures_in_words(read_csv(failures)) == [
        "Digits 8×8, ResNet18, conv1, seed 0, epoch 1: a class mean coincides"
    ]


def test_means_and_standard_deviations_are_those_of_the_seeds():
    rows = pd.DataFrame(
        {"who": ["a", "a", "a", "b"], "seed": [0, 1, 2, 0], "value": [1.0, 2.0, 6.0, 5.0]}
    ).assign(quantity="accuracy", low=[0.5, 1, 5, 4], high=[1.5, 3, 6, math.nan])
    a, b = over_seeds(rows, ["who"]).itertuples(index=False)
    # Mean 3; deviations -2, -1, 3: squares 14, over 2.
    assert (a.who, a.mean, a.n_seeds) == ("a", 3, 3)
    assert a.sd == pytest.approx(math.sqrt(7))
    assert (b.mean, b.n_seeds) == (5, 1) and math.isnan(b.sd)
    # Half of the intervals: 0.5, 1 and 0.5.
    assert a.half_width == pytest.approx(2 / 3) and math.isnan(b.half_width)
    assert not a.geometric


def test_what_figures_draw_on_logarithmic_axes_has_geometric_means():
    values = np.array([0.5, 2.0, 40.0])
    bare = {"low": math.nan, "high": math.nan}
    quantities = ("nc1", "cdnv", "nc2_equinorm", "accuracy", "effective_rank")
    rows = pd.DataFrame(
        [{"quantity": q, "value": value, **bare} for value in values for q in quantities]
    )
    table = over_seeds(rows, ["quantity"]).set_index("quantity")
    for quantity in ("nc1", "cdnv"):
        assert table.loc[quantity, "mean"] == pytest.approx(gmean(values))
        assert table.loc[quantity, "sd"] == pytest.approx(gstd(values))
    for quantity in quantities[2:]:
        assert table.loc[quantity, "mean"] == pytest.approx(values.mean())
        assert table.loc[quantity, "sd"] == pytest.approx(values.std(ddof=1))
    assert table["geometric"].tolist() == [True, True, False, False, False]
    # Classes that have collapsed in one of the seeds.
    rows = pd.DataFrame([{"quantity": "nc1", "value": value, **bare} for value in (0.0, 1.0)])
    (one,) = over_seeds(rows, ["quantity"]).itertuples()
    assert one.mean == 0 and math.isnan(one.sd)


def test_names_that_look_like_numbers_or_nothing_stay_names(tmp_path):
    table = pd.DataFrame({"dataset": ["NA", "1e3", "null"], "value": [0.1, 1 / 3, 1e-17]})
    write_csv(tmp_path / "table.csv", table)
    again = read_csv(tmp_path / "table.csv")
    assert again["dataset"].tolist() == ["NA", "1e3", "null"]
    assert again["value"].tolist() == [0.1, 1 / 3, 1e-17]


def test_what_is_no_table_is_told_in_one_line(tmp_path):
    (tmp_path / "picture.png").write_bytes(b"\x89PNG\r\n\xff")
    with pytest.raises(UserError, match=r"picture\.png: cannot be read [^\n]+$"):
        read_csv(tmp_path / "picture.png")


def test_seeds_and_networks_in_words():
    runs = describe_runs(backbones=("resnet18", "vgg11"), seeds=(2, 0))
    assert seeds_in_words(runs) == "seeds 0, 2"
    assert seeds_in_words(runs[:1]) == "seed 2"
    assert several_seeds(runs)
    assert not several_seeds([runs[0], describe_run(seed=1, dataset="fashion")])
    runs.append(describe_run(backbone="vgg11", start="imagenet", start_label="ImageNet"))
    assert networks_in_words(runs, {"resnet18": "R", "vgg11": "V"}) == {
        ("resnet18", "random"): "R",
        ("vgg11", "random"): "V, random",
        ("vgg11", "imagenet"): "V, ImageNet",
    }
