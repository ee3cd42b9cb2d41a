"""t-SNE pictures: one panel an embedding, and under each what it is worth."""

import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.patheffects
import matplotlib.pyplot as plt
import numpy as np

from collapseflow.presentation.figures import style as look

#: Classes are named in the picture and in a legend up to this number.
MOST_NAMED = 60


def plot_embeddings(
    embeddings: Sequence[str | Path],
    titles: Sequence[str],
    class_names: Sequence[str],
    heading: str,
    style: Mapping,
    paths: Sequence[str | Path],
) -> None:
    """Draw embeddings side by side in the colours of their classes.

    Under each panel: the number of points (and of how many they are a sample), the perplexity,
    and the share of each point's 10 nearest neighbours that the picture keeps. A panel without
    points, of features that do not exist, says why (``failed`` of its file).
    """
    look.apply(style)
    n = len(embeddings)
    rows, columns = look.grid(n, 2 if n <= 4 else 3 if n <= 6 or n % 3 == 0 else 4)
    side = style["width"] / columns
    names = [
        name if name == str(number) else f"{number}  {name}"
        for number, name in enumerate(class_names)
    ]
    named = len(names) <= MOST_NAMED
    # Of so many letters and the marker, a character being half as wide as it is high.
    wide = (max(map(len, names)) + 5) * style["font_size"] / 2 / 72
    columns_of_legend = max(1, min(len(names), 10, int(style["width"] / wide)))
    lines_of_legend = math.ceil(len(names) / columns_of_legend) if named else 0
    high = rows * (side + 0.65) + 0.4 + lines_of_legend * 1.5 * style["font_size"] / 72
    figure, axes = plt.subplots(rows, columns, figsize=(style["width"], high), squeeze=False)
    looks = look.class_looks(len(class_names))
    for axis in axes.flat:
        axis.set_axis_off()
    for axis, path, title in zip(axes.flat, embeddings, titles, strict=False):
        with np.load(path) as file:
            content = {key: file[key] for key in file.files}
        failed = str(content["failed"]) if "failed" in content else None
        if failed is None:
            _draw(axis, content, looks, named, style)
            axis.set_xlabel(_worth(content), fontsize=style["font_size"] - 2)
        else:
            words = textwrap.fill(f"failed: {failed}", int(side * 72 / (0.6 * style["font_size"])))
            axis.text(0.5, 0.5, words, ha="center", va="center", transform=axis.transAxes)
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim", box_aspect=1)
        axis.set_title(title.replace(", ", "\n", 1))
        axis.spines[:].set_visible(False)
    if named:
        handles = [
            plt.Line2D([], [], linestyle="", marker=marker, color=colour, label=name)
            for (colour, marker), name in zip(looks, names, strict=True)
        ]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=columns_of_legend,
            frameon=False,
            handletextpad=0.2,
            columnspacing=1,
        )
    figure.suptitle(heading)
    look.save(figure, paths)


def _draw(
    axis: plt.Axes, content: dict, looks: Sequence[tuple[str, str]], named: bool, style: Mapping
) -> None:
    coordinates, labels = content["coordinates"], content["labels"]
    colours, markers = (np.array(values, dtype=object) for values in zip(*looks, strict=True))
    # A denser picture gets smaller points.
    area = style["point_size"] * min(2.0, np.sqrt(5_000 / len(labels)))
    # In random order, so that no class hides another by being drawn last.
    order = np.random.default_rng(0).permutation(len(labels))
    kinds = list(dict.fromkeys(markers))
    for part in np.array_split(order, 1 if len(kinds) == 1 else 20):
        for kind in kinds:
            rows = part[markers[labels[part]] == kind]
            axis.scatter(
                *coordinates[rows].T,
                s=area,
                c=list(colours[labels[rows]]),
                marker=kind,
                linewidths=0,
                rasterized=True,
            )
    if not named:
        return
    outline = matplotlib.patheffects.withStroke(linewidth=1.5, foreground="white")
    for label in np.unique(labels):
        x, y = np.median(coordinates[labels == label], axis=0)
        axis.text(
            *(x, y, str(label)),
            ha="center",
            va="center",
            weight="bold",
            fontsize=style["font_size"] - (0 if len(looks) <= 20 else 2),
            path_effects=[outline],
        )


def _worth(content: dict) -> str:
    n, total = len(content["labels"]), int(content["n_total"])
    size = f"all {n:,} images" if n == total else f"{n:,} of {total:,} images, stratified"
    perplexity, recall = float(content["perplexity"]), float(content["recall"])
    return f"{size}\nperplexity {perplexity:.0f}, 10-NN recall {recall:.2f}"
