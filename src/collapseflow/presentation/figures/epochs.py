"""Accuracy and neural collapse over the epochs of training (report A, figures 4 and 5)."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from collapseflow import published
from collapseflow.measures.collapse import MEASURES
from collapseflow.presentation.figures import curves
from collapseflow.presentation.figures import style as look
from collapseflow.presentation.rows import of_runs, read_csv, several_seeds

#: Training and test images, and what was published of them.
SPLITS = {
    "train": {"alpha": 0.5, "linewidth": 0.8, "markersize": 2.5},
    "test": {"markerfacecolor": "white"},
}
FAINT = {"alpha": 0.3, "linewidth": 2.5}
PUBLISHED = {"train": {**FAINT, "linestyle": ":"}, "test": FAINT}
#: The panels of neural collapse: variability, geometry of the class means, the last layer.
PANELS = (
    *("nc1", "cdnv", "directional_cdnv"),
    *("nc2_equinorm", "nc2_equiangularity", "nc2_maximal_angle"),
    *("etf_distance", "nc3", "nc4"),
)
#: Title and axis of a measure that is not drawn as it is.
WORDS = {"nc4": ("NC4, disagreement", "1 − NC4, %")}
#: Lines of training and test images where panels have a measure each.
LINES = {
    "train": {"linestyle": "-", "markersize": 2.5, "linewidth": 1.0},
    "test": {
        "linestyle": (0, (3, 1.5)),
        "markersize": 2.5,
        "linewidth": 0.9,
        "markerfacecolor": "white",
        "markeredgewidth": 0.7,
    },
}
#: Lines of what no network made, by its backbone in measures.csv.
REFERENCES = {
    "raw": {"color": look.NEUTRAL, "linewidth": 0.8, "linestyle": "-"},
    "scattering": {"color": look.NEUTRAL, "linewidth": 0.8, "linestyle": (0, (6, 1.5, 1, 1.5))},
}
ONSET = {"linestyle": (0, (1, 2)), "linewidth": 0.9}


def _published(runs: Sequence[Mapping], dataset: str, series: str) -> pd.DataFrame | None:
    """The published curves of a series up to our last epoch, if there are any."""
    run = next(r for r in runs if r["dataset"] == dataset and r["series"] == series)
    if run["published"] is None:
        return None
    of_dataset, features = run["published"]
    known = published.curves()
    chosen = known[(known["dataset"] == of_dataset) & (known["features"] == features)]
    return chosen[chosen["epoch"] <= run["last"]]


def onset(rows: pd.DataFrame) -> float | None:
    """The onset of the terminal phase of training (Papyan, Han and Donoho 2020): the first measured
    epoch in which all training images are classified right.

    Parameters
    ----------
    rows
        Of one series on one data set, as in measures.csv.

    Returns
    -------
    The mean over the seeds that have reached it; None if no seed has.
    """
    reached = rows[
        (rows["quantity"] == "accuracy") & (rows["split"] == "train") & (rows["value"] == 1)
    ]
    return float(reached.groupby("seed")["epoch"].min().mean()) if len(reached) else None


def _mark_onset(axis: Axes, rows: pd.DataFrame, colour: str) -> bool:
    epoch = onset(rows)
    if epoch is not None:
        axis.axvline(epoch, color=colour, zorder=0.5, **ONSET)
    return epoch is not None


def _onset_key() -> list:
    words = {"onset": "train error 0 (onset of the terminal phase)"}
    return curves.keys(words, {"onset": {"color": look.NEUTRAL, **ONSET}})


def plot_accuracy(
    measures: str | Path,
    failures: str | Path,
    runs: Sequence[Mapping],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """Train and test accuracy per epoch, one panel a data set, all on the same axes.

    Both are measured on the whole split in evaluation mode. One line a series: of several seeds
    the mean with a band of one standard deviation; of one seed its values, with the 95 % intervals
    of the accuracy on the test images, beside each other where they are bars. A dotted line is the
    onset of the terminal phase. Published curves lie faint behind.

    Parameters
    ----------
    measures, failures
        The two tables of :func:`collapseflow.presentation.rows.collect_measures`.
    runs
        All runs of the study, as :mod:`collapseflow.presentation.rows` describes them.
    datasets, backbones
        Labels of all data sets and backbones of the study, which share out lines and colours.
    """
    look.apply(style)
    table = of_runs(read_csv(measures), runs)
    table = table[table["quantity"] == "accuracy"]
    labels = curves.series_in_words(runs)
    colours = curves.series_colours(runs, list(backbones))
    lines = look.dataset_lines(list(datasets))
    shown = [d for d in datasets if any(run["dataset"] == d for run in runs)]
    # Networks that start with another head have no accuracy before training.
    first = int(table["epoch"].min()) if len(table) else 0
    last = max(run["last"] for run in runs)
    seeded = several_seeds(runs)
    if seeded:
        # What lies around a line has one meaning in a figure.
        table = table.assign(low=np.nan, high=np.nan)
    n_rows, n_columns = look.grid(len(shown), 2)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(style["width"], 0.42 * n_rows * style["width"]),
        squeeze=False,
        sharex=True,
        sharey=True,
    )
    any_published = any_onset = False
    offsets = np.linspace(-0.15, 0.15, len(labels) + 2)[1:-1]
    beside = dict(zip(labels, offsets * (not seeded and last < curves.LONG), strict=True))
    for axis, dataset in zip(axes.flat, shown, strict=False):
        of_dataset = table[table["dataset"] == dataset]
        for series in dict.fromkeys(r["series"] for r in runs if r["dataset"] == dataset):
            chosen = of_dataset[of_dataset["series"] == series]
            behind = _published(runs, dataset, series)
            for split, of_split in SPLITS.items():
                if behind is not None:
                    any_published = True
                    faint = behind[(behind["measure"] == "accuracy") & (behind["split"] == split)]
                    axis.plot(
                        faint["epoch"],
                        100 * faint["value"],
                        color=colours[series],
                        **PUBLISHED[split],
                    )
                curve = 100 * curves.around(chosen[chosen["split"] == split], "epoch")
                x = curve.index.to_numpy() + beside[series]
                style_of_line = {**lines[dataset], **of_split}
                curves.draw(axis, x, curve, bars=not seeded, color=colours[series], **style_of_line)
            any_onset |= _mark_onset(axis, chosen, colours[series])
        n = of_dataset.loc[of_dataset["split"] == "test", "n"].max()
        size = "" if pd.isna(n) else f", {n:,} test images"
        axis.set(title=f"{datasets[dataset]}{size}", ylabel="accuracy, %")
        axis.grid(axis="y", linewidth=0.3, alpha=0.6)
        curves.epoch_axis(axis, first, last)
        axis.label_outer()
    curves.close_grid(axes, len(shown))
    words = {"train": "training images"}
    words["test"] = "test images" if seeded else "test images, 95 % interval"
    groups = [
        curves.keys(labels, {s: {"color": colours[s]} for s in labels}),
        curves.keys(words, {s: {"color": look.NEUTRAL, "marker": "o", **SPLITS[s]} for s in words}),
        [*curves.seeds_key(runs), *(_onset_key() if any_onset else [])],
    ]
    if any_published:
        words = {"train": "published: last train batch", "test": "published: test, training mode"}
        of_published = {s: {"color": look.NEUTRAL, **PUBLISHED[s]} for s in words}
        groups.append(curves.keys(words, of_published))
    notes = curves.failure_notes(failures, runs)
    curves.finish(figure, groups, notes, style, paths)


def plot_collapse(
    measures: str | Path,
    failures: str | Path,
    runs: Sequence[Mapping],
    dataset: str,
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """Neural collapse on a data set, epoch by epoch: a panel for each of :data:`PANELS`.

    One line a series at the layer that its runs name, solid on training images and dashed on test
    images: of several seeds the mean with a band of one standard deviation, geometric ones on
    logarithmic axes. Epoch 0 is the network before training; a dotted line is the onset of the
    terminal phase; published curves lie faint behind; raw pixels and scattering coefficients
    (training images) are grey lines. Panels without any value are left out.

    Parameters
    ----------
    dataset
        The data set that is shown. The others are those of :func:`plot_accuracy`.
    """
    look.apply(style)
    everything = read_csv(measures)
    everything = everything[everything["dataset"] == dataset]
    colours = curves.series_colours(runs, list(backbones))
    runs = [run for run in runs if run["dataset"] == dataset]
    table = of_runs(everything, runs)
    labels = curves.series_in_words(runs)
    marker = look.dataset_lines(list(datasets))[dataset]["marker"]
    layers = {run["series"]: run["layer"] for run in runs}
    at_layer = table[table["layer"] == table["series"].map(layers)]
    shown = [panel for panel in PANELS if (at_layer["quantity"] == panel).any()] or PANELS[:1]
    n_rows, n_columns = look.grid(len(shown), 3)
    figure, axes = plt.subplots(
        n_rows,
        n_columns,
        figsize=(style["width"], 0.28 * n_rows * style["width"]),
        squeeze=False,
        sharex=True,
    )
    references = _references(everything)
    drawn: set[str] = set()
    any_published = any_onset = False
    for letter, axis, measure in zip("abcdefghi", axes.flat, shown, strict=False):
        geometric = MEASURES[measure].logarithmic
        curves.measure_axis(axis, measure)
        for name, values in references.items():
            if measure in values:
                drawn.add(name)
                axis.axhline(_shown_as(measure, values[measure]), zorder=0.6, **REFERENCES[name])
        for series, layer in layers.items():
            of_series = table[table["series"] == series]
            of_measure = of_series[
                (of_series["quantity"] == measure) & (of_series["layer"] == layer)
            ]
            behind = _published(runs, dataset, series)
            if behind is not None and (behind["measure"] == measure).any():
                any_published = True
                of_panel = behind[behind["measure"] == measure]
                axis.plot(of_panel["epoch"], of_panel["value"], color=colours[series], **FAINT)
            for split, line in LINES.items():
                of_split = of_measure[of_measure["split"] == split]
                of_split = of_split.assign(value=_shown_as(measure, of_split["value"]))
                curve = curves.around(of_split, "epoch", geometric)
                look_of_line = {"color": colours[series], "marker": marker, **line}
                curves.draw(axis, curve.index, curve, **look_of_line)
            any_onset |= _mark_onset(axis, of_series, colours[series])
        title, formula = WORDS.get(measure, (MEASURES[measure].title, MEASURES[measure].formula))
        axis.set_title(f"({letter}) {title}")
        axis.set_ylabel(formula, parse_math=True)
        curves.epoch_axis(axis, 0, max(run["last"] for run in runs))
    curves.close_grid(axes, len(shown))
    words = {"train": "training images", "test": "test images"}
    references_in_words = {"raw": "raw pixels", "scattering": "scattering coefficients"}
    groups = [
        curves.keys(labels, {s: {"color": colours[s]} for s in labels}),
        curves.keys(
            words, {s: {"color": look.NEUTRAL, "marker": marker, **LINES[s]} for s in LINES}
        ),
        curves.keys({n: references_in_words[n] for n in REFERENCES if n in drawn}, REFERENCES),
        [
            *curves.seeds_key(runs, more=" (log axes: geometric)"),
            *(_onset_key() if any_onset else []),
        ],
    ]
    if any_published:
        words = {"report_a": "published (report A, training images)"}
        groups.append(curves.keys(words, {"report_a": {"color": look.NEUTRAL, **FAINT}}))
    notes = curves.failure_notes(failures, runs)
    curves.finish(figure, groups, notes, style, paths)


def _shown_as(measure: str, value):
    """NC4 is drawn as the share that disagrees, in per cent, which goes to zero as the others."""
    return 100 * (1 - value) if measure == "nc4" else value


def _references(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The measures of what no network made, on the training images, by their names."""
    untouched = rows[(rows["split"] == "train") & rows["backbone"].isin(REFERENCES)]
    return {
        name: dict(zip(of_one["quantity"], of_one["value"], strict=True))
        for name, of_one in untouched.groupby("backbone")
    }
