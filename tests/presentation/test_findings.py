"""Sentences about a study: for which rows each appears, is denied, or cannot be told."""

import math

import numpy as np
import pandas as pd
import pytest
from made_up import RAW, cell, describe_features, describe_run
from scipy.stats import t

from collapseflow.measures.paired import pack
from collapseflow.presentation.findings import KINDS, as_records, find
from collapseflow.presentation.findings.features import best_features
from collapseflow.presentation.findings.limits import limits
from collapseflow.presentation.findings.results import (
    CANNOT_BE_TOLD,
    FOUND,
    NOT_FOUND,
    Finding,
    Results,
)
from collapseflow.presentation.findings.seeds import recipes_beyond_seeds, starts_beyond_seeds
from collapseflow.presentation.findings.terminal import terminal_phase
from collapseflow.presentation.findings.training import effect_of_training, train_and_test
from collapseflow.presentation.findings.words import smaller
from collapseflow.presentation.material import Material
from collapseflow.presentation.rows import COLUMNS, IDENTITY, read_csv
from collapseflow.presentation.tables.comparisons import comparison_table

DATASETS = {"digits": "Digits", "mnist": "MNIST"}
NO_FAILURES = pd.DataFrame(columns=[*IDENTITY, "epoch", "layer", "what", "reason"])
PROBE = "accuracy_linear"


def row(one, epoch, split, quantity, value, seed=None, low=math.nan, high=math.nan, n=1000):
    """A row of measures.csv of a run or a feature set."""
    layer = "" if quantity == "accuracy" else getattr(one, "layer", "")
    names = {key: getattr(one, key) for key in ("dataset", "backbone", "start", "recipe")}
    seed = getattr(one, "seed", seed)
    numbers = {"value": value, "low": low, "high": high, "n": n}
    where = {"epoch": epoch, "layer": layer, "split": split, "quantity": quantity}
    return {**names, "seed": seed, **where, **numbers}


def results(rows, runs=(), columns=(), comparisons=None, failures=NO_FAILURES, **more):
    table = pd.DataFrame(rows, columns=COLUMNS).astype({"seed": "Int64", "epoch": "Int64"})
    told = {"classifier": "linear", "classifier_label": "Probe", "datasets": DATASETS} | more
    return Results(table, failures, comparisons or {}, list(runs), list(columns), **told)


def only(findings):
    (finding,) = findings
    assert len(finding.short) <= 100 and finding.text.endswith(".")
    return finding


# --- features ---------------------------------------------------------------------------------

NET = describe_features("net/imagenet", label="Net, ImageNet")
SCATTERING = describe_features("scattering", start="", layer="", label="scattering", epoch=None)


def compared(*pairs):
    """The table of differences, as it is read: texts."""
    rows = []
    for a, b, difference, low, high, p in pairs:
        names = {
            f"{key}_{side}": value
            for side, one in (("a", a), ("b", b))
            for key, value in {
                **{key: getattr(one, key) for key in ("backbone", "start", "recipe", "layer")},
                "epoch": "" if one.epoch is None else str(one.epoch),
            }.items()
        }
        numbers = {"difference": difference, "low": low, "high": high, "p": p}
        numbers = {key: str(value) for key, value in numbers.items()}
        rows.append({**names, "classifier": "linear", **numbers})
    return pd.DataFrame(rows)


def accuracy(one, value, seed=None):
    half = 0.02
    return row(one, one.epoch, "test", PROBE, value, seed, low=value - half, high=value + half)


ALL_WORSE = compared(
    (RAW, SCATTERING, 0.01, -0.01, 0.03, 0.4),
    (RAW, NET, 0.05, 0.03, 0.07, 0.001),
    (SCATTERING, NET, 0.04, 0.02, 0.06, 0.004),
)
THREE = [accuracy(RAW, 0.9), accuracy(SCATTERING, 0.91), accuracy(NET, 0.95)]


