"""t-SNE pictures: one panel an embedding, and under each what it is worth."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import matplotlib.patheffects
import matplotlib.pyplot as plt
import numpy as np

from collapseflow.figures import style as look

#: Classes are named in the picture and in a legend up to this number.
MOST_NAMED = 20


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
    and the share of each point's 10 nearest neighbours that the picture keeps.
    """
    look.apply(style)
    n = len(embeddings)
    rows, columns = look.grid(n, 2 if n <= 4 else 3 if n % 3 == 0 else 4)
    side = style["width"] / columns
    figure, axes = plt.subplots(
        rows, columns, figsize=(style["width"], rows * (side + 0.65) + 0.7), squeeze=False
    )
    colours = np.array(look.class_colours(len(class_names)), dtype=object)
    for axis in axes.flat:
        axis.set_axis_off()
    named = len(class_names) <= MOST_NAMED
    for axis, path, title in zip(axes.flat, embeddings, titles, strict=False):
        with np.load(path) as file:
            content = {key: file[key] for key in file.files}
        _draw(axis, content, colours, named, style)
        axis.set_axis_on()
        axis.set(xticks=[], yticks=[], aspect="equal", adjustable="datalim", box_aspect=1)
        axis.set_title(title.replace(", ", "\n", 1))
        axis.spines[:].set_visible(False)
        axis.set_xlabel(_worth(content), fontsize=style["font_size"] - 2)
    if named:
        handles = [
            plt.Line2D([], [], linestyle="", marker="o", color=colour, label=f"{number}  {name}")
            if name != str(number)
            else plt.Line2D([], [], linestyle="", marker="o", color=colour, label=name)
            for number, (colour, name) in enumerate(zip(colours, class_names, strict=True))
        ]
        figure.legend(
            handles=handles,
            loc="outside lower center",
            ncols=min(len(class_names), 10 if max(map(len, class_names)) < 3 else 5),
            frameon=False,
            handletextpad=0.2,
        )
    figure.suptitle(heading)
    look.save(figure, paths)


def _draw(axis, content: dict, colours: np.ndarray, named: bool, style: Mapping) -> None:
    coordinates, labels = content["coordinates"], content["labels"]
    # In random order, so that no class hides another by being drawn last.
    order = np.random.default_rng(0).permutation(len(labels))
    # A denser picture gets smaller points.
    area = style["point_size"] * min(1.0, np.sqrt(5_000 / len(labels)))
    axis.scatter(
        *coordinates[order].T,
        s=area,
        c=[colours[label] for label in labels[order]],
        linewidths=0,
        rasterized=True,
    )
    if not named:
        return
    outline = matplotlib.patheffects.withStroke(linewidth=1.5, foreground="white")
    for label in np.unique(labels):
        x, y = np.median(coordinates[labels == label], axis=0)
        axis.text(x, y, str(label), ha="center", va="center", weight="bold", path_effects=[outline])


def _worth(content: dict) -> str:
    n, total = len(content["labels"]), int(content["n_total"])
    size = f"all {n:,} images" if n == total else f"{n:,} of {total:,} images, stratified"
    perplexity, recall = float(content["perplexity"]), float(content["recall"])
    return f"{size}\nperplexity {perplexity:.0f}, 10-NN recall {recall:.2f}"
