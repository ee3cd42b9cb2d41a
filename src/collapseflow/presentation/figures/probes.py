"""What features are worth to simple classifiers, beside how far they have collapsed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from collapseflow.measures.collapse import MEASURES
from collapseflow.presentation.figures import curves
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.figures.layers import (
    MOMENTS,
    SPLITS,
    draw_fuzziness,
    layer_axis,
    over_layers,
)
from collapseflow.presentation.rows import of_runs, read_csv

#: What is accurate on test images: the network itself, and classifiers on its features.
PROBES = {
    "accuracy": {"linestyle": "-", "marker": "o"},
    "accuracy_nearest_mean": {"linestyle": (0, (3, 1.5)), "marker": "s"},
    "accuracy_linear": {"linestyle": (0, (1, 1.2)), "marker": "^"},
    "accuracy_knn": {"linestyle": (0, (5, 1.2, 1, 1.2)), "marker": "D"},
}
WORDS = {
    "accuracy": "network",
    "accuracy_nearest_mean": "nearest class mean",
    "accuracy_linear": "linear probe",
    "accuracy_knn": "nearest neighbours",
}
#: Those that are fitted to features which the study compares, not to those of each epoch.
FITTED = ("accuracy_linear", "accuracy_knn")


def _rows_of(measures: str | Path, runs: Sequence[Mapping]) -> pd.DataFrame:
    """The rows of runs; at epoch 0 with the classifiers on their starts, which no recipe names."""
    everything = read_csv(measures)
    trained = of_runs(everything, runs)
    series = pd.DataFrame(
        {key: run[key] for key in ("dataset", "backbone", "start", "series")} for run in runs
    ).drop_duplicates()
    untouched = everything[(everything["recipe"] == "") & everything["quantity"].isin(FITTED)]
    table = pd.concat([trained, untouched.merge(series, on=["dataset", "backbone", "start"])])
    # Intervals of accuracies would be mistaken for bands over seeds.
    return table.assign(low=float("nan"), high=float("nan"))


def plot_probes(
    measures: str | Path,
    failures: str | Path,
    runs: Sequence[Mapping],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """Test accuracies beside collapse, for each data set over epochs and over layers.

    Over epochs, at the layer that the runs name: accuracy of the network, of the nearest class mean
    and of the probes that the study fitted (points: most epochs have none); NC1. Over the layers of
    networks that are read at several: accuracy of nearest class mean and probes; log D with its
    least squares line; faint before training, strong after the last epoch. A colour is a series; of
    several seeds the mean with a band of one standard deviation, geometric ones for NC1.

    The parameters are those of :func:`collapseflow.presentation.figures.epochs.plot_accuracy`.
    """
    look.apply(style)
    table = _rows_of(measures, runs)
    labels = curves.series_in_words(runs)
    colours = curves.series_colours(runs, list(backbones))
    shown = [d for d in datasets if any(run["dataset"] == d for run in runs)]
    rows = [(d, _over_epochs) for d in shown]
    layered = [run for run in runs if len(run["layers"]) > 1]
    rows += [(d, _over_layers) for d in shown if any(run["dataset"] == d for run in layered)]
    # The rows of a data set one below the other, epochs first.
    rows.sort(key=lambda row: shown.index(row[0]))
    figure, axes = plt.subplots(
        len(rows), 2, figsize=(style["width"], 0.29 * len(rows) * style["width"]), squeeze=False
    )
    for (dataset, draw_row), (left, right) in zip(rows, axes, strict=True):
        of_dataset = {run["series"]: run for run in runs if run["dataset"] == dataset}
        draw_row(left, right, table[table["dataset"] == dataset], of_dataset, colours)
        for axis, words in ((left, "test accuracy"), (right, right.get_title())):
            axis.set_title(f"{datasets[dataset]}: {words}")
        left.set_ylabel("%")
        left.grid(axis="y", linewidth=0.3, alpha=0.6)
    drawn = {probe for probe in PROBES if (table["quantity"] == probe).any()}
    splits = {"train": "training images", "test": "test images"}
    groups = [
        curves.keys(labels, {s: {"color": colours[s]} for s in labels}),
        curves.keys(
            {probe: WORDS[probe] for probe in PROBES if probe in drawn},
            {probe: {"color": look.NEUTRAL, **PROBES[probe]} for probe in PROBES},
        ),
        curves.keys(
            splits, {s: {"color": look.NEUTRAL, "marker": "o", **SPLITS[s]} for s in SPLITS}
        ),
    ]
    if layered:
        moments = {"first": "layers: before training", "last": "after the last epoch"}
        groups.append(
            curves.keys(moments, {m: {"color": look.NEUTRAL, **MOMENTS[m]} for m in MOMENTS})
        )
    groups.append(curves.seeds_key(runs, more=" (log axes: geometric)"))
    notes = curves.failure_notes(failures, runs)
    curves.finish(figure, groups, notes, style, paths)


def _over_epochs(
    left: Axes,
    right: Axes,
    table: pd.DataFrame,
    runs: Mapping[str, Mapping],
    colours: Mapping[str, str],
) -> None:
    for series, run in runs.items():
        of_series = table[(table["series"] == series) & table["layer"].isin(["", run["layer"]])]
        for probe, line in PROBES.items():
            chosen = of_series[(of_series["quantity"] == probe) & (of_series["split"] == "test")]
            curve = 100 * curves.around(chosen, "epoch")
            points = {"linestyle": "", "markersize": 5} if probe in FITTED else {}
            looks = {**line, **points, "color": colours[series]}
            curves.draw(left, curve.index, curve, bars=probe in FITTED, **looks)
        for split, line in SPLITS.items():
            chosen = of_series[(of_series["quantity"] == "nc1") & (of_series["split"] == split)]
            curve = curves.around(chosen, "epoch", geometric=True)
            looks = {"marker": "o", **line, "color": colours[series]}
            curves.draw(right, curve.index, curve, **looks)
    right.set_title(MEASURES["nc1"].title)
    curves.measure_axis(right, "nc1")
    for axis in (left, right):
        curves.epoch_axis(axis, 0, max(run["last"] for run in runs.values()))


def _over_layers(
    left: Axes,
    right: Axes,
    table: pd.DataFrame,
    runs: Mapping[str, Mapping],
    colours: Mapping[str, str],
) -> None:
    layered = {series: run for series, run in runs.items() if len(run["layers"]) > 1}
    for series, run in layered.items():
        names = list(run["layers"])
        of_series = table[table["series"] == series]
        for moment, epoch in (("first", 0), ("last", run["last"])):
            at_epoch = of_series[of_series["epoch"] == epoch]
            looks = {"color": colours[series], **MOMENTS[moment]}
            on_test = at_epoch[at_epoch["split"] == "test"]
            for probe in ("accuracy_nearest_mean", *FITTED):
                curve = 100 * over_layers(on_test[on_test["quantity"] == probe], names)
                curves.draw(left, curve.index, curve, **PROBES[probe], **looks)
            fuzziness = at_epoch[at_epoch["quantity"] == "log_fuzziness"]
            for split, line in SPLITS.items():
                curve = over_layers(fuzziness[fuzziness["split"] == split], names)
                draw_fuzziness(right, curve, **{"marker": "o", **line, **looks})
    right.set_title(MEASURES["log_fuzziness"].title)
    right.set_ylabel(MEASURES["log_fuzziness"].formula, parse_math=True)
    right.grid(axis="y", linewidth=0.3, alpha=0.6)
    several = {tuple(run["layers"]) for run in layered.values()}
    longest = max(several, key=len)
    # Networks whose layers have other names share their numbers alone.
    names = longest if len(several) == 1 else [str(number + 1) for number in range(len(longest))]
    for axis in (left, right):
        layer_axis(axis, names)
