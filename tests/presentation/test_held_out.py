"""The best point of a sweep: by held-out training images, whatever the test images say."""

import math
from dataclasses import replace

import pandas as pd
import pytest
from made_up import BACKBONES, DATASETS, EVERYTHING, describe_runs, measured, words_of

from collapseflow.presentation.figures.sweep import plot_sweep
from collapseflow.presentation.figures.training import plot_training
from collapseflow.presentation.held_out import best_points, final_accuracies
from collapseflow.presentation.material import Material
from collapseflow.presentation.tables.runs import sweep_table
from collapseflow.study.schema import Style

RATES = (0.1, 0.2, 0.3)
#: By rate and seed, the accuracy on held-out images after the last epoch. Means: 0.80, 0.85, 0.84.
FINAL = {0.1: (0.7, 0.9), 0.2: (0.9, 0.8), 0.3: (0.84, 0.84)}


def sweep(seeds=(0, 1), key="learning_rate", **more):
    return describe_runs(settings=[{key: rate} for rate in RATES], seeds=seeds, **more)


def validated(run, epoch):
    """Before the last epoch the first point is the best."""
    (rate,) = run.setting.values()
    final = FINAL[rate][run.seed]
    accuracy = final if epoch == run.last else 1 - rate
    return {"validation_accuracy": accuracy, "validation_loss": 1 - accuracy}


def share(run, epoch, split):
    """The test images prefer the last point."""
    (rate,) = run.setting.values()
    return rate + 0.01 * run.seed


def names(points):
    """Their swept values."""
    return [series.rpartition(" ")[2] for _, series in points]


def found(log, runs, more=validated):
    return names(best_points(final_accuracies(log(runs, more), runs), runs))


# --- which point ------------------------------------------------------------------------------


def test_the_best_point_has_the_best_mean_after_the_last_epoch(log):
    runs = sweep()
    accuracies = final_accuracies(log(runs, validated), runs)
    means = accuracies.groupby("series", sort=False)["validation_accuracy"].mean()
    assert means.tolist() == pytest.approx([0.8, 0.85, 0.84])
    assert names(best_points(accuracies, runs)) == ["0.2"]


def test_of_equal_accuracies_the_smaller_loss_decides(log):
    def equal(run, epoch):
        return {"validation_accuracy": 0.5, "validation_loss": run.setting["learning_rate"]}

    assert found(log, sweep(), equal) == ["0.1"]


def test_where_training_stopped_the_best_epoch_s_network_counts(log):
    def stopped(run, epoch):
        values = {"validation_accuracy": 0.5 if epoch > 1 else 0.95, "validation_loss": 0.5}
        if run.setting["learning_rate"] != 0.3:
            return validated(run, epoch)
        return values | ({"best_epoch": 1} if epoch == 3 else {})

    assert found(log, sweep(), stopped) == ["0.3"]


def test_a_point_of_which_a_run_failed_is_not_chosen(log):
    runs = sweep()

    def failing(run, epoch):
        lost = run.setting["learning_rate"] == 0.2 and run.seed == 1 and epoch == run.last
        return {} if lost else validated(run, epoch)

    assert found(log, runs, failing) == ["0.3"]


def test_each_network_and_data_set_has_its_own(log):
    runs = sweep(datasets=("digits", "fashion"), backbones=("resnet18", "vgg11"))

    def shifted(run, epoch):
        better = (run.dataset, run.backbone) == ("fashion", "vgg11")
        if better and run.setting["learning_rate"] == 0.1:
            return {"validation_accuracy": 0.99, "validation_loss": 0.1}
        return validated(run, epoch)

    assert found(log, runs, shifted) == ["0.2", "0.2", "0.2", "0.1"]


def test_without_held_out_images_none_is_the_best(log):
    def leaking(run, epoch):
        return {"validation_accuracy": share(run, epoch, "test")}

    assert found(log, sweep(), lambda run, epoch: {}) == []
    # The accuracy of test images in training mode has the same name.
    assert found(log, sweep(), leaking) == []


def test_points_that_hold_out_different_images_are_not_compared(log):
    assert found(log, sweep(key="validation")) == []


def test_one_point_is_no_choice(log):
    assert found(log, sweep()[:2]) == []


# --- as tables and figures tell it ------------------------------------------------------------


@pytest.fixture
def tables(collect):
    """A function that writes measures and failures of a sweep."""

    def write(runs):
        contents = [measured(run, (0, run.last), lambda *_: 0.5, share) for run in runs]
        return collect(runs, contents)

    return write


def material_of(tables, training, runs):
    told = {"runs": runs, "swept_runs": runs, "datasets": DATASETS, "backbones": BACKBONES}
    read = {"measures": tables[0], "failures": tables[1], "training": training}
    return Material(**read, **told, **EVERYTHING, style=Style().drawn)


