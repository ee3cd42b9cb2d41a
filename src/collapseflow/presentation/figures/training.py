"""What training itself says of its epochs: loss, learning rate, gradient norm, speed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from collapseflow.presentation.figures import curves
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.rows import of_runs, read_csv

#: Title and axis of the panels, and whether values and their means are logarithmic.
PANELS = {
    "loss": ("(a) training loss", "mean over the epoch", True),
    "learning_rate": ("(b) learning rate", "of the last batch", False),
    "gradient_norm": ("(c) gradient norm", "mean over the epoch", True),
    "images_per_second": ("(d) speed", "images per second", False),
}


def plot_training(
    training: str | Path,
    failures: str | Path,
    runs: Sequence[Mapping],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """Loss, learning rate, gradient norm and images per second over the epochs of training.

    One line a series and data set, which its markers tell: of several seeds the mean with a band of
    one standard deviation, of loss and gradient norm the geometric ones.

    Parameters
    ----------
    training
        What :func:`collapseflow.presentation.tables.runs.training_table` wrote. The others are
        those of :func:`collapseflow.presentation.figures.epochs.plot_accuracy`.
    """
    look.apply(style)
    table = of_runs(read_csv(training), runs)
    labels = curves.series_in_words(runs)
    colours = curves.series_colours(runs, list(backbones))
    markers = look.dataset_markers(list(datasets))
    shown = {d: datasets[d] for d in datasets if any(run["dataset"] == d for run in runs)}
    last = max(run["last"] for run in runs)
    pairs = dict.fromkeys((run["dataset"], run["series"]) for run in runs)
    figure, axes = plt.subplots(2, 2, figsize=(style["width"], 0.72 * style["width"]), sharex=True)
    for axis, (quantity, (title, label, logarithmic)) in zip(
        axes.flat, PANELS.items(), strict=True
    ):
        of_quantity = table[table["quantity"] == quantity]
        if logarithmic:
            # A network that fits its images perfectly has no place on such an axis.
            of_quantity = of_quantity[of_quantity["value"] > 0]
        for dataset, series in pairs:
            chosen = of_quantity[
                (of_quantity["dataset"] == dataset) & (of_quantity["series"] == series)
            ]
            curve = curves.around(chosen, "epoch", geometric=logarithmic)
            line = {"color": colours[series], "marker": markers[dataset]}
            curves.draw(axis, curve.index, curve, **line, **curves.SPLITS["train"])
        axis.set(title=title, ylabel=label)
        curves.value_axis(axis, logarithmic)
        curves.epoch_axis(axis, 1, last)
    for axis in axes[0]:
        axis.set_xlabel("")
    groups = [
        curves.colour_keys(labels, colours),
        curves.dataset_keys(shown, markers),
        curves.seeds_key(runs, more=" (log axes: geometric)"),
    ]
    notes = curves.failure_notes(failures, runs)
    curves.finish(figure, groups, notes, style, paths)
