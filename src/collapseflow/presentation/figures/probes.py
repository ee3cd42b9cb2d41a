"""What features are worth to simple classifiers, beside how far they have collapsed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.axes import Axes

from collapseflow.measures.quantities import quantity
from collapseflow.presentation.figures import curves
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.figures.layers import (
    MOMENT_WORDS,
    MOMENTS,
    draw_measure,
    layer_axis,
    over_layers,
)
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import of_runs, read_csv

#: Markers of what is accurate on test images: the network itself, and classifiers on its features.
PROBES = {
    "accuracy": "D",
    "accuracy_nearest_mean": "s",
    "accuracy_linear": "^",
    "accuracy_knn": "v",
}
#: Those that are fitted to features which the study compares, not to those of each epoch.
FITTED = ("accuracy_linear", "accuracy_knn")


def _rows_of(measures: str | Path, runs: Sequence[DescribedRun]) -> pd.DataFrame:
    """The rows of runs; at epoch 0 with the classifiers on their starts, which no recipe names."""
    everything = read_csv(measures)
    trained = of_runs(everything, runs)
    series = pd.DataFrame(
        {key: getattr(run, key) for key in ("dataset", "backbone", "start", "series")}
        for run in runs
    ).drop_duplicates()
    untouched = everything[(everything["recipe"] == "") & everything["quantity"].isin(FITTED)]
    table = pd.concat([trained, untouched.merge(series, on=["dataset", "backbone", "start"])])
    # Intervals of accuracies would be mistaken for bands over seeds.
    return table.assign(low=float("nan"), high=float("nan"))


def plot_probes(material: Material, outputs: Outputs) -> None:
    """Test accuracies beside collapse, for each data set over epochs and over layers.

    Dashed lines and hollow markers are of test images, also those of the accuracies; the marker
    says which classifier.

    Over epochs, at the layer that the runs name: accuracy of the network, of the nearest class mean
    and of the probes that the study fitted (points: most epochs have none); NC1. Over the layers of
    networks that are read at several: accuracy of nearest class mean and probes; log D with its
    least squares line; faint before training, strong after the last epoch. A colour is a series; of
    several seeds the mean with a band of one standard deviation, geometric ones for NC1.
    """
    runs, datasets, style = material.runs, material.datasets, material.style
    look.apply(style)
    table = _rows_of(material.measures, runs)
    labels = curves.series_in_words(runs)
    colours = curves.series_colours(runs, list(material.backbones))
    starts = curves.common_starts(runs, material.backbones)
    shown = [d for d in datasets if any(run.dataset == d for run in runs)]
    rows = [(d, _over_epochs) for d in shown]
    layered = [run for run in runs if len(run.layers) > 1]
    rows += [(d, _over_layers) for d in shown if any(run.dataset == d for run in layered)]
    # The rows of a data set one below the other, epochs first.
    rows.sort(key=lambda row: shown.index(row[0]))
    figure, axes = plt.subplots(
        len(rows), 2, figsize=(style["width"], 0.29 * len(rows) * style["width"]), squeeze=False
    )
    for (dataset, draw_row), (left, right) in zip(rows, axes, strict=True):
        of_dataset = {run.series: run for run in runs if run.dataset == dataset}
        draw_row(left, right, table[table["dataset"] == dataset], of_dataset, colours, starts)
        for axis, words in ((left, "test accuracy"), (right, right.get_title())):
            title = f"{datasets[dataset]}: {words}"
            axis.set_title(look.wrapped(title, 0.45 * style["width"], style))
        left.set_ylabel("%")
        left.grid(axis="y", linewidth=0.3, alpha=0.6)
    drawn = {
        probe: {"color": look.NEUTRAL, "marker": marker, **curves.SPLITS["test"], "linestyle": ""}
        for probe, marker in PROBES.items()
        if (table["quantity"] == probe).any()
    }
    groups = [
        curves.colour_keys(labels, colours) + curves.start_keys(starts),
        curves.keys({probe: quantity(probe).label for probe in drawn}, drawn),
        curves.split_keys(curves.MATCHED_WORDS),
    ]
    if layered:
        moments = {m: {"color": look.NEUTRAL, **MOMENTS[m]} for m in MOMENTS}
        words = {m: f"layers: {word}" for m, word in MOMENT_WORDS.items()}
        groups.append(curves.keys(words, moments))
    groups.append(curves.seeds_key(runs, more=" (log axes: geometric)"))
    notes = [*curves.image_notes(table, datasets), *curves.failure_notes(material.failures, runs)]
    curves.finish(figure, groups, notes, style, outputs)


def _over_epochs(
    left: Axes,
    right: Axes,
    table: pd.DataFrame,
    runs: Mapping[str, DescribedRun],
    colours: Mapping[str, str],
    starts: Sequence[curves.Start],
) -> None:
    layers = table["series"].map({series: run.layer for series, run in runs.items()})
    table = table[(table["layer"] == "") | (table["layer"] == layers)]
    looks = {
        ("nc1", split): {"marker": "o", "markersize": 3, **line}
        for split, line in curves.SPLITS.items()
    }
    for probe, marker in PROBES.items():
        points = {"linestyle": "", "markersize": 5} if probe in FITTED else {}
        looks[probe, "test"] = {"marker": marker, **curves.SPLITS["test"], **points}
    for (name, split), line in looks.items():
        is_nc1 = name == "nc1"
        axis, scale, bars = (right, 1, False) if is_nc1 else (left, 100, name in FITTED)
        rows = curves.on_split(table, name, split)
        for series in runs:
            curve = scale * curves.around(rows[rows["series"] == series], "epoch", is_nc1)
            begins = series in curves.shared(starts)
            coloured = {**line, "color": colours[series]}
            curves.draw(axis, curve.index, curve, bars, from_common_start=begins, **coloured)
        curves.draw_starts(axis, rows, starts, is_nc1, scale, **line)
    right.set_title(quantity("nc1").title)
    curves.quantity_axis(right, "nc1")
    for axis in (left, right):
        curves.epoch_axis(axis, 0, max(run.last for run in runs.values()))


def _over_layers(
    left: Axes,
    right: Axes,
    table: pd.DataFrame,
    runs: Mapping[str, DescribedRun],
    colours: Mapping[str, str],
    starts: Sequence[curves.Start],
) -> None:
    layered = {series: run for series, run in runs.items() if len(run.layers) > 1}

    def draw_both(rows: pd.DataFrame, series: str, moment: str, colour: str) -> None:
        names = list(layered[series].layers)
        looks = {"color": colour, **MOMENTS[moment]}
        on_test = rows[rows["split"] == "test"]
        for probe in ("accuracy_nearest_mean", *FITTED):
            curve = 100 * over_layers(on_test[on_test["quantity"] == probe], names)
            line = {"marker": PROBES[probe], **curves.SPLITS["test"], **looks}
            curves.draw(left, curve.index, curve, **line)
        fuzziness = rows[rows["quantity"] == "log_fuzziness"]
        draw_measure(right, fuzziness, names, "log_fuzziness", {"marker": "o", **looks})

    for start in starts:
        for series in [series for series in start.series if series in layered][:1]:
            draw_both(curves.rows_of_start(table, start), series, "first", start.colour)
    for series, run in layered.items():
        of_series = table[table["series"] == series]
        if series not in curves.shared(starts):
            draw_both(of_series[of_series["epoch"] == 0], series, "first", colours[series])
        draw_both(of_series[of_series["epoch"] == run.last], series, "last", colours[series])
    right.set_title(quantity("log_fuzziness").title)
    curves.quantity_axis(right, "log_fuzziness")
    several = {tuple(run.layers) for run in layered.values()}
    longest = max(several, key=len)
    # Networks whose layers have other names share their numbers alone.
    names = longest if len(several) == 1 else [str(number + 1) for number in range(len(longest))]
    for axis in (left, right):
        layer_axis(axis, names)