def test_the_best_features_are_better_than_each_other_feature_set():
    columns = [RAW, SCATTERING, NET]
    finding = only(
        best_features(results(THREE, columns=columns, comparisons={"digits": ALL_WORSE}))
    )
    assert finding.verdict == FOUND
    assert finding.text == (
        "The best of 3 feature sets on Digits is “Net, ImageNet”: 95.0 % [93.0, 97.0] of 1,000 "
        "test images are right with “Net, ImageNet” and 91.0 % [89.0, 93.0] with scattering "
        "(Probe), +4.0 points [+2.0, +6.0], p = 0.004; the others are worse by more than chance "
        "(asked for: McNemar's test with p × 3 pairs < 0.05)."
    )
    assert finding.short == "Best of 3 feature sets on Digits: Net, ImageNet"
    assert finding.shown_in[0] == ("tabulate_comparison", "digits")


@pytest.mark.parametrize(
    ("difference", "why"),
    [
        ((0.04, 0.02, 0.06, 0.02), "p of 0.02 is 0.06 with the three pairs counted"),
        ((0.04, -0.01, 0.09, 0.001), "zero lies within the interval"),
    ],
)
def test_without_more_than_chance_no_features_are_called_the_best(difference, why):
    table = compared(
        (RAW, SCATTERING, 0.01, -0.01, 0.03, 0.4),
        (RAW, NET, 0.05, 0.03, 0.07, 0.001),
        (SCATTERING, NET, *difference),
    )
    found = results(THREE, columns=[RAW, SCATTERING, NET], comparisons={"digits": table})
    finding = only(best_features(found))
    assert finding.verdict == CANNOT_BE_TOLD, why
    assert "scattering may be as good as the first, the one other is worse" in finding.text
    short = "Best of 3 feature sets on Digits cannot be told; highest: Net, ImageNet"
    assert finding.short == short
    # The order of a pair in the table means nothing.
    a, b, (difference, low, high, p) = SCATTERING, NET, difference
    table = compared(
        (SCATTERING, RAW, -0.01, -0.03, 0.01, 0.4),
        (NET, RAW, -0.05, -0.07, -0.03, 0.001),
        (b, a, -difference, -high, -low, p),
    )
    found = results(THREE, columns=[RAW, SCATTERING, NET], comparisons={"digits": table})
    assert only(best_features(found)) == finding


def test_the_best_features_are_better_in_every_seed():
    tuned = describe_features("net/tuned", (0, 1), recipe="plain", epoch=3, label="tuned")
    table = compared((RAW, tuned, 0.05, 0.03, 0.07, 1e-6))
    for worst, verdict in ((0.92, FOUND), (0.89, CANNOT_BE_TOLD)):
        rows = [accuracy(RAW, 0.9), accuracy(tuned, 0.98, 0), accuracy(tuned, worst, 1)]
        found = results(rows, columns=[RAW, tuned], comparisons={"digits": table})
        finding = only(best_features(found))
        assert finding.verdict == verdict
        # Mean and standard deviation of 98 and 92, or 89, by hand.
        words = "95.0 ± 4.2 % (2 seeds)" if worst == 0.92 else "93.5 ± 6.4 % (2 seeds)"
        assert words in finding.text and "2 seeds" in finding.text


def test_data_sets_share_a_sentence_only_with_the_same_best_features():
    def on(dataset, one):
        return describe_features(
            one.features, dataset=dataset, label=one.label, epoch=one.epoch, layer=one.layer
        )

    columns = [on(d, one) for d in DATASETS for one in (RAW, NET)]
    rows = [accuracy(one, 0.95 if one.label == NET.label else 0.9) for one in columns]
    table = compared((columns[0], columns[1], 0.05, 0.03, 0.07, 1e-6))
    found = results(rows, columns=columns, comparisons=dict.fromkeys(DATASETS, table))
    finding = only(best_features(found))
    assert finding.text.startswith("The best of 2 feature sets on Digits and MNIST is")
    assert finding.short == "Best of 2 feature sets on 2 data sets: Net, ImageNet"
    other = compared((columns[2], columns[3], 0.05, -0.01, 0.11, 0.1))
    found = results(rows, columns=columns, comparisons={"digits": table, "mnist": other})
    assert [one.verdict for one in best_features(found)] == [FOUND, CANNOT_BE_TOLD]


