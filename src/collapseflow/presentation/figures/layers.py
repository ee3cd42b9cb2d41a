"""Neural collapse from layer to layer, before training and after it."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt

from collapseflow.presentation.figures import curves
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.rows import of_runs, read_csv

#: Before training and after it.
MOMENTS = {
    "first": {"alpha": 0.45, "linewidth": 0.8, "linestyle": (0, (4, 2))},
    "last": {"linestyle": "-"},
}
#: So many letters have room side by side below an axis.
LETTERS = 48


def plot_layers(
    measures: str | Path,
    failures: str | Path,
    runs: Sequence[Mapping],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """NC1 and the three parts of NC2 of the training features at each layer of a backbone.

    A panel for each measure and backbone; a line for each series and data set, which its markers
    tell: faint and dashed at epoch 0, solid after the last epoch. Of several seeds it is the mean
    with a band of one standard deviation, of NC1 the geometric ones.

    Parameters
    ----------
    runs
        All runs of the study; those of backbones that are read at several layers are drawn. The
        other parameters are those of
        :func:`collapseflow.presentation.figures.epochs.plot_accuracy`.
    """
    look.apply(style)
    table = of_runs(read_csv(measures), runs)
    table = table[table["split"] == "train"]
    colours = curves.series_colours(runs, list(backbones))
    runs = [run for run in runs if len(run["layers"]) > 1]
    layers = {run["backbone"]: list(run["layers"]) for run in runs}
    labels = curves.series_in_words(runs)
    lines = look.dataset_lines(list(datasets))
    shown = {d: datasets[d] for d in datasets if any(run["dataset"] == d for run in runs)}
    one = len(layers) == 1
    shape = (2, 2) if one else (4, len(layers))
    figure, axes = plt.subplots(
        *shape,
        figsize=(style["width"], 0.36 * shape[0] * style["width"]),
        squeeze=False,
        sharex="all" if one else "col",
        sharey="none" if one else "row",
    )
    panels = [(measure, backbone) for measure in curves.TITLES for backbone in layers]
    for axis, (measure, backbone) in zip(axes.flat, panels, strict=True):
        names = layers[backbone]
        for run in {
            (r["dataset"], r["series"]): r for r in runs if r["backbone"] == backbone
        }.values():
            dataset, series = run["dataset"], run["series"]
            chosen = table[
                (table["dataset"] == dataset)
                & (table["series"] == series)
                & (table["quantity"] == measure)
            ]
            for moment, epoch in (("first", 0), ("last", run["last"])):
                at_epoch = chosen[chosen["epoch"] == epoch]
                position = at_epoch["layer"].map(names.index).astype(int)
                curve = curves.around(
                    at_epoch.assign(position=position), "position", geometric=measure == "nc1"
                )
                of_line = {"marker": lines[dataset]["marker"], **MOMENTS[moment]}
                curves.draw(axis, curve.index, curve, color=colours[series], **of_line)
        title = curves.TITLES[measure]
        axis.set(title=title if one else f"{backbones[backbone]}: {title}")
        axis.set_ylabel(curves.FORMULAS[measure])
        curves.value_axis(axis, logarithmic=measure == "nc1")
        turned = {"rotation": 45, "ha": "right", "rotation_mode": "anchor"}
        is_long = len(names) * max(map(len, names)) > LETTERS
        axis.set_xticks(range(len(names)), names, **(turned if is_long else {}))
        if not one:
            axis.label_outer()
    for axis in axes[-1]:
        axis.set_xlabel("layer")
    words = {"first": "epoch 0, before training", "last": "after the last epoch"}
    groups = [
        curves.keys(labels, {s: {"color": colours[s]} for s in labels}),
        curves.keys(
            shown,
            {
                d: {"color": look.NEUTRAL, "linestyle": "", "marker": lines[d]["marker"]}
                for d in shown
            },
        ),
        curves.keys(words, {m: {"color": look.NEUTRAL, **MOMENTS[m]} for m in MOMENTS}),
        curves.seeds_key(runs, more=" (log axes: geometric)"),
    ]
    notes = curves.failure_notes(failures, runs)
    curves.finish(figure, groups, notes, style, paths)
