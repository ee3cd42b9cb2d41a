"""Accuracy and neural collapse over the epochs of training (report A, figures 4 and 5)."""

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from collapseflow import published
from collapseflow.measures.quantities import panels_of, quantity
from collapseflow.measures.statistics import MATCHED
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import DescribedRun, Material, Outputs
from collapseflow.presentation.rows import read_csv, run_rows, several_seeds

#: Lines of small panels.
SMALL = {"markersize": 3, "linewidth": 1.0}
#: What was published of training and of test images.
FAINT = {"alpha": 0.3, "linewidth": 2.5}
#: Ours by the published definition, where that is not the measure of the panel.
AS_PUBLISHED = {"alpha": 0.8, "linewidth": 0.7}
PUBLISHED = {
    split: {**FAINT, "linestyle": line["linestyle"]} for split, line in curves.SPLITS.items()
}
#: Lines of what no network made, by its backbone in measures.csv.
REFERENCES = {
    name: {"color": appearance.NEUTRAL, "linewidth": 0.8, "marker": marker, "markersize": 4}
    for name, marker in (("raw", "x"), ("scattering", "+"))
}
ONSET = {"linestyle": (0, (1, 2)), "linewidth": 0.9}


def _published(runs: Sequence[DescribedRun], dataset: str, series: str) -> pd.DataFrame | None:
    """The published curves of a series up to our last epoch, if there are any."""
    run = next(r for r in runs if r.dataset == dataset and r.series == series)
    if run.published is None:
        return None
    their_dataset, features = run.published
    known = published.curves()
    chosen = known[(known["dataset"] == their_dataset) & (known["features"] == features)]
    return chosen[chosen["epoch"] <= run.last]


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
    return curves.keys(words, {"onset": ONSET})


def plot_accuracy(material: Material, outputs: Outputs) -> None:
    """Train and test accuracy per epoch, one panel a data set, all on the same axes.

    Both are measured on the whole split in evaluation mode. One line a series: of several seeds
    the mean with a band of one standard deviation; of one seed its values, with the 95 % intervals
    of the accuracy on the test images, beside each other where they are bars. A dotted line is the
    onset of the terminal phase. Published curves lie faint behind.
    """
    style, splits = material.style, curves.chosen_splits(material.only_splits)
    shared = curves.RunFigure.of(material, material.runs)
    runs = shared.runs
    table = run_rows(read_csv(material.measures), runs)
    table = table[table["quantity"] == "accuracy"]
    # Networks that start with another head have no accuracy before training.
    first = int(table["epoch"].min()) if len(table) else 0
    if not (table["epoch"] == 0).any():
        shared.starts = []
    seeded = several_seeds(runs)
    if seeded:
        # What lies around a line has one meaning in a figure.
        table = table.assign(low=np.nan, high=np.nan)
    n_rows, n_columns = appearance.grid(len(shared.datasets), 2, style)
    figure, axes = shared.panels(n_rows, n_columns, 0.42, sharex=True, sharey=True)
    any_published = any_onset = False
    offsets = np.linspace(-0.15, 0.15, len(shared.labels) + 2)[1:-1]
    offsets *= not seeded and shared.last < curves.LONG
    beside = dict(zip(shared.labels, offsets, strict=True))
    for axis, (dataset, label) in zip(axes.flat, shared.datasets.items(), strict=False):
        dataset_rows = table[table["dataset"] == dataset]
        for series in dict.fromkeys(r.series for r in runs if r.dataset == dataset):
            chosen = dataset_rows[dataset_rows["series"] == series]
            colour = shared.colours[series]
            behind = _published(runs, dataset, series)
            for split, split_line in splits.items():
                if behind is not None:
                    any_published = True
                    faint = behind[(behind["measure"] == "accuracy") & (behind["split"] == split)]
                    axis.plot(
                        faint["epoch"], 100 * faint["value"], color=colour, **PUBLISHED[split]
                    )
                curve = 100 * curves.mean_and_spread(chosen[chosen["split"] == split], "epoch")
                x = curve.index.to_numpy() + beside[series]
                line = {
                    "color": colour,
                    "marker": shared.series_markers[series],
                    **split_line,
                    **SMALL,
                }
                begins = shared.has_common_start(series)
                curves.draw(axis, x, curve, bars=not seeded, from_common_start=begins, **line)
            any_onset |= _mark_onset(axis, chosen, colour)
        for split, split_line in splits.items():
            rows = dataset_rows[dataset_rows["split"] == split]
            point = {"marker": "o", **split_line, **SMALL}
            curves.draw_starts(axis, rows, shared.starts, scale=100, **point)
        n = dataset_rows.loc[dataset_rows["split"] == "test", "n"].max()
        size = "" if pd.isna(n) else f", {n:,} test images"
        appearance.panel_title(axis, f"{label}{size}", n_columns, style)
        axis.set_ylabel("accuracy, %")
        axis.grid(axis="y", linewidth=0.3, alpha=0.6)
        curves.epoch_axis(axis, first, shared.last)
        axis.label_outer()
    curves.close_grid(axes, len(shared.datasets))
    words = dict(curves.SPLIT_WORDS)
    words["test"] += "" if seeded else ", 95 % interval"
    groups = [
        shared.series_keys(marked=True),
        curves.split_keys(words, splits),
        [*shared.seeds_key(more=""), *(_onset_key() if any_onset else [])],
    ]
    if any_published:
        words = {"train": "published: last train batch", "test": "published: test, training mode"}
        groups.append(curves.keys({split: words[split] for split in splits}, PUBLISHED))
    shared.save(figure, groups, outputs)