def test_features_of_networks_that_have_taken_in_test_images_are_not_the_best():
    """Without them one pair is left: p of 0.03 is enough, and was 0.09 with three pairs."""
    tuned = describe_features("net/tuned", (0,), recipe="flawed", epoch=3, label="tuned")
    table = compared(
        (RAW, NET, 0.05, 0.03, 0.07, 0.03),
        (RAW, tuned, 0.08, 0.06, 0.1, 1e-6),
        (NET, tuned, 0.03, 0.01, 0.05, 1e-3),
    )
    rows = [accuracy(RAW, 0.9), accuracy(NET, 0.95), accuracy(tuned, 0.98, 0)]
    flawed = describe_run(recipe="flawed", label="Net, flawed")
    made = {"columns": [RAW, NET, tuned], "comparisons": {"digits": table}}
    assert only(best_features(results(rows, **made))).short.endswith("tuned")
    found = results(rows, **made, flawed=[flawed])
    assert only(best_features(found)).short == "Best of 2 feature sets on Digits: Net, ImageNet"
    assert only(limits(found)).text == (
        "Batch normalisation of “Net, flawed” has taken in test images: how right it is on others "
        "cannot be told."
    )


def test_feature_sets_are_found_again_in_the_tables_of_a_study(collect, write, out):
    """In measures.csv and in the comparison: by swept values, seeds and epochs."""
    tuned = [
        describe_features(
            f"net/{rate}", (0, 1), recipe="plain", epoch=3, setting={"rate": rate}, label=f"{rate}"
        )
        for rate in (0.5, 1.0)
    ]
    columns = [RAW, *tuned]
    n_right = (500, 700, 710, 900, 910)
    contents = [
        {"linear": cell(n / 1000, n_test=1000, correct=pack(np.arange(1000) < n))} for n in n_right
    ]
    measures, failures = collect([], [], columns, contents)
    told = {"columns": columns, "title": "Digits", "classifiers": {"linear": "Probe"}}
    comparison_table(Material(classification=write("classification", contents), **told), vars(out))
    made = results([], columns=columns, comparisons={"digits": read_csv(out.csv)})
    found = Results(**{**vars(made), "rows": read_csv(measures), "failures": read_csv(failures)})
    finding = only(best_features(found))
    assert finding.verdict == FOUND and finding.short == "Best of 3 feature sets on Digits: 1.0"
    assert "90.5 ± 0.7 % (2 seeds) of 1,000 test images are right with 1.0 and 70.5" in finding.text


def test_one_feature_set_is_not_the_best():
    assert best_features(results(THREE[:1], columns=[RAW])) == []


# --- before and after training ----------------------------------------------------------------


def measured_before_and_after(run, accuracies, nc1, half=0.02):
    rows = []
    for epoch, share, value in zip((0, run.last), accuracies, nc1, strict=True):
        ends = {"low": share - half, "high": share + half}
        rows.append(row(run, epoch, "test", "accuracy_nearest_mean", share, **ends))
        rows.append(row(run, epoch, "test", "nc1", value))
    return rows


@pytest.mark.parametrize(
    ("accuracies", "nc1", "verdict", "words"),
    [
        # Intervals of 0.02 on both sides: 0.84 to 0.88, 0.93 to 0.97; 1.4 / 0.1 = 14.
        ((0.86, 0.95), (1.4, 0.1), FOUND, ("more test images", "smaller", "(14 times smaller)")),
        ((0.95, 0.86), (0.1, 1.4), FOUND, ("fewer test images", "larger", "(14 times larger)")),
        # The intervals overlap, and a factor of 1.1 is what samples of images differ by.
        ((0.86, 0.89), (1.1, 1.0), CANNOT_BE_TOLD, ("whether more or", "whether NC1", "1.1 times")),
        ((0.86, 0.95), (1.1, 1.0), FOUND, ("more test images", "whether NC1", "1.1 times")),
    ],
)
def test_what_training_changed(accuracies, nc1, verdict, words):
    run = describe_run()
    finding = only(
        effect_of_training(results(measured_before_and_after(run, accuracies, nc1), [run]))
    )
    assert finding.verdict == verdict and all(word in finding.text for word in words)
    before, after = (f"{100 * a:.1f} % [{100 * a - 2:.1f}, {100 * a + 2:.1f}]" for a in accuracies)
    assert f"on Digits (ResNet18) {before} before and {after} after" in finding.text


