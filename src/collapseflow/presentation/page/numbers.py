"""The numbers that the page draws itself: networks before and after, features compared, curves."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
from matplotlib.ticker import LogLocator, MaxNLocator

from collapseflow.measures.quantities import OURS, QUANTITIES
from collapseflow.measures.statistics import MATCHED
from collapseflow.presentation.figures.sweep_map import axes_of, maps_of
from collapseflow.presentation.material import DescribedFeatures, DescribedRun
from collapseflow.presentation.rows import (
    IDENTITY,
    identity,
    over_seeds,
    read_csv,
    run_rows,
    swept_keys,
)
from collapseflow.presentation.tables.writing import signed, spread
from collapseflow.running.words import as_word

#: The accuracy of features alone, which there is before any training on the data set, too.
OF_FEATURES = "accuracy_nearest_mean"
#: The splits in words; training images are measured as often as there are test images, too.
SPLITS = {
    "test": "test images",
    MATCHED: "training images, as many of each class as test images",
    "train": "all training images",
}


# --- axes of dots -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Axis:
    """An axis across a cell: places are per cents of its width."""

    low: float
    high: float
    logarithmic: bool

    @classmethod
    def around(cls, values: Sequence[float], logarithmic: bool) -> "Axis":
        """The axis that has all these values, and a little more at both ends."""
        values = [v for v in values if math.isfinite(v) and (v > 0 or not logarithmic)]
        low, high = (min(values), max(values)) if values else (1.0, 1.0)
        if logarithmic:
            room = max((high / low) ** 0.06, 1.2)
            return cls(low / room, high * room, True)
        room = max(0.06 * (high - low), 0.005)
        return cls(low - room, high + room, False)

    def place(self, value: float) -> float:
        """Where a value stands; what lies outside of the axis stands at its end."""
        low, high = self.low, self.high
        if self.logarithmic:
            value, low, high = (math.log(max(v, low * 1e-9)) for v in (value, low, high))
        share = (value - low) / (high - low)
        return round(100 * min(max(share, 0.0), 1.0), 2)

    def ticks(self) -> list[tuple[float, str]]:
        """Places and words of a few values."""
        locator = LogLocator(numticks=6) if self.logarithmic else MaxNLocator(3)
        inside = [v for v in locator.tick_values(self.low, self.high) if self.low < v < self.high]
        return [(self.place(v), f"{v:g}" if self.logarithmic else f"{100 * v:g}") for v in inside]


@dataclass(frozen=True)
class Mark:
    """A dot with its interval: places on an axis, and its value in words."""

    place: float
    low: float
    high: float
    words: str


def ends(row: Any) -> tuple[float, float]:
    """From where to where a mean over seeds goes by one standard deviation, or a single value by
    its 95 % interval; both the value itself where it has neither.

    Parameters
    ----------
    row
        Of :func:`collapseflow.presentation.rows.over_seeds`.
    """
    if not math.isnan(row.sd):
        if row.geometric:
            return row.mean / row.sd, row.mean * row.sd
        return row.mean - row.sd, row.mean + row.sd
    half = 0.0 if math.isnan(row.half_width) else row.half_width
    return row.mean - half, row.mean + half


def _mark(axis: Axis, row: Any, half_width: float = math.nan) -> Mark:
    """A row as a dot; where it has no interval, with as many digits as that of others allows."""
    low, high = map(axis.place, ends(row))
    own = half_width if math.isnan(row.half_width) else row.half_width
    words = spread(row.quantity, row.mean, row.sd, own)
    return Mark(axis.place(row.mean), low, high, words)


# --- each network before and after ------------------------------------------------------------


def before_and_after(
    rows: pd.DataFrame, runs: Sequence[DescribedRun], datasets: Mapping[str, str]
) -> dict[str, Any]:
    """Accuracy beside NC1 of each network at its last layer, before training and after it.

    Returns
    -------
    ``axes``: an :class:`Axis` each for ``accuracy`` and ``nc1``; ``networks``: of each data set and
    series its ``dataset``, ``label`` and last epoch, under ``accuracy`` and ``nc1`` the
    :class:`Mark` of ``training before``, ``training after``, ``test before`` and ``test after``;
    ``network``, the accuracy of the network itself on test images after training, in words.
    """
    table = _series_rows(rows, runs)
    last = pd.DataFrame(
        [{"dataset": r.dataset, "series": r.series, "last": r.last, "of": r.layer} for r in runs]
    ).drop_duplicates()
    table = table.merge(last, on=["dataset", "series"])
    table = table[(table["layer"] == table["of"]) | (table["layer"] == "")]
    table = table[(table["epoch"] == 0) | (table["epoch"] == table["last"])]
    table = table[table["quantity"].isin([OF_FEATURES, "nc1", "accuracy"])]
    means = over_seeds(table, ["dataset", "series", "quantity", "split", "epoch"])
    means = means[means["split"].isin(["test", MATCHED])]
    drawn = {"accuracy": OF_FEATURES, "nc1": "nc1"}
    axes = {}
    for name, quantity in drawn.items():
        found = means[means["quantity"] == quantity]
        values = [v for row in found.itertuples() for v in (row.mean, *ends(row))]
        axes[name] = Axis.around(values, QUANTITIES[quantity].logarithmic)
    # Training images here are as many as test images: their accuracies are as sure.
    widest = means["half_width"].max()
    networks = []
    for run in {(r.dataset, r.series): r for r in runs}.values():
        of_run = means[(means["dataset"] == run.dataset) & (means["series"] == run.series)]
        of_run = of_run.sort_values(["split", "epoch"], ascending=[False, True])
        marks = {
            name: {
                f"{'test' if row.split == 'test' else 'training'} "
                f"{'after' if row.epoch else 'before'}": _mark(axes[name], row, widest)
                # Test images lie over training images.
                for row in of_run.itertuples()
                if row.quantity == quantity
            }
            for name, quantity in drawn.items()
        }
        itself = of_run[
            (of_run["quantity"] == "accuracy") & (of_run["split"] == "test") & (of_run["epoch"] > 0)
        ]
        words = [
            spread("accuracy", row.mean, row.sd, row.half_width) for row in itself.itertuples()
        ]
        networks.append(
            {
                "dataset": datasets[run.dataset],
                "label": run.label,
                "epochs": run.last,
                **marks,
                "network": "".join(words),
            }
        )
    return {"axes": axes, "networks": networks}


# --- features compared ------------------------------------------------------------------------


def compared_features(
    rows: pd.DataFrame, columns: Sequence[DescribedFeatures], classifiers: Mapping[str, str]
) -> dict[str, Any] | None:
    """The accuracies of classifiers on the feature sets of one data set; None where there are none.

    Returns
    -------
    ``axis``; ``classifiers``, the labels of those that have an accuracy; ``features``: of each its
    ``label`` and ``cells``, a dictionary for each classifier with ``value`` and ``mark``, or None.
    """
    keys = swept_keys(columns)
    names = ["dataset", "backbone", "start", "recipe", *keys, "epoch", "layer"]
    table = pd.DataFrame(
        [
            {**identity(one, None, keys), "epoch": one.epoch, "layer": one.layer, "place": place}
            for place, one in enumerate(columns)
        ],
        columns=[*names, "place"],
    ).astype({"epoch": "Int64"})
    quantities = {f"accuracy_{name}": label for name, label in classifiers.items()}
    found = rows[(rows["split"] == "test") & rows["quantity"].isin(quantities)]
    means = over_seeds(table.merge(found, on=names), ["place", "quantity"])
    if not len(means):
        return None
    values = [v for row in means.itertuples() for v in (row.mean, *ends(row))]
    axis = Axis.around(values, logarithmic=False)
    there = [name for name in quantities if name in set(means["quantity"])]
    cells = {
        (row.place, row.quantity): {"value": row.mean, "mark": _mark(axis, row)}
        for row in means.itertuples()
    }
    return {
        "axis": axis,
        "classifiers": [quantities[name] for name in there],
        "features": [
            {"label": one.label, "cells": [cells.get((place, name)) for name in there]}
            for place, one in enumerate(columns)
        ],
    }


def differences(
    path: str | Path, columns: Sequence[DescribedFeatures], classifiers: Mapping[str, str]
) -> dict[str, list[str]]:
    """The differences between pairs of feature sets in words.

    Parameters
    ----------
    path
        The CSV of :func:`collapseflow.presentation.tables.comparisons.comparison_table`.

    Returns
    -------
    By ``a-b``, the places of two feature sets among ``columns``: a line for each classifier, of how
    much the accuracy on b is higher than that on a.
    """
    keys = swept_keys(columns)
    names = ["backbone", "start", "recipe", *keys, "epoch", "layer"]
    places = {}
    for place, one in enumerate(columns):
        what = {**identity(one, None, keys), "epoch": one.epoch, "layer": one.layer}
        places[tuple(_text(what[name]) for name in names)] = place
    found: dict[str, list[str]] = {}
    for row in read_csv(path).to_dict("records"):
        a, b = (places[tuple(_text(row[f"{n}_{side}"]) for n in names)] for side in "ab")
        value, low, high = (signed(float(row[key])) for key in ("difference", "low", "high"))
        line = f"{classifiers[row['classifier']]}: {value} points [{low}, {high}]"
        if str(row["larger_than_chance"]) != "True":
            line += ", not larger than chance"
        found.setdefault(f"{a}-{b}", []).append(line)
    return found


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)


# --- curves -----------------------------------------------------------------------------------


def curves(
    rows: pd.DataFrame,
    runs: Sequence[DescribedRun],
    datasets: Mapping[str, str],
    backbones: Mapping[str, str],
) -> dict[str, Any]:
    """Every measure of every network over its epochs and layers, for the page's script.

    Returns
    -------
    ``datasets``, ``splits``: labels by name; ``networks``, ``layers``: labels in their order;
    ``quantities``: of each ``title``, ``logarithmic``, ``definition`` and ``source``; ``lines``:
    of each data set, series, layer, split and quantity the epochs with the mean over seeds, and its
    ``low`` and ``high`` (:func:`ends`), in the quantity's unit; ``sweeps``: of each network and
    recipe with two swept keys its ``heading``, last ``layer``, ``across`` and ``down``, the keys
    with their values, and ``cells``: rows of labels with their last epochs, or None.
    """
    table = _series_rows(rows, runs)
    measures = [name for name, entry in QUANTITIES.items() if entry.kind == "statistics"]
    table = table[table["quantity"].isin(measures)]
    by = ["dataset", "series", "layer", "split", "quantity", "epoch"]
    means = over_seeds(table, by)
    labels = {run.series: run.label for run in runs}
    layers = {run.backbone: run.layers for run in runs}
    lines = []
    for (dataset, series, layer, split, quantity), line in means.groupby(by[:-1], sort=False):
        line = line.sort_values("epoch")
        spans = [ends(row) for row in line.itertuples()]
        lines.append(
            {
                "dataset": dataset,
                "network": labels[series],
                "layer": layer,
                "split": split,
                "quantity": quantity,
                "epochs": [int(epoch) for epoch in line["epoch"]],
                "mean": [_written(v, quantity) for v in line["mean"]],
                "low": [_written(low, quantity) for low, _ in spans],
                "high": [_written(high, quantity) for _, high in spans],
            }
        )
    there = dict.fromkeys(line["quantity"] for line in lines)
    return {
        "datasets": {d: datasets[d] for d in dict.fromkeys(run.dataset for run in runs)},
        "networks": list(dict.fromkeys(labels.values())),
        "layers": list(dict.fromkeys(layer for names in layers.values() for layer in names)),
        "splits": SPLITS,
        "quantities": {
            name: {
                "title": f"{entry.title}, {entry.unit}" if entry.unit else entry.title,
                "logarithmic": entry.logarithmic,
                "definition": f"{entry.meaning[0].upper()}{entry.meaning[1:]}.",
                "source": "" if entry.source == OURS else entry.source,
            }
            for name, entry in QUANTITIES.items()
            if name in there
        },
        "lines": lines,
        "sweeps": [_sweep(heading, of_map) for heading, of_map in maps_of(runs, backbones).items()],
    }


def _sweep(heading: str, runs: Sequence[DescribedRun]) -> dict[str, Any]:
    (across, columns), (down, texts) = axes_of(runs)
    there = {
        (as_word(run.setting[down]), as_word(run.setting[across])): (run.label, run.last)
        for run in runs
    }
    return {
        "heading": heading,
        "layer": runs[0].layer,
        "across": (across.replace("_", " "), columns),
        "down": (down.replace("_", " "), texts),
        "cells": [[there.get((text, column)) for column in columns] for text in texts],
    }


def _written(value: float, quantity: str) -> float | None:
    """A value in the quantity's unit, to four digits."""
    value = 100 * value if QUANTITIES[quantity].unit else value
    return float(f"{value:.4g}") if math.isfinite(value) else None


def _series_rows(rows: pd.DataFrame, runs: Sequence[DescribedRun]) -> pd.DataFrame:
    """The rows of the runs with a column ``series``; the data set and the seed tell the rest."""
    columns = [*IDENTITY, "series", "epoch", "layer", "split", "quantity", "value", "low", "high"]
    return run_rows(rows, runs)[columns]
