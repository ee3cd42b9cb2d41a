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

#: Of more classes than these only some are shown: those most often taken for each other.
MOST_SHOWN = 100
#: Up to so many classes the shares stand in the cells.
MOST_WRITTEN = 10
#: Letters of a name at an axis, and at that of a panel which is narrower than so many inches.
MOST_LETTERS = 16
FEWER_LETTERS = 8
NARROW = 2.2
#: Of many classes so many that are recognised least are named.
LEAST_NAMED = 3
COLOURS = "Blues"
#: Few are taken for another class: the colours go by the root of their share.
SCALE = PowerNorm(0.5, 0, 1)


def plot_confusion(material: Material, outputs: Outputs) -> None:
    """Of each true class (rows) the shares of test images that are taken for each class (columns).

    A panel for each feature set, all of one classifier; the images of all seeds are counted
    together. Below it the class that is recognised least, or of many classes the three, or how many
    share that place; and, where classes are unequal
    (:data:`collapseflow.measures.confusion.UNEQUAL`), the balanced accuracy.
    Many classes have no names, and similar ones stand beside each other, in the same order in all
    panels: those that are taken for each other. Of more than :data:`MOST_SHOWN` only those that are
    most often taken for each other are drawn.

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
    few = n_classes <= appearance.FEW_CLASSES
    order = np.arange(n_classes)
    if not few and shares:
        mean = np.mean([np.nan_to_num(s) for s in shares.values()], axis=0)
        order = _most_confused(mean)
        order = order[appearance.by_similarity(1 - mean[np.ix_(order, order)])]
    rows, columns = appearance.grid(len(features), 2 if len(features) <= 4 else 3, style)
    side = style["width"] / columns
    # The height of a class in points.
    room = 0.8 * side * 72 / len(order)
    names = None
    if few and room >= appearance.points(style, 2):
        letters = MOST_LETTERS if side > NARROW else FEWER_LETTERS
        names = appearance.shortened(class_names, letters)
        # Of a panel, beside the names and numbers at the left, in the smallest font.
        beside = (max(map(len, names)) + 6) * 0.55 * appearance.points(style, 2) / 72
        side = (style["width"] - beside) / columns
    figure, axes = plt.subplots(
        rows, columns, figsize=(style["width"], rows * (side + 0.8) + 0.9), squeeze=False
    )
    for axis in axes.flat[len(features) :]:
        axis.set_axis_off()
    for number, (axis, one) in enumerate(zip(axes.flat, features, strict=False)):
        axis.set_title(appearance.fitted(one.label, 0.9 * side, style))
        if one.features not in counts:
            words = appearance.wrapped("failed: see the summary", side, style)
            axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes)
            axis.set_axis_off()
            continue
        found = counts[one.features]
        _draw(axis, shares[one.features][np.ix_(order, order)], room, style)
        _name(axis, found, names, style, is_first=number % columns == 0)
        small = {**style, "font_size": appearance.points(style, 1)}
        words = appearance.wrapped(
            _worth(found, class_names, 1 if few else LEAST_NAMED), 0.95 * side, small
        )
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
    if not few:
        words += f"; {_left_out(len(order), n_classes)}"
    if any(np.isnan(s[order]).any() for s in shares.values()):
        words += "; grey: no test images"
    appearance.title(figure, words, style)
    appearance.save(figure, outputs)


def _left_out(shown: int, n_classes: int) -> str:
    """Of many classes what is shown, and how."""
    if shown == n_classes:
        return f"{n_classes} classes, not named, similar ones beside each other"
    most = f"the {shown} of {n_classes:,} classes most often taken for each other"
    return f"{most}, not named, similar ones beside each other"


def _most_confused(shares: np.ndarray) -> np.ndarray:
    """The labels of the classes, at most :data:`MOST_SHOWN`, that are most often taken for each
    other: those of the pairs with the largest shares."""
    n_classes = len(shares)
    if n_classes <= MOST_SHOWN:
        return np.arange(n_classes)
    pairs = np.argsort(-np.where(np.eye(n_classes), -1, shares), axis=None, kind="stable")
    labels = np.column_stack(np.unravel_index(pairs, shares.shape)).ravel()
    _, first = np.unique(labels, return_index=True)
    return np.sort(labels[np.sort(first)[:MOST_SHOWN]])


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
    names: Sequence[str] | None,
    style: Mapping,
    is_first: bool,
) -> None:
    """The names of the classes at both axes, and at the left how many images of each there are,
    where they are unequal; nothing where they have no room."""
    axis.set_ylabel("true class" if is_first else "")
    axis.tick_params(length=0, labelsize=appearance.points(style, 2))
    if names is None:
        axis.set(xticks=[], yticks=[])
        return
    places = range(len(names))
    is_long = max(map(len, names)) > 2
    axis.set_xticks(places, names, **(appearance.TURNED if is_long else {}))
    if imbalance(counts) >= UNEQUAL:
        sizes = counts.sum(axis=1).tolist()
        names = [f"{name} ({n:,})" for name, n in zip(names, sizes, strict=True)]
    axis.set_yticks(places, names if is_first else [""] * len(names))


def _worth(counts: np.ndarray, class_names: Sequence[str], n_least: int) -> str:
    """Of unequal classes the balanced accuracy; and the classes that are recognised least."""
    shares = recalls(counts)
    alike = int(np.count_nonzero(shares == np.nanmin(shares)))
    if alike > LEAST_NAMED:
        least = [f"{alike:,} classes, {100 * np.nanmin(shares):.0f} %"]
    else:
        names = appearance.shortened(class_names, MOST_LETTERS)
        least = [
            f"{names[label]}, {100 * shares[label]:.0f} % of {int(counts[label].sum()):,}"
            for label in np.argsort(shares, kind="stable")[:n_least]
        ]
    words = f"least: {'; '.join(least)}"
    if imbalance(counts) < UNEQUAL:
        return words
    return f"balanced {100 * balanced_accuracy(counts)[0]:.0f} %; {words}"