def test_a_change_that_one_seed_does_not_show_cannot_be_told():
    runs = [describe_run(seed=seed) for seed in (0, 1)]
    rows = measured_before_and_after(runs[0], (0.86, 0.95), (1.4, 0.1))
    alike = rows + measured_before_and_after(runs[1], (0.84, 0.96), (1.2, 0.2))
    finding = only(effect_of_training(results(alike, runs)))
    assert finding.verdict == FOUND
    assert finding.short == (
        "Training on Digits: nearest mean 84.0–86.0 % → 95.0–96.0 %, NC1 6.0–14 times smaller"
    )
    other = rows + measured_before_and_after(runs[1], (0.86, 0.87), (1.2, 1.2))
    finding = only(effect_of_training(results(other, runs)))
    assert finding.verdict == CANNOT_BE_TOLD
    assert "% (chance?), NC1 1.0–14 times smaller (chance?)" in finding.short


def test_samples_of_images_that_differ_much_hide_a_change_of_nc1():
    """Raw pixels differ by a factor of 2 between as many training and test images."""
    run = describe_run()
    rows = measured_before_and_after(run, (0.86, 0.95), (1.8, 1.0))
    assert (
        "NC1 of the test images is smaller" in only(effect_of_training(results(rows, [run]))).text
    )
    rows += [
        row(RAW, None, split, "nc1", v) for split, v in (("test", 2.0), ("train_matched", 1.0))
    ]
    assert "whether NC1 of the test" in only(effect_of_training(results(rows, [run]))).text


def test_a_run_without_a_last_epoch_says_nothing():
    runs = [describe_run(), describe_run(backbone="vgg11")]
    rows = measured_before_and_after(runs[0], (0.86, 0.95), (1.4, 0.1))
    rows += measured_before_and_after(runs[1], (0.86, 0.95), (1.4, 0.1))[:2]
    finding = only(effect_of_training(results(rows, runs)))
    assert "(1 of 2 runs: ResNet18)" in finding.text
    assert effect_of_training(results(rows[4:], runs)) == []


# --- the terminal phase -----------------------------------------------------------------------


def course(run, accuracies, nc1):
    """Accuracy and NC1 of the training images after epochs 1, 2, ... (0 before)."""
    numbers = zip(range(1, run.last + 1), accuracies, nc1, strict=True)
    return [
        row(run, epoch, "train", quantity, value)
        for epoch, share, of_epoch in numbers
        for quantity, value in (("accuracy", share), ("nc1", of_epoch))
    ]


@pytest.mark.parametrize(
    ("accuracies", "nc1", "verdict", "words"),
    [
        ((0.9, 1, 1, 1), (4, 2, 1, 0.5), FOUND, "NC1 4.0 times smaller after epoch 4"),
        ((0.9, 0.9, 0.9, 0.998), (4, 2, 1, 0.5), NOT_FOUND, "99.8 % of the training images right"),
        # Nearly all are not all.
        ((0.9, 0.9, 0.9, 0.99998), (4, 2, 1, 0.5), NOT_FOUND, "99.998 % of the training images"),
        ((0.9, 1, 1, 1), (4, 2, 2, 1.9), NOT_FOUND, "does not clearly fall (asked for:"),
        # It falls by a factor of 1.5 on the whole, and rises by 2 in between.
        ((1, 1, 1, 1), (3, 1, 2, 2), NOT_FOUND, "does not clearly fall (asked for:"),
        ((0.9, 1, 1, 1), (4, 1, 2, 2), NOT_FOUND, "rises: on Digits (ResNet18) NC1 2.0 times"),
        ((0.9, 0.9, 0.9, 1), (4, 2, 1, 0.5), CANNOT_BE_TOLD, "first right after epoch 4"),
    ],
)  # fmt: skip
def test_the_terminal_phase(accuracies, nc1, verdict, words):
    run = describe_run()
    finding = only(terminal_phase(results(course(run, accuracies, nc1), [run])))
    assert finding.verdict == verdict and words in finding.text


def test_seeds_that_differ_in_the_terminal_phase_leave_it_open():
    runs = [describe_run(seed=seed) for seed in (0, 1)]
    rows = course(runs[0], (0.9, 1, 1, 1), (4, 2, 1, 0.5))
    rows += course(runs[1], (0.9, 0.9, 0.9, 0.9), (4, 2, 1, 0.5))
    finding = only(terminal_phase(results(rows, runs)))
    assert finding.verdict == CANNOT_BE_TOLD
    assert "90.0 % of the training images right after epoch 4, NC1 4.0 times" in finding.text