def rows_of(text):
    lines = [line for line in text.splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [rows[0], *rows[2:]]


def test_the_table_names_the_best_point_and_says_what_its_test_accuracy_is(tables, log, out):
    runs = sweep()
    sweep_table(material_of(tables(runs), log(runs, validated), runs), vars(out))
    text = out.md.read_text()
    header, *rows = rows_of(text)
    column = header.index("validation accuracy, %")
    # Of 0.7 and 0.9 the deviation is the root of 0.02.
    assert [row[column] for row in rows] == [
        "80.00 ± 14.14",
        "**85.00 ± 7.07**",
        "84.00 ± 0.00",
    ]
    # As many decimals as the interval of so many test images allows.
    shown = [row[header.index("test accuracy, %")].split()[0] for row in rows]
    assert [float(value) for value in shown] == pytest.approx([10.5, 20.5, 30.5], abs=0.51)
    assert r"\textbf{85.00 $\pm$ 7.07}" in out.tex.read_text()
    assert "The test images chose nothing" in text and "No point is called the best" not in text
    tidy = pd.read_csv(out.csv)
    of_validation = tidy[tidy["quantity"] == "validation_accuracy"]
    assert of_validation["split"].tolist() == ["validation"] * 3
    assert of_validation["mean"].tolist() == pytest.approx([0.8, 0.85, 0.84])
    assert of_validation["sd"].tolist() == pytest.approx([math.sqrt(0.02), math.sqrt(0.005), 0])
    assert of_validation["n_seeds"].tolist() == [2, 2, 2] and tidy["n_seeds"].dtype == "int64"
    assert set(tidy.loc[tidy["best"] == 1, "learning_rate"]) == {0.2}
    assert set(tidy.loc[tidy["best"] == 0, "learning_rate"]) == {0.1, 0.3}


def test_the_table_calls_no_point_best_by_its_test_accuracy(tables, log, out):
    runs = sweep()
    sweep_table(material_of(tables(runs), log(runs), runs), vars(out))
    text = out.md.read_text()
    assert "validation accuracy" not in text and "**" not in text
    assert "No point is called the best" in text
    assert "best" not in pd.read_csv(out.csv).columns


def rings(axis):
    return [line for line in axis.lines if line.get_markerfacecolor() == "none"]


@pytest.mark.parametrize("held_out", [True, False])
def test_the_figure_has_a_ring_around_the_best_point(tables, log, figures, held_out):
    runs = sweep()
    training = log(runs, validated) if held_out else log(runs)
    plot_sweep(material_of(tables(runs), training, runs), {})
    panels = figures[0].axes
    words, _ = words_of(figures[0])
    if not held_out:
        assert not any(map(rings, panels)) and not any("best" in word for word in words)
        return
    assert "best on held-out training images" in words
    for panel in panels:
        (ring,) = rings(panel)
        assert ring.get_xdata().tolist() == [0.2]
        (line,) = [line for line in panel.lines if len(line.get_xdata()) == 3]
        assert ring.get_ydata()[0] == line.get_ydata()[1]


def test_the_figure_of_training_shows_held_out_images_where_there_are_some(tables, log, figures):
    held_out, leaking = sweep(seeds=(0,)), sweep(seeds=(0,), recipe="leaking")

    def both(run, epoch):
        if run.recipe == "leaking":
            return {"validation_accuracy": 0.01}
        return validated(run, epoch)

    runs = [*held_out, *leaking]
    measured_runs = tables(runs)
    for some in (runs, leaking):
        plot_training(material_of(measured_runs, log(some, both), some), {})
    with_them, without = figures
    assert len(with_them.axes) == 6 and len(without.axes) == 4
    loss, accuracy = with_them.axes[4:]
    for panel, factor, quantity in (
        (loss, 1, "validation_loss"),
        (accuracy, 100, "validation_accuracy"),
    ):
        drawn = [line.get_ydata().tolist() for line in panel.lines if len(line.get_xdata()) == 4]
        expected = [
            [factor * validated(run, epoch)[quantity] for epoch in (1, 2, 3, 4)] for run in held_out
        ]
        assert drawn == [pytest.approx(values) for values in expected]


def test_a_log_that_goes_on_after_the_last_measured_epoch_is_seen_whole(tables, log, figures):
    measured = [replace(run, last=50) for run in sweep(seeds=(0,))]
    logged = log([replace(run, last=100) for run in measured], validated)
    plot_training(material_of(tables(measured), logged, measured), {})
    assert figures[0].axes[0].get_xlim()[1] >= 100
