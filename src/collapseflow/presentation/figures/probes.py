"""What features are worth to simple classifiers, beside how far they have collapsed."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from matplotlib.axes import Axes

from collapseflow.measures.quantities import quantity
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.figures.layers import (
    MOMENT_WORDS,
    MOMENTS,
    draw_measure,
    layer_axis,
    over_layers,
)
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import read_csv, run_rows

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
    trained = run_rows(everything, runs)
    series = pd.DataFrame(
        {key: getattr(run, key) for key in ("dataset", "backbone", "start", "series")}
        for run in runs
    ).drop_duplicates()
    untrained = everything[(everything["recipe"] == "") & everything["quantity"].isin(FITTED)]
    table = pd.concat([trained, untrained.merge(series, on=["dataset", "backbone", "start"])])
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
    shared = curves.RunFigure.of(material, material.runs)
    runs, style = shared.runs, material.style
    table = _rows_of(material.measures, runs)
    layered = {run.dataset for run in runs if len(run.layers) > 1}
    # The rows of a data set one below the other, epochs first.
    rows = [
        (dataset, draw_row)
        for dataset in shared.datasets
        for draw_row in ([_over_epochs, _over_layers] if dataset in layered else [_over_epochs])
    ]
    figure, axes = shared.panels(len(rows), 2, 0.29)
    for (dataset, draw_row), (left, right) in zip(rows, axes, strict=True):
        by_series = {run.series: run for run in runs if run.dataset == dataset}
        draw_row(left, right, table[table["dataset"] == dataset], by_series, shared)
        for axis, words in ((left, "test accuracy"), (right, right.get_title())):
            appearance.panel_title(axis, f"{shared.datasets[dataset]}: {words}", 2, style)
        left.set_ylabel("%")
        left.grid(axis="y", linewidth=0.3, alpha=0.6)
    drawn = {
        probe: {"marker": marker, **curves.SPLITS["test"], "linestyle": ""}
        for probe, marker in PROBES.items()
        if (table["quantity"] == probe).any()
    }
    groups = [
        shared.series_keys(),
        curves.keys({probe: quantity(probe).label for probe in drawn}, drawn),
        curves.split_keys(curves.MATCHED_WORDS),
    ]
    if layered:
        words = {m: f"layers: {word}" for m, word in MOMENT_WORDS.items()}
        groups.append(curves.keys(words, MOMENTS))
    groups.append(shared.seeds_key())
    shared.save(figure, groups, outputs, compared=table)


def _over_epochs(
    left: Axes,
    right: Axes,
    table: pd.DataFrame,
    runs: Mapping[str, DescribedRun],
    shared: curves.RunFigure,
) -> None:
    layers = table["series"].map({series: run.layer for series, run in runs.items()})
    table = table[(table["layer"] == "") | (table["layer"] == layers)]
    lines = {
        ("nc1", split): {"marker": "o", "markersize": 3, **line}
        for split, line in curves.SPLITS.items()
    }
    for probe, marker in PROBES.items():
        points = {"linestyle": "", "markersize": 5} if probe in FITTED else {}
        lines[probe, "test"] = {"marker": marker, **curves.SPLITS["test"], **points}
    for (name, split), line in lines.items():
        is_nc1 = name == "nc1"
        axis, scale, bars = (right, 1, False) if is_nc1 else (left, 100, name in FITTED)
        rows = curves.on_split(table, name, split)
        for series in runs:
            curve = scale * curves.mean_and_spread(rows[rows["series"] == series], "epoch", is_nc1)
            begins = shared.has_common_start(series)
            coloured = {**line, "color": shared.colours[series]}
            curves.draw(axis, curve.index, curve, bars, from_common_start=begins, **coloured)
        curves.draw_starts(axis, rows, shared.starts, is_nc1, scale, **line)
    right.set_title(quantity("nc1").title)
    curves.quantity_axis(right, "nc1")
    for axis in (left, right):
        curves.epoch_axis(axis, 0, max(run.last for run in runs.values()))


def _over_layers(
    left: Axes,
    right: Axes,
    table: pd.DataFrame,
    runs: Mapping[str, DescribedRun],
    shared: curves.RunFigure,
) -> None:
    layered = {series: run for series, run in runs.items() if len(run.layers) > 1}

    def draw_both(rows: pd.DataFrame, series: str, moment: str, colour: str) -> None:
        names = list(layered[series].layers)
        coloured = {"color": colour, **MOMENTS[moment]}
        on_test = rows[rows["split"] == "test"]
        for probe in ("accuracy_nearest_mean", *FITTED):
            curve = 100 * over_layers(on_test[on_test["quantity"] == probe], names)
            line = {"marker": PROBES[probe], **curves.SPLITS["test"], **coloured}
            curves.draw(left, curve.index, curve, **line)
        fuzziness = rows[rows["quantity"] == "log_fuzziness"]
        draw_measure(right, fuzziness, names, "log_fuzziness", {"marker": "o", **coloured})

    for start in shared.starts:
        for series in [series for series in start.series if series in layered][:1]:
            draw_both(curves.rows_of_start(table, start), series, "first", start.colour)
    for series, run in layered.items():
        rows, colour = table[table["series"] == series], shared.colours[series]
        if not shared.has_common_start(series):
            draw_both(rows[rows["epoch"] == 0], series, "first", colour)
        draw_both(rows[rows["epoch"] == run.last], series, "last", colour)
    right.set_title(quantity("log_fuzziness").title)
    curves.quantity_axis(right, "log_fuzziness")
    several = {tuple(run.layers) for run in layered.values()}
    longest = max(several, key=len)
    # Networks whose layers have other names share their numbers alone.
    names = longest if len(several) == 1 else [str(number + 1) for number in range(len(longest))]
    for axis in (left, right):
        layer_axis(axis, names)