def test_recipes_that_differ_in_the_terminal_phase_have_a_sentence_each():
    runs = [describe_run(setting={"weight_decay": decay}) for decay in (0, 0.1)]
    keyed = [{"weight_decay": run.setting["weight_decay"]} for run in runs]
    rows = [
        {**one, "weight_decay": str(keys["weight_decay"])}
        for run, keys, nc1 in zip(runs, keyed, ((4, 2, 2, 2), (4, 2, 1, 0.5)), strict=True)
        for one in course(run, (0.9, 1, 1, 1), nc1)
    ]
    made = results([], runs)
    table = pd.DataFrame(rows).astype({"seed": "Int64", "epoch": "Int64"})
    stays, falls = terminal_phase(Results(**{**vars(made), "rows": table}))
    assert stays.verdict == NOT_FOUND and "1 of 2 runs: “ResNet18, weight decay 0”" in stays.text
    assert falls.verdict == FOUND and "“ResNet18, weight decay 0.1”" in falls.text


# --- training and test images -----------------------------------------------------------------


def on_both(run, test, train, fewest=100):
    rows = [row(run, run.last, s, "nc1", v) for s, v in (("test", test), ("train_matched", train))]
    return rows + [
        row(run, run.last, s, "fewest_images", fewest) for s in ("test", "train_matched")
    ]


@pytest.mark.parametrize(
    ("test", "train", "fewest", "verdict", "words"),
    [
        (0.6, 0.2, 100, FOUND, "larger on test images than on as many training images: on Digits "
         "(ResNet18) 3.0 times larger (factors up to 1.2 count as the choice of images)"),
        (0.2, 0.6, 100, FOUND, "3.0 times smaller"),
        (0.22, 0.2, 100, NOT_FOUND, "by no more than the choice of images"),
        (0.6, 0.2, 9, CANNOT_BE_TOLD, "fewer than 10 images of a class"),
    ],
)  # fmt: skip
def test_test_images_beside_as_many_training_images(test, train, fewest, verdict, words):
    run = describe_run()
    finding = only(train_and_test(results(on_both(run, test, train, fewest), [run])))
    assert finding.verdict == verdict and words in finding.text


def test_fewer_training_images_than_test_images_are_not_compared():
    """NC1 of noise grows with the number of images."""
    run = describe_run()
    rows = [
        row(run, run.last, "test", "nc1", 0.6),
        row(run, run.last, "train_matched", "nc1", 0.2, n=500),
    ]
    finding = only(train_and_test(results(rows, [run])))
    assert finding.verdict == CANNOT_BE_TOLD and "not as many training images" in finding.text


def test_other_numbers_of_images_are_not_compared():
    """The split `train` has other numbers of images of a class, and NC1 depends on them."""
    run = describe_run()
    rows = [row(run, run.last, s, "nc1", v) for s, v in (("test", 0.6), ("train", 0.2))]
    assert train_and_test(results(rows, [run])) == []


# --- seeds ------------------------------------------------------------------------------------


def last_epochs(runs, accuracies, nc1):
    rows = [row(r, r.last, "test", "accuracy", v) for r, v in zip(runs, accuracies, strict=True)]
    return rows + [row(r, r.last, "train", "nc1", v) for r, v in zip(runs, nc1, strict=True)]


def two_recipes(seeds):
    return [
        describe_run(seed=seed, recipe=recipe, label=recipe)
        for recipe in ("plain", "decay")
        for seed in range(seeds)
    ]


