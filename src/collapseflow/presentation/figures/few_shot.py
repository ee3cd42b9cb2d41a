"""What few images of a class are worth: the accuracy of nearest class means."""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, NullLocator

from collapseflow.measures.quantities import (
    BOUND,
    FEW_SHOT,
    FEWEST_IMAGES,
    WITH_ALL_IMAGES,
    Quantity,
    quantity,
)
from collapseflow.presentation.figures import appearance, curves
from collapseflow.presentation.material import DescribedFeatures, Material, Outputs
from collapseflow.presentation.rows import COLUMNS, identity, read_csv, seeds_in_words

WITH_ALL = {"markersize": 5.5, "markerfacecolor": "none", "markeredgewidth": 0.9, "linestyle": ""}
FAINT = {"linestyle": (0, (1, 1.2)), "linewidth": 1.0, "alpha": 0.7}


def plot_few_shot(material: Material, outputs: Outputs) -> None:
    """Accuracy of the nearest class mean, where each mean is of few test images, against their
    number. It is of the other test images, averaged over the classes; a class gives half of its
    images at most.

    A line for each feature set: mean over the draws of images with its 95 % interval; where a
    feature set has several seeds, their mean with bars of one standard deviation, and no other
    intervals. A hollow marker is the accuracy with the means of all training images. Dotted lines
    are one minus the bound on the share of errors that the moments of the test images give, where
    that is above 0. Below stands which feature sets have no values, as those that failed, and
    whether classes are left out because they have one test image.
    """
    columns, style = material.columns, material.style
    appearance.apply(style)
    table = read_csv(material.measures)
    table = table[(table["dataset"] == material.dataset) & (table["split"] == "test")]
    seeded = any(len(column.seeds) > 1 for column in columns)
    if seeded:
        # What lies around a line has one meaning in a figure.
        table = table.assign(low=np.nan, high=np.nan)
    column_rows = {column.features: _rows_of(table, column) for column in columns}
    found = {key: _curve(rows, FEW_SHOT) for key, rows in column_rows.items()}
    bounds = {key: _curve(rows, BOUND) for key, rows in column_rows.items()}
    shots = sorted({m for curve in found.values() for m in curve.index})
    # As far beyond the last number as a reader tells apart on a logarithmic axis.
    beyond = 2 * max(shots, default=1)
    figure, axis = plt.subplots(
        figsize=(style["width"], max(0.55 * style["width"], 1.5 * appearance.LOWEST))
    )
    bounded = False
    colours = appearance.class_appearances(len(columns))
    lines = {
        column.features: {
            "color": colour,
            "marker": appearance.MARKERS[place % len(appearance.MARKERS)],
            **curves.SPLITS["test"],
        }
        for place, (column, (colour, _)) in enumerate(zip(columns, colours, strict=True))
    }
    for key, curve in found.items():
        curves.draw(axis, curve.index, 100 * curve, bars=True, **lines[key])
        rows = column_rows[key]
        with_all = rows.loc[rows["quantity"] == WITH_ALL_IMAGES, "value"]
        if len(curve) and len(with_all):
            axis.plot([beyond], [100 * with_all.mean()], **{**lines[key], **WITH_ALL})
        least = 1 - bounds[key]["middle"]
        least = least[least > 0]
        if len(least):
            bounded = True
            # A single point is no line.
            marker = "." if len(least) == 1 else ""
            bare = {"color": lines[key]["color"], "marker": marker, "zorder": 1.5}
            axis.plot(least.index, 100 * least, **bare, **FAINT)
    _axes(axis, shots, beyond)
    title = f"{material.title}: nearest class mean of few images"
    axis.set_title(appearance.wrapped(title, 0.9 * style["width"], style))
    labels = {column.features: column.label for column in columns if len(found[column.features])}
    around = (
        f"mean and s.d. over {seeds_in_words(columns)}"
        if seeded
        else "95 % interval of the mean over draws of images"
    )
    words = {"all": "all training images", "bound": "1 − bound from directional CDNV"}
    kinds = {"all": {"marker": "o", **WITH_ALL}, "bound": FAINT}
    shown = {kind: words[kind] for kind in words if kind == "all" or bounded}
    bars = {"linestyle": "", "marker": "|", "markersize": 8, "color": appearance.NEUTRAL}
    groups = [
        curves.keys(labels, lines),
        [Line2D([], [], label=around, **bars), *curves.keys(shown, kinds)],
    ]
    vacuous = not bounded and any(len(bound) for bound in bounds.values())
    notes = ["The bound from directional CDNV allows any accuracy here."] if vacuous else []
    fewest = table.loc[table["quantity"] == FEWEST_IMAGES, "value"]
    if labels and (fewest == 1).any():
        notes.append("Classes of one test image or group are left out.")
    missing = [column.label for column in columns if column.features not in labels]
    if missing:
        notes.append(f"Without values (see the summary): {'; '.join(missing)}.")
    curves.save_with_legend(figure, groups, notes, style, outputs)


def _rows_of(table: pd.DataFrame, column: DescribedFeatures) -> pd.DataFrame:
    """The rows of a feature set, of all its seeds."""
    keys = [key for key in table.columns if key not in COLUMNS]
    wanted = identity(column, None, keys) | {"layer": column.layer}
    names = [name for name in wanted if name not in ("dataset", "seed")]
    same = np.logical_and.reduce([table[name] == wanted[name] for name in names])
    epoch = table["epoch"].isna() if column.epoch is None else table["epoch"] == column.epoch
    return table[same & epoch.fillna(value=False).astype(bool)]


def _curve(rows: pd.DataFrame, family: Quantity) -> pd.DataFrame:
    """The curve (:func:`collapseflow.presentation.figures.curves.mean_and_spread`) of a family of
    quantities over images a class."""
    members = {name: quantity(name) for name in rows["quantity"].unique()}
    shots = {name: one.parameter for name, one in members.items() if one.family == family.name}
    chosen = rows[rows["quantity"].isin(shots)]
    return curves.mean_and_spread(
        chosen.assign(shots=chosen["quantity"].map(shots).astype(int)), "shots"
    )


def _axes(axis: Axes, shots: Sequence[int], beyond: int) -> None:
    axis.set_xscale("log")
    axis.xaxis.set_major_locator(FixedLocator([*shots, beyond]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.set_xticklabels([*map(str, shots), "all\ntraining"])
    axis.set_xlabel("test images a class, half of a class at most")
    axis.set_ylabel("accuracy on the other test images,\nmean over classes, %")
    axis.grid(axis="y", linewidth=0.3, alpha=0.6)
