"""What training itself says of its epochs: loss, learning rate, gradient norm, speed, and how good
the network is on held-out images."""

import matplotlib.pyplot as plt
import pandas as pd

from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.presentation import held_out
from collapseflow.presentation.figures import curves
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import of_runs, read_csv


def plot_training(material: Material, outputs: Outputs) -> None:
    """Loss, learning rate, gradient norm and images per second over the epochs of training; where
    training images are held out, also loss and accuracy on them.

    One line a series and data set, which its markers tell: of several seeds the mean with a band of
    one standard deviation, of losses and gradient norm the geometric ones.
    """
    runs, datasets, style = material.runs, material.datasets, material.style
    look.apply(style)
    table = of_runs(read_csv(material.training), runs)
    labels = curves.series_in_words(runs)
    colours = curves.series_colours(runs, list(material.backbones))
    markers = look.dataset_markers(list(datasets))
    shown = {d: datasets[d] for d in datasets if any(run.dataset == d for run in runs)}
    last = max(run.last for run in runs)
    pairs = dict.fromkeys((run.dataset, run.series) for run in runs)
    who = pd.MultiIndex.from_frame(table[["dataset", "series"]])
    holds_out = who.isin(who[table["quantity"] == held_out.LOSS])
    shown_panels = panels_of("training") + (panels_of("held_out") if holds_out.any() else [])
    n_rows, n_columns = look.grid(len(shown_panels), 2)
    size = style["width"], 0.36 * n_rows * style["width"]
    figure, axes = plt.subplots(n_rows, n_columns, figsize=size, sharex=True, squeeze=False)
    for letter, axis, name in zip(curves.letters(), axes.flat, shown_panels, strict=False):
        drawn = quantity(name)
        # The accuracy of others is of test images in training mode.
        of_those = holds_out | (name != held_out.ACCURACY)
        of_quantity = table[(table["quantity"] == name) & of_those]
        of_quantity = of_quantity.assign(value=drawn.on_axis(of_quantity["value"]))
        if drawn.logarithmic:
            # A network that fits its images perfectly has no place on such an axis.
            of_quantity = of_quantity[of_quantity["value"] > 0]
        for dataset, series in pairs:
            chosen = of_quantity[
                (of_quantity["dataset"] == dataset) & (of_quantity["series"] == series)
            ]
            curve = curves.around(chosen, "epoch", drawn.logarithmic)
            line = {"color": colours[series], "marker": markers[dataset]}
            curves.draw(axis, curve.index, curve, **line, **curves.SPLITS["train"])
        axis.set(title=f"({letter}) {drawn.title}", ylabel=drawn.axis)
        curves.value_axis(axis, drawn.logarithmic)
        curves.epoch_axis(axis, 1, last)
    curves.close_grid(axes, len(shown_panels))
    groups = [
        curves.colour_keys(labels, colours),
        curves.dataset_keys(shown, markers),
        curves.seeds_key(runs, more=" (log axes: geometric)"),
    ]
    notes = curves.failure_notes(material.failures, runs)
    curves.finish(figure, groups, notes, style, outputs)