def test_what_recipes_differ_by_more_than_seeds():
    """NC1 of docs/terminal.md; Welch's t and its degrees of freedom follow by hand.

    Logarithms of NC1: means -1.643 and -4.086, standard deviations 0.676 and 0.183; t = 2.443 /
    sqrt((0.676² + 0.183²) / 3) = 6.04 with (0.676² + 0.183²)² / ((0.676⁴ + 0.183⁴) / 2) = 2.29
    degrees of freedom. Geometric means: cube roots of 0.007245 and 0.00000475, 0.193 and 0.0168.
    Accuracies 96.4 ± 0.3 and 97.1 ± 0.4: t = 0.7 / sqrt((0.3² + 0.4²) / 3) = 2.425 with 3.71.
    """
    of_logarithms, of_shares = 2 * t.sf(6.04, 2.29), 2 * t.sf(2.425, 3.71)
    assert 2 * of_logarithms < 0.05 < of_shares
    runs = two_recipes(3)
    shares = (0.961, 0.964, 0.967, 0.967, 0.971, 0.975)
    rows = last_epochs(runs, shares, (0.157, 0.112, 0.412, 0.0168, 0.0202, 0.0140))
    of_accuracy, of_nc1 = recipes_beyond_seeds(results(rows, runs))
    assert of_nc1.verdict == FOUND
    assert of_nc1.text == (
        "Recipes differ in NC1 of the training images by more than seeds do (asked for: Welch's t "
        "test with p × 2 comparisons < 0.05): Digits, plain 0.193 against decay 0.0168 (12 times, "
        f"geometric means, 3 seeds, p = {of_logarithms:.2g})."
    )
    assert of_accuracy.verdict == CANNOT_BE_TOLD
    assert "plain 96.40 ± 0.30 % against decay 97.10 ± 0.40 % (3 seeds" in of_accuracy.text
    assert f"p = {of_shares:.2g}" in of_accuracy.text
    assert starts_beyond_seeds(results(rows, runs)) == []


@pytest.mark.parametrize("seeds", [1, 2])
def test_few_seeds_cannot_tell_recipes_apart(seeds):
    runs = two_recipes(seeds)
    rows = last_epochs(runs, [0.5] * seeds + [0.9] * seeds, [1.0] * seeds + [0.1] * seeds)
    findings = recipes_beyond_seeds(results(rows, runs))
    assert [one.verdict for one in findings] == [CANNOT_BE_TOLD] * 2
    assert all("cannot be told from fewer than 3 seeds" in one.text for one in findings)


def test_starts_are_compared_under_the_same_recipe():
    runs = [
        describe_run(seed=seed, start=start, label=f"{start}, {recipe}", recipe=recipe)
        for start in ("random", "imagenet")
        for recipe in ("plain", "decay")
        for seed in range(3)
    ]
    spread = np.array([-0.001, 0, 0.001])
    shares = np.concatenate([share + spread for share in (0.90, 0.91, 0.95, 0.97)])
    findings = starts_beyond_seeds(results(last_epochs(runs, shares, np.full(12, 0.1)), runs))
    assert [one.verdict for one in findings] == [FOUND, CANNOT_BE_TOLD]
    # Two pairs of starts, each by two quantities.
    assert (
        "in 2 of 2 pairs (asked for: Welch's t test with p × 4 comparisons < 0.05); of these "
        "the largest difference: Digits, "
    ) in findings[0].text
    assert findings[0].short == (
        "Starts differ in accuracy on the test images in 2 of 2 pairs; Digits: 6.0 points"
    )
    assert findings[1].short == (
        "Whether starts differ in NC1 of the training images cannot be told; Digits: 1.0 times"
    )
    words = "“random, decay” 91.00 ± 0.10 % against “imagenet, decay” 97.00 ± 0.10 % (3 seeds"
    assert words in findings[0].text


def test_nothing_is_said_of_one_recipe_and_one_start():
    runs = [describe_run(seed=seed) for seed in range(3)]
    made = results(last_epochs(runs, (0.9, 0.91, 0.92), (0.1, 0.2, 0.3)), runs)
    assert recipes_beyond_seeds(made) == starts_beyond_seeds(made) == []


# --- limits -----------------------------------------------------------------------------------


def test_a_study_without_limits_has_none():
    runs = [describe_run(seed=seed) for seed in range(3)]
    rows = [one for run in runs for one in course(run, (0.9, 1, 1, 1), (4, 2, 1, 0.5))]
    rows += [row(RAW, None, "test", "cdnv", 2.0), row(RAW, None, "test", "fewest_images", 100)]
    assert limits(results(rows, runs, [RAW])) == []