def plot_collapse(material: Material, outputs: Outputs) -> None:
    """Neural collapse on a data set, from the tables of a study (:func:`draw_collapse`)."""
    shared = curves.RunFigure.of(material, material.runs, material.dataset)
    everything = read_csv(material.measures)
    everything = everything[everything["dataset"] == material.dataset]
    splits = curves.chosen_splits(material.only_splits)
    draw_collapse(everything, shared, curves.MATCHED_WORDS, outputs, splits, material.only_measures)


def draw_collapse(
    everything: pd.DataFrame,
    shared: curves.RunFigure,
    split_words: Mapping[str, str],
    outputs: Outputs,
    splits: Mapping[str, Mapping] = curves.SPLITS,
    only_measures: Sequence[str] = (),
) -> Figure:
    """Neural collapse on a data set, epoch by epoch: a panel for each quantity of the table that
    has one (:func:`collapseflow.measures.quantities.panels_of`).

    One line a series at the layer that its runs name, solid on training images, of which the words
    say more, and dashed on test images: of several seeds the mean with a band of one standard
    deviation, geometric ones on logarithmic axes. Epoch 0 is the network before training, grey
    where several series start from it; a dotted line is the onset of the terminal phase; raw pixels
    and scattering coefficients (training images, as many) are grey lines.
    Published curves lie faint behind, with ours on all training images by the published definition.
    Panels without any value are left out.
    """
    ((dataset, label),) = shared.datasets.items()
    runs, style = shared.runs, shared.style
    table = run_rows(everything, runs)
    layers = {run.series: run.layer for run in runs}
    at_layer = table[table["layer"] == table["series"].map(layers)]
    known = panels_of("epochs")
    shown = [name for name in known if (at_layer["quantity"] == name).any()] or known[:1]
    shown = curves.chosen(shown, only_measures)
    n_rows, n_columns = appearance.grid(len(shown), 3, style)
    figure, axes = shared.panels(n_rows, n_columns, 0.28, sharex=True)
    references = _references(everything)
    drawn: set[str] = set()
    any_published = any_onset = False
    for letter, axis, measure in zip(curves.letters(), axes.flat, shown, strict=False):
        panel = quantity(measure)
        geometric = panel.logarithmic
        curves.quantity_axis(axis, measure)
        for name, values in references.items():
            if measure in values:
                drawn.add(name)
                height = panel.on_axis(values[measure])
                across = axis.get_yaxis_transform()
                places = np.linspace(0, 1, 5)
                line = {"transform": across, "zorder": 0.6, **REFERENCES[name]}
                axis.plot(places, np.full(len(places), height), **line)
        by_split = {
            split: rows.assign(value=panel.on_axis(rows["value"]))
            for split in splits
            for rows in [curves.on_split(at_layer, measure, split)]
        }
        for series in layers:
            colour = shared.colours[series]
            behind = _published(runs, dataset, series)
            if behind is not None and (behind["measure"] == measure).any():
                any_published = True
                known = behind[behind["measure"] == measure]
                axis.plot(known["epoch"], known["value"], color=colour, **FAINT)
                as_published = at_layer[
                    (at_layer["series"] == series)
                    & (at_layer["quantity"] == f"{measure}_report_a")
                    & (at_layer["split"] == "train")
                ]
                curve = curves.mean_and_spread(as_published, "epoch", geometric)
                axis.plot(curve.index, curve["middle"], color=colour, **AS_PUBLISHED)
            for split, line in splits.items():
                rows = by_split[split]
                curve = curves.mean_and_spread(rows[rows["series"] == series], "epoch", geometric)
                line = {"color": colour, "marker": shared.series_markers[series], **line, **SMALL}
                begins = shared.has_common_start(series)
                curves.draw(axis, curve.index, curve, from_common_start=begins, **line)
            any_onset |= _mark_onset(axis, table[table["series"] == series], colour)
        for split, line in splits.items():
            point = {"marker": "o", **line, **SMALL}
            curves.draw_starts(axis, by_split[split], shared.starts, geometric, **point)
        appearance.panel_title(axis, f"({letter}) {panel.title}", n_columns, style)
        curves.epoch_axis(axis, 0, shared.last)
    curves.close_grid(axes, len(shown))
    appearance.title(figure, label, style)
    references_in_words = {"raw": "raw pixels", "scattering": "scattering coefficients"}
    groups = [
        shared.series_keys(marked=True),
        curves.split_keys(split_words, splits),
        curves.keys({n: references_in_words[n] for n in REFERENCES if n in drawn}, REFERENCES),
        [*shared.seeds_key(), *(_onset_key() if any_onset else [])],
    ]
    if any_published:
        words = {
            "published": "published (report A, all training images)",
            "ours": "ours on all training images, by report A's definition",
        }
        groups.append(curves.keys(words, {"published": FAINT, "ours": AS_PUBLISHED}))
    shared.save(figure, groups, outputs, compared=at_layer)
    return figure


def _references(rows: pd.DataFrame) -> dict[str, dict[str, float]]:
    """The measures of what no network made, on as many training images as there are test images,
    by their names."""
    known = rows[(rows["split"] == MATCHED) & rows["backbone"].isin(REFERENCES)]
    return {
        name: dict(zip(its_rows["quantity"], its_rows["value"], strict=True))
        for name, its_rows in known.groupby("backbone")
    }
