"""What training itself says of its epochs: loss, learning rate, gradient norm, speed, and how good
the network is on held-out images."""

import pandas as pd

from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.presentation import held_out
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import read_csv, run_rows


def plot_training(material: Material, outputs: Outputs) -> None:
    """Loss, learning rate, gradient norm and images per second over the epochs of training; where
    training images are held out, also loss and accuracy on them.

    One line a series and data set, which its markers tell: of several seeds the mean with a band of
    one standard deviation, of losses and gradient norm the geometric ones.
    """
    shared = curves.RunFigure.of(material, material.runs)
    runs = shared.runs
    table = run_rows(read_csv(material.training), runs)
    pairs = dict.fromkeys((run.dataset, run.series) for run in runs)
    who = pd.MultiIndex.from_frame(table[["dataset", "series"]])
    holds_out = who.isin(who[table["quantity"] == held_out.LOSS])
    shown_panels = panels_of("training") + (panels_of("held_out") if holds_out.any() else [])
    # A log from elsewhere may go on after the last epoch that is measured.
    last = max([shared.last, *table["epoch"]])
    shape = appearance.grid(len(shown_panels), 2, material.style)
    figure, axes = shared.panels(*shape, 0.36, sharex=True)
    for letter, axis, name in zip(curves.letters(), axes.flat, shown_panels, strict=False):
        drawn = quantity(name)
        # The accuracy of runs that hold nothing out is of test images in training mode.
        rows = table[(table["quantity"] == name) & (holds_out | (name != held_out.ACCURACY))]
        rows = rows.assign(value=drawn.on_axis(rows["value"]))
        if drawn.logarithmic:
            # A network that fits its images perfectly has no place on such an axis.
            rows = rows[rows["value"] > 0]
        for dataset, series in pairs:
            chosen = rows[(rows["dataset"] == dataset) & (rows["series"] == series)]
            curve = curves.mean_and_spread(chosen, "epoch", drawn.logarithmic)
            line = {"color": shared.colours[series], "marker": shared.markers[dataset]}
            curves.draw(axis, curve.index, curve, **line, **curves.SPLITS["train"])
        appearance.panel_title(axis, f"({letter}) {drawn.title}", shape[1], material.style)
        axis.set_ylabel(drawn.axis)
        curves.value_axis(axis, drawn.logarithmic)
        curves.epoch_axis(axis, 1, last)
    curves.close_grid(axes, len(shown_panels))
    series_keys = curves.colour_keys(shared.labels, shared.colours)
    shared.save(figure, [series_keys, shared.dataset_keys(), shared.seeds_key()], outputs)