def test_every_limit_is_said():
    run = describe_run()
    rows = course(run, (0.9, 0.9, 0.9, 0.95), (4, 2, 1, 0.5))
    # CDNV of noise is 100 / 2 = 50, and nine tenths of it are 45.
    rows += [row(NET, 0, "test", "cdnv", 45.5), row(NET, 0, "test", "fewest_images", 100)]
    rows += [row(RAW, None, "test", "cdnv", 2.0), row(RAW, None, "test", "fewest_images", 9)]
    failures = pd.DataFrame(
        [
            {**dict.fromkeys(IDENTITY), "epoch": 2, "what": f"Digits, {name}", "reason": "lost"}
            for name in ("VGG11", "Other")
        ]
    ).astype({"seed": "Int64", "epoch": "Int64"})
    made = results(rows, [run], [RAW, NET], failures=failures, subsets=["mnist"])
    assert [one.text for one in limits(made)] == [
        "One seed: how far other seeds would differ cannot be told.",
        "The runs end at epoch 4, before the terminal phase: what NC1 does there cannot be told.",
        "Of MNIST only a part of the images is used.",
        "What failed is left out: Digits, VGG11, epoch 2: lost (and 1 more, see failures.csv).",
        "Digits: a class has only 9 test images; of fewer than 10, the variance within the class "
        "comes out too small.",
        "CDNV of the test images is no less than noise has (half the images of a class): NC1 and "
        "NC2 say nothing of “Net, ImageNet on Digits”.",
    ]


def test_test_images_that_are_training_images_are_a_limit():
    made = results([], [], [RAW], repeated={"mnist": (1, 400), "digits": (12, 1_000)})
    (sentence,) = [one.text for one in limits(made) if "training images, too" in one.text]
    assert "1 of the 400 test images of MNIST" in sentence
    assert "12 of the 1,000 test images of Digits" in sentence
    without = limits(results([], [], [RAW]))
    assert not any("training images, too" in one.text for one in without)


# --- all of them ------------------------------------------------------------------------------


def test_a_study_that_compares_nothing_and_trains_nothing_finds_nothing():
    assert find(results([row(RAW, None, "test", "nc1", 1.0)], columns=[RAW])) == []


def test_findings_come_kind_by_kind_and_limits_last():
    runs = two_recipes(1)
    rows = last_epochs(runs, (0.9, 0.95), (0.1, 0.2))
    for run in runs:
        rows += measured_before_and_after(run, (0.86, 0.95), (1.4, 0.1))
        rows += on_both(run, 0.1, 0.05)[1:]
    kinds = [one.kind for one in find(results(rows, runs))]
    assert kinds == sorted(kinds, key=list(KINDS).index) and kinds[-1] == "limits"
    assert {"training", "train and test", "recipes"} < set(kinds)


def test_links_are_of_what_the_study_has():
    shown_in = (("plot_probes", ""), ("plot_collapse", "digits"), ("tabulate_sweep", ""))
    finding = Finding("training", "Long.", "Short " * 30, FOUND, shown_in)
    contents = [
        {"rule": "plot_probes", "dataset": "", "files": {"pdf": "p.pdf", "png": "p.png"}},
        {"rule": "plot_collapse", "dataset": "mnist", "files": {"png": "m.png"}},
        {"rule": "tabulate_sweep", "dataset": "", "files": {"csv": "s.csv", "md": "s.md"}},
    ]
    (record,) = as_records([finding], contents)
    assert record.pop("short") == "Short " * 16 + "…" and len(finding.short) <= 100
    assert record == {
        "kind": "training",
        "text": "Long.",
        "verdict": "found",
        "links": ["p.png", "s.md"],
    }


@pytest.mark.parametrize(
    ("falls", "expected"),
    [
        ([3.42, 13.7], "3.4 to 14 times smaller"),
        ([0.5, 0.25], "2.0 to 4.0 times larger"),
        ([0.5, 2.0], "from 2.0 times larger to 2.0 times smaller"),
        # Nothing is 1.0 times larger.
        ([0.9998, 1.2], "1.0 to 1.2 times smaller"),
        ([1.0002, 0.5], "1.0 to 2.0 times larger"),
    ],
)
def test_a_factor_that_reads_as_one_is_neither_a_fall_nor_a_rise(falls, expected):
    assert smaller(falls) == expected
