"""Report A, figures 4 and 5: accuracy and neural collapse over the epochs of training."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes

from collapseflow import published
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
    for axis in axes.flat[len(shown) :]:
        axis.set_axis_off()
        above = axes[-2, list(axes[-1]).index(axis)]
        above.xaxis.set_tick_params(labelbottom=True)
        above.set_xlabel("epoch")
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
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """NC1 and the three parts of NC2 of the training features, epoch by epoch.

    One line a series and data set, at the layer that its runs name: of several seeds the mean with
    a band of one standard deviation, of NC1 the geometric ones. Epoch 0 is the network before
    training; a dotted line is the onset of the terminal phase; published curves lie faint behind.
    The parameters are those of :func:`plot_accuracy`.
    """
    look.apply(style)
    table = of_runs(read_csv(measures), runs)
    table = table[table["split"] == "train"]
    labels = curves.series_in_words(runs)
    colours = curves.series_colours(runs, list(backbones))
    lines = look.dataset_lines(list(datasets))
    shown = {d: datasets[d] for d in datasets if any(run["dataset"] == d for run in runs)}
    last = max(run["last"] for run in runs)
    pairs = {(run["dataset"], run["series"]): run["layer"] for run in runs}
    figure, axes = plt.subplots(2, 2, figsize=(style["width"], 0.72 * style["width"]), sharex=True)
    any_published = any_onset = False
    for letter, axis, (measure, title) in zip(
        "abcd", axes.flat, curves.TITLES.items(), strict=True
    ):
        for (dataset, series), layer in pairs.items():
            chosen = table[(table["dataset"] == dataset) & (table["series"] == series)]
            of_layer = chosen[(chosen["quantity"] == measure) & (chosen["layer"] == layer)]
            behind = _published(runs, dataset, series)
            if behind is not None:
                any_published = True
                faint = behind[behind["measure"] == measure]
                axis.plot(
                    faint["epoch"],
                    faint["value"],
                    color=colours[series],
                    linestyle=lines[dataset]["linestyle"],
                    **FAINT,
                )
            curve = curves.around(of_layer, "epoch", geometric=measure == "nc1")
            curves.draw(axis, curve.index, curve, color=colours[series], **lines[dataset])
            any_onset |= _mark_onset(axis, chosen, colours[series])
        axis.set(title=f"({letter}) {title}", ylabel=curves.FORMULAS[measure])
        curves.value_axis(axis, logarithmic=measure == "nc1")
        curves.epoch_axis(axis, 0, last)
    for axis in axes[0]:
        axis.set_xlabel("")
    groups = [
        curves.keys(labels, {s: {"color": colours[s]} for s in labels}),
        curves.keys(shown, {d: {"color": look.NEUTRAL, **lines[d]} for d in shown}),
        [
            *curves.seeds_key(runs, more=" (log axes: geometric)"),
            *(_onset_key() if any_onset else []),
        ],
    ]
    if any_published:
        words = {"report_a": "published (report A)"}
        groups.append(curves.keys(words, {"report_a": {"color": look.NEUTRAL, **FAINT}}))
    notes = curves.failure_notes(failures, runs)
    curves.finish(figure, groups, notes, style, paths)
