"""What a classifier takes for what: a confusion matrix for each feature set."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import PowerNorm

from collapseflow.images.datasets import read_info
from collapseflow.measures.confusion import UNEQUAL, balanced_accuracy, imbalance, recalls
from collapseflow.presentation.figures import appearance
from collapseflow.presentation.material import Material, Outputs
from collapseflow.presentation.rows import identity, swept_keys, write_csv
from collapseflow.presentation.tables.accuracy import read_cells

#: More classes than these stand beside similar ones, and have no names.
MOST_NAMED = 20
#: Up to so many classes the shares stand in the cells.
MOST_WRITTEN = 10
#: Letters of a name at an axis.
MOST_LETTERS = 16
COLOURS = "Blues"
#: Few are taken for another class: the colours go by the root of their share.
SCALE = PowerNorm(0.5, 0, 1)


def plot_confusion(material: Material, outputs: Outputs) -> None:
    """Of each true class (rows) the shares of test images that are taken for each class (columns).

    A panel for each feature set, all of one classifier; the images of all seeds are counted
    together. Below it the class that is recognised least and, where classes are unequal
    (:data:`collapseflow.measures.confusion.UNEQUAL`), the balanced accuracy. Of many classes
    similar ones stand beside each other, in the same order in all panels: those that are taken for
    each other.

    The CSV has a row for each feature set, seed, true class and class that at least one of its
    images is taken for, and always one for the class itself: their labels ``true`` and
    ``predicted`` with their names, the number of images ``n``, and the ``share`` of the true class,
    which of a class itself is its recall.
    """
    features, style = material.columns, material.style
    classifier, label = material.confused, material.confused_label
    appearance.apply(style)
    class_names = read_info(material.images).class_names
    there, _ = read_cells(features, material.classification)
    n_classes = len(class_names)
    keys = swept_keys(features)
    records, counts = [], {}
    for one, seed, content in there:
        seed_counts = np.zeros((n_classes, n_classes), np.int64)
        found = np.array(content[classifier]["confusion"])
        seed_counts[: len(found), : len(found)] = found
        counts[one.features] = counts.get(one.features, 0) + seed_counts
        who = {
            **identity(one, seed, keys),
            "epoch": one.epoch,
            "layer": one.layer,
            "classifier": classifier,
        }
        records += [{**who, **row} for row in _rows(seed_counts, class_names)]
    columns = ["dataset", "seed", "epoch", "true", "predicted", "n", "share"]
    tidy = pd.DataFrame(records, columns=None if records else columns)
    write_csv(outputs["csv"], tidy.astype({"seed": "Int64", "epoch": "Int64"}))
    shares = {name: _shares(found) for name, found in counts.items()}
    order = np.arange(n_classes)
    if n_classes > MOST_NAMED and shares:
        order = appearance.by_similarity(
            1 - np.mean([np.nan_to_num(s) for s in shares.values()], axis=0)
        )
    rows, columns = appearance.grid(len(features), 2 if len(features) <= 4 else 3, style)
    side = style["width"] / columns
    # The height of a class in points.
    room = 0.8 * side * 72 / n_classes
    named = n_classes <= MOST_NAMED and room >= appearance.points(style, 2)
    figure, axes = plt.subplots(
        rows, columns, figsize=(style["width"], rows * (side + 0.8) + 0.9), squeeze=False
    )
    for axis in axes.flat[len(features) :]:
        axis.set_axis_off()
    for number, (axis, one) in enumerate(zip(axes.flat, features, strict=False)):
        axis.set_title(appearance.wrapped(one.label, 0.9 * side, style))
        if one.features not in counts:
            words = appearance.wrapped("failed: see the summary", side, style)
            axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        found = counts[one.features]
        _draw(axis, shares[one.features][np.ix_(order, order)], room, style)
        _name(axis, found, class_names if named else None, style, is_first=number % columns == 0)
        small = {**style, "font_size": appearance.points(style, 1)}
        words = appearance.wrapped(_worth(found, class_names), side, small)
        axis.set_xlabel(f"predicted class\n{words}", fontsize=small["font_size"])
    bar = figure.colorbar(
        ScalarMappable(SCALE, COLOURS),
        ax=axes,
        location="bottom",
        aspect=50,
        fraction=0.02,
        pad=0.02,
    )
    bar.set_ticks(
        [0, 0.01, 0.05, 0.1, 0.25, 0.5, 1], labels=["0", "1", "5", "10", "25", "50", "100"]
    )
    bar.set_label("share of the true class, %")
    words = f"{material.title}: {label}, test images"
    if n_classes > MOST_NAMED:
        words += "; similar classes beside each other"
    appearance.title(figure, words, style)
    appearance.save(figure, outputs)


def _shares(counts: np.ndarray) -> np.ndarray:
    """Shares of the true classes (C, C); NaN of a class without images."""
    sizes = counts.sum(axis=1, keepdims=True)
    return np.where(sizes > 0, counts / np.maximum(sizes, 1), np.nan)


def _rows(counts: np.ndarray, class_names: Sequence[str]) -> list[dict[str, Any]]:
    shares = _shares(counts)
    there = counts.sum(axis=1) > 0
    kept = (counts > 0) | np.diag(there)
    return [
        {
            "true": true,
            "predicted": predicted,
            "true_name": class_names[true],
            "predicted_name": class_names[predicted],
            "n": int(counts[true, predicted]),
            "share": float(shares[true, predicted]),
        }
        for true, predicted in np.argwhere(kept).tolist()
    ]


def _draw(axis: Axes, shares: np.ndarray, room: float, style: Mapping) -> None:
    size = appearance.points(style, 3)
    cells = appearance.heat_map(axis, shares, cmap=COLOURS, norm=SCALE)
    axis.set_aspect("equal")
    axis.set_facecolor("#dddddd")
    if len(shares) <= MOST_WRITTEN and room > 1.7 * size:
        words = {
            cell: f"{100 * share:.0f}" if share >= 0.005 else "<1"
            for cell, share in np.ndenumerate(shares)
            if share > 0
        }
        appearance.write_in_cells(axis, cells, words, size)


def _name(
    axis: Axes,
    counts: np.ndarray,
    class_names: Sequence[str] | None,
    style: Mapping,
    is_first: bool,
) -> None:
    """The names of the classes at both axes, and at the left how many images of each there are,
    where they are unequal; nothing where they have no room."""
    axis.set_ylabel("true class" if is_first else "")
    axis.tick_params(length=0, labelsize=appearance.points(style, 2))
    if class_names is None:
        axis.set(xticks=[], yticks=[])
        return
    names = [appearance.shortened(name, MOST_LETTERS) for name in class_names]
    places = range(len(names))
    is_long = max(map(len, names)) > 2
    axis.set_xticks(places, names, **(appearance.TURNED if is_long else {}))
    if imbalance(counts) >= UNEQUAL:
        sizes = counts.sum(axis=1).tolist()
        names = [f"{name} ({n:,})" for name, n in zip(names, sizes, strict=True)]
    axis.set_yticks(places, names if is_first else [""] * len(names))


def _worth(counts: np.ndarray, class_names: Sequence[str]) -> str:
    """Of unequal classes the balanced accuracy; and the class that is recognised least."""
    shares = recalls(counts)
    least = int(np.nanargmin(shares))
    n = int(counts[least].sum())
    name = appearance.shortened(class_names[least], MOST_LETTERS)
    words = f"least: {name}, {100 * shares[least]:.0f} % of {n:,}"
    if imbalance(counts) < UNEQUAL:
        return words
    return f"balanced {100 * balanced_accuracy(counts)[0]:.0f} %; {words}"
